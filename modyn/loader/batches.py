"""The batches of one epoch, as the training loop takes them."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from modyn import _core
from modyn.loader.ahead import Source
from modyn.loader.batch import Batch, Parts
from modyn.loader.waits import Tally, Waits

__all__ = ["Batches", "Filled"]


class Filled:
    """The first stage: batches as the worker threads of the core fill them."""

    def __init__(self, core: _core.Epoch, parts: Parts) -> None:
        self._core = core
        self._parts = parts

    def __next__(self) -> Batch:
        return Batch(next(self._core), self._parts)

    def close(self) -> None:
        self._core.close()


class Batches:
    """The batches of one epoch, in order: an iterator that holds threads.

    They are released when it is exhausted, closed, or no longer referred to.
    """

    def __init__(self, stage: Source, core: _core.Epoch, tally: Tally) -> None:
        self._stage = stage  # the last one; each closes the one before it
        self._core = core  # the first one, which keeps the account
        tally.follow(self, lambda: Waits.of(core.waits))

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return next(self._stage)

    @property
    def waits(self) -> Waits:
        """What was delivered so far, and who waited for whom."""
        return Waits.of(self._core.waits)

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
