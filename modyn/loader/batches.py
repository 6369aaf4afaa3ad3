"""The batches of one epoch, as the training loop takes them."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from modyn import _core
from modyn.loader.batch import Batch, Parts
from modyn.loader.state import Progress

__all__ = ["Batches"]


class Batches:
    """The batches of one epoch, in order: an iterator that holds threads.

    They are released when it is exhausted, closed, or no longer referred to.
    """

    def __init__(self, core: _core.Epoch, parts: Parts, progress: Progress) -> None:
        self._core = core
        self._parts = parts
        self._progress = progress

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        try:
            batch = next(self._core)
        except StopIteration:
            self._progress.ended()
            raise
        self._progress.delivered()
        return Batch(batch, self._parts)

    def close(self) -> None:
        """Stop and join the worker threads; any number of times."""
        self._core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
