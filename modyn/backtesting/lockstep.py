"""Many policies that look at the stream every so many samples, side by side: interval by interval.

All policies of a crowd have the same intervals, and differ in numbers such as thresholds.  At the
end of an interval each distinct question (how well does this model do on this interval?) is asked
once, and the criteria of all policies are held against the answers in arrays.  The triggers are
those that each policy would have had on its own.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from modyn.backtesting.matrix import Matrix
from modyn.backtesting.scoring import Schedule

__all__ = ["NEVER", "Decider", "Walk", "walk"]

Places = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

NEVER = -1


class Decider(Protocol):
    """What the policies of a crowd decide.

    Policies that have no model yet have `at.row` NEVER.
    """

    def decide(self, interval: int, at: "Walk", /) -> Bools:
        """Return which policies fire at the end of an interval, shape (p,)."""

    def observe(self, interval: int, at: "Walk", /) -> None:
        """Take in an interval of the warm-up: nothing is decided there."""

    def forget(self, fired: Bools, at: "Walk", /) -> None:
        """Drop what does not outlive a trigger; the policies that fired have new models."""


class Walk:
    """Where the policies of a crowd are.

    Attributes
    ----------
    row : int64, shape (p,)
        Which recorded training their newest model is, or is stood in for by.
    last : int64, shape (p,)
        The place of their last trigger.
    place : int
        The last place at which any of them fired.
    samples, seconds : int64 and float64, shape (p,)
        What their last trainings had and took.
    """

    def __init__(self, matrix: Matrix, count: int) -> None:
        self._matrix = matrix
        self.row = np.full(count, NEVER)
        self.last = np.zeros(count, dtype=np.int64)
        self.place = 0
        self.samples = np.zeros(count, dtype=np.int64)
        self.seconds = np.zeros(count)
        self.stand_in = np.zeros(count, dtype=np.bool_)
        self._starts = np.zeros((count, (matrix.recipes.tail or 0) + 1), dtype=np.int64)
        self._nodes = np.zeros(count, dtype=np.int64)

    def trigger(self, fired: Bools, place: int) -> None:
        """Have the policies fire that do, after so many samples."""
        recipes, table = self._matrix.recipes, self._matrix.table
        lasts = np.full(int(fired.sum()), place, dtype=np.int64)
        firsts = self._starts[fired, 0] if recipes.tail is not None else np.zeros_like(lasts)
        if recipes.by_range:
            names = firsts * (recipes.length + 1) + lasts
        else:
            self._nodes[fired] = recipes.steps(self._nodes[fired], place)
            names = self._nodes[fired]
        rows = table.exact(names)
        missing = rows < 0
        if missing.any():
            rows = np.where(missing, table.nearest(firsts, lasts), rows)
        self.row[fired], self.stand_in[fired], self.last[fired] = rows, missing, place
        self.samples[fired], self.seconds[fired] = table.facts(rows, ~missing, lasts - firsts)
        self.place = place
        self._starts[fired, :-1] = self._starts[fired, 1:]
        self._starts[fired, -1] = place


def walk(
    matrix: Matrix,
    decider: Decider,
    *,
    count: int,
    samples: int,
    warm: Sequence[bool] = (),
    most: int | None = None,
) -> list[Schedule]:
    """Return where the policies of a crowd fire.

    Parameters
    ----------
    matrix : Matrix
        The recording.
    decider : Decider
    count : int
        How many policies.
    samples : int
        Of an interval.
    warm : sequence of bool
        For each interval of the warm-up, whether it fires.
    most : int, optional
        Triggers at most.
    """
    intervals = len(matrix.tape) // samples
    fired = np.zeros((intervals, count), dtype=np.bool_)
    at, looked = Walk(matrix, count), np.full(count, NEVER)
    for interval in range(intervals):
        if interval > 0:
            doubtful = at.stand_in & (looked == NEVER)
            looked[doubtful] = fired[:interval, doubtful].sum(axis=0)
        if interval < len(warm):
            decider.observe(interval, at)
            now = np.full(count, warm[interval])
        else:
            now = decider.decide(interval, at)
        if now.any():
            fired[interval] = now
            at.trigger(now, (interval + 1) * samples)
            decider.forget(now, at)
    schedules = []
    for i in range(count):
        places = (np.flatnonzero(fired[:, i]) + 1)[:most] * samples
        certain = len(places) if looked[i] == NEVER else min(int(looked[i]), len(places))
        schedules.append(Schedule(places=places, certain=certain))
    return schedules
