"""The stream of a run that follows: it begins with what was there, and goes on with what comes.

What was there when the run began is in stream order, whatever that is.  What comes later goes
behind it in the order of keys.  In time order it has to: a sample with an earlier timestamp than
one before it is late, and refused, since a replay would have shown it to the policies before
samples that they have seen by now.  Which samples are late is a property of the dataset and of
when the run began, not of when somebody looked, so that a process that was down for a while
refuses the same ones.
"""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modyn.errors import ConfigError
from modyn.pipelines.evaluate import is_ascending
from modyn.pipelines.stream import Stream, bounds, by_arrival

if TYPE_CHECKING:
    from modyn.pipelines.pipeline import Pipeline

__all__ = ["Growing"]

Keys = npt.NDArray[np.uint64]


class Growing:
    """A stream over more and more samples of a dataset.

    Parameters
    ----------
    pipeline : Pipeline
        Whose dataset grows.
    order : uint64, shape (n,), or None
        The keys of the beginning, in stream order; None for all of them in the order of keys.
    since : int
        Keys below belong to the beginning.
    """

    def __init__(self, pipeline: "Pipeline", order: Keys | None, since: int) -> None:
        self._pipeline = pipeline
        self._bounds = bounds(pipeline)
        self._seen = 0
        self._ascending = True
        self._newest: int | None = None
        self._keys = None if order is None else _Keys(order)
        times = self._take(since)
        self._ascending = pipeline.order == "time" or is_ascending(times)

    @property
    def newest(self) -> int | None:
        """The latest timestamp of all samples so far, of those that no one asked for as well."""
        return self._newest

    def to(self, count: int) -> Stream:
        """Return the stream over the first `count` samples, which are there.

        Raises
        ------
        ConfigError
            In time order, when a sample is late; names it.
        """
        first = self._seen
        if count > first:
            self._check_late(first, count)
            before, times = self._newest, self._take(count)
            if len(times) and before is not None and times[0] < before:
                self._ascending = False
            self._ascending = self._ascending and is_ascending(times)
            if self._keys is not None:
                self._keys.add(self._inside(first, count, before))
        if self._keys is None:
            return Stream(count=count, order=None, ascending=self._ascending)
        order = self._keys.all()
        return Stream(count=len(order), order=order, ascending=self._ascending)

    def _living(self, first: int, count: int) -> tuple[Keys, npt.NDArray[np.int64]]:
        """Return the samples that are not erased: keys and timestamps."""
        view = self._pipeline.dataset.view
        times = view.columns(first, count - first)[0]
        keys = np.arange(first, count, dtype=np.uint64)
        if view.erased_count == 0:
            return keys, times
        living = ~view.erased(first, count - first)
        return keys[living], times[living]

    def _take(self, count: int) -> npt.NDArray[np.int64]:
        """Go on to `count`, and return the timestamps of what is not erased of it."""
        times = self._living(self._seen, count)[1]
        self._seen = count
        if len(times):
            last = int(times.max())
            self._newest = last if self._newest is None else max(last, self._newest)
        return times

    def _check_late(self, first: int, count: int) -> None:
        if self._pipeline.order != "time":
            return
        keys, times = self._living(first, count)
        if len(times) == 0:
            return
        start = times[0] if self._newest is None else self._newest
        before = np.concatenate([np.array([start], dtype=np.int64), times[:-1]])
        late = times < before
        if late.any():
            at = int(late.argmax())
            raise ConfigError(
                f"{self._pipeline.dataset.path}: sample {keys[at]} is late: its timestamp is "
                f"{times[at]}, and there was one of {before[at]} before; a run that follows in "
                "time order takes samples in the order of their timestamps; erase it, or follow "
                "with pipeline.order: arrival, in another output directory"
            )

    def _inside(self, first: int, count: int, before: int | None) -> Keys:
        """Return the keys with start <= timestamp < stop, with those that are erased.

        They keep their place, so that a position of the ledger is the same sample for ever.
        """
        keys = np.arange(first, count, dtype=np.uint64)
        start, stop = self._bounds
        if start is None and stop is None:
            return keys
        if self._pipeline.order != "time":
            found, _ = by_arrival(self._pipeline.dataset, count, start, stop)
            return keys if found is None else found[found >= first]
        # Timestamps ascend, and those of erased samples are not known, perhaps.
        view = self._pipeline.dataset.view
        erased, times = view.erased(first, len(keys)), view.columns(first, len(keys))[0]
        if stop is not None:
            past = np.flatnonzero(~erased & (times >= stop))
            end = 0 if before is not None and before >= stop else past[0] if len(past) else None
            keys, erased, times = keys[:end], erased[:end], times[:end]
        return keys if start is None else keys[erased | (times >= start)]


class _Keys:
    """An array that grows, and is not copied each time."""

    def __init__(self, keys: Keys) -> None:
        self._room = np.array(keys, dtype=np.uint64)
        self._count = len(keys)

    def add(self, keys: Keys) -> None:
        count = self._count + len(keys)
        if count > len(self._room):
            room = np.empty(max(count, 2 * len(self._room)), dtype=np.uint64)
            room[: self._count] = self._room[: self._count]
            self._room = room  # who has the old one keeps it
        self._room[self._count : count] = keys
        self._count = count

    def all(self) -> Keys:
        return self._room[: self._count]
