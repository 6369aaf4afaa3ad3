"""Who waited for whom: the loop for batches, or the workers for room."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, replace

__all__ = ["Stage", "Tally", "Waits"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Seconds of a stage between workers and loop, its threads added up.

    Attributes
    ----------
    name : str
        "staging", "decode", "transfer".
    busy, waiting : float
        Seconds at work, and seconds without anything to do or room for it.
    """

    name: str
    busy: float
    waiting: float


@dataclass(frozen=True, kw_only=True)
class Waits:
    """What an iteration delivered, and who waited for whom on the way.

    A loop whose `consumer_share` is near zero is as fast as it can be: the loader costs it
    nothing.  Where it is not, `workers_waiting` near zero says that more threads would help.

    Attributes
    ----------
    batches, rows, bytes : int
        What the loop took.
    consumer_waited : float
        Seconds in which the loop waited for a batch.
    consumer_held : float
        Seconds in which it did something else: from one batch to asking for the next.
    workers_filling, workers_waiting : float
        Seconds in which batches were filled, and in which workers had no room for one, those of
        all threads added up.  A loop that waits fills small batches itself: that is waiting, and
        filling, too.
    stages : tuple of Stage
        What lies between workers and loop.

    Examples
    --------
    >>> waits = Waits(batches=10, consumer_waited=0.04, consumer_held=12.06,
    ...               workers_filling=9.9, workers_waiting=14.2)
    >>> print(waits)
    the loop waited 0.3 % of 12.1 s for data; workers: 41 % filling, 59 % waiting for room
    >>> (waits + waits).seconds
    24.2
    """

    batches: int = 0
    rows: int = 0
    bytes: int = 0
    consumer_waited: float = 0.0
    consumer_held: float = 0.0
    workers_filling: float = 0.0
    workers_waiting: float = 0.0
    stages: tuple[Stage, ...] = ()

    @classmethod
    def of(cls, counted: tuple[int, int, int, int, int, int, int]) -> Waits:
        """Return what `_core.Epoch.waits` says, in seconds."""
        batches, rows, size, *ns = counted
        waited, held, filling, waiting = (value / 1e9 for value in ns)
        return cls(
            batches=batches,
            rows=rows,
            bytes=size,
            consumer_waited=waited,
            consumer_held=held,
            workers_filling=filling,
            workers_waiting=waiting,
        )

    @property
    def seconds(self) -> float:
        """From the start of the iteration to the last time that a batch was asked for."""
        return self.consumer_waited + self.consumer_held

    @property
    def consumer_share(self) -> float:
        """The part of these seconds in which the loop waited for data, 0 to 1."""
        return self.consumer_waited / self.seconds if self.seconds else 0.0

    def __add__(self, other: Waits) -> Waits:
        """Return both iterations as one."""
        stages = {stage.name: stage for stage in self.stages}
        for stage in other.stages:
            before = stages.get(stage.name, Stage(name=stage.name, busy=0.0, waiting=0.0))
            stages[stage.name] = replace(
                before, busy=before.busy + stage.busy, waiting=before.waiting + stage.waiting
            )
        return Waits(
            batches=self.batches + other.batches,
            rows=self.rows + other.rows,
            bytes=self.bytes + other.bytes,
            consumer_waited=self.consumer_waited + other.consumer_waited,
            consumer_held=self.consumer_held + other.consumer_held,
            workers_filling=self.workers_filling + other.workers_filling,
            workers_waiting=self.workers_waiting + other.workers_waiting,
            stages=tuple(stages.values()),
        )

    def __str__(self) -> str:
        shares = [_shares("workers", self.workers_filling, self.workers_waiting, "filling", "room")]
        shares += [_shares(s.name, s.busy, s.waiting, "at work", "others") for s in self.stages]
        loop = f"the loop waited {self.consumer_share:.1%} of {self.seconds:.3g} s for data"
        return "; ".join([loop, *filter(None, shares)]).replace("%", " %")


class Tally:
    """The waits of all iterations of a loader: of those that run, and of those that are gone.

    An iteration that is no longer referred to is added up at whatever moment and on whatever
    thread that is found out, so there is no lock: each change of the two containers is one step.
    """

    def __init__(self) -> None:
        self._running: dict[int, Callable[[], Waits]] = {}
        self._gone: list[Waits] = []  # one, but for a moment
        self._count = 0

    def follow(self, iteration: object, read: Callable[[], Waits]) -> None:
        """Count an iteration in; `read` tells its waits and must not refer to it."""
        self._count += 1
        self._running[self._count] = read
        weakref.finalize(iteration, self._end, self._count).atexit = False

    def total(self) -> Waits:
        """Return the sum of all iterations so far."""
        parts = [*self._gone, *(read() for read in list(self._running.values()))]
        return sum(parts, Waits())

    def _end(self, number: int) -> None:
        waits = self._running.pop(number)()
        while self._gone:
            try:
                waits += self._gone.pop()
            except IndexError:  # another thread took it, and brings it back with its own
                break
        self._gone.append(waits)


def _shares(name: str, busy: float, waiting: float, at: str, other: str) -> str:
    total = busy + waiting
    if not total:
        return ""
    return f"{name}: {busy / total:.0%} {at}, {waiting / total:.0%} waiting for {other}"
