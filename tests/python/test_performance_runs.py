"""Performance, cost and ensemble triggers in whole runs: late, erased, interrupted, from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modyn
from modyn import drift
from modyn.pipelines import (
    Accuracy,
    EvalDataset,
    EvalHandler,
    Evaluation,
    F1Score,
    Pipeline,
    RocAuc,
    SlicingEvalStrategy,
    Training,
)
from modyn.pipelines.trainer import Trainer
from modyn.policies import (
    CBPE,
    AtLeastN,
    AvoidableMisclassificationCostTrigger,
    DataAmountTrigger,
    DataDriftTrigger,
    DataIncorporationLatencyCostTrigger,
    DynamicRollingAveragePerformanceThresholdCriterion,
    EnsembleTrigger,
    PerformanceTrigger,
    StaticNumberAvoidableMisclassificationCriterion,
    StaticPerformanceThresholdCriterion,
    ThresholdDecisionCriterion,
    Trigger,
)
from modyn.policies.drift import Metric
from tests.python.streams import drifting, pipeline, sgd

COUNT = 400
METRICS = (Accuracy(), F1Score(num_classes=2), RocAuc())
BELOW = StaticPerformanceThresholdCriterion(metric="Accuracy", metric_threshold=0.72)


def performance(**more: Any) -> PerformanceTrigger:
    settings: dict[str, Any] = {
        "evaluation_interval_data_points": 50,
        "decision_criteria": {"bad": BELOW},
        **more,
    }
    return PerformanceTrigger(**settings)


def ensemble() -> EnsembleTrigger:
    budget = StaticNumberAvoidableMisclassificationCriterion(
        avoidable_misclassification_threshold=12, expected_accuracy=0.95
    )
    moved = Metric(
        metric=drift.KS(),
        decision_criterion=ThresholdDecisionCriterion(threshold=0.25),
        of="predictions",
    )
    return EnsembleTrigger(
        subtriggers={
            "amount": DataAmountTrigger(num_samples=130),
            "budget": performance(
                evaluation_interval_data_points=20,
                warmup_policy=DataAmountTrigger(num_samples=40),
                decision_criteria={"budget": budget},
                estimator=CBPE(calibration_samples=30),
            ),
            "drift": DataDriftTrigger(evaluation_interval_data_points=30, metrics={"moved": moved}),
        },
        ensemble_strategy=AtLeastN(n=2),
    )


def cost(**more: Any) -> AvoidableMisclassificationCostTrigger:
    return AvoidableMisclassificationCostTrigger(
        evaluation_interval_data_points=30,
        expected_accuracy=0.97,
        avoidable_misclassification_latency_per_training_second=300.0,
        training_samples_per_second=40.0,
        **more,
    )


def followed(dataset: modyn.Dataset, trigger: Trigger, **changes: Any) -> Pipeline:
    training = Training(batch_size=32, epochs_per_trigger=2, optimizers=sgd())
    settings = {"trigger": trigger, "training": training, "evaluation": None, **changes}
    return pipeline(dataset, **settings)


def test_scores_are_those_of_the_evaluation_of_the_same_samples(tmp_path: Path) -> None:
    """Every interval of 50 samples is a slice of 50 seconds."""
    handler = EvalHandler(strategy=SlicingEvalStrategy(eval_every="50s"), models="matrix")
    evaluation = Evaluation(
        handlers=(handler,), datasets=(EvalDataset(metrics=METRICS, batch_size=17),)
    )
    dataset = drifting(tmp_path / "stream", count=COUNT)

    run = followed(dataset, performance(metrics=METRICS), evaluation=evaluation).replay(
        tmp_path / "run"
    )

    table = {(row["trigger"], row["start"], row["metric"]): row["value"] for row in run.evaluations}
    judged = [one for row in run.decisions for one in row["values"]["judged"]]
    assert len(judged) == COUNT // 50 - 1
    for one in judged:
        for metric in METRICS:
            start = int(dataset.timestamps[0]) + one["first"]
            expected = table[one["model_trigger"], start, metric.name]
            assert one["scores"][metric.name] == pytest.approx(expected, abs=1e-12)
    assert 2 <= len(run.triggers) < COUNT // 50
    fired = [row["position"] for row in run.decisions if row["values"]["fires"]]
    assert fired == run.triggers["position"]


@pytest.mark.parametrize("order", ["time", "arrival"])
@pytest.mark.parametrize("delay", [0, "45s"])
def test_runs_trigger_alike_however_the_stream_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, order: str, delay: Any
) -> None:
    """Also where samples come late, some are erased, and their labels are late as well."""
    dataset = drifting(tmp_path / "stream", count=COUNT, order="late")
    with modyn.Dataset.open(dataset.path, mode="w") as writer:
        writer.erase(list(range(7, COUNT, 9)), reason="asked for")
    dataset.refresh()
    seen = []
    for block in (10**6, 23):
        monkeypatch.setattr("modyn.pipelines.replay.BLOCK_COUNT", block)
        trigger = performance() if delay else ensemble()
        run = followed(dataset, trigger, order=order, label_delay=delay).replay(
            tmp_path / f"{block}"
        )
        notes = [(row["position"], row["name"], row["values"]) for row in run.decisions]
        seen.append((run.triggers["position"], sorted(notes, key=repr)))

    assert seen[0] == seen[1]
    assert len(seen[0][0]) >= 2


class DiedError(Exception):
    """What a killed process would not say."""


@pytest.mark.parametrize("make", [ensemble, cost], ids=["ensemble", "cost"])
def test_an_interrupted_run_ends_as_if_nothing_had_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    dataset = drifting(tmp_path / "stream", count=COUNT)
    whole = followed(dataset, make()).replay(tmp_path / "whole")
    train = Trainer.train

    def dying(self: Trainer, row: Any) -> Any:
        if row.trigger == 1 and not died:
            died.append(1)
            raise DiedError
        return train(self, row)

    died: list[int] = []
    monkeypatch.setattr(Trainer, "train", dying)
    with pytest.raises(DiedError):
        followed(dataset, make()).replay(tmp_path / "run")
    run = followed(dataset, make()).replay(tmp_path / "run")

    assert len(run.triggers) >= 3
    assert run.digest() == whole.digest()
    assert list(run.decisions) == list(whole.decisions)


def test_labels_that_come_late_make_triggers_come_late(tmp_path: Path) -> None:
    """And estimates of what they will say do not wait for them.

    The first model is that of the trigger at 150, when the labels of 50 samples are known.
    """
    dataset = drifting(tmp_path / "stream", count=COUNT)
    worse = DynamicRollingAveragePerformanceThresholdCriterion(
        metric="Accuracy", deviation=0.1, absolute=True
    )
    settings = {
        "decision_criteria": {"worse": worse},
        "warmup_intervals": 3,
        "warmup_policy": DataAmountTrigger(num_samples=10**6),
    }
    judged = {}
    for name, delay, estimator in (
        ("now", 0, None),
        ("late", 100, None),
        ("estimated", 100, CBPE(calibration_samples=50)),
    ):
        trigger = performance(**settings, estimator=estimator)
        run = followed(dataset, trigger, label_delay=delay).replay(tmp_path / name)
        judged[name] = {
            one["interval"]: row["position"]
            for row in run.decisions
            for one in row["values"]["judged"]
        }

    last = COUNT // 50 - 1
    assert judged["now"] == {i: 50 * (i + 1) for i in range(1, last + 1)}
    assert judged["late"] == {i: 50 * (i + 3) for i in range(3, last - 1)}
    assert judged["estimated"] == {i: 50 * (i + 1) for i in range(3, last + 1)}


def test_a_file_and_a_python_pipeline_do_the_same(tmp_path: Path) -> None:
    dataset = drifting(tmp_path / "data" / "stream", count=COUNT)
    made = followed(dataset, ensemble())
    path = tmp_path / "pipeline.yaml"
    path.write_bytes(made.config_text())

    again = Pipeline.from_yaml(path, tmp_path / "data")

    assert again.describe() == made.describe()
    assert again.replay(tmp_path / "b").digest() == made.replay(tmp_path / "a").digest()


def test_waiting_samples_are_weighed_against_the_seconds_that_trainings_took(
    tmp_path: Path,
) -> None:
    """Which are measured once, and kept beside the model."""
    trigger = DataIncorporationLatencyCostTrigger(
        evaluation_interval_data_points=20, incorporation_delay_per_training_second=1e-6
    )
    run = followed(drifting(tmp_path / "stream", count=200), trigger).replay(tmp_path / "run")

    notes = [row["values"] for row in run.decisions][1:]
    assert run.triggers["position"] == list(range(20, 201, 20))
    assert all(note["training_seconds"] > 0 for note in notes)
    assert all(note["training_samples"] == pytest.approx(20) for note in notes)
    assert all(note["regret_latency"] == 190 for note in notes)
    assert np.isfinite([note["converted"] for note in notes]).all()
