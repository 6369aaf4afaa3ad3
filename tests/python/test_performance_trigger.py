"""Triggers by performance: against their plain twin, with late labels, and by estimates."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.arrivals import Arrivals
from modyn.metrics import Accuracy, F1Score, RocAuc
from modyn.policies import (
    ATC,
    CBPE,
    DataAmountTrigger,
    DynamicQuantilePerformanceThresholdCriterion,
    DynamicRollingAveragePerformanceThresholdCriterion,
    HeldHistory,
    Note,
    PastModel,
    PerformanceTrigger,
    PlainContext,
    StaticNumberAvoidableMisclassificationCriterion,
    StaticPerformanceThresholdCriterion,
    TimeTrigger,
    Trigger,
)
from modyn.policies.checks import check_trigger
from modyn.policies.checks.common import example_stream
from tests.reference import triggers_performance as twin

AMOUNT = DataAmountTrigger(num_samples=1)
STATIC = StaticPerformanceThresholdCriterion(metric="Accuracy", metric_threshold=0.5)
QUANTILE = DynamicQuantilePerformanceThresholdCriterion(
    metric="Accuracy", window_size=6, quantile=0.2
)
ROLLING = DynamicRollingAveragePerformanceThresholdCriterion(
    metric="Accuracy", window_size=4, deviation=0.15
)


def budget(most: int, **more: Any) -> StaticNumberAvoidableMisclassificationCriterion:
    return StaticNumberAvoidableMisclassificationCriterion(
        avoidable_misclassification_threshold=most, **more
    )


class Forgetful:
    """Models of two classes that are right with a share which sinks from their trigger on.

    `rights[trigger]` is a number from 0 to 1 per position; a model is right where it is below the
    share, and as sure as that.
    """

    def __init__(
        self, stream: Arrivals, rights: npt.NDArray[np.float64], fall: float = 0.004
    ) -> None:
        self._stream, self._rights, self._fall = stream, rights, fall

    def share(self, start: int, position: int) -> float:
        return max(0.95 - self._fall * (position - start), 0.1)

    def guess(self, start: int, position: int) -> int:
        label = int(self._stream.labels[position])
        right = self._rights[(start + position) % len(self._rights)] < self.share(start, position)
        return label if right else 1 - label

    def predictions(
        self, model: PastModel, keys: npt.NDArray[np.uint64]
    ) -> npt.NDArray[np.float32]:
        found = []
        for key in keys.tolist():
            sure = max(self.share(model.position, key), 0.51)
            ones = sure if self.guess(model.position, key) == 1 else 1 - sure
            found.append([1 - ones, ones])
        return np.array(found, dtype=np.float32).reshape(-1, 2)


def stream_of(count: int, seed: int, *, gap: int = 10, late: int = 0) -> Arrivals:
    """Samples in time order, or up to so late; keys are positions."""
    rng = np.random.default_rng(seed)
    times = np.cumsum(rng.integers(0, gap, count)).astype(np.int64)
    if late:
        times -= rng.integers(0, late, count)
    return Arrivals(np.arange(count, dtype=np.uint64), times, rng.integers(0, 2, count))


def fired(
    trigger: Trigger,
    stream: Arrivals,
    models: Any,
    cuts: list[int],
    notes: list[Note] | None = None,
    **known: Any,
) -> list[int]:
    """Where a policy fires, informed of blocks of these sizes in turn; trainings take a second."""
    found: list[int] = []
    position = block = 0
    history = HeldHistory(stream)
    while position < len(stream):
        end = min(position + cuts[block % len(cuts)], len(stream))
        block += 1
        while position < end:
            starts = [0, *found]
            context = PlainContext(
                clock=int(stream.timestamps[position - 1]) if position else None,
                position=position,
                trigger=len(found),
                triggered_at=starts[-1],
                models=tuple(
                    PastModel(
                        trigger=i,
                        model=f"model {i}",
                        position=at,
                        last_timestamp=int(stream.timestamps[at - 1]),
                        samples=at - starts[i],
                        seconds=1.0,
                    )
                    for i, at in enumerate(found)
                ),
                informed=end - position,
                history=history,
                answers=models,
                notes=None if notes is None else notes.append,
                **known,
            )
            due = trigger.inform(stream[position:end], context)
            position = end if due is None else position + due
            if due is not None:
                found.append(position)
    return found


def both(
    seed: int,
    size: int,
    rules: dict[str, dict[str, Any]],
    cuts: list[int],
    *,
    delay: int = 0,
    warm: int = 0,
    mode: str = "hindsight",
    count: int = 400,
    late: int = 0,
) -> tuple[list[int], list[int]]:
    """What the policy does, and what its twin does."""
    stream = stream_of(count, seed, late=late)
    models = Forgetful(stream, np.random.default_rng(seed + 1).random(997))
    world = twin.World(
        stream.timestamps.tolist(), stream.labels.tolist(), lambda trigger, position: 0, delay
    )
    world.guess = lambda trigger, position: models.guess(world.start_of(trigger), position)
    expected = twin.performance_positions(
        world,
        size,
        [{**rule, "lookahead": mode == "lookahead"} for rule in rules.values()],
        warm=warm,
    )
    trigger = PerformanceTrigger(
        evaluation_interval_data_points=size,
        warmup_intervals=warm,
        warmup_policy=AMOUNT,
        decision_criteria={name: CRITERIA[rule["kind"]](rule) for name, rule in rules.items()},
        mode=mode,
    )
    return fired(trigger, stream, models, cuts, label_delay=delay), expected


CRITERIA = {
    "static": lambda rule: StaticPerformanceThresholdCriterion(
        metric="Accuracy", metric_threshold=rule["threshold"]
    ),
    "quantile": lambda rule: DynamicQuantilePerformanceThresholdCriterion(
        metric="Accuracy", window_size=rule["window"], quantile=rule["q"]
    ),
    "rolling": lambda rule: DynamicRollingAveragePerformanceThresholdCriterion(
        metric="Accuracy",
        window_size=rule["window"],
        deviation=rule["deviation"],
        absolute=rule["absolute"],
    ),
    "budget": lambda rule: budget(
        rule["budget"], expected_accuracy=rule["expected"], allow_reduction=rule["reduction"]
    ),
}
RULES = st.one_of(
    st.fixed_dictionaries({"kind": st.just("static"), "threshold": st.sampled_from([0.45, 0.7])}),
    st.fixed_dictionaries(
        {
            "kind": st.just("quantile"),
            "window": st.integers(1, 6),
            "q": st.sampled_from([0.0, 0.05, 0.3]),
        }
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("rolling"),
            "window": st.integers(1, 6),
            "deviation": st.sampled_from([0.13, 0.31]),
            "absolute": st.booleans(),
        }
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("budget"),
            "budget": st.integers(1, 20),
            "expected": st.sampled_from([None, 0.83]),
            "reduction": st.booleans(),
        }
    ),
)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(7, 40),
    rules=st.dictionaries(st.sampled_from("abc"), RULES, min_size=1, max_size=2),
    cuts=st.lists(st.integers(1, 90), min_size=1, max_size=4),
    delay=st.sampled_from([0, 0, 1, 77, 300]),
    warm=st.integers(0, 3),
    mode=st.sampled_from(["hindsight", "lookahead"]),
    late=st.sampled_from([0, 60, 900]),
)
def test_it_fires_where_its_twin_does(
    seed: int,
    size: int,
    rules: dict[str, dict[str, Any]],
    cuts: list[int],
    delay: int,
    warm: int,
    mode: str,
    late: int,
) -> None:
    found, expected = both(seed, size, rules, cuts, delay=delay, warm=warm, mode=mode, late=late)

    assert found == expected


def steady(accuracy_of: Any, size: int = 10, count: int = 400) -> tuple[Arrivals, Any]:
    """A stream of label 0 and models with `accuracy_of(interval)` on each interval."""
    stream = Arrivals(
        np.arange(count, dtype=np.uint64),
        np.arange(count, dtype=np.int64),
        np.zeros(count, dtype=np.int64),
    )

    class Models:
        def predictions(
            self, model: PastModel, keys: npt.NDArray[np.uint64]
        ) -> npt.NDArray[np.float32]:
            places = keys.astype(np.int64)
            right = places % size < [round(size * accuracy_of(p // size)) for p in places]
            return np.where(right[:, None], [0.9, 0.1], [0.1, 0.9]).astype(np.float32)

    return stream, Models()


def by_budget(criterion: StaticNumberAvoidableMisclassificationCriterion, **more: Any) -> Any:
    return PerformanceTrigger(
        evaluation_interval_data_points=10,
        warmup_policy=AMOUNT,
        decision_criteria={"budget": criterion},
        **more,
    )


def test_as_accurate_as_expected_for_ever_never_fires() -> None:
    stream, models = steady(lambda interval: 0.8)
    trigger = by_budget(budget(1, expected_accuracy=0.8))

    assert fired(trigger, stream, models, [400]) == [10]


def test_a_surplus_of_two_fifths_per_interval_reaches_four_at_the_tenth() -> None:
    stream, models = steady(lambda interval: 0.8)
    trigger = by_budget(budget(4, expected_accuracy=0.84))

    assert fired(trigger, stream, models, [33]) == [10, 110, 210, 310]


def test_better_intervals_take_away_only_where_that_is_allowed() -> None:
    stream, models = steady(lambda interval: 0.5 if interval % 2 else 1.0)

    kept = fired(by_budget(budget(6, expected_accuracy=0.8)), stream, models, [400])
    taken = by_budget(budget(6, expected_accuracy=0.8, allow_reduction=True))

    assert kept[:3] == [10, 40, 80]  # 3 at every other interval
    assert fired(taken, stream, models, [400])[:2] == [10, 80]  # 3 1 4 2 5 3 6


def test_the_accuracy_to_expect_is_that_of_earlier_models_when_they_were_new() -> None:
    """Nothing fires before there was a model on an interval that it had not learned from."""
    stream, models = steady(lambda interval: 0.9 if interval < 6 else 0.6)
    notes: list[Note] = []

    found = fired(by_budget(budget(5)), stream, models, [400], notes)

    seen = [note.values["judged"][0]["criteria"]["budget"] for note in notes[1:]]
    assert [one["expected_accuracy"] for one in seen[:3]] == [None, 0.9, 0.9]
    assert found[1] == 80  # 3 of each of two intervals of 10


def test_looking_ahead_fires_an_interval_earlier() -> None:
    stream, models = steady(lambda interval: 0.8)
    behind = by_budget(budget(4, expected_accuracy=0.9))
    ahead = by_budget(budget(4, expected_accuracy=0.9), mode="lookahead")

    assert fired(behind, stream, models, [400])[:2] == [10, 50]
    assert fired(ahead, stream, models, [400])[:2] == [10, 40]


def test_metrics_are_those_of_an_evaluation_of_the_same_samples() -> None:
    stream = stream_of(300, 8)
    models = Forgetful(stream, np.random.default_rng(8).random(997))
    metrics = (Accuracy(), F1Score(num_classes=2), F1Score(num_classes=2, average="weighted"))
    metrics = (*metrics, RocAuc(), Accuracy(topn=2))
    notes: list[Note] = []
    trigger = PerformanceTrigger(
        evaluation_interval_data_points=60,
        metrics=metrics,
        decision_criteria={
            metric.name: StaticPerformanceThresholdCriterion(
                metric=metric.name, metric_threshold=-1
            )
            for metric in metrics
        },
    )

    assert fired(trigger, stream, models, [77], notes) == [60]

    model = PastModel(
        trigger=0, model="", position=60, last_timestamp=None, samples=60, seconds=1.0
    )
    for note in notes[1:]:
        block = stream[note.values["first"] : note.values["last"]]
        predictions = models.predictions(model, block.keys)
        parts = [
            [
                metric.measure(predictions[at : at + 7], block.labels[at : at + 7])
                for at in range(0, 60, 7)
            ]
            for metric in metrics
        ]
        expected = {
            metric.name: metric.value(metric.join(part))
            for metric, part in zip(metrics, parts, strict=True)
        }
        judged = note.values["judged"][0]
        assert judged["scores"] == expected
        wrong = int((predictions.argmax(axis=1) != block.labels).sum())
        assert judged["misclassifications"] == wrong
        assert type(judged["misclassifications"]) is int
    assert len(notes) == 5


def test_an_interval_is_judged_when_its_labels_are_known_and_by_the_model_of_its_time() -> None:
    stream, models = steady(lambda interval: 0.4 if interval in (2, 3) else 0.9)
    notes: list[Note] = []
    trigger = PerformanceTrigger(
        evaluation_interval_data_points=10, decision_criteria={"bad": STATIC}
    )

    found = fired(trigger, stream, models, [400], notes, label_delay=25)

    # The interval that ends at 30 is known at 54, and the one after it is overtaken by then.
    assert found == [10, 60]
    judged = {
        one["interval"]: (note.position, one["model_trigger"], one["overtaken"])
        for note in notes
        for one in note.values["judged"]
    }
    assert judged[1] == (50, 0, False)
    assert judged[2] == (60, 0, False)
    assert judged[3] == (70, 0, True)
    assert judged[5] == (90, 0, True)
    assert judged[6] == (100, 1, False)


def test_scores_of_the_warm_up_are_what_later_ones_are_held_against() -> None:
    stream, models = steady(lambda interval: 0.7 if interval == 7 else 0.9)
    trigger = PerformanceTrigger(
        evaluation_interval_data_points=10,
        warmup_intervals=4,
        warmup_policy=DataAmountTrigger(num_samples=20),
        decision_criteria={"worse": ROLLING},
    )

    assert fired(trigger, stream, models, [400]) == [10, 20, 40, 80]


def test_a_policy_that_decides_in_the_warm_up_is_asked_and_noted_as_such() -> None:
    stream, models = steady(lambda interval: 0.4 if interval in (3, 9) else 0.9)
    low = PerformanceTrigger(evaluation_interval_data_points=10, decision_criteria={"bad": STATIC})
    notes: list[Note] = []

    found = fired(replace(low, warmup_intervals=6, warmup_policy=low), stream, models, [33], notes)

    assert found == [10, 40, 100]
    inner = [note for note in notes if note.name == "warmup_policy.PerformanceTrigger"]
    assert [note.position for note in inner if note.values["fires"]] == [10, 40]
    assert max(note.position for note in inner) == 60
    outer = [note for note in notes if note.name == "PerformanceTrigger"]
    assert [note.position for note in outer if note.values["fires"]] == found


def test_undefined_metrics_never_fire_and_are_not_kept() -> None:
    """ROC-AUC of samples of one class."""
    stream, models = steady(lambda interval: 0.5)
    trigger = PerformanceTrigger(
        evaluation_interval_data_points=10,
        warmup_policy=AMOUNT,
        metrics=(RocAuc(),),
        decision_criteria={
            "static": StaticPerformanceThresholdCriterion(metric="ROC-AUC", metric_threshold=1.0),
            "worse": replace(ROLLING, metric="ROC-AUC"),
        },
    )

    assert fired(trigger, stream, models, [400]) == [10]
    assert trigger.state_dict()["_scores"] == {}


def test_the_state_holds_positions_and_scores_but_no_samples() -> None:
    stream = stream_of(2000, 1)
    models = Forgetful(stream, np.random.default_rng(1).random(997))
    trigger = PerformanceTrigger(
        evaluation_interval_data_points=500,
        warmup_policy=AMOUNT,
        decision_criteria={"low": QUANTILE},
    )

    fired(trigger, stream, models, [600], label_delay=3000)

    assert len(repr(trigger.state_dict())) < 1200


# Without labels


def test_an_estimate_decides_at_once_where_labels_are_late() -> None:
    """Models are as sure as they are right, until samples become harder than they were."""
    stream = stream_of(1200, 2)
    models = Forgetful(stream, np.random.default_rng(2).random(997), fall=0.002)
    found = {}
    for name, estimator in (("late", None), ("estimated", CBPE(calibration_samples=200))):
        trigger = PerformanceTrigger(
            evaluation_interval_data_points=50,
            estimator=estimator,
            decision_criteria={
                "bad": StaticPerformanceThresholdCriterion(metric="Accuracy", metric_threshold=0.7)
            },
        )
        found[name] = fired(trigger, stream, models, [1200], label_delay=500)
    timely = fired(replace(trigger, estimator=None), stream, models, [1200], label_delay=0)

    assert abs(found["estimated"][1] - timely[1]) <= 100
    assert found["late"][1] > timely[1] + 50


def test_a_calibration_is_learned_once_per_model_and_kept_until_the_next() -> None:
    stream = stream_of(1000, 3)
    models = Forgetful(stream, np.random.default_rng(3).random(997), fall=0.0)
    trigger = PerformanceTrigger(
        evaluation_interval_data_points=50,
        estimator=ATC(calibration_samples=100),
        decision_criteria={"never": StaticPerformanceThresholdCriterion(metric="Accuracy")},
    )
    notes: list[Note] = []

    fired(trigger, stream, models, [1000], notes, label_delay=400)

    scores = [note.values["judged"][0]["scores"]["Accuracy"] for note in notes[1:]]
    silent = sum(score is None for score in scores)
    assert 2 <= silent < len(scores)
    assert None not in scores[silent:]
    assert trigger.state_dict()["_calibration"]["trigger"] == 0


@pytest.mark.parametrize("late", [0, 60])
def test_a_calibration_is_from_the_first_samples_that_a_model_has_not_learned_from(
    late: int,
) -> None:
    """A model learns from what comes before the first label that is not known at its trigger."""
    rng = np.random.default_rng(late)
    ordered = stream_of(1500, 3)
    times = ordered.timestamps + (rng.integers(-late, late, 1500) if late else 0)
    stream = Arrivals(ordered.keys, times, ordered.labels)
    models = Forgetful(stream, rng.random(997), fall=0.001)
    asked: dict[int, int] = {}

    class Watched(Forgetful):
        def predictions(
            self, model: PastModel, keys: npt.NDArray[np.uint64]
        ) -> npt.NDArray[np.float32]:
            if len(keys) == 37:
                asked.setdefault(model.position, int(keys[0]))
            return models.predictions(model, keys)

    trigger = PerformanceTrigger(
        evaluation_interval_data_points=50,
        estimator=CBPE(calibration_samples=37),
        decision_criteria={
            "bad": StaticPerformanceThresholdCriterion(metric="Accuracy", metric_threshold=0.85)
        },
    )

    found = fired(trigger, stream, Watched(stream, rng.random(3)), [300], label_delay=200)

    assert len(asked) >= 2
    for position, first in asked.items():
        unknown = times > times[:position].max() - 200
        assert first == min(int(unknown.argmax()), position)
    assert set(asked) <= set(found)


def test_an_estimator_is_asked_only_where_labels_are_missing() -> None:
    stream, models = steady(lambda interval: 0.7)
    notes: list[Note] = []
    trigger = PerformanceTrigger(
        evaluation_interval_data_points=10, estimator=CBPE(), decision_criteria={"bad": STATIC}
    )

    fired(trigger, stream, models, [400], notes)

    assert {note.values["judged"][0]["estimated"] for note in notes[1:]} == {False}
    assert {note.values["judged"][0]["scores"]["Accuracy"] for note in notes[1:]} == {0.7}


# What every policy promises

POLICIES = {
    "static": {"decision_criteria": {"bad": replace(STATIC, metric_threshold=0.2)}},
    "two criteria": {"decision_criteria": {"low": QUANTILE, "worse": ROLLING}},
    "budget": {"decision_criteria": {"budget": budget(30)}, "mode": "lookahead"},
    "warm": {
        "decision_criteria": {"worse": ROLLING},
        "warmup_intervals": 5,
        "warmup_policy": TimeTrigger(every="2d"),
    },
    "warmed by another": {
        "decision_criteria": {"worse": ROLLING},
        "warmup_intervals": 6,
        "warmup_policy": PerformanceTrigger(
            evaluation_interval_data_points=7,
            decision_criteria={"bad": replace(STATIC, metric_threshold=0.2)},
            warmup_intervals=2,
            warmup_policy=DataAmountTrigger(num_samples=5),
        ),
    },
    "CBPE": {
        "decision_criteria": {"low": QUANTILE},
        "estimator": CBPE(calibration_samples=20),
    },
    "ATC": {
        "decision_criteria": {"low": QUANTILE},
        "estimator": ATC(calibration_samples=20, score="entropy"),
    },
    "F1": {
        "metrics": (F1Score(num_classes=5),),
        "decision_criteria": {"bad": replace(STATIC, metric="F1-macro", metric_threshold=0.1)},
    },
}


@pytest.mark.parametrize("delay", [0, 300_000])
@pytest.mark.parametrize("name", POLICIES)
def test_it_passes_the_checks(name: str, delay: int) -> None:
    settings = {"warmup_policy": AMOUNT, "evaluation_interval_data_points": 9, **POLICIES[name]}

    context = PlainContext(seed=3, label_delay=delay)
    check_trigger(PerformanceTrigger(**settings), stream=example_stream(170), context=context)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"decision_criteria": {}}, "decision_criteria must name one or more"),
        (
            {"decision_criteria": {"low": QUANTILE}},
            "decision_criteria.low needs calibration: name a warmup_policy",
        ),
        (
            {"decision_criteria": {"f": replace(STATIC, metric="F1Score")}},
            "decision_criteria.f goes by the metric 'F1Score'; metrics has Accuracy",
        ),
        ({"metrics": ()}, "metrics must be one or more"),
        ({"metrics": (RocAuc(), RocAuc())}, "metrics must be one or more, each once"),
        ({"mode": "both"}, "mode must be 'hindsight' or 'lookahead', got 'both'"),
        ({"forecasting_method": "x"}, "forecasting_method must be one of ridge_regression"),
        ({"data_density_window_size": 0}, "data_density_window_size must be at least 1"),
        ({"performance_triggers_window_size": 0}, "must be at least 1"),
        ({"estimator": ATC(), "metrics": (Accuracy(), RocAuc())}, "ATC estimates Accuracy alone"),
        ({"evaluation_interval_data_points": 0}, "must be at least 1"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], message: str) -> None:
    sound = {"evaluation_interval_data_points": 10, "decision_criteria": {"bad": STATIC}}

    with pytest.raises(ValueError, match=message):
        PerformanceTrigger(**{**sound, **wrong})


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (budget, {"most": 0}),
        (budget, {"most": 1, "expected_accuracy": 1.5}),
        (
            DynamicQuantilePerformanceThresholdCriterion,
            {"metric": "Accuracy", "quantile": 1.1},
        ),
        (
            DynamicRollingAveragePerformanceThresholdCriterion,
            {"metric": "Accuracy", "window_size": 0},
        ),
    ],
)
def test_wrong_criteria_are_refused(kind: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be at"):
        kind(**wrong)
