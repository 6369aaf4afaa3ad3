"""Parameters of trigger policies that would fail in the middle of a run are refused at once."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modyn
from modyn import drift
from modyn.arrivals import example_arrivals
from modyn.errors import ConfigError
from modyn.metrics import F1Score, RocAuc
from modyn.pipelines import Model
from modyn.policies import (
    AmountWindowingStrategy,
    AtLeastN,
    AvoidableMisclassificationCostTrigger,
    DataAmountTrigger,
    DataDriftTrigger,
    DataIncorporationLatencyCostTrigger,
    DetectorTrigger,
    EnsembleTrigger,
    HeldHistory,
    MajorityVote,
    PastModel,
    PerformanceTrigger,
    PlainContext,
    StaticNumberAvoidableMisclassificationCriterion,
    StaticPerformanceThresholdCriterion,
    TimeWindowingStrategy,
    Trigger,
)
from modyn.policies.criteria import ThresholdDecisionCriterion
from modyn.policies.drift import Metric
from tests.python.streams import drifting as drifting_stream
from tests.python.streams import pipeline

HALF = ThresholdDecisionCriterion(threshold=0.5)
MOVED = Metric(metric=drift.KS(), decision_criterion=HALF)
BAD = StaticPerformanceThresholdCriterion(metric="Accuracy")
EVERY = DataAmountTrigger(num_samples=3)


def drifting(**given: Any) -> DataDriftTrigger:
    return DataDriftTrigger(
        **{"evaluation_interval_data_points": 5, "metrics": {"a": MOVED}} | given
    )


def performing(**given: Any) -> PerformanceTrigger:
    plain = {"evaluation_interval_data_points": 5, "decision_criteria": {"a": BAD}}
    return PerformanceTrigger(**plain | given)


def together(**given: Any) -> EnsembleTrigger:
    plain = {"subtriggers": {"a": EVERY}, "ensemble_strategy": MajorityVote()}
    return EnsembleTrigger(**plain | given)


def misclassified(**given: Any) -> AvoidableMisclassificationCostTrigger:
    plain = {
        "evaluation_interval_data_points": 5,
        "avoidable_misclassification_latency_per_training_second": 1.0,
    }
    return AvoidableMisclassificationCostTrigger(**plain | given)


@pytest.mark.parametrize(
    ("make", "given", "message"),
    [
        (drifting, {"metrics": {"a": drift.MMD()}}, "metrics.a must be a Metric(metric=..., "),
        (drifting, {"metrics": [MOVED]}, "metrics must be named, as a mapping, got [Metric("),
        (drifting, {"windowing_strategy": "x"}, "windowing_strategy must be such as Amount"),
        (drifting, {"aggregation_strategy": "x"}, "aggregation_strategy must be such as Major"),
        (drifting, {"reset_history_on_model": "no"}, "reset_history_on_model must be a bool"),
        (drifting, {"warmup_policy": "x"}, "warmup_policy must be a Trigger, got 'x'"),
        (performing, {"decision_criteria": {"a": HALF}}, "decision_criteria.a must be a criterion"),
        (performing, {"decision_criteria": [BAD]}, "decision_criteria must be named, as a mapping"),
        (performing, {"metrics": ["Accuracy"]}, "each of metrics must be such as modyn.metrics."),
        (performing, {"estimator": "CBPE"}, "estimator must be such as CBPE(), got 'CBPE'"),
        (misclassified, {"allow_reduction": "no"}, "allow_reduction must be a bool, got 'no'"),
        (together, {"subtriggers": [EVERY]}, "subtriggers must be named, as a mapping"),
        (together, {"ensemble_strategy": MajorityVote}, "ensemble_strategy must be such as Majo"),
    ],
)
def test_what_is_of_another_kind_is_named(make: Any, given: dict[str, Any], message: str) -> None:
    make()
    with pytest.raises(TypeError, match=re.escape(message)):
        make(**given)


@pytest.mark.parametrize(
    ("make", "given", "message"),
    [
        (Metric, {"metric": drift.MMD, "decision_criterion": HALF}, "metric must be such as"),
        (Metric, {"metric": drift.MMD(), "decision_criterion": 0.5}, "decision_criterion must be"),
        (
            Metric,
            {"metric": drift.KS(), "decision_criterion": HALF, "of": "features", "fields": "abc"},
            "fields must be a tuple of names, got 'abc'",
        ),
        (AmountWindowingStrategy, {"allow_overlap": "no"}, "allow_overlap must be a bool"),
        (
            TimeWindowingStrategy,
            {"limit_ref": "1d", "limit_cur": "1d", "allow_overlap": 1},
            "allow_overlap must be a bool",
        ),
        (
            StaticNumberAvoidableMisclassificationCriterion,
            {"avoidable_misclassification_threshold": 3, "allow_reduction": "no"},
            "allow_reduction must be a bool",
        ),
    ],
)
def test_parts_of_policies_name_it_too(make: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(message)):
        make(**given)


@pytest.mark.parametrize(
    ("make", "given", "message"),
    [
        (drift.ChiSquared, {"num_pca_component": 2}, "ChiSquared compares categories, which"),
        (drift.GTest, {"num_pca_component": 1}, "leave num_pca_component out, got 1"),
        (
            Metric,
            {"metric": drift.KS(num_pca_component=2), "decision_criterion": HALF, "of": "labels"},
            "num_pca_component is 2, but labels are one number each",
        ),
        (
            Metric,
            {
                "metric": drift.KS(num_permutations=9),
                "decision_criterion": ThresholdDecisionCriterion(threshold=0.05),
                "score": "p_value",
            },
            "a p-value of 9 permutations is at least 0.1, so that a threshold of 0.05 would never",
        ),
        (
            drifting,
            {
                "metrics": {"a": Metric(metric=drift.MMD(), decision_criterion=HALF)},
                "windowing_strategy": AmountWindowingStrategy(amount_cur=1),
            },
            "metrics.a: MMD needs 2 samples in each window, but amount_cur is 1",
        ),
        (
            drifting,
            {
                "metrics": {"a": Metric(metric=drift.ClassifierAUC(), decision_criterion=HALF)},
                "windowing_strategy": AmountWindowingStrategy(amount_ref=1),
            },
            "metrics.a: ClassifierAUC needs 2 samples in each window, but amount_ref is 1",
        ),
    ],
)
def test_what_would_fail_or_sleep_for_ever_is_refused(
    make: Any, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        make(**given)


def test_a_metric_needs_no_more_rows_than_it_says() -> None:
    one, two = np.zeros((1, 3)), np.ones((2, 3))
    for name in drift.__all__:
        kind = getattr(drift, name)
        if not hasattr(kind, "least_rows"):
            continue
        for metric in (kind(), drift.MMD(unbiased=False)):
            smallest = (one, one) if metric.least_rows == 1 else (two, two)
            assert not np.isnan(metric.distance(*smallest).value) or name == "MeanDistance"
            assert np.isnan(metric.distance(one, two).value) == (metric.least_rows == 2)


def in_a_run(tmp_path: Path, trigger: Trigger, **more: Any) -> None:
    """Say what is to be done, and do none of it."""
    if not (tmp_path / "stream").exists():
        schema = {"dense": "float32[4]", "name": "bytes", "day": "int32"}
        modyn.Dataset.create(tmp_path / "stream", schema=schema, labels=False).close()
    pipeline(modyn.Dataset.open(tmp_path / "stream"), trigger=trigger, evaluation=None, **more)


def looks(of: str, metric: Any = None, **more: Any) -> DataDriftTrigger:
    return drifting(
        metrics={"a": Metric(metric=metric or drift.KS(), decision_criterion=HALF, of=of, **more)}
    )


@pytest.mark.parametrize(
    ("trigger", "message"),
    [
        (looks("features", fields=("dens",)), "trigger.metrics.a.fields: 'dens': there is no such"),
        (looks("features", fields=("name",)), "metrics.a.fields: 'name': bytes are no numbers"),
        (
            looks("features", drift.KS(num_pca_component=6)),
            "trigger.metrics.a.num_pca_component is 6, but features are 5 numbers",
        ),
        (
            looks("predictions", drift.KS(num_pca_component=3)),
            "trigger.metrics.a.num_pca_component is 3, but predictions are 2 numbers",
        ),
        (looks("labels"), "trigger.metrics.a.of: labels need labels, and the dataset"),
        (DetectorTrigger(evaluation_interval_data_points=5), "trigger.of: errors need labels"),
        (
            drifting(warmup_intervals=1, warmup_policy=performing()),
            "trigger.warmup_policy: its metrics need labels",
        ),
        (together(subtriggers={"b": misclassified()}), "trigger.subtriggers.b: its metrics need"),
    ],
)
def test_what_the_dataset_does_not_have_is_named_before_a_run(
    tmp_path: Path, trigger: Trigger, message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        in_a_run(tmp_path, trigger)
    in_a_run(tmp_path, looks("features", drift.KS(num_pca_component=5)))


def test_a_metric_of_fewer_classes_than_the_model_has_is_named_before_a_run(tmp_path: Path) -> None:
    dataset, model = (
        drifting_stream(tmp_path / "stream", count=9),
        Model(id="MLP", config={"num_classes": 3, "hidden": [2]}),
    )
    for metric in (RocAuc(), F1Score(num_classes=2)):
        trigger = performing(
            metrics=(metric,), decision_criteria={"a": replace(BAD, metric=metric.name)}
        )
        with pytest.raises(ConfigError, match=r"has 2 classes, the model gives 3"):
            pipeline(dataset, model=model, trigger=trigger)


@pytest.mark.parametrize("name", ["", "$a"])
def test_names_that_no_state_can_hold_are_refused(name: str) -> None:
    for make, given in (
        (drifting, {"metrics": {name: MOVED}}),
        (performing, {"decision_criteria": {name: BAD}}),
        (together, {"subtriggers": {name: EVERY}}),
    ):
        with pytest.raises(ValueError, match=r"must not be empty or begin with \$"):
            make(**given)
    with pytest.raises(TypeError, match="metrics must have names that are str, got 3"):
        drifting(metrics={3: MOVED})


def test_more_votes_than_voters_would_never_fire() -> None:
    message = "asks for 2 votes, and 1 can vote: it would never fire"
    with pytest.raises(ValueError, match="aggregation_strategy " + message):
        drifting(aggregation_strategy=AtLeastN(n=2))
    with pytest.raises(ValueError, match="ensemble_strategy " + message):
        together(ensemble_strategy=AtLeastN(n=2))
    assert together(ensemble_strategy=AtLeastN(n=1)).ensemble_strategy == AtLeastN(n=1)


def test_a_threshold_beyond_all_floats_is_refused() -> None:
    with pytest.raises(ValueError, match="threshold must be finite, got 1000"):
        ThresholdDecisionCriterion(threshold=10**400)
    assert ThresholdDecisionCriterion(threshold=10**300).threshold == 10**300


def test_a_warm_up_policy_that_never_moves_is_named() -> None:
    class Stuck(Trigger):
        def __init__(self) -> None:
            self._asked = 0

        def inform(self, arrivals: Any, context: Any) -> int | None:
            self._asked += 1
            assert self._asked < 10, "asked for ever"
            return 0

    trigger = DataIncorporationLatencyCostTrigger(
        evaluation_interval_data_points=5,
        incorporation_delay_per_training_second=1.0,
        warmup_intervals=1,
        warmup_policy=Stuck(),
    )
    stream = example_arrivals(20)
    with pytest.raises(RuntimeError, match="warmup_policy Stuck answers 0 again and again"):
        trigger.inform(stream, PlainContext(history=HeldHistory(stream), informed=20))


def test_positions_are_counted_once_however_many_intervals_a_block_has() -> None:
    """With erased samples each sample that is passed over on the way to a position costs time."""

    class Counting(HeldHistory):
        passed = 0

        def after(self, position: int, count: int) -> int:
            self.passed += count
            return super().after(position, count)

    stream = example_arrivals(5000)
    history = Counting(stream)
    model = PastModel(trigger=0, model="m", position=0, last_timestamp=None, samples=9, seconds=9.0)
    context = PlainContext(history=history, informed=5000, models=[model])
    trigger = DataIncorporationLatencyCostTrigger(
        evaluation_interval_data_points=5,
        incorporation_delay_per_training_second=1e12,
        warmup_intervals=500,
        warmup_policy=DataAmountTrigger(num_samples=10_000),
    )

    assert trigger.inform(stream, context) is None
    assert history.passed <= 2 * len(stream)
