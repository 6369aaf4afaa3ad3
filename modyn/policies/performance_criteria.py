"""When a performance is bad enough: the criteria of `PerformanceTrigger`.

The first three are the criteria of `modyn.policies.criteria`, told that lower is worse.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from modyn.policies.checked import check_flag, check_integer, check_number
from modyn.policies.criteria import (
    DynamicQuantileThresholdCriterion,
    DynamicRollingAverageThresholdCriterion,
    ThresholdDecisionCriterion,
    Verdict,
)

__all__ = [
    "DynamicQuantilePerformanceThresholdCriterion",
    "DynamicRollingAveragePerformanceThresholdCriterion",
    "PerformanceCriterion",
    "StaticNumberAvoidableMisclassificationCriterion",
    "StaticPerformanceThresholdCriterion",
    "ThresholdCriterion",
]


@dataclass(frozen=True, kw_only=True)
class StaticPerformanceThresholdCriterion:
    """Fires where a metric is at or below a threshold.

    Parameters
    ----------
    metric : str
        Its reported name, such as "Accuracy", "F1-macro" or "ROC-AUC".
    metric_threshold : float

    Examples
    --------
    >>> criterion = StaticPerformanceThresholdCriterion(metric="Accuracy", metric_threshold=0.8)
    >>> criterion.verdict(0.8, []).fires, criterion.verdict(0.81, []).fires
    (True, False)
    """

    metric: str
    metric_threshold: float = 0.0
    needs_calibration: ClassVar[bool] = False
    window_size: ClassVar[int] = 0

    def __post_init__(self) -> None:
        self.stands_for()

    def verdict(self, score: float, history: Sequence[float]) -> Verdict:
        """Return whether it fires."""
        return self.stands_for().verdict(score, history, lower=True)

    def stands_for(self) -> ThresholdDecisionCriterion:
        """Return the criterion of scores that this is for its metric."""
        return ThresholdDecisionCriterion(threshold=self.metric_threshold)


@dataclass(frozen=True, kw_only=True)
class DynamicQuantilePerformanceThresholdCriterion:
    """Fires where a metric is below a low quantile of its last values.

    Parameters
    ----------
    metric : str
        Its reported name.
    window_size : int
        How many of the last values count.
    quantile : float
        From 0 to 1.
    conformal : bool
        Whether to go by ranks, so that no more than a share of `quantile` fires without drift; see
        `DynamicQuantileThresholdCriterion`.
    """

    metric: str
    window_size: int = 10
    quantile: float = 0.05
    conformal: bool = False
    needs_calibration: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.stands_for()

    def verdict(self, score: float, history: Sequence[float]) -> Verdict:
        """Return whether it fires."""
        return self.stands_for().verdict(score, history, lower=True)

    def stands_for(self) -> DynamicQuantileThresholdCriterion:
        """Return the criterion of scores that this is for its metric."""
        return DynamicQuantileThresholdCriterion(
            window_size=self.window_size, quantile=self.quantile, conformal=self.conformal
        )


@dataclass(frozen=True, kw_only=True)
class DynamicRollingAveragePerformanceThresholdCriterion:
    """Fires where a metric is below the mean of its last values by so much.

    Parameters
    ----------
    metric : str
        Its reported name.
    window_size : int
        How many of the last values count.
    deviation : float
        By how much: of the metric if `absolute`, or else as a share of the mean.
    absolute : bool
    """

    metric: str
    window_size: int = 10
    deviation: float = 0.05
    absolute: bool = False
    needs_calibration: ClassVar[bool] = True

    def __post_init__(self) -> None:
        self.stands_for()

    def verdict(self, score: float, history: Sequence[float]) -> Verdict:
        """Return whether it fires."""
        return self.stands_for().verdict(score, history, lower=True)

    def stands_for(self) -> DynamicRollingAverageThresholdCriterion:
        """Return the criterion of scores that this is for its metric."""
        return DynamicRollingAverageThresholdCriterion(
            window_size=self.window_size, deviation=self.deviation, absolute=self.absolute
        )


@dataclass(frozen=True, kw_only=True)
class StaticNumberAvoidableMisclassificationCriterion:
    """Fires where so many samples were misclassified that a newer model would have got right.

    An interval of n samples with m misclassified adds m - (1 - expected accuracy) * n to those
    that were avoidable, as a float, and at least 0 unless `allow_reduction`; their number starts
    at 0 after each trigger and is never less.

    Parameters
    ----------
    avoidable_misclassification_threshold : int
        How many of them; at least 1.
    expected_accuracy : float or None
        What a newer model would reach, from 0 to 1.  None for a forecast from how well earlier
        models did on the first interval after their trigger; it is silent until there is one.
    allow_reduction : bool
        Whether intervals that were better than expected take away from the number.
    """

    avoidable_misclassification_threshold: int
    expected_accuracy: float | None = None
    allow_reduction: bool = False
    needs_calibration: ClassVar[bool] = True

    def __post_init__(self) -> None:
        name = "avoidable_misclassification_threshold"
        check_integer(name, self.avoidable_misclassification_threshold, 1)
        if self.expected_accuracy is not None:
            check_number("expected_accuracy", self.expected_accuracy, 0, 1)
        check_flag("allow_reduction", self.allow_reduction)


ThresholdCriterion = (
    StaticPerformanceThresholdCriterion
    | DynamicQuantilePerformanceThresholdCriterion
    | DynamicRollingAveragePerformanceThresholdCriterion
)
PerformanceCriterion = ThresholdCriterion | StaticNumberAvoidableMisclassificationCriterion
