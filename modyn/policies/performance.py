"""A trigger where the model in use does not do well any more."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modyn.policies.checked import check_named
from modyn.policies.context import Context
from modyn.policies.judged import Judged, plain
from modyn.policies.judging import JudgingTrigger
from modyn.policies.performance_criteria import (
    PerformanceCriterion,
    StaticNumberAvoidableMisclassificationCriterion,
)

__all__ = ["PerformanceTrigger", "reached"]

ROUNDING = 1e-9  # ten times 0.4 are 4, though not in float64


def reached(number: Any, threshold: Any) -> Any:
    """Return whether a number is at least a threshold, but for rounding; for arrays, of each."""
    return number >= threshold * (1 - ROUNDING)


@dataclass(kw_only=True)
class PerformanceTrigger(JudgingTrigger):
    """A trigger is due where a criterion says so of how well the newest model does.

    At the end of every interval of so many samples the newest model predicts the interval, and
    each criterion holds its metric against a threshold, or adds up avoidable misclassifications;
    any of them fires.  Where labels come with a delay, an interval is judged once they are known,
    by the model that was the newest at its end, unless an `estimator` estimates metrics from
    predictions alone.  Intervals of the warm-up are judged too: that is how criteria are
    calibrated.

    Parameters
    ----------
    evaluation_interval_data_points : int
        Samples of an interval.
    warmup_intervals, warmup_policy
        As in `BatchedTrigger`.
    decision_criteria : mapping of str to criterion
        One or more, under names of your own: `StaticPerformanceThresholdCriterion`,
        `DynamicQuantilePerformanceThresholdCriterion`,
        `DynamicRollingAveragePerformanceThresholdCriterion` and
        `StaticNumberAvoidableMisclassificationCriterion`.
    metrics, estimator, mode, forecasting_method, data_density_window_size
        As in `JudgingTrigger`.
    performance_triggers_window_size : int
        As in `JudgingTrigger`.

    Raises
    ------
    ValueError
        For a criterion of a metric that is not among `metrics`, and for one that needs
        calibration where there is no `warmup_policy`.

    Examples
    --------
    >>> from modyn.policies.performance_criteria import StaticPerformanceThresholdCriterion
    >>> bad = StaticPerformanceThresholdCriterion(metric="Accuracy", metric_threshold=0.8)
    >>> trigger = PerformanceTrigger(
    ...     evaluation_interval_data_points=1000, decision_criteria={"bad": bad}
    ... )
    >>> PerformanceTrigger(
    ...     evaluation_interval_data_points=1000,
    ...     decision_criteria={"bad": StaticPerformanceThresholdCriterion(metric="F1-macro")},
    ... )
    Traceback (most recent call last):
    ...
    ValueError: decision_criteria.bad goes by the metric 'F1-macro'; metrics has Accuracy
    """

    decision_criteria: Mapping[str, PerformanceCriterion]

    def __post_init__(self) -> None:
        super().__post_init__()
        check_named("decision_criteria", self.decision_criteria)
        self.decision_criteria = dict(self.decision_criteria)
        if not self.decision_criteria:
            raise ValueError("decision_criteria must name one or more")
        names = [metric.name for metric in self.metrics]
        for name, criterion in self.decision_criteria.items():
            if not isinstance(criterion, PerformanceCriterion):
                raise TypeError(
                    f"decision_criteria.{name} must be a criterion of performance, such as "
                    f"StaticPerformanceThresholdCriterion(metric='Accuracy'), got {criterion!r:.80}"
                )
            if criterion.needs_calibration and self.warmup_policy is None:
                raise ValueError(
                    f"decision_criteria.{name} needs calibration: name a warmup_policy"
                )
            if isinstance(criterion, StaticNumberAvoidableMisclassificationCriterion):
                continue
            if criterion.metric not in names:
                raise ValueError(
                    f"decision_criteria.{name} goes by the metric {criterion.metric!r}; "
                    f"metrics has {', '.join(names)}"
                )
        self._scores: dict[str, list[float]] = {}  # by criterion, oldest first
        self._avoidable: dict[str, float] = {}  # by criterion, since the last trigger
        self._fires = False  # any criterion, of what was judged at this look

    def forget(self) -> None:
        """Start to count avoidable misclassifications anew."""
        self._avoidable = {}

    def weigh(self, judged: Judged, context: Context) -> Mapping[str, Any]:
        """Ask every criterion."""
        found = {}
        for name, criterion in self.decision_criteria.items():
            if isinstance(criterion, StaticNumberAvoidableMisclassificationCriterion):
                found[name] = self._count(name, criterion, judged)
            else:
                score, history = judged.scores[criterion.metric], self._scores.get(name, [])
                verdict = criterion.verdict(score, history)
                if verdict.keep and criterion.window_size > 0:
                    self._scores[name] = [*history, score][-criterion.window_size :]
                found[name] = {
                    "score": plain(score),
                    "threshold": verdict.threshold,
                    "fires": verdict.fires,
                }
        fires = any(one["fires"] for one in found.values())
        self._fires |= fires and not judged.overtaken
        return {"criteria": found}

    def conclude(self, context: Context) -> tuple[bool, Mapping[str, Any]]:
        """Return whether any criterion fired."""
        fires, self._fires = self._fires, False
        return fires, {}

    def _count(
        self, name: str, criterion: StaticNumberAvoidableMisclassificationCriterion, judged: Judged
    ) -> dict[str, Any]:
        """Add up avoidable misclassifications, and return the verdict on their number."""
        number = self._avoidable.get(name, 0.0)
        expected = self.new_accuracy(criterion.expected_accuracy)
        if not judged.overtaken:
            number = max(0.0, number + judged.avoidable(expected, criterion.allow_reduction))
            self._avoidable[name] = number
        threshold = criterion.avoidable_misclassification_threshold
        coming = self._coming(expected, judged) if self.mode == "lookahead" else 0.0
        return {
            "score": number,
            "coming": coming,
            "expected_accuracy": expected,
            "threshold": float(threshold),
            "fires": expected is not None and bool(reached(number + coming, threshold)),
        }

    def _coming(self, expected: float | None, judged: Judged) -> float:
        """Return how many avoidable misclassifications come before the next judgement."""
        accuracy = self.next_accuracy(judged)
        if expected is None or accuracy is None:
            return 0.0
        return max(0.0, expected - accuracy) * judged.ahead
