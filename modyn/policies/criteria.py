"""When a score is a reason to train: a fixed threshold, or one taken from the scores before it.

A criterion looks at one series of scores.  "Higher" scores are distances of windows, where more is
worse; "lower" ones are measures of performance, where less is worse.  The criterion holds nothing:
whoever asks it keeps the scores, oldest first, and adds the new one after the verdict, whether or
not it fires.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from modyn.policies.checked import check_integer, check_number

__all__ = [
    "DecisionCriterion",
    "DynamicQuantileThresholdCriterion",
    "DynamicRollingAverageThresholdCriterion",
    "ThresholdDecisionCriterion",
    "Verdict",
    "mean_of",
    "quantile_of",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a criterion says of a score.

    Parameters
    ----------
    fires : bool
        Whether it is a reason to train.
    threshold : float or None
        What the score was held against; None where there was nothing to hold it against.
    keep : bool
        Whether the score belongs into the history: nan and infinities do not.
    """

    fires: bool
    threshold: float | None
    keep: bool


class DecisionCriterion(Protocol):
    """A rule that says of each score of a series whether it is a reason to train.

    Attributes
    ----------
    needs_calibration : bool
        Whether it says little before there are scores of a time without drift.
    window_size : int
        How many of the newest scores it looks at: whoever keeps the history may drop the others.
    """

    needs_calibration: ClassVar[bool]

    @property
    def window_size(self) -> int:
        """How many scores it looks at."""

    def verdict(self, score: float, history: Sequence[float], *, lower: bool = False) -> Verdict:
        """Return what to make of a score.

        Parameters
        ----------
        score : float
            nan, which is a score that is not defined, never fires.
        history : sequence of float
            The scores before it, oldest first, all finite; those before the last `window_size`
            are not looked at.
        lower : bool
            Whether lower scores are worse.
        """


@dataclass(frozen=True, kw_only=True)
class ThresholdDecisionCriterion:
    """Fires where a score reaches a fixed threshold: s >= t, or s <= t where lower is worse.

    Parameters
    ----------
    threshold : float

    Examples
    --------
    >>> ThresholdDecisionCriterion(threshold=0.5).verdict(0.5, [])
    Verdict(fires=True, threshold=0.5, keep=True)
    """

    threshold: float
    needs_calibration: ClassVar[bool] = False
    window_size: ClassVar[int] = 0

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold)

    def verdict(self, score: float, history: Sequence[float], *, lower: bool = False) -> Verdict:
        """Return what to make of a score; the history does not matter."""
        fires = score <= self.threshold if lower else score >= self.threshold
        return Verdict(fires=fires, threshold=self.threshold, keep=math.isfinite(score))


@dataclass(frozen=True, kw_only=True)
class DynamicQuantileThresholdCriterion:
    """Fires where a score is beyond a quantile of the last `window_size` scores.

    That is s > Q(1 - quantile), or s < Q(quantile) where lower is worse, with linear interpolation
    between neighbours.  The first score of all fires.

    Of scores that come from one distribution a share of 1/(W+1) to 2/(W+1) fires, W being
    `window_size`, whatever `quantile` below 1/(W-1) says: 12 percent for W = 10 and normal scores.
    With `conformal` the share is `quantile` or less: a score fires if fewer than
    k = floor(quantile * (n + 1)) of the n scores before it are as far out, which for k = 0 never
    happens.  So `window_size` must be at least 1 / quantile - 1 then.

    Parameters
    ----------
    window_size : int
        At least 1.
    quantile : float
        From 0 to 1.
    conformal : bool
        Whether to go by ranks.

    Examples
    --------
    >>> scores = [float(n) for n in range(10)]
    >>> criterion = DynamicQuantileThresholdCriterion(quantile=0.1)
    >>> criterion.verdict(8.2, scores)
    Verdict(fires=True, threshold=8.1, keep=True)
    >>> criterion.verdict(0.5, scores, lower=True)
    Verdict(fires=True, threshold=0.9, keep=True)

    By ranks, where nine scores make a level of a tenth possible:

    >>> by_rank = DynamicQuantileThresholdCriterion(window_size=9, quantile=0.1, conformal=True)
    >>> by_rank.verdict(9.5, scores), by_rank.verdict(8.5, scores)
    (Verdict(fires=True, threshold=9.0, keep=True), Verdict(fires=False, threshold=9.0, keep=True))
    """

    window_size: int = 10
    quantile: float = 0.05
    conformal: bool = False
    needs_calibration: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_integer("window_size", self.window_size, 1)
        check_number("quantile", self.quantile, 0, 1)
        if not isinstance(self.conformal, bool):
            raise TypeError(f"conformal must be a bool, got {self.conformal!r}")
        if self.conformal and self._rank(self.window_size) < 1:
            least = math.ceil(1 / self.quantile - 1 - 1e-9) if self.quantile else math.inf
            raise ValueError(
                f"with conformal, a quantile of {self.quantile:g} of {self.window_size} scores "
                f"would never fire: it needs a window_size of at least {least}"
            )

    def verdict(self, score: float, history: Sequence[float], *, lower: bool = False) -> Verdict:
        """Return what to make of a score."""
        newest = history[-self.window_size :]
        if not newest:
            return Verdict(fires=not math.isnan(score), threshold=None, keep=math.isfinite(score))
        if self.conformal:
            return self._by_rank(score, sorted(newest, reverse=not lower), lower=lower)
        threshold = quantile_of(newest, self.quantile if lower else 1 - self.quantile)
        fires = score < threshold if lower else score > threshold
        return Verdict(fires=fires, threshold=threshold, keep=math.isfinite(score))

    def _rank(self, scores: int) -> int:
        """Return of how many scores that are as far out a new one must not be."""
        return math.floor(self.quantile * (scores + 1) + 1e-9)  # 0.29 * 100 is below 29

    def _by_rank(self, score: float, worst_first: list[float], *, lower: bool) -> Verdict:
        """Return the verdict of a conformal test at level `quantile`."""
        count = self._rank(len(worst_first))
        keep = math.isfinite(score)
        if count < 1:
            return Verdict(fires=False, threshold=None, keep=keep)
        if count > len(worst_first):
            return Verdict(fires=not math.isnan(score), threshold=None, keep=keep)
        threshold = worst_first[count - 1]
        fires = score < threshold if lower else score > threshold
        return Verdict(fires=fires, threshold=threshold, keep=keep)


@dataclass(frozen=True, kw_only=True)
class DynamicRollingAverageThresholdCriterion:
    """Fires where a score is far from the mean m of the last `window_size` scores.

    That is s - m >= deviation where `absolute`, and s - m >= deviation * |m| else; where lower is
    worse it is m - s.  The first score of all fires.  With a mean of zero and no `absolute`
    deviation the difference must be more than zero.

    Parameters
    ----------
    window_size : int
        At least 1.
    deviation : float
        At least 0.
    absolute : bool
        Whether `deviation` is a difference rather than a share of the mean.

    Examples
    --------
    >>> criterion = DynamicRollingAverageThresholdCriterion(deviation=0.25)
    >>> criterion.verdict(0.625, [0.25, 0.75])
    Verdict(fires=True, threshold=0.625, keep=True)
    >>> criterion.verdict(0.5, [0.25, 0.75], lower=True)
    Verdict(fires=False, threshold=0.375, keep=True)
    """

    window_size: int = 10
    deviation: float = 0.05
    absolute: bool = False
    needs_calibration: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_integer("window_size", self.window_size, 1)
        check_number("deviation", self.deviation, 0)
        if not isinstance(self.absolute, bool):
            raise TypeError(f"absolute must be a bool, got {self.absolute!r}")

    def verdict(self, score: float, history: Sequence[float], *, lower: bool = False) -> Verdict:
        """Return what to make of a score."""
        newest = history[-self.window_size :]
        if not newest:
            return Verdict(fires=not math.isnan(score), threshold=None, keep=math.isfinite(score))
        mean = mean_of(newest)
        worse = mean - score if lower else score - mean
        least = self.deviation if self.absolute else self.deviation * abs(mean)
        fires = worse >= least
        if mean == 0 and not self.absolute:
            fires = worse > 0
        threshold = mean - least if lower else mean + least
        return Verdict(fires=fires, threshold=threshold, keep=math.isfinite(score))


def mean_of(scores: Sequence[float]) -> float:
    """Return the mean, as a + sum(x - a) / n with a the first: exact where all are equal.

    The sum goes from the oldest to the newest.

    Examples
    --------
    >>> mean_of([0.1] * 49)
    0.1
    """
    first, total = scores[0], 0.0
    for score in scores:
        total += score - first
    return first + total / len(scores)


def quantile_of(scores: Sequence[float], quantile: float) -> float:
    """Return a quantile: between its two neighbours in order of size, linearly.

    Examples
    --------
    >>> quantile_of([3.0, 1.0, 2.0], 0.25)
    1.5
    """
    ordered = sorted(scores)
    place = (len(ordered) - 1) * quantile
    below = min(int(place), len(ordered) - 1)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)
