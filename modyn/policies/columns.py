"""Criteria of many policies at once: a column per criterion, a row per policy.

Each does what its class in `modyn.policies.criteria` does, in the same order of operations, so that
the verdicts are the same bit for bit; tests hold one against the other.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from modyn.policies.criteria import (
    DecisionCriterion,
    DynamicQuantileThresholdCriterion,
    DynamicRollingAverageThresholdCriterion,
    ThresholdDecisionCriterion,
)

__all__ = ["Column", "column_of", "kind_of"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Kind = tuple[object, ...]


class Column(Protocol):
    """The criterion of one name, of many policies."""

    def verdicts(self, scores: Floats) -> Bools:
        """Return which policies it fires for, and keep their scores, shape (p,)."""


def kind_of(criterion: DecisionCriterion) -> Kind | None:
    """Return what criteria of one column have in common; None for one that has no column."""
    if type(criterion) is ThresholdDecisionCriterion:
        return ("threshold",)
    if type(criterion) is DynamicQuantileThresholdCriterion and not criterion.conformal:
        return ("quantile", criterion.window_size)
    if type(criterion) is DynamicRollingAverageThresholdCriterion:
        return ("rolling", criterion.window_size, criterion.absolute)
    return None


def column_of(
    criteria: Sequence[DecisionCriterion], *, lower: bool, history: Sequence[float] = ()
) -> Column:
    """Return the column of criteria of one kind.

    Parameters
    ----------
    criteria : sequence of DecisionCriterion
        One per policy.
    lower : bool
        Whether lower scores are worse.
    history : sequence of float
        The scores that all of them begin with, oldest first.
    """
    first = criteria[0]
    if isinstance(first, ThresholdDecisionCriterion):
        return _Threshold(_numbers(criteria, "threshold"), lower)
    if isinstance(first, DynamicQuantileThresholdCriterion):
        series = _Series(len(criteria), first.window_size, history)
        return _Quantile(_numbers(criteria, "quantile"), series, lower)
    if not isinstance(first, DynamicRollingAverageThresholdCriterion):
        raise TypeError(f"no column for {type(first).__name__}")
    series = _Series(len(criteria), first.window_size, history)
    return _Rolling(_numbers(criteria, "deviation"), series, lower, first.absolute)


def _numbers(criteria: Sequence[DecisionCriterion], name: str) -> Floats:
    return np.array([getattr(criterion, name) for criterion in criteria], dtype=np.float64)


class _Threshold:
    """A fixed threshold each."""

    def __init__(self, threshold: Floats, lower: bool) -> None:
        self._threshold, self._lower = threshold, lower

    def verdicts(self, scores: Floats) -> Bools:
        """Return where the threshold is reached; nan reaches none."""
        reached: Bools = scores <= self._threshold if self._lower else scores >= self._threshold
        return reached


class _Series:
    """The last scores of each policy: shape (p, w), the newest at the right."""

    def __init__(self, count: int, window: int, history: Sequence[float]) -> None:
        self.window = window
        self.length = np.full(count, min(len(history), window))
        self.held = np.zeros((count, window))
        newest = list(history)[-window:]
        if newest:
            self.held[:, window - len(newest) :] = newest

    def keep(self, scores: Floats) -> None:
        """Take in a score of each policy, but for those that are not finite."""
        kept = np.isfinite(scores)
        if kept.all():
            self.held[:, :-1] = self.held[:, 1:]
            self.held[:, -1] = scores
        else:
            self.held[kept, :-1] = self.held[kept, 1:]
            self.held[kept, -1] = scores[kept]
        self.length[kept] = np.minimum(self.length[kept] + 1, self.window)

    def sorted(self) -> Floats:
        """Return the scores in ascending order, from the left; what is behind them is infinite."""
        missing = np.arange(self.window) < (self.window - self.length)[:, None]
        return np.sort(np.where(missing, np.inf, self.held), axis=1)

    def means(self) -> Floats:
        """Return the mean of each, as `mean_of` has it; nan without scores."""
        count = len(self.held)
        begins = self.window - self.length
        first = self.held[np.arange(count), np.minimum(begins, self.window - 1)]
        total = np.zeros(count)
        for column in range(self.window):
            inside = column >= begins
            total[inside] += self.held[inside, column] - first[inside]
        with np.errstate(invalid="ignore"):
            means: Floats = first + total / self.length
        return means


class _Quantile:
    """A quantile of the last scores each."""

    def __init__(self, quantile: Floats, series: _Series, lower: bool) -> None:
        self._quantile = quantile if lower else 1 - quantile
        self._series, self._lower = series, lower

    def verdicts(self, scores: Floats) -> Bools:
        """Return where a score is beyond the quantile, or the first of all."""
        series = self._series
        last = series.length - 1
        place = np.maximum(last, 0) * self._quantile
        below = np.minimum(place.astype(np.int64), np.maximum(last, 0))
        above = np.minimum(below + 1, np.maximum(last, 0))
        ordered, rows = series.sorted(), np.arange(len(scores))
        low, high = ordered[rows, below], ordered[rows, above]
        with np.errstate(invalid="ignore"):
            threshold = low + (high - low) * (place - below)
            beyond = scores < threshold if self._lower else scores > threshold
        fires: Bools = np.where(series.length == 0, ~np.isnan(scores), beyond)
        series.keep(scores)
        return fires


class _Rolling:
    """A distance from the mean of the last scores each."""

    def __init__(self, deviation: Floats, series: _Series, lower: bool, absolute: bool) -> None:
        self._deviation, self._series = deviation, series
        self._lower, self._absolute = lower, absolute

    def verdicts(self, scores: Floats) -> Bools:
        """Return where a score is far from the mean, or the first of all."""
        series = self._series
        mean = series.means()
        with np.errstate(invalid="ignore"):
            worse = mean - scores if self._lower else scores - mean
            least = self._deviation if self._absolute else self._deviation * np.abs(mean)
            beyond = worse >= least
            if not self._absolute:
                beyond = np.where(mean == 0, worse > 0, beyond)
        fires: Bools = np.where(series.length == 0, ~np.isnan(scores), beyond)
        series.keep(scores)
        return fires
