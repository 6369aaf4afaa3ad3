"""The samples of a stream by their positions: what contexts read, and never beyond their end."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from modyn.arrivals import Arrivals

__all__ = ["HeldHistory", "History"]


class History(Protocol):
    """A stream that can be looked back at.

    Positions count samples in stream order, those included that were erased meanwhile.
    """

    def after(self, position: int, count: int, /) -> int:
        """Return the position after the next `count` samples that are not erased."""

    def timestamp_before(self, position: int, /) -> int | None:
        """Return the timestamp of the last sample before a position, None at 0."""

    def samples(self, first: int, last: int, /) -> Arrivals:
        """Return the samples at positions first <= p < last that are not erased."""

    def first_at(self, timestamp: int, last: int, /) -> int:
        """Return the first position before `last` with that timestamp or a later one, or `last`."""

    def reached(self, keys: npt.NDArray[np.uint64], position: int, /) -> npt.NDArray[np.bool_]:
        """Return which of these samples of the stream come before a position, shape (n,)."""

    def columns(self, keys: npt.NDArray[np.uint64], /) -> Arrivals:
        """Return these samples, in the order of `keys`."""


class HeldHistory:
    """A history of samples in memory, for tests, examples and notebooks.

    Parameters
    ----------
    stream : Arrivals
        The samples in stream order.
    """

    def __init__(self, stream: Arrivals) -> None:
        self._stream = stream
        self._order = np.argsort(stream.keys, kind="stable")
        self._sorted = stream.keys[self._order]

    def after(self, position: int, count: int) -> int:
        """Return the position after the next `count` samples."""
        return position + count

    def timestamp_before(self, position: int) -> int | None:
        """Return the timestamp of the last sample before a position."""
        return int(self._stream.timestamps[position - 1]) if position else None

    def samples(self, first: int, last: int) -> Arrivals:
        """Return the samples at positions first <= p < last."""
        return self._stream[first:last]

    def first_at(self, timestamp: int, last: int) -> int:
        """Return the first position before `last` at or after a timestamp, or `last`."""
        late = self._stream.timestamps[:last] >= timestamp
        return int(late.argmax()) if late.any() else last

    def reached(self, keys: npt.NDArray[np.uint64], position: int) -> npt.NDArray[np.bool_]:
        """Return which samples come before a position."""
        reached: npt.NDArray[np.bool_] = self._positions(keys) < position
        return reached

    def columns(self, keys: npt.NDArray[np.uint64]) -> Arrivals:
        """Return these samples, in the order of `keys`."""
        places = self._positions(keys)
        stream = self._stream
        labels = None if stream.labels is None else stream.labels[places]
        return Arrivals(stream.keys[places], stream.timestamps[places], labels)

    def _positions(self, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        places = np.searchsorted(self._sorted, keys)
        inside = places < len(self._sorted)
        inside[inside] = self._sorted[places[inside]] == keys[inside]
        if not inside.all():
            raise ValueError(f"sample {keys[~inside][0]} is not in the stream")
        found: npt.NDArray[np.int64] = self._order[places]
        return found
