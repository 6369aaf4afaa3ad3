"""The stream of a run as its policies look back at it: the columns of the dataset, by position.

Nothing is read before it is asked for, and nothing is kept but a maximum per 65,536 samples where
a stream is not in time order.  Whether a sample was reached is a comparison of (timestamp, key)
with the last one that was, so no table says at which position each key is.  Erased samples keep
their positions, and are passed over as in the loop (csrc/orchestrator).
"""

from bisect import bisect_left
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modyn.arrivals import Arrivals
from modyn.dataset import View
from modyn.pipelines.stream import Stream
from modyn.sampling.candidates import living

__all__ = ["RunHistory"]

BLOCK = 65_536  # samples of which one maximum is kept
LEAST = 256  # samples that are looked at together
NEVER = -(2**63)  # before all timestamps

Keys = npt.NDArray[np.uint64]
Times = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class RunHistory:
    """The samples of a stream, with the methods of `modyn.policies.history.History`.

    Parameters
    ----------
    view : View
        Where the columns are, and what is erased.
    stream : Stream
        Which samples the run follows, in which order.
    by_time : bool
        Whether that order is by (timestamp, key); else it is by key.
    key_count : int
        How many keys the dataset had when the run began.
    """

    view: View
    stream: Stream
    by_time: bool
    key_count: int
    _peaks: list[int] = field(default_factory=list, init=False, repr=False, compare=False)

    def after(self, position: int, count: int, /) -> int:
        """Return the position after the next `count` samples that are not erased."""
        if self.view.erased_count == 0:
            return position + count
        while count > 0 and position < self.stream.count:
            last = min(position + max(2 * count, LEAST), self.stream.count)
            there = np.flatnonzero(living(self.view, self._keys(position, last)))
            if len(there) >= count:
                return position + int(there[count - 1]) + 1
            count, position = count - len(there), last
        return position

    def timestamp_before(self, position: int, /) -> int | None:
        """Return the timestamp of the last sample before a position, None where there is none."""
        last = self._last_before(position)
        return None if last is None else last[0]

    def samples(self, first: int, last: int, /) -> Arrivals:
        """Return the samples at positions first <= p < last that are not erased."""
        keys = self._keys(first, last)
        if self.view.erased_count:
            keys = keys[living(self.view, keys)]
        elif self.stream.order is None:
            return Arrivals(keys, *self.view.columns(first, last - first))
        return self.columns(keys)

    def first_at(self, timestamp: int, last: int, /) -> int:
        """Return the first position before `last` with that timestamp or a later one, or `last`."""
        if not self.stream.ascending:
            return self._first_of_unordered(timestamp, last)

        def late(position: int) -> bool:
            before = self.timestamp_before(position + 1)
            return before is not None and before >= timestamp

        return bisect_left(range(last), True, key=late)

    def known(self, position: int, delay: int) -> int:
        """Return up to which position labels are known, `delay` after the timestamps.

        Time is the newest timestamp before the position; in arrival order, late samples behind
        the first one whose label is not known yet have to wait for it.
        """
        if position == 0:
            return 0
        newest = self._newest_before(position)
        return 0 if newest is None else self.first_at(newest - delay + 1, position)

    def reached(self, keys: Keys, position: int, /) -> npt.NDArray[np.bool_]:
        """Return which of these samples come before a position, shape (n,).

        An erased sample counts as reached, wherever it was: it is its columns that are gone.
        """
        order = self.stream.order
        if order is None:
            return keys < np.uint64(min(position, self.key_count))
        if not self.by_time:
            places = np.minimum(np.searchsorted(order[:position], keys), max(position - 1, 0))
            among: npt.NDArray[np.bool_] = (order[places] == keys) & np.bool_(position > 0)
            return among
        found = keys < np.uint64(self.key_count)
        there = found.copy()
        there[found] = living(self.view, keys[found])
        found[there] = self._between(keys[there], position)
        return found

    def columns(self, keys: Keys, /) -> Arrivals:
        """Return these samples, in the order of `keys`.

        Raises
        ------
        ValueError
            For a sample that is erased.
        """
        keys = np.ascontiguousarray(keys, dtype=np.uint64)
        times = np.empty(len(keys), dtype=np.int64)
        labels = np.empty(len(keys), dtype=np.int64) if self.view.has_labels else None
        try:
            self.view.fetch(keys, (), labels, times, 1)
        except KeyError:
            gone = keys[~living(self.view, keys)]
            if len(gone) == 0:
                raise
            raise ValueError(f"sample {gone[0]} is erased: ask for positions again") from None
        return Arrivals(keys, times, labels)

    def _between(self, keys: Keys, position: int) -> npt.NDArray[np.bool_]:
        """Return which samples come between the beginning of a stream in time order and there."""
        first, last = self._first_from(0), self._last_before(position)
        if first is None or last is None:
            return np.zeros(len(keys), dtype=np.bool_)
        times = self.columns(keys).timestamps

        def until(timestamp: int, key: int) -> npt.NDArray[np.bool_]:
            upto: npt.NDArray[np.bool_] = (times < timestamp) | (
                (times == timestamp) & (keys <= np.uint64(key))
            )
            return upto

        begun = (times > first[0]) | ((times == first[0]) & (keys >= np.uint64(first[1])))
        found: npt.NDArray[np.bool_] = begun & until(*last)
        return found

    def _keys(self, first: int, last: int) -> Keys:
        order = self.stream.order
        return np.arange(first, last, dtype=np.uint64) if order is None else order[first:last]

    def _last_before(self, position: int) -> tuple[int, int] | None:
        """Return timestamp and key of the last sample before a position that is not erased."""
        span = 1 if self.view.erased_count == 0 else LEAST
        while position > 0:
            first = max(position - span, 0)
            found = self.samples(first, position)
            if len(found):
                return int(found.timestamps[-1]), int(found.keys[-1])
            position, span = first, 16 * span
        return None

    def _first_from(self, position: int) -> tuple[int, int] | None:
        """Return timestamp and key of the first sample from a position on that is not erased."""
        span = LEAST
        while position < self.stream.count:
            last = min(position + span, self.stream.count)
            found = self.samples(position, last)
            if len(found):
                return int(found.timestamps[0]), int(found.keys[0])
            position, span = last, 16 * span
        return None

    def _newest_before(self, position: int) -> int | None:
        """Return the greatest timestamp before a position."""
        if self.stream.ascending:
            return self.timestamp_before(position)
        self._look_up_to(position)
        whole = position // BLOCK
        rest = self.samples(whole * BLOCK, position).timestamps.max(initial=NEVER)
        newest = max(int(rest), self._peaks[whole - 1] if whole else NEVER)
        return None if newest == NEVER else newest

    def _look_up_to(self, last: int) -> None:
        for block in range(len(self._peaks), last // BLOCK):
            times = self.samples(block * BLOCK, (block + 1) * BLOCK).timestamps
            before = self._peaks[-1] if self._peaks else NEVER
            self._peaks.append(max(before, int(times.max(initial=NEVER))))

    def _first_of_unordered(self, timestamp: int, last: int) -> int:
        """Return the first position before `last` at or after a timestamp, in arrival order."""
        whole = last // BLOCK
        self._look_up_to(last)
        first = min(bisect_left(self._peaks, timestamp), whole) * BLOCK
        found = self.samples(first, min(first + BLOCK, last)).timestamps >= timestamp
        if not found.any():
            return last
        return self.after(first, int(found.argmax()) + 1) - 1
