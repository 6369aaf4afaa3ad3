"""Triggers by how well the model in use does, and by what its mistakes cost."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from modyn import policies
from modyn.metrics import Accuracy, Metric
from modyn.pipelines.schema_evaluation import EvalDataset
from modyn.pipelines.schema_evaluation import Metric as MetricSection
from modyn.pipelines.schema_trigger_schedule import Batched, TriggerSection
from modyn.pipelines.sections import Code, Count, Device, NonEmpty, Section
from modyn.policies import performance_criteria as criteria
from modyn.policies.estimation import Estimator
from modyn.policies.performance_criteria import PerformanceCriterion

Name = Annotated[str, Field(min_length=1, max_length=200)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class StaticPerformanceThresholdCriterion(Section):
    """At or below a threshold."""

    id: Literal["StaticPerformanceThresholdCriterion"]
    needs_calibration: Literal[False] = False
    metric: Name
    metric_threshold: Number = 0.0

    def settings(self) -> PerformanceCriterion:
        return criteria.StaticPerformanceThresholdCriterion(
            metric=self.metric, metric_threshold=self.metric_threshold
        )


class DynamicQuantilePerformanceThresholdCriterion(Section):
    """Below a quantile of the last values."""

    id: Literal["DynamicQuantilePerformanceThresholdCriterion"]
    needs_calibration: Literal[True] = True
    metric: Name
    window_size: Count = 10
    quantile: Share = 0.05
    conformal: bool = False

    def settings(self) -> PerformanceCriterion:
        return criteria.DynamicQuantilePerformanceThresholdCriterion(
            metric=self.metric,
            window_size=self.window_size,
            quantile=self.quantile,
            conformal=self.conformal,
        )


class DynamicRollingAveragePerformanceThresholdCriterion(Section):
    """So far below the mean of the last values."""

    id: Literal["DynamicRollingAveragePerformanceThresholdCriterion"]
    needs_calibration: Literal[True] = True
    metric: Name
    window_size: Count = 10
    deviation: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.05
    absolute: bool = False

    def settings(self) -> PerformanceCriterion:
        return criteria.DynamicRollingAveragePerformanceThresholdCriterion(
            metric=self.metric,
            window_size=self.window_size,
            deviation=self.deviation,
            absolute=self.absolute,
        )


class StaticNumberMisclassificationCriterion(Section):
    """So many misclassifications that were avoidable; files know it under both names."""

    id: Literal[
        "StaticNumberMisclassificationCriterion", "StaticNumberAvoidableMisclassificationCriterion"
    ]
    needs_calibration: Literal[True] = True
    expected_accuracy: Share | None = None
    allow_reduction: bool = False
    avoidable_misclassification_threshold: Count

    def settings(self) -> PerformanceCriterion:
        return criteria.StaticNumberAvoidableMisclassificationCriterion(
            expected_accuracy=self.expected_accuracy,
            allow_reduction=self.allow_reduction,
            avoidable_misclassification_threshold=self.avoidable_misclassification_threshold,
        )


Criterion = Annotated[
    StaticPerformanceThresholdCriterion
    | DynamicQuantilePerformanceThresholdCriterion
    | DynamicRollingAveragePerformanceThresholdCriterion
    | StaticNumberMisclassificationCriterion,
    Field(discriminator="id"),
]


class CBPE(Section):
    """`modyn.policies.CBPE`."""

    id: Literal["CBPE"]
    calibration_samples: Count = 1000
    calibrated: bool = True

    def settings(self) -> Estimator:
        return policies.CBPE(
            calibration_samples=self.calibration_samples, calibrated=self.calibrated
        )


class ATC(Section):
    """`modyn.policies.ATC`."""

    id: Literal["ATC"]
    score: Literal["confidence", "entropy"] = "confidence"
    calibration_samples: Count = 1000

    def settings(self) -> Estimator:
        return policies.ATC(score=self.score, calibration_samples=self.calibration_samples)


AnyEstimator = Annotated[CBPE | ATC, Field(discriminator="id")]


class TriggerEvaluation(Section):
    """What a trigger measures on the stream itself, in place of the key `metrics`.

    Its dataset is the stream.  Device and batch size are accepted: policies ask the run for
    predictions, which it makes once for all who ask, in eval mode and without augmentation.
    """

    device: Device
    dataset: EvalDataset
    label_transformer_function: Code = None


class Judging(Batched):
    """What both triggers that go by performance have in common."""

    evaluation: TriggerEvaluation | None = None
    metrics: NonEmpty[MetricSection] | None = None
    estimator: AnyEstimator | None = None
    mode: Literal["hindsight", "lookahead"] = "hindsight"
    forecasting_method: Literal["ridge_regression", "rolling_average"] = "ridge_regression"
    data_density_window_size: Count = 20
    performance_triggers_window_size: Count = 10

    @model_validator(mode="after")
    def _metrics_stand_in_one_place(self) -> Self:
        if self.metrics is not None and self.evaluation is not None:
            raise ValueError("metrics and evaluation.dataset.metrics say the same: name one")
        return self

    def measured(self) -> tuple[Metric, ...]:
        """Return what is measured: accuracy, if nothing is named."""
        named = self.metrics
        if self.evaluation is not None:
            named = self.evaluation.dataset.metrics
        return tuple(one.settings() for one in named or ()) or (Accuracy(),)

    def estimates(self) -> Estimator | None:
        """Return what estimates where labels are missing."""
        return None if self.estimator is None else self.estimator.settings()


class PerformanceTrigger(Judging):
    """`modyn.policies.PerformanceTrigger`."""

    id: Literal["PerformanceTrigger"]
    decision_criteria: Annotated[dict[Name, Criterion], Field(min_length=1, max_length=1000)]

    def settings(self, unit: str = "s") -> policies.Trigger:
        """Return the policy for a dataset with timestamps in `unit`."""
        return policies.PerformanceTrigger(
            evaluation_interval_data_points=self.evaluation_interval_data_points,
            warmup_intervals=self.warmup_intervals,
            warmup_policy=self.warmup(unit),
            metrics=self.measured(),
            estimator=self.estimates(),
            mode=self.mode,
            forecasting_method=self.forecasting_method,
            data_density_window_size=self.data_density_window_size,
            performance_triggers_window_size=self.performance_triggers_window_size,
            decision_criteria={
                name: one.settings() for name, one in self.decision_criteria.items()
            },
        )


class Cost(TriggerSection):
    """What both triggers that go by cost have in common."""

    cost_tracking_window_size: Count = 1000
    conversion: Literal["divide", "multiply"] = "divide"
    training_samples_per_second: Positive | None = None


class DataIncorporationLatencyCostTrigger(Batched, Cost):
    """`modyn.policies.DataIncorporationLatencyCostTrigger`."""

    id: Literal["DataIncorporationLatencyCostTrigger"]
    incorporation_delay_per_training_second: Positive

    def settings(self, unit: str = "s") -> policies.Trigger:
        """Return the policy for a dataset with timestamps in `unit`."""
        return policies.DataIncorporationLatencyCostTrigger(
            evaluation_interval_data_points=self.evaluation_interval_data_points,
            warmup_intervals=self.warmup_intervals,
            warmup_policy=self.warmup(unit),
            incorporation_delay_per_training_second=self.incorporation_delay_per_training_second,
            cost_tracking_window_size=self.cost_tracking_window_size,
            conversion=self.conversion,
            training_samples_per_second=self.training_samples_per_second,
        )


class AvoidableMisclassificationCostTrigger(Judging, Cost):
    """`modyn.policies.AvoidableMisclassificationCostTrigger`."""

    id: Literal["AvoidableMisclassificationCostTrigger"]
    expected_accuracy: Share | None = None
    allow_reduction: bool = False
    avoidable_misclassification_latency_per_training_second: Positive

    def settings(self, unit: str = "s") -> policies.Trigger:
        """Return the policy for a dataset with timestamps in `unit`."""
        worth = self.avoidable_misclassification_latency_per_training_second
        return policies.AvoidableMisclassificationCostTrigger(
            evaluation_interval_data_points=self.evaluation_interval_data_points,
            warmup_intervals=self.warmup_intervals,
            warmup_policy=self.warmup(unit),
            metrics=self.measured(),
            estimator=self.estimates(),
            mode=self.mode,
            forecasting_method=self.forecasting_method,
            data_density_window_size=self.data_density_window_size,
            performance_triggers_window_size=self.performance_triggers_window_size,
            avoidable_misclassification_latency_per_training_second=worth,
            expected_accuracy=self.expected_accuracy,
            allow_reduction=self.allow_reduction,
            cost_tracking_window_size=self.cost_tracking_window_size,
            conversion=self.conversion,
            training_samples_per_second=self.training_samples_per_second,
        )


def check_dataset(trigger: TriggerSection, stream: str) -> None:
    """Refuse a trigger, or one within an ensemble or a warm-up, that would measure another dataset.

    Raises
    ------
    ValueError
        Naming both.
    """
    warmup = getattr(trigger, "warmup_policy", None)
    within = [] if warmup is None else [warmup]
    for inner in [*within, *getattr(trigger, "subtriggers", {}).values()]:
        check_dataset(inner, stream)
    evaluation = getattr(trigger, "evaluation", None)
    if evaluation is not None and evaluation.dataset.dataset_id != stream:
        raise ValueError(
            f"trigger.evaluation.dataset.dataset_id is {evaluation.dataset.dataset_id!r}, but a "
            f"trigger measures the stream, which is {stream!r}"
        )
