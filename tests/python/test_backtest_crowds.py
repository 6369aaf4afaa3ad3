"""Policies that walk side by side fire where each would on its own, and where its run does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import modyn
from modyn import drift
from modyn.backtesting import AtPositions, backtest, play
from modyn.backtesting.backtest import Bench, recordings
from modyn.backtesting.cost import Cost
from modyn.backtesting.crowds import kind, walked
from modyn.backtesting.deciders import Drift
from modyn.backtesting.lockstep import walk
from modyn.backtesting.play import Remembered
from modyn.metrics import Accuracy, F1Score
from modyn.pipelines import SlicingEvalStrategy
from modyn.policies import (
    AmountWindowingStrategy,
    AtLeastN,
    AvoidableMisclassificationCostTrigger,
    DataAmountTrigger,
    DataDriftTrigger,
    DataIncorporationLatencyCostTrigger,
    DynamicQuantilePerformanceThresholdCriterion,
    DynamicQuantileThresholdCriterion,
    DynamicRollingAveragePerformanceThresholdCriterion,
    DynamicRollingAverageThresholdCriterion,
    EnsembleTrigger,
    MajorityVote,
    NewData,
    PerformanceTrigger,
    PlainContext,
    StaticNumberAvoidableMisclassificationCriterion,
    StaticPerformanceThresholdCriterion,
    ThresholdDecisionCriterion,
    TimeTrigger,
    TimeWindowingStrategy,
)
from modyn.policies.columns import column_of
from modyn.policies.drift import Metric
from tests.python import streams

# Criteria ----------------------------------------------------------------------------------------

score = st.sampled_from([0.0, 0.1, 0.1, 0.3, 0.5, 0.7, 1.0, -0.2, math.nan, math.inf])


@given(
    st.lists(st.lists(score, min_size=3, max_size=3), min_size=1, max_size=25),
    st.sampled_from(["threshold", "quantile", "rolling", "absolute"]),
    st.booleans(),
    st.integers(1, 5),
    st.lists(st.sampled_from([0.0, 0.2, 0.6]), max_size=4),
)
def test_a_column_says_what_each_criterion_says(rows, kind_, lower, window, history):
    values = [0.0, 0.05, 0.4]
    criteria = {
        "threshold": [ThresholdDecisionCriterion(threshold=v) for v in values],
        "quantile": [
            DynamicQuantileThresholdCriterion(window_size=window, quantile=v) for v in values
        ],
        "rolling": [
            DynamicRollingAverageThresholdCriterion(window_size=window, deviation=v) for v in values
        ],
        "absolute": [
            DynamicRollingAverageThresholdCriterion(window_size=window, deviation=v, absolute=True)
            for v in values
        ],
    }[kind_]
    column = column_of(criteria, lower=lower, history=history)
    held = [list(history) for _ in criteria]

    for row in rows:
        verdicts = [
            criterion.verdict(value, past, lower=lower)
            for criterion, value, past in zip(criteria, row, held, strict=True)
        ]
        for past, verdict, value in zip(held, verdicts, row, strict=True):
            past += [value] if verdict.keep else []

        assert column.verdicts(np.array(row)).tolist() == [one.fires for one in verdicts]


# Crowds ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[None, 0, 2, "history"])
def recorded(request, tmp_path_factory):
    """Recordings with models that depend on all data, on new data, and on all before them."""
    folder = tmp_path_factory.mktemp("crowds")
    dataset = streams.drifting(folder / "stream", count=500)
    alone = request.param != "history"
    pipeline = streams.pipeline(
        dataset,
        trigger=DataAmountTrigger(num_samples=50),
        selection=NewData(tail_triggers=request.param if alone else 0),
        training=modyn.Training(
            batch_size=16, use_previous_model=not alone, optimizers=streams.sgd()
        ),
        evaluation=streams.slices(strategy=SlicingEvalStrategy(eval_every="25s")),
    )
    return dataset, pipeline.replay(folder / "run")


def warm(intervals):
    if not intervals:
        return {}
    return {"warmup_intervals": intervals, "warmup_policy": TimeTrigger(every="70s")}


def performance(*criteria, every=25, intervals=0, **more):
    named = {str(i): criterion for i, criterion in enumerate(criteria)}
    return PerformanceTrigger(
        evaluation_interval_data_points=every,
        decision_criteria=named,
        **warm(intervals),
        **more,
    )


def below(threshold, metric="Accuracy"):
    return StaticPerformanceThresholdCriterion(metric=metric, metric_threshold=threshold)


def quantile(q, window=4):
    return DynamicQuantilePerformanceThresholdCriterion(
        metric="Accuracy", window_size=window, quantile=q
    )


def rolling(deviation, *, absolute=False):
    return DynamicRollingAveragePerformanceThresholdCriterion(
        metric="Accuracy", window_size=3, deviation=deviation, absolute=absolute
    )


def avoidable(number, expected, *, reduce=False):
    return StaticNumberAvoidableMisclassificationCriterion(
        avoidable_misclassification_threshold=number,
        expected_accuracy=expected,
        allow_reduction=reduce,
    )


F1 = F1Score(num_classes=2)
PERFORMANCE = {
    "static": [performance(below(t / 10)) for t in (4, 6, 7, 8, 9, 10)],
    "two": [performance(below(t), avoidable(5, 0.9), intervals=1) for t in (0.5, 0.7)],
    "metrics": [performance(below(t, F1.name), metrics=(Accuracy(), F1)) for t in (0.6, 0.8)],
    "quantile": [performance(quantile(q), every=20, intervals=3) for q in (0.1, 0.3, 0.6)],
    "rolling": [performance(rolling(d), intervals=4) for d in (0.0, 0.05, 0.2)],
    "absolute": [performance(rolling(d, absolute=True), intervals=1) for d in (0.0, 0.1)],
    "avoidable": [performance(avoidable(n, e), intervals=1) for n in (2, 9) for e in (0.7, 0.9)],
    "reduced": [performance(avoidable(n, 0.8, reduce=True), intervals=2) for n in (2, 6)],
}


def ks(criterion, **more):
    return Metric(metric=drift.KS(), decision_criterion=criterion, **more)


def drifting(*metrics, intervals=0, strategy=None, **more):
    return DataDriftTrigger(
        evaluation_interval_data_points=30,
        metrics={str(i): metric for i, metric in enumerate(metrics)},
        windowing_strategy=strategy or AmountWindowingStrategy(amount_ref=60, amount_cur=60),
        sample_size=40,
        **warm(intervals),
        **more,
    )


def over(threshold):
    return ThresholdDecisionCriterion(threshold=threshold)


OVERLAP = AmountWindowingStrategy(amount_ref=50, amount_cur=80, allow_overlap=True)
DAYS = TimeWindowingStrategy(limit_ref="90s", limit_cur="40s")
DRIFT = {
    "static": [drifting(ks(over(t))) for t in (0.1, 0.2, 0.25, 0.3, 0.5)],
    "features": [drifting(ks(over(t), of="features"), strategy=OVERLAP) for t in (0.1, 0.2)],
    "votes": [
        drifting(ks(over(t)), ks(over(t), of="predictions"), aggregation_strategy=AtLeastN(n=n))
        for t in (0.2, 0.3)
        for n in (1, 2)
    ],
    "quantile": [
        drifting(
            ks(DynamicQuantileThresholdCriterion(window_size=4, quantile=q)),
            intervals=4,
            strategy=DAYS,
        )
        for q in (0.1, 0.4)
    ],
    "rolling": [
        drifting(
            ks(DynamicRollingAverageThresholdCriterion(window_size=3, deviation=d)), intervals=3
        )
        for d in (0.0, 0.2)
    ],
}


def waiting(worth, *, intervals=0, **more):
    return DataIncorporationLatencyCostTrigger(
        evaluation_interval_data_points=25,
        incorporation_delay_per_training_second=worth,
        **warm(intervals),
        **more,
    )


def regretting(worth, expected, *, intervals=0, **more):
    return AvoidableMisclassificationCostTrigger(
        evaluation_interval_data_points=25,
        avoidable_misclassification_latency_per_training_second=worth,
        expected_accuracy=expected,
        **warm(intervals),
        **more,
    )


RATE = {"training_samples_per_second": 40.0}
COST = {
    "waiting": [
        *(waiting(worth, **RATE) for worth in (50.0, 120.0, 333.3, 1000.0)),
        *(waiting(worth, cost_tracking_window_size=n) for worth in (1e3, 1e5) for n in (1, 3)),
        waiting(0.01, conversion="multiply", **RATE),
    ],
    "waiting, warm": [waiting(worth, intervals=3, **RATE) for worth in (100.0, 500.0)],
    "regrets": [
        *(regretting(w, e, **RATE) for w in (10.0, 70.0, 200.0) for e in (0.7, 0.9)),
        *(regretting(w, 0.8, allow_reduction=True, **RATE) for w in (5.0, 50.0)),
        *(regretting(w, 0.95) for w in (100.0, 10000.0)),
    ],
    "regrets, warm": [regretting(w, 0.9, intervals=2, **RATE) for w in (20.0, 90.0)],
}


def together(rule, **members):
    return EnsembleTrigger(subtriggers=members, ensemble_strategy=rule)


def amount(intervals):
    return DataAmountTrigger(num_samples=25 * intervals)


def low(threshold):
    return performance(below(threshold))


def moved(threshold):
    return DataDriftTrigger(
        evaluation_interval_data_points=25, metrics={"ks": ks(over(threshold))}, sample_size=30
    )


ENSEMBLES = {
    "amount": [
        together(AtLeastN(n=n), a=amount(k), low=low(t))
        for n in (1, 2)
        for k, t in ((1, 0.7), (3, 0.8), (4, 0.9), (7, 0.95))
    ],
    "most": [
        together(MajorityVote(), low=low(t), cost=waiting(w, **RATE), drift=moved(d))
        for t, w, d in ((0.7, 100.0, 0.2), (0.85, 300.0, 0.3), (0.9, 1000.0, 0.25))
    ],
    "nested": [
        together(
            AtLeastN(n=n),
            a=amount(k),
            inner=together(AtLeastN(n=2), low=low(t), cost=regretting(w, 0.9, **RATE), a=amount(2)),
        )
        for n, k, t, w in ((1, 8, 0.8, 20.0), (2, 3, 0.9, 50.0), (2, 2, 0.7, 90.0))
    ],
}
FAMILIES = {"performance": PERFORMANCE, "drift": DRIFT, "cost": COST, "ensembles": ENSEMBLES}
CROWDS = [(family, name) for family, found in FAMILIES.items() for name in found]


def bench_of(recorded, policies):
    dataset, run = recorded
    _, matrices = recordings(run, dataset=dataset)
    named = {str(i): policy for i, policy in enumerate(policies)}
    return Bench(matrices=matrices, dataset=dataset, policies=named, cost=Cost())


@pytest.mark.parametrize(("family", "name"), CROWDS)
def test_a_crowd_fires_where_each_policy_fires_alone(recorded, family, name):
    policies = FAMILIES[family][name]
    player = bench_of(recorded, policies).players[0]

    together = walked(policies, player)
    player.scores = None  # from here on every question is asked anew

    assert len({kind(policy, player) for policy in policies}) == 1
    for policy, found in zip(policies, together, strict=True):
        alone = player.play(policy)
        assert found.places.tolist() == alone.places.tolist()
        assert found.certain == alone.certain


@pytest.mark.parametrize(
    "policy", [PERFORMANCE["quantile"][1], PERFORMANCE["avoidable"][2], DRIFT["quantile"][1]]
)
def test_trained_to_be_exact_it_is_what_a_real_run_comes_to(policy, tmp_path):
    dataset = streams.drifting(tmp_path / "stream", count=300)
    settings = {"selection": NewData(tail_triggers=None)}
    run = streams.pipeline(dataset, **settings).replay(tmp_path / "run")

    found = backtest(run, {"it": policy}, dataset=dataset, train_missing=tmp_path / "out")["it"]
    real = streams.pipeline(dataset, trigger=policy, **settings).replay(tmp_path / "real")

    assert found.exact
    assert found.outcomes[0].schedule.places.tolist() == [row.position for row in real.transitions]
    assert found.outcomes[0].models == [row.model for row in real.trainings]


def test_what_has_no_crowd_is_played_alone(recorded):
    policies = [
        performance(avoidable(3, None), intervals=1),
        performance(below(0.8), mode="lookahead"),
        performance(
            DynamicQuantilePerformanceThresholdCriterion(
                metric="Accuracy", quantile=0.2, conformal=True
            ),
            intervals=1,
        ),
        drifting(ks(over(0.2)), reset_history_on_model=True),
        regretting(50.0, None),
        regretting(50.0, 0.9, mode="lookahead"),
        together(AtLeastN(n=1), a=DataAmountTrigger(num_samples=30), low=low(0.8)),
        together(AtLeastN(n=1), low=low(0.8), other=performance(below(0.7), every=50)),
        together(AtLeastN(n=1), low=low(0.8), time=TimeTrigger(every="70s")),
    ]
    player = bench_of(recorded, policies).players[0]

    assert [kind(policy, player) for policy in policies] == [None] * 9


def test_a_warm_up_by_other_places_is_another_crowd(recorded):
    """However many places there are: what is shown of many leaves some out."""
    places = np.arange(1, 3000)
    policies = [performance(below(0.8), every=100) for _ in range(2)]
    for policy, gone in zip(policies, (1500, 1501), strict=True):
        policy.warmup_intervals = 2
        policy.warmup_policy = AtPositions(positions=np.delete(places, gone))
    player = bench_of(recorded, policies).players[0]

    assert repr(policies[0].warmup_policy) == repr(policies[1].warmup_policy)
    assert kind(policies[0], player) != kind(policies[1], player)


def test_of_references_only_those_are_kept_that_some_policy_compares_with(recorded):
    policies = [moved(t / 50) for t in range(2, 22, 2)]
    player = bench_of(recorded, policies).players[0]
    crowd = Drift(policies, player.fresh(policies[0]), player)

    schedules = walk(player.matrix, crowd, count=len(policies), samples=25)

    assert len({place for found in schedules for place in found.places.tolist()}) > len(policies)
    assert len(crowd._kept) <= len(policies)


class Asked:
    """A question that counts how often it is asked."""

    def __init__(self, key, keys=b""):
        self.key = key
        self.keys = keys
        self.times = 0

    def answer(self, context):
        self.times += 1
        return self.times


def test_a_question_is_asked_once_unless_its_key_cannot_be_looked_up():
    scores = Remembered()
    twice, listed = Asked("key"), Asked(["key"])

    answers = [scores.of(one, PlainContext()) for one in (twice, Asked("key"), listed, listed)]

    assert answers == [1, 1, 1, 2]


def test_answers_are_forgotten_where_the_keys_of_questions_take_too_much_memory(monkeypatch):
    monkeypatch.setattr(play, "MEMORY_BYTES", 1 << 20)
    scores = Remembered()

    for number in range(20):
        scores.of(Asked(number, keys=bytes(1 << 18)), PlainContext())
        assert len(scores) < 4
