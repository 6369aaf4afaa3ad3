"""The batches of one epoch, as the training loop takes them."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from modyn.loader.ahead import Source
from modyn.loader.waits import Tally, Waits

__all__ = ["Batches"]


class Batches:
    """The batches of one epoch, in order: an iterator that holds threads.

    They are released when it is exhausted, closed, or no longer referred to.
    """

    def __init__(self, stage: Source, tally: Tally) -> None:
        self._stage = stage  # the last one
        tally.follow(self, stage.read_waits)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        return next(self._stage)

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
