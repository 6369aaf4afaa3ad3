"""A tape as policies look back at it: positions of the stream, in arrays."""

from functools import cached_property

import numpy as np
import numpy.typing as npt

from modyn.arrivals import Arrivals
from modyn.backtesting.tape import Tape

__all__ = ["TapeHistory"]

Keys = npt.NDArray[np.uint64]


class TapeHistory:
    """The samples of a tape, with the methods of `modyn.policies.History`.

    Parameters
    ----------
    tape : Tape
    """

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def after(self, position: int, count: int, /) -> int:
        """Return the position after the next `count` samples that are not erased."""
        tape = self._tape
        return tape.position(min(tape.place(position) + count, len(tape))) if count else position

    def timestamp_before(self, position: int, /) -> int | None:
        """Return the timestamp of the last sample before a position, None where there is none."""
        place = self._tape.place(position)
        return int(self._tape.arrivals.timestamps[place - 1]) if place else None

    def samples(self, first: int, last: int, /) -> Arrivals:
        """Return the samples at positions first <= p < last that are not erased."""
        return self._tape.arrivals[self._tape.place(first) : self._tape.place(last)]

    def first_at(self, timestamp: int, last: int, /) -> int:
        """Return the first position before `last` with that timestamp or a later one, or `last`."""
        tape = self._tape
        place = int(np.searchsorted(tape.newest[: tape.place(last)], timestamp, side="left"))
        if place >= tape.place(last):
            return last
        return place if tape.positions is None else int(tape.positions[place])

    def reached(self, keys: Keys, position: int, /) -> npt.NDArray[np.bool_]:
        """Return which of these samples of the stream come before a position, shape (n,)."""
        reached: npt.NDArray[np.bool_] = self._places(keys) < self._tape.place(position)
        return reached

    def columns(self, keys: Keys, /) -> Arrivals:
        """Return these samples, in the order of `keys`."""
        places, found = self._places(keys), self._tape.arrivals
        labels = None if found.labels is None else found.labels[places]
        return Arrivals(found.keys[places], found.timestamps[places], labels)

    @cached_property
    def _order(self) -> npt.NDArray[np.int64]:
        return np.argsort(self._tape.arrivals.keys, kind="stable")

    @cached_property
    def _sorted(self) -> Keys:
        return self._tape.arrivals.keys[self._order]

    @cached_property
    def _dense(self) -> bool:
        """Whether keys are places: in arrival order, or where that is the order of time."""
        keys = self._tape.arrivals.keys
        return bool(np.array_equal(keys, np.arange(len(keys), dtype=np.uint64)))

    def _places(self, keys: Keys) -> npt.NDArray[np.int64]:
        if self._dense and len(keys) and keys.max() < len(self._tape):
            return keys.astype(np.int64)
        places = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        there = self._sorted[places] == keys
        if not there.all():
            raise ValueError(f"sample {keys[~there][0]} is not in the stream, or was erased")
        found: npt.NDArray[np.int64] = self._order[places]
        return found
