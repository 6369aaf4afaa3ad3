"""What a backtest found: policies with what they cost and score, and which are best."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from modyn.backtesting.cost import Cost
from modyn.backtesting.scoring import Outcome
from modyn.pipelines.table import Table

__all__ = ["Backtest", "Bound", "Entry"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """A policy: its outcome on each recording, and in the mean.

    Parameters
    ----------
    name : str
    trigger : Trigger
        The policy.
    outcomes : sequence of Outcome
        One per seed.
    """

    name: str
    trigger: Any
    outcomes: Sequence[Outcome]

    @cached_property
    def score(self) -> float:
        """The mean over the seeds."""
        return float(np.mean([outcome.score for outcome in self.outcomes]))

    @cached_property
    def cost(self) -> float:
        """The mean over the seeds."""
        return float(np.mean([outcome.cost for outcome in self.outcomes]))

    @cached_property
    def trainings(self) -> float:
        """How many trainings, in the mean over the seeds."""
        return float(np.mean([outcome.trainings for outcome in self.outcomes]))

    @property
    def scores(self) -> tuple[float, float]:
        """The lowest and the highest of the seeds."""
        found = [outcome.score for outcome in self.outcomes]
        return min(found), max(found)

    @property
    def costs(self) -> tuple[float, float]:
        """The lowest and the highest of the seeds."""
        found = [outcome.cost for outcome in self.outcomes]
        return min(found), max(found)

    @property
    def exact(self) -> bool:
        """Whether this is what runs of the policy would come to, for each seed.

        Where a policy goes by the seconds of trainings, by those that were recorded.
        """
        return all(outcome.exact for outcome in self.outcomes)

    @property
    def missing(self) -> int:
        """How many of the trainings that it asks for were not recorded."""
        return sum(int((~outcome.done).sum()) for outcome in self.outcomes)


@dataclass(frozen=True, kw_only=True, eq=False)
class Bound:
    """The best that schedules of the recorded models can do, knowing the future.

    Parameters
    ----------
    trainings : int64, shape (k,)
        How many, at most.
    score : float64, shape (k,)
        The best with so many; in the mean over the seeds, each with a schedule of its own.
    costs, scores : float64, shape (h,)
        Corners of the highest score at each cost, both ascending: on the lines between them
        nothing is better.
    """

    trainings: npt.NDArray[np.int64]
    score: Floats
    costs: Floats
    scores: Floats

    def at(self, budget: float) -> float:
        """Return what no schedule of recorded models scores more than at this cost."""
        return float(np.interp(budget, self.costs, self.scores))


@dataclass(frozen=True, kw_only=True, eq=False)
class Backtest:
    """Policies by cost and score.

    Attributes
    ----------
    entries : sequence of Entry
        As they were given.
    metric : str
    cost : Cost
    seeds : int
        On how many recordings each was played.
    without_model : str
        What windows without a model count, see `backtest`.
    compared, windows : int
        How many of the windows count, and how many there are.
    oracle : Bound
    """

    entries: Sequence[Entry]
    metric: str
    cost: Cost
    seeds: int
    without_model: str
    compared: int
    windows: int
    oracle: Bound

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __getitem__(self, name: str) -> Entry:
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise KeyError(f"no policy {name!r}; there are {len(self.entries)}")

    @cached_property
    def front(self) -> list[Entry]:
        """The policies that no other dominates, from the cheapest to the best."""
        return [self.entries[i] for i in undominated(*self._points)]

    @cached_property
    def dominated(self) -> list[Entry]:
        """All others: some policy costs no more and scores no less, and one of the two is better.

        Of policies that cost and score the same the first one is on the front.
        """
        front = set(map(id, self.front))
        return [entry for entry in self.entries if id(entry) not in front]

    def best(self, budget: float) -> Entry | None:
        """Return the policy with the highest score of those that cost no more, or None.

        Parameters
        ----------
        budget : float
            In the unit of `cost`.
        """
        affordable = [entry for entry in self.front if entry.cost <= budget]
        return affordable[-1] if affordable else None

    @cached_property
    def table(self) -> Table:
        """One row per policy: cost and score with their bands, and whether it is exact."""
        front = set(map(id, self.front))
        names = [
            *("policy", "trainings", "cost", "cost_low", "cost_high"),
            *("score", "score_low", "score_high", "exact", "missing", "on_front"),
        ]
        rows = [
            (
                *(entry.name, entry.trainings, entry.cost, *entry.costs),
                *(entry.score, *entry.scores, entry.exact, entry.missing, id(entry) in front),
            )
            for entry in self.entries
        ]
        return Table.of(names, rows)

    @cached_property
    def _points(self) -> tuple[Floats, Floats]:
        costs = np.array([entry.cost for entry in self.entries], dtype=np.float64)
        scores = np.array([entry.score for entry in self.entries], dtype=np.float64)
        return costs, scores


def undominated(costs: Floats, scores: Floats) -> list[int]:
    """Return which points no other dominates, by ascending cost; of equal ones the first.

    Examples
    --------
    >>> undominated(np.array([1.0, 2.0, 2.0, 3.0]), np.array([0.5, 0.7, 0.6, 0.7]))
    [0, 1]
    """
    order = np.lexsort((np.arange(len(costs)), -scores, costs))
    best = np.maximum.accumulate(scores[order])
    rises = np.concatenate(([True], best[1:] > best[:-1])) if len(order) else np.zeros(0, bool)
    return [int(i) for i in order[rises]]
