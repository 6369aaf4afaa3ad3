"""Intervals that wait until their labels are known, held by the rule that cuts them.

Intervals follow one another, so that all that wait are told by the first of them and by how long
they are: where nothing is erased, by one length and how often it comes.  What else is asked of an
interval stands in the stream, and is read when it is its turn.

    {"index": 7, "first": 1750,            the oldest that waits, and where it begins
     "count": 6, "end": 3252,              how many there are from it on, and where they end
     "lengths": [[250, 4], [251, 2]],      in positions: four intervals, then two
     "triggers": [[3, 6]],                 whose model was the newest at their ends
     "skipped": [[9, 100]],                the model of interval 9 came after 100 positions of it
     "taken": [[8, 1]],                    younger than the oldest, and waits no more
     "latest": 912, "ascending": false}    the newest timestamp of the youngest; of all, in order?
"""

import heapq
from bisect import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from modyn.policies.batched import Interval

__all__ = ["Waiting", "WaitingLine", "nobody_waits"]

State = dict[str, Any]


@dataclass(frozen=True, slots=True, order=True)
class Waiting:
    """An interval that waits.

    Parameters
    ----------
    index : int
        How many intervals came before.
    first, last : int
        The positions of those of its samples that came after the trigger of the model.
    trigger : int
        Whose model is to be looked at on it.
    whole : bool
        Whether these are all of its samples.
    """

    index: int
    first: int
    last: int
    trigger: int
    whole: bool


def nobody_waits() -> State:
    """Return the state of an empty line."""
    empty: State = {name: [] for name in ("lengths", "triggers", "skipped", "taken")}
    numbers = dict.fromkeys(("index", "first", "count", "end"), 0)
    return {**numbers, **empty, "latest": None, "ascending": True}


class WaitingLine:
    """Intervals in the order in which they came; what changes, changes in the state.

    Parameters
    ----------
    state : dict
        JSON values, as `nobody_waits` gives them.

    Examples
    --------
    >>> state = nobody_waits()
    >>> line = WaitingLine(state)
    >>> for index in range(1000):
    ...     line.append(Interval(index=index, first=5 * index, last=5 * index + 5), 0, 0)
    >>> state["lengths"], len(line)
    ([[5, 1000]], 1000)
    >>> line.drop()
    >>> next(iter(line))
    Waiting(index=1, first=5, last=10, trigger=0, whole=True)
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._by_time: list[tuple[int, Waiting]] | None = None  # a heap; made when it is needed

    def __len__(self) -> int:
        taken = sum(count for _, count in self._state["taken"])
        return int(self._state["count"] - taken)

    def __iter__(self) -> Iterator[Waiting]:
        state = self._state
        triggers, skipped = _each(state["triggers"]), dict(state["skipped"])
        taken = {first + n for first, count in state["taken"] for n in range(count)}
        index, first = state["index"], state["first"]
        for length in _each(state["lengths"]):
            one = _waiting(index, first, length, next(triggers), skipped)
            if index not in taken:
                yield one
            index, first = index + 1, first + length

    def append(self, interval: Interval, skipped: int, trigger: int) -> None:
        """Let an interval wait, the one after the last that did.

        Parameters
        ----------
        interval : Interval
        skipped : int
            How many positions at its beginning do not count.
        trigger : int
            Whose model is to be looked at on it.
        """
        state = self._state
        if state["count"] == 0:
            self.clear()
            state["index"], state["first"] = interval.index, interval.first
        _append(state["lengths"], interval.last - interval.first)
        _append(state["triggers"], trigger)
        state["count"], state["end"] = state["count"] + 1, interval.last
        if skipped:
            state["skipped"].append([interval.index, skipped])

    def drop(self) -> None:
        """Let the oldest wait no more."""
        state = self._state
        state["first"] += _pop(state["lengths"])
        _pop(state["triggers"])
        if state["skipped"] and state["skipped"][0][0] == state["index"]:
            del state["skipped"][0]
        state["index"] += 1
        state["count"] -= 1

    def clear(self) -> None:
        """Let none wait any more."""
        self._state.update(nobody_waits())
        self._by_time = None

    def timed(self, latest: int) -> None:
        """Take note of the newest timestamp of the interval that was appended last."""
        state = self._state
        if state["latest"] is not None and latest < state["latest"]:
            state["ascending"] = False
        state["latest"] = latest
        if self._by_time is not None:
            heapq.heappush(self._by_time, (latest, self._youngest()))

    def due(self, until: int, latest: Callable[[Waiting], int]) -> list[Waiting]:
        """Take out all without a sample after `until`, oldest first.

        Parameters
        ----------
        until : int
        latest : callable
            Reads the newest timestamp of an interval in the stream; in time order that is done for
            those that are due and the next.
        """
        if not self._state["ascending"]:
            return self._due_by_time(until, latest)
        found: list[Waiting] = []
        for one in self:
            if latest(one) > until:
                break
            found.append(one)
        for _ in found:
            self.drop()
        return found

    def _due_by_time(self, until: int, latest: Callable[[Waiting], int]) -> list[Waiting]:
        """Take out the same, where an interval may be due before an older one is."""
        if self._by_time is None:
            self._by_time = [(latest(one), one) for one in self]
            heapq.heapify(self._by_time)
        found = []
        while self._by_time and self._by_time[0][0] <= until:
            found.append(heapq.heappop(self._by_time)[1])
        found.sort()
        for one in found:
            _insert(self._state["taken"], one.index)
        self._drop_taken()
        return found

    def _drop_taken(self) -> None:
        """Drop the oldest for as long as they wait no more."""
        taken = self._state["taken"]
        while taken and taken[0][0] == self._state["index"]:
            for _ in range(taken.pop(0)[1]):
                self.drop()

    def _youngest(self) -> Waiting:
        state = self._state
        index, length = state["index"] + state["count"] - 1, state["lengths"][-1][0]
        skipped = dict(state["skipped"][-1:])
        return _waiting(index, state["end"] - length, length, state["triggers"][-1][0], skipped)


def _waiting(index: int, first: int, length: int, trigger: int, skipped: dict[int, int]) -> Waiting:
    after = skipped.get(index, 0)
    return Waiting(index, first + after, first + length, trigger, whole=after == 0)


# Runs of equal values, as [value, how often].


def _each(runs: list[list[int]]) -> Iterator[int]:
    for value, count in runs:
        for _ in range(count):
            yield value


def _append(runs: list[list[int]], value: int) -> None:
    if runs and runs[-1][0] == value:
        runs[-1][1] += 1
    else:
        runs.append([value, 1])


def _pop(runs: list[list[int]]) -> int:
    """Take the first value out."""
    value = runs[0][0]
    runs[0][1] -= 1
    if runs[0][1] == 0:
        del runs[0]
    return value


def _insert(ranges: list[list[int]], value: int) -> None:
    """Put a number among ascending [first, how many] that do not hold it."""
    place = bisect(ranges, [value])
    before = place > 0 and sum(ranges[place - 1]) == value
    after = place < len(ranges) and ranges[place][0] == value + 1
    if before and after:
        ranges[place - 1][1] += 1 + ranges.pop(place)[1]
    elif before:
        ranges[place - 1][1] += 1
    elif after:
        ranges[place] = [value, ranges[place][1] + 1]
    else:
        ranges.insert(place, [value, 1])
