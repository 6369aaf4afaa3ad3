"""Performance and cost triggers and ensembles in pipeline.yaml."""

from __future__ import annotations

from pathlib import Path

import pytest

from modyn import policies
from modyn.errors import ConfigError
from modyn.metrics import Accuracy, F1Score, RocAuc
from modyn.pipelines import Pipeline
from modyn.policies import (
    ATC,
    CBPE,
    AtLeastN,
    AvoidableMisclassificationCostTrigger,
    Custom,
    DataAmountTrigger,
    DataDriftTrigger,
    DataIncorporationLatencyCostTrigger,
    DynamicQuantilePerformanceThresholdCriterion,
    DynamicRollingAveragePerformanceThresholdCriterion,
    EnsembleTrigger,
    MajorityVote,
    PerformanceTrigger,
    StaticNumberAvoidableMisclassificationCriterion,
    StaticPerformanceThresholdCriterion,
    TimeTrigger,
    Trigger,
)
from tests.python.streams import drifting, pipeline
from tests.python.test_config_drift import read

EVALUATION = (
    "evaluation: {device: cpu, dataset: {dataset_id: weather, batch_size: 64, "
    "dataloader_workers: 1, metrics: [{name: Accuracy}, {name: F1Score, num_classes: 3}]}}"
)
STATIC = "{id: StaticPerformanceThresholdCriterion, metric: Accuracy, metric_threshold: 0.7}"


def performance(more: str = "", criteria: str = f"{{a: {STATIC}}}") -> str:
    return (
        "id: PerformanceTrigger\nevaluation_interval_data_points: 250\n"
        f"decision_criteria: {criteria}\n{more}"
    )


def avoidable(more: str = "") -> str:
    return (
        "id: AvoidableMisclassificationCostTrigger\nevaluation_interval_data_points: 250\n"
        f"avoidable_misclassification_latency_per_training_second: 5\n{more}"
    )


def test_a_whole_section_stands_for_its_policy() -> None:
    found = read(
        f"""
id: PerformanceTrigger
evaluation_interval_data_points: 250
warmup_intervals: 5
warmup_policy: {{id: DataAmountTrigger, num_samples: 500}}
{EVALUATION}
mode: lookahead
forecasting_method: rolling_average
data_density_window_size: 7
performance_triggers_window_size: 3
estimator: {{id: CBPE, calibration_samples: 99}}
decision_criteria:
  a: {STATIC}
  b: {{id: DynamicQuantilePerformanceThresholdCriterion, metric: F1-macro, quantile: 0.1}}
  c: {{id: DynamicRollingAveragePerformanceThresholdCriterion, metric: Accuracy, absolute: true,
       needs_calibration: true}}
  d: {{id: StaticNumberMisclassificationCriterion, avoidable_misclassification_threshold: 20,
       expected_accuracy: 0.9, allow_reduction: true}}
"""
    )

    assert found == PerformanceTrigger(
        evaluation_interval_data_points=250,
        warmup_intervals=5,
        warmup_policy=DataAmountTrigger(num_samples=500),
        metrics=(Accuracy(), F1Score(num_classes=3)),
        mode="lookahead",
        forecasting_method="rolling_average",
        data_density_window_size=7,
        performance_triggers_window_size=3,
        estimator=CBPE(calibration_samples=99),
        decision_criteria={
            "a": StaticPerformanceThresholdCriterion(metric="Accuracy", metric_threshold=0.7),
            "b": DynamicQuantilePerformanceThresholdCriterion(metric="F1-macro", quantile=0.1),
            "c": DynamicRollingAveragePerformanceThresholdCriterion(
                metric="Accuracy", absolute=True
            ),
            "d": StaticNumberAvoidableMisclassificationCriterion(
                avoidable_misclassification_threshold=20,
                expected_accuracy=0.9,
                allow_reduction=True,
            ),
        },
    )


def test_what_is_left_out_is_as_users_know_it() -> None:
    found = read(avoidable())

    assert found == AvoidableMisclassificationCostTrigger(
        evaluation_interval_data_points=250,
        avoidable_misclassification_latency_per_training_second=5.0,
        metrics=(Accuracy(),),
        expected_accuracy=None,
        allow_reduction=False,
        cost_tracking_window_size=1000,
        mode="hindsight",
        forecasting_method="ridge_regression",
        data_density_window_size=20,
        performance_triggers_window_size=10,
        conversion="divide",
    )


@pytest.mark.parametrize(
    ("metric", "name"),
    [
        ("{name: Accuracy}", "Accuracy"),
        ("{name: Accuracy, topn: 2}", "Top-2-Accuracy"),
        ("{name: F1Score, num_classes: 2}", "F1-macro"),
        ("{name: F1Score, num_classes: 2, average: binary, pos_label: 0}", "F1-binary-0"),
        ("{name: RocAuc}", "ROC-AUC"),
    ],
)
def test_criteria_name_metrics_as_they_are_reported(metric: str, name: str) -> None:
    section = performance(
        f"metrics: [{metric}]",
        f"{{a: {{id: StaticPerformanceThresholdCriterion, metric: {name}}}}}",
    )

    assert read(section).decision_criteria["a"].metric == name
    with pytest.raises(ConfigError, match=f"goes by the metric 'Other'; metrics has {name}"):
        read(section.replace(f"metric: {name}", "metric: Other"))


def test_a_cost_trigger_without_warm_up_runs_from_the_first_interval_on() -> None:
    found = read(
        "id: DataIncorporationLatencyCostTrigger\nevaluation_interval_data_points: 9\n"
        "incorporation_delay_per_training_second: 2.5\nconversion: multiply"
    )

    assert found == DataIncorporationLatencyCostTrigger(
        evaluation_interval_data_points=9,
        incorporation_delay_per_training_second=2.5,
        conversion="multiply",
    )


def test_ensembles_hold_all_kinds_of_triggers_and_ensembles() -> None:
    found = read(
        """
id: EnsembleTrigger
ensemble_strategy: {id: AtLeastN, n: 2}
subtriggers:
  inner:
    id: EnsembleTrigger
    ensemble_strategy: {id: MajorityVote}
    subtriggers:
      day: {id: TimeTrigger, every: 1d}
      many: {id: DataAmountTrigger, num_samples: 10}
  drift:
    id: DataDriftTrigger
    evaluation_interval_data_points: 50
    metrics: {a: {id: MMD, decision_criterion: {id: ThresholdDecisionCriterion, threshold: 0.1}}}
  bad:
    id: PerformanceTrigger
    evaluation_interval_data_points: 50
    decision_criteria: {a: {id: StaticPerformanceThresholdCriterion, metric: Accuracy}}
"""
    )

    assert isinstance(found, EnsembleTrigger)
    assert found.ensemble_strategy == AtLeastN(n=2)
    assert found.subtriggers["inner"] == EnsembleTrigger(
        ensemble_strategy=MajorityVote(),
        subtriggers={
            "day": TimeTrigger(every="1d"),
            "many": DataAmountTrigger(num_samples=10),
        },
    )
    assert isinstance(found.subtriggers["drift"], DataDriftTrigger)
    assert isinstance(found.subtriggers["bad"], PerformanceTrigger)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (performance("mode: sideways"), "trigger.mode: "),
        (performance("evaluation_interval: 3"), "unknown key"),
        (performance(criteria="{}"), "trigger.decision_criteria: "),
        (performance(criteria="{a: {id: Static, metric: Accuracy}}"), "id 'Static' is unknown"),
        (performance("data_density_window_size: 0"), "trigger.data_density_window_size: "),
        (
            performance(
                criteria="{a: {id: DynamicQuantilePerformanceThresholdCriterion, metric: Accuracy}}"
            ),
            "decision_criteria.a needs calibration: name a warmup_policy",
        ),
        (
            performance(
                criteria="{a: {id: DynamicQuantilePerformanceThresholdCriterion, "
                "metric: Accuracy, quantile: 1.5}}"
            ),
            "trigger.decision_criteria.a.quantile: ",
        ),
        (performance(f"metrics: [{{name: RocAuc}}]\n{EVALUATION}"), "say the same: name one"),
        (performance(EVALUATION.replace("weather", "other")), "a trigger measures the stream"),
        (
            performance(
                "warmup_policy: {id: PerformanceTrigger, evaluation_interval_data_points: 9, "
                f"decision_criteria: {{a: {STATIC}}}, {EVALUATION.replace('weather', 'other')}}}"
            ),
            "a trigger measures the stream",
        ),
        (
            performance("estimator: {id: ATC}\nmetrics: [{name: RocAuc}]"),
            "ATC estimates Accuracy alone",
        ),
        (avoidable("expected_accuracy: 1.5"), "trigger.expected_accuracy: "),
        (avoidable("conversion: add"), "trigger.conversion: "),
        (avoidable("evaluation: {device: cpu}"), "trigger.evaluation.dataset: this key is req"),
        (avoidable("cost_tracking_window_size: 0"), "trigger.cost_tracking_window_size: "),
        (avoidable().replace("second: 5", "second: 0"), "trigger.avoidable_misclassification_lat"),
        (
            "id: EnsembleTrigger\nensemble_strategy: {id: AtLeastN, n: 1}\nsubtriggers: {}",
            "trigger.subtriggers: ",
        ),
        (
            "id: EnsembleTrigger\nensemble_strategy: {id: AtLeastN, n: 1}\n"
            "subtriggers: {a: {id: TimeTrigger, every: 3}}",
            "trigger.subtriggers.a.every: ",
        ),
        (
            "id: EnsembleTrigger\nensemble_strategy: {id: Custom}\n"
            "subtriggers: {a: {id: TimeTrigger, every: 3d}}",
            "'Custom' is not supported yet",
        ),
    ],
)
def test_what_is_wrong_is_refused_by_its_place(section: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        read(section)


TRIGGERS: list[Trigger] = [
    PerformanceTrigger(
        evaluation_interval_data_points=50,
        warmup_intervals=2,
        warmup_policy=TimeTrigger(every="1d"),
        metrics=(Accuracy(topn=2), RocAuc(), F1Score(num_classes=2, average="binary")),
        estimator=CBPE(calibrated=False),
        decision_criteria={
            "a": StaticPerformanceThresholdCriterion(metric="ROC-AUC", metric_threshold=0.5),
            "b": StaticNumberAvoidableMisclassificationCriterion(
                avoidable_misclassification_threshold=7
            ),
            "c": DynamicQuantilePerformanceThresholdCriterion(
                metric="Top-2-Accuracy", window_size=19, conformal=True
            ),
        },
    ),
    PerformanceTrigger(
        evaluation_interval_data_points=50,
        estimator=ATC(score="entropy"),
        decision_criteria={"a": StaticPerformanceThresholdCriterion(metric="Accuracy")},
    ),
    DataIncorporationLatencyCostTrigger(
        evaluation_interval_data_points=50,
        incorporation_delay_per_training_second=3.0,
        training_samples_per_second=1e5,
    ),
    AvoidableMisclassificationCostTrigger(
        evaluation_interval_data_points=50,
        avoidable_misclassification_latency_per_training_second=3.0,
        expected_accuracy=0.9,
        mode="lookahead",
    ),
]
TRIGGERS.append(
    EnsembleTrigger(
        subtriggers={f"t{i}": trigger for i, trigger in enumerate(TRIGGERS)},
        ensemble_strategy=AtLeastN(n=2),
    )
)
TRIGGERS.append(
    EnsembleTrigger(subtriggers={"inner": TRIGGERS[-1]}, ensemble_strategy=MajorityVote())
)


TRIGGERS.append(
    EnsembleTrigger(
        subtriggers=dict.fromkeys(("class", "id", "metrics", "metric"), TRIGGERS[1]),
        ensemble_strategy=MajorityVote(),
    )
)


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: type(trigger).__name__)
def test_a_pipeline_made_in_python_can_be_run_as_a_file(trigger: Trigger, tmp_path: Path) -> None:
    made = pipeline(drifting(tmp_path / "data" / "stream"), trigger=trigger)
    path = tmp_path / "pipeline.yaml"
    path.write_bytes(made.config_text())

    again = Pipeline.from_yaml(path, tmp_path / "data")

    assert again.trigger == trigger
    assert again.describe() == made.describe()


def test_a_rule_of_ones_own_is_described_by_its_name(tmp_path: Path) -> None:
    trigger = EnsembleTrigger(
        subtriggers={"a": DataAmountTrigger(num_samples=3)},
        ensemble_strategy=Custom(aggregation_function=any_of),
    )

    described = pipeline(drifting(tmp_path / "stream"), trigger=trigger).describe()["trigger"]

    assert described["ensemble_strategy"]["aggregation_function"].endswith(":any_of")
    assert described["subtriggers"] == {"a": {"id": "DataAmountTrigger", "num_samples": 3}}


def any_of(votes: dict[str, bool]) -> bool:
    return any(votes.values())


def test_names_of_files_are_names_of_the_package() -> None:
    for trigger in TRIGGERS:
        assert getattr(policies, type(trigger).__name__) is type(trigger)
