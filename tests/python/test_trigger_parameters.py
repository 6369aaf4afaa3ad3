"""Parameters of trigger policies that would fail in the middle of a run are refused at once."""

from __future__ import annotations

import re
from typing import Any

import pytest

from modyn import drift
from modyn.arrivals import example_arrivals
from modyn.policies import (
    AmountWindowingStrategy,
    AtLeastN,
    AvoidableMisclassificationCostTrigger,
    DataAmountTrigger,
    DataDriftTrigger,
    DataIncorporationLatencyCostTrigger,
    EnsembleTrigger,
    HeldHistory,
    MajorityVote,
    PerformanceTrigger,
    PlainContext,
    StaticNumberAvoidableMisclassificationCriterion,
    StaticPerformanceThresholdCriterion,
    TimeWindowingStrategy,
    Trigger,
)
from modyn.policies.criteria import ThresholdDecisionCriterion
from modyn.policies.drift import Metric

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
