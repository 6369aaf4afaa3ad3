"""Runs with a drift trigger: where they train, in any order, with samples erased, and killed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modyn
from modyn.pipelines import Run, Training, rundir
from modyn.pipelines.answer_cache import AnswerCache
from modyn.pipelines.asking import RunAnswers
from modyn.pipelines.progress import Silent
from modyn.pipelines.replay import Replay
from modyn.pipelines.schema_drift_metrics import METRICS
from modyn.pipelines.trainer import Trainer
from modyn.policies import (
    AmountWindowingStrategy,
    DataAmountTrigger,
    DataDriftTrigger,
    EnsembleTrigger,
    PerformanceTrigger,
    StaticPerformanceThresholdCriterion,
    TimeWindowingStrategy,
    Trigger,
)
from modyn.policies.aggregation import AtLeastN
from modyn.policies.criteria import DynamicQuantileThresholdCriterion, ThresholdDecisionCriterion
from modyn.policies.drift import Metric
from modyn.policies.window_rows import LOOKS
from tests.python.streams import pipeline, sgd
from tests.reference import triggers_drift as twin

COUNT, MOVED = 600, 330


LATE = np.arange(COUNT) * 10 + np.random.default_rng(5).integers(-300, 300, COUNT)


def moving(path: Path, *, order: str = "time", erased: bool = False) -> modyn.Dataset:
    """Two classes; all numbers move by 2 at sample 330."""
    rng = np.random.default_rng(5)
    times = LATE if order == "late" else np.arange(COUNT) * 10
    x = rng.normal(size=(COUNT, 4)).astype(np.float32)
    labels = (x[:, 0] > 0).astype(np.int64)
    x[MOVED:] += 2
    with modyn.Dataset.create(path, schema={"dense": "float32[4]"}) as dataset:
        dataset.append({"dense": x}, labels=labels, timestamps=times)
        if erased:
            dataset.erase(list(range(3, COUNT, 7)), reason="asked for")
    return modyn.Dataset.open(path)


def replay(dataset: modyn.Dataset, out: Path, trigger: DataDriftTrigger, **changes: Any) -> Run:
    training = Training(batch_size=32, optimizers=sgd())
    return pipeline(dataset, trigger=trigger, training=training, evaluation=None, **changes).replay(
        out
    )


def watching(**more: Any) -> DataDriftTrigger:
    above = ThresholdDecisionCriterion(threshold=0.6)
    parameters: dict[str, Any] = {
        "evaluation_interval_data_points": 40,
        "metrics": {"ks": Metric(metric=METRICS["KS"](), decision_criterion=above, of="features")},
        "windowing_strategy": AmountWindowingStrategy(amount_ref=40, amount_cur=40),
        **more,
    }
    return DataDriftTrigger(**parameters)


def test_a_run_trains_where_the_stream_begins_and_where_it_moves(tmp_path: Path) -> None:
    run = replay(moving(tmp_path / "stream"), tmp_path / "run", watching())

    assert run.triggers["position"] == [40, 360]
    assert run.decisions["position"] == list(range(40, COUNT + 1, 40))
    assert [fired for fired in run.decisions["fired"] if fired] == [True, True]
    distances = [values["metrics"]["ks"]["distance"] for values in run.decisions["values"][1:]]
    assert distances[7] > 0.6 > max(distances[:7] + distances[8:])


@pytest.mark.parametrize("order", ["time", "arrival"])
@pytest.mark.parametrize("by", ["amount", "time"])
@pytest.mark.parametrize("erased", [False, True])
def test_a_run_does_what_the_twin_does(tmp_path: Path, order: str, by: str, erased: bool) -> None:
    dataset = moving(tmp_path / "stream", order="late", erased=erased)
    criterion = DynamicQuantileThresholdCriterion(window_size=4, quantile=0.2)
    metric = Metric(metric=METRICS["MMD"](), decision_criterion=criterion, of="features")
    trigger = watching(
        metrics={"mmd": metric},
        warmup_intervals=3,
        warmup_policy=DataAmountTrigger(num_samples=60),
        sample_size=20,
        windowing_strategy=AmountWindowingStrategy(amount_ref=70, amount_cur=50)
        if by == "amount"
        else TimeWindowingStrategy(limit_ref="700s", limit_cur="500s"),
    )
    living = np.flatnonzero(~dataset.erased)
    records = dataset.fetch(living.astype(np.uint64))["dense"]
    rows = dict(zip(living.tolist(), records.tolist(), strict=True))
    listed = np.lexsort((np.arange(COUNT), LATE)) if order == "time" else np.arange(COUNT)
    samples = [
        twin.Sample(position, key, int(LATE[key]))
        for position, key in enumerate(listed.tolist())
        if key in rows
    ]
    expected = twin.run(
        samples,
        twin.Settings(
            interval=40,
            metrics={"mmd": metric},
            row=lambda of, model, key: rows[key],
            amount=(70, 50) if by == "amount" else None,
            time=(700, 500) if by == "time" else None,
            sample_size=20,
            warmup_intervals=3,
            warmup_every=60,
            seed=3,
        ),
    )

    run = replay(dataset, tmp_path / "run", trigger, order=order)

    assert run.triggers["position"] == expected.fired
    found = [values["metrics"] for values in run.decisions["values"] if values["metrics"]]
    assert [seen["mmd"]["distance"] for seen in found] == pytest.approx(
        [seen["mmd"] for seen in expected.distances.values()], abs=1e-9
    )


def test_every_metric_looks_at_a_real_model(tmp_path: Path) -> None:
    above = ThresholdDecisionCriterion(threshold=1e9)
    metrics = {
        f"{name} of {of}": Metric(metric=kind(), decision_criterion=above, of=of)
        for name, kind in METRICS.items()
        for of in (("labels",) if name in ("ChiSquared", "GTest") else LOOKS)
    }
    trigger = watching(metrics=metrics, evaluation_interval_data_points=150, sample_size=40)

    run = replay(moving(tmp_path / "stream"), tmp_path / "run", trigger)

    (fired,) = run.triggers["position"]
    assert fired == 150
    for values in run.decisions["values"][1:]:
        assert set(values["metrics"]) == set(metrics)
        assert all(seen["distance"] is not None for seen in values["metrics"].values())


def test_a_reference_goes_through_its_model_once(tmp_path: Path) -> None:
    criterion = ThresholdDecisionCriterion(threshold=1e9)
    trigger = watching(
        metrics={
            "mmd": Metric(metric=METRICS["MMD"](), decision_criterion=criterion),
            "classes": Metric(
                metric=METRICS["TotalVariation"](), decision_criterion=criterion, of="predictions"
            ),
        },
        sample_size=20,
    )
    followed = pipeline(moving(tmp_path / "stream"), trigger=trigger, evaluation=None)

    (tmp_path / "run").mkdir()
    with Replay(followed, tmp_path / "run", Silent()) as running:
        running.run()
        passed = running._answers.passed

    assert passed == 20 + 20 * (COUNT // 40 - 1)


def passes(dataset: modyn.Dataset, out: Path, trigger: Trigger, **changes: Any) -> Counter[Any]:
    """How often each sample went through each model in a run, and how many models there were."""
    found: Counter[Any] = Counter()
    training = Training(batch_size=32, optimizers=sgd())
    followed = pipeline(dataset, trigger=trigger, training=training, evaluation=None, **changes)
    with pytest.MonkeyPatch.context() as patched, rundir.locked(out):
        one_pass = RunAnswers._pass

        def counted(self: RunAnswers, module: Any, keys: Any, **more: Any) -> Any:
            found.update((id(module), key) for key in keys.tolist())
            kept.append(module)
            return one_pass(self, module, keys, **more)

        kept: list[Any] = []  # so that no other module gets its id
        patched.setattr(RunAnswers, "_pass", counted)
        with Replay(followed, out, Silent()) as running:
            running.run()
    return found


ABOVE = ThresholdDecisionCriterion(threshold=1e9)
FIRES = ThresholdDecisionCriterion(threshold=0.3)
OF_TWO = {
    "classes": Metric(metric=METRICS["KS"](), decision_criterion=FIRES, of="predictions"),
    "mmd": Metric(metric=METRICS["MMD"](), decision_criterion=ABOVE),
}


@pytest.mark.parametrize("erased", [False, True])
@pytest.mark.parametrize(
    "windows",
    [
        AmountWindowingStrategy(amount_ref=90, amount_cur=200),
        AmountWindowingStrategy(amount_ref=160, amount_cur=170, allow_overlap=True),
        TimeWindowingStrategy(limit_ref="1500s", limit_cur="1700s", allow_overlap=True),
    ],
    ids=["amount", "overlap", "time"],
)
def test_each_sample_goes_through_each_model_once_however_windows_overlap(
    tmp_path: Path, windows: Any, erased: bool
) -> None:
    drifts = watching(
        metrics=OF_TWO, aggregation_strategy=AtLeastN(n=1), windowing_strategy=windows
    )
    judges = PerformanceTrigger(
        evaluation_interval_data_points=40,
        decision_criteria={"never": StaticPerformanceThresholdCriterion(metric="Accuracy")},
    )
    both = EnsembleTrigger(
        subtriggers={"drifts": drifts, "judges": judges}, ensemble_strategy=AtLeastN(n=1)
    )

    found = passes(moving(tmp_path / "stream", erased=erased), tmp_path / "run", both)

    assert max(found.values()) == 1
    assert len({module for module, _ in found}) >= 2  # there was a second model
    assert len(found) >= COUNT / 2


def test_windows_of_late_samples_share_what_went_through_the_model(tmp_path: Path) -> None:
    windows = AmountWindowingStrategy(amount_ref=90, amount_cur=200)
    dataset = moving(tmp_path / "stream", order="late")

    found = passes(
        dataset,
        tmp_path / "run",
        watching(metrics=OF_TWO, windowing_strategy=windows),
        order="arrival",
    )

    assert max(found.values()) == 1


def test_without_room_for_answers_they_are_made_again_and_decisions_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = AmountWindowingStrategy(amount_ref=90, amount_cur=200)
    trigger = watching(
        metrics=OF_TWO, aggregation_strategy=AtLeastN(n=1), windowing_strategy=windows
    )
    dataset = moving(tmp_path / "stream")
    once = passes(dataset, tmp_path / "once", trigger)
    for limit in ("memory_bytes", "disk_bytes"):
        monkeypatch.setitem(AnswerCache.__init__.__kwdefaults__, limit, 0)
    often = passes(dataset, tmp_path / "often", trigger)

    runs = [Run.open(tmp_path / name) for name in ("once", "often")]
    assert max(once.values()) == 1 < max(often.values())
    assert runs[0].digest() == runs[1].digest()
    notes = [json.dumps(run.decisions["values"]) for run in runs]
    assert notes[0] == notes[1]


class DiedError(Exception):
    """What a killed process would not say."""


def test_a_run_that_died_after_any_trigger_ends_like_one_that_did_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With scores of the warm-up in the state, windows compared anew, and answers of models."""
    criterion = DynamicQuantileThresholdCriterion(window_size=4, quantile=0.2)
    trigger = watching(
        metrics={
            "mmd": Metric(metric=METRICS["MMD"](), decision_criterion=criterion),
            "ks": Metric(metric=METRICS["KS"](), decision_criterion=criterion, of="features"),
        },
        aggregation_strategy=AtLeastN(n=1),
        warmup_intervals=3,
        warmup_policy=DataAmountTrigger(num_samples=60),
        reset_history_on_model=True,
    )
    dataset = moving(tmp_path / "stream")
    whole = replay(dataset, tmp_path / "whole", trigger)
    train, died_at = Trainer.train, -1

    def dying(self: Trainer, row: Any) -> None:
        if row.trigger == died_at:
            raise DiedError
        train(self, row)

    monkeypatch.setattr(Trainer, "train", dying)
    assert len(whole.triggers) >= 4
    for trigger_index in range(len(whole.triggers)):
        died_at = trigger_index
        with pytest.raises(DiedError):
            replay(dataset, tmp_path / "run", trigger)
    died_at = -1
    run = replay(dataset, tmp_path / "run", trigger)

    assert run.digest() == whole.digest()
    assert json.dumps(run.decisions["values"]) == json.dumps(whole.decisions["values"])
