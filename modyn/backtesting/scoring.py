"""What a schedule scores and costs, with the models that were recorded.

Per window the currently active model counts (`modyn.pipelines.composite`): the newest that was
trained on nothing at or after the window's anchor.  Where a training was not recorded, the
nearest one from before its end stands in for it, and the outcome is an estimate.

Some policies train at once, others much later.  So that they are held against each other in how
they go on, all begin with the first recorded model, which counts (and costs) until there is one of
their own; or else windows without a model count 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from modyn.backtesting.cost import Cost
from modyn.backtesting.matrix import Matrix, Trainings
from modyn.backtesting.recipes import Ask
from modyn.errors import ConfigError

__all__ = ["Outcome", "Schedule", "Scorer", "WithoutModel", "active_rows", "compared"]

Places = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

WithoutModel = Literal["first", "zero"]

NONE = -1  # no model


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule:
    """Where a policy fired on one recording, and how far that is known to be right.

    Parameters
    ----------
    places : int64, shape (n,)
        After how many samples, ascending.
    certain : int
        How many of the triggers do not depend on what a stand-in said: all, if the policy asks
        no model.
    """

    places: Places
    certain: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Outcome:
    """A policy on one recording.

    Parameters
    ----------
    schedule : Schedule
        Its triggers.
    ask : Ask
        The trainings that it asked for.
    rows : int64, shape (n,)
        Which recorded training is, or stands in for, each.
    done : bool, shape (n,)
        Whether it is that very training.
    initial : bool
        Whether it begins with the first recorded model, until it has one of its own.
    active : int64, shape (w,)
        Which of the trainings counts in each compared window, -1 where none does.
    score, cost : float
    table : Trainings
        What the rows are of.
    """

    schedule: Schedule
    ask: Ask
    rows: Places
    done: Bools
    initial: bool
    active: Places
    score: float
    cost: float
    table: Trainings

    @property
    def trainings(self) -> int:
        """How many there are."""
        return len(self.ask) + self.initial

    @property
    def models(self) -> list[str]:
        """The content key of each training, or of what stands in for it."""
        return [self.table.rows[row].model for row in self.rows.tolist()]

    @property
    def exact(self) -> bool:
        """Whether it is what a run of the policy would come to."""
        return bool(self.done.all()) and self.schedule.certain >= len(self.schedule.places)

    @cached_property
    def missing(self) -> Places:
        """Which trainings a run of the policy would do for certain, and were not recorded."""
        sure = self.ask.trigger < self.schedule.certain
        return np.flatnonzero(~self.done & sure)


def active_rows(until: Places, anchor: Places) -> Places:
    """Return which model is active at each anchor, or -1: the last with until < anchor.

    Parameters
    ----------
    until : int64, shape (n,)
        The last timestamp of each model, in the order of their triggers.
    anchor : int64, shape (w,)

    Examples
    --------
    >>> active_rows(np.array([9, 19]), np.array([9, 10, 20])).tolist()
    [-1, 0, 1]
    """
    if len(until) > 1 and np.any(until[1:] < until[:-1]):
        until = np.minimum.accumulate(until[::-1])[::-1]  # of all from here on
    return np.searchsorted(until, anchor, side="left") - 1


def compared(matrices: Sequence[Matrix]) -> Bools:
    """Return the windows on which policies are compared, shape (w,).

    Those after the first model of each recorded run had begun, that have samples, and on which each
    model has a value.

    Raises
    ------
    ConfigError
        When there are none.
    """
    windows = matrices[0].windows
    chosen = windows.count > 0
    for matrix in matrices:
        chosen = chosen & (windows.anchor > matrix.begun)
        chosen = chosen & ~np.isnan(matrix.table.values).any(axis=0)
    if not chosen.any():
        raise ConfigError(
            f"{matrices[0].run.path}: there is no window after the first model in which every "
            f"model has a value of {matrices[0].metric}"
        )
    return chosen


class Scorer:
    """Scores schedules on one recording.

    Parameters
    ----------
    matrix : Matrix
        The recording.
    chosen : bool, shape (w,)
        The windows to compare on.
    cost : Cost
        How trainings are counted.
    without_model : {"first", "zero"}
        What a window counts in which a policy has no model yet.
    """

    def __init__(
        self, matrix: Matrix, chosen: Bools, cost: Cost, without_model: WithoutModel = "first"
    ) -> None:
        self.matrix = matrix
        self._first = without_model == "first"
        self.cost = cost
        self.chosen = chosen
        table = matrix.table
        self.anchor = matrix.windows.anchor[chosen]
        count = matrix.windows.count[chosen].astype(np.float64)
        self.weight = count / count.sum()
        self.values = np.ascontiguousarray(table.values[:, chosen])
        self.price = cost.of(seconds=table.seconds, samples=table.passed.astype(np.float64))
        self.starts = np.searchsorted(self.anchor, table.until, side="right")
        self._initial = int(table.exact(np.array([matrix.first]))[0])
        self._before = self.values[self._initial] if self._first else np.zeros(len(self.anchor))
        self._passes = table.passed / np.maximum(table.samples, 1)
        self._best = self.values.max(axis=0)
        self._columns = np.arange(len(self.anchor))

    def score(self, schedule: Schedule) -> Outcome:
        """Return what a schedule comes to."""
        matrix, table = self.matrix, self.matrix.table
        ask = matrix.ask(schedule.places)
        rows = table.exact(ask.name)
        done = rows >= 0
        if done.all():
            until, cost = table.until[rows], float(self.price[rows].sum())
        else:
            rows = np.where(done, rows, table.nearest(ask.first, ask.last))
            until = np.where(done, table.until[rows], matrix.tape.until(ask.first, ask.last))
            cost = float(self._prices(ask, rows, done).sum())
        active = active_rows(until, self.anchor)
        values = self._values(rows, active)
        initial = self._first and bool((active == NONE).any())
        if initial:
            cost += float(self.price[self._initial])
        return Outcome(
            schedule=schedule,
            ask=ask,
            rows=rows,
            done=done,
            initial=initial,
            active=active,
            score=float(values @ self.weight),
            cost=cost,
            table=table,
        )

    def values_of(self, outcome: Outcome) -> Floats:
        """Return the metric in each compared window, nan where there is no model, shape (w,)."""
        values = self._values(outcome.rows, outcome.active)
        return np.where(outcome.active == NONE, np.nan, values)

    def hope(self, outcome: Outcome) -> float:
        """Return the score if each model that is not known were the best there is everywhere."""
        active = np.maximum(outcome.active, 0)
        if len(outcome.ask) == 0:
            return outcome.score
        known = outcome.done[active] & (outcome.ask.trigger[active] < outcome.schedule.certain)
        values = np.where(known, self._values(outcome.rows, outcome.active), self._best)
        return float(np.where(outcome.active == NONE, self._before, values) @ self.weight)

    def _values(self, rows: Places, active: Places) -> Floats:
        """Return the metric in each window, also where there is no model of its own."""
        if len(rows) == 0:
            return self._before
        values = self.values[rows[np.maximum(active, 0)], self._columns]
        return (
            values
            if active[0] >= 0 and active.min() >= 0
            else np.where(active < 0, self._before, values)
        )

    def _prices(self, ask: Ask, rows: Places, done: Bools) -> Floats:
        """Return what each training costs: as measured, or guessed from its size."""
        table = self.matrix.table
        passed = ask.size * self._passes[rows]
        guessed = self.cost.of(seconds=table.guess_seconds(passed), samples=passed)
        return np.where(done, self.price[rows], guessed)
