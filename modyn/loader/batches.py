"""The batches of one epoch, as the training loop takes them."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from modyn import _core
from modyn.loader.ahead import Source
from modyn.loader.batch import Batch, Parts
from modyn.loader.pinned import Lender
from modyn.loader.state import Progress
from modyn.loader.waits import Tally, Waits

__all__ = ["Batches", "Filled"]


class Filled:
    """The first stage: batches as the worker threads of the core fill them."""

    def __init__(self, core: _core.Epoch, parts: Parts, lender: Lender | None = None) -> None:
        self._core = core
        self._parts = parts
        self._lender = lender
        self.read_waits: Callable[[], Waits] = lambda: Waits.of(core.waits)

    def __next__(self) -> Batch:
        core = next(self._core)
        if self._lender is not None:
            self._lender.look_at(core)
        return Batch(core, self._parts)

    def close(self) -> None:
        self._core.close()


class Batches:
    """The batches of one epoch, in order: an iterator that holds threads.

    They are released when it is exhausted, closed, or no longer referred to.
    """

    def __init__(self, stage: Source, progress: Progress, tally: Tally) -> None:
        self._stage = stage  # the last one; each closes the one before it
        self._progress = progress
        tally.follow(self, stage.read_waits)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        try:
            batch = next(self._stage)
        except StopIteration:
            self._progress.ended()
            raise
        self._progress.delivered()
        return batch

    @property
    def waits(self) -> Waits:
        """What was delivered so far, and who waited for whom."""
        return self._stage.read_waits()

    def close(self) -> None:
        """Stop and join the worker threads; any number of times."""
        self._stage.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
