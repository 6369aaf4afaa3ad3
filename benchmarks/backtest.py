"""How fast policies are held against a recorded matrix: 10,000 of them over 500 windows.

    python -m benchmarks.backtest [--json] [--quick] [--busy] [--policies 10000] [--windows 500]

A stream of two drifting classes is recorded by one run (a model every 1/50 of it, all data so
far, a small network), measured on --windows windows.  Then --policies policies are tried, in equal
parts of these families; the intervals of the last five are as many as the windows:

    time, amount      periods and amounts from very short to very long
    threshold         accuracy at or below a threshold
    quantile          accuracy below a quantile of the last ten
    rolling           accuracy below the mean of the last ten by a share
    avoidable         so many avoidable misclassifications
    drift             Kolmogorov-Smirnov distance of embeddings at or above a threshold

`open` reads the ledger into arrays; `first` is the first judging, in which models are asked what
they say of intervals and windows; `again` judges the same policies when that is known.  All with
the upper bound and the front.  One thread.  On a machine that others use, --busy counts processor
time in place of the wall clock.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import modyn
from benchmarks.machine import machine_line
from modyn import drift
from modyn.backtesting import Cost
from modyn.backtesting.backtest import Bench, recordings
from modyn.pipelines import (
    Accuracy,
    EvalDataset,
    EvalHandler,
    Evaluation,
    Model,
    SlicingEvalStrategy,
)
from modyn.policies import (
    AmountWindowingStrategy,
    DataAmountTrigger,
    DataDriftTrigger,
    DynamicQuantilePerformanceThresholdCriterion,
    DynamicRollingAveragePerformanceThresholdCriterion,
    NewData,
    PerformanceTrigger,
    StaticNumberAvoidableMisclassificationCriterion,
    StaticPerformanceThresholdCriterion,
    ThresholdDecisionCriterion,
    TimeTrigger,
    Trigger,
)
from modyn.policies.drift import Metric

FAMILIES = ("time", "amount", "threshold", "quantile", "rolling", "avoidable", "drift")
MODELS = 50


def recorded(folder: Path, samples: int, windows: int) -> tuple[modyn.Dataset, Any]:
    """Record a run over a stream whose border turns, a sample per minute."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, 8)).astype(np.float32)
    angle = np.linspace(0, 4 * np.pi, samples)
    labels = (x[:, 0] * np.cos(angle) + x[:, 1] * np.sin(angle) > 0).astype(np.int64)
    times = np.arange(samples, dtype=np.int64) * 60
    made = modyn.Dataset.create(folder / "stream", schema={"dense": "float32[8]"})
    made.append({"dense": x}, labels=labels, timestamps=times)
    made.close()
    dataset = modyn.Dataset.open(folder / "stream")
    every = f"{samples * 60 // windows}s"
    handler = EvalHandler(strategy=SlicingEvalStrategy(eval_every=every), models="matrix")
    pipeline = modyn.Pipeline(
        dataset=dataset,
        model=Model(id="MLP", config={"num_classes": 2, "hidden": [16]}),
        trigger=DataAmountTrigger(num_samples=samples // MODELS),
        selection=NewData(tail_triggers=0),
        training=modyn.Training(batch_size=64, epochs_per_trigger=2),
        evaluation=Evaluation(handlers=(handler,), datasets=(EvalDataset(metrics=(Accuracy(),)),)),
        seed=1,
    )
    return dataset, pipeline.replay(folder / "run")


def policies_of(family: str, count: int, samples: int, windows: int) -> list[Trigger]:
    """Return policies of a family, as different as it can have them."""
    shares = (np.arange(count) + 1) / count
    interval = samples // windows
    if family == "time":
        return [TimeTrigger(every=f"{int(60 * samples * share)}s") for share in shares]
    if family == "amount":
        return [DataAmountTrigger(num_samples=max(int(samples * s), 1)) for s in shares]
    if family == "drift":
        return [_drift(float(share), interval) for share in shares]
    warm = {"warmup_intervals": 10, "warmup_policy": DataAmountTrigger(num_samples=interval)}
    made: list[Trigger] = []
    for share in shares.tolist():
        criterion: Any = {
            "threshold": lambda s: StaticPerformanceThresholdCriterion(
                metric="Accuracy", metric_threshold=0.5 + s / 2
            ),
            "quantile": lambda s: DynamicQuantilePerformanceThresholdCriterion(
                metric="Accuracy", quantile=s
            ),
            "rolling": lambda s: DynamicRollingAveragePerformanceThresholdCriterion(
                metric="Accuracy", deviation=s / 2
            ),
            "avoidable": lambda s: StaticNumberAvoidableMisclassificationCriterion(
                avoidable_misclassification_threshold=max(int(s * samples / 20), 1),
                expected_accuracy=0.9,
            ),
        }[family](share)
        made.append(
            PerformanceTrigger(
                evaluation_interval_data_points=interval,
                decision_criteria={family: criterion},
                **warm,
            )
        )
    return made


def _drift(share: float, interval: int) -> Trigger:
    criterion = ThresholdDecisionCriterion(threshold=share / 2)
    return DataDriftTrigger(
        evaluation_interval_data_points=interval,
        metrics={"ks": Metric(metric=drift.KS(), decision_criterion=criterion)},
        windowing_strategy=AmountWindowingStrategy(amount_ref=500, amount_cur=500),
        sample_size=500,
    )


def judged(
    run: Any, dataset: modyn.Dataset, policies: dict[str, Trigger], *, busy: bool
) -> dict[str, Any]:
    """Judge policies twice, and return the seconds."""
    clock = time.process_time if busy else time.perf_counter
    began = clock()
    _, matrices = recordings(run, dataset=dataset)
    opened = clock()
    bench = Bench(matrices=matrices, dataset=dataset, policies=policies, cost=Cost())
    first = bench.judge()
    known = clock()
    again = bench.judge()
    done = clock()
    assert [e.score for e in first] == [e.score for e in again]
    return {
        "policies": len(policies),
        "open": opened - began,
        "first": known - opened,
        "again": done - known,
        "front": len(again.front),
        "asked": sum(len(player.scores) for player in bench.players),
    }


def measured(folder: Path, count: int, windows: int, samples: int, *, busy: bool) -> dict[str, Any]:
    """Return the seconds of each family alone, and of all together."""
    dataset, run = recorded(folder, samples, windows)
    each = max(count // len(FAMILIES), 1)
    found, together = {}, {}
    for family in FAMILIES:
        policies = {
            f"{family} {i}": policy
            for i, policy in enumerate(policies_of(family, each, samples, windows))
        }
        found[family] = judged(run, dataset, policies, busy=busy)
        together |= policies
    found["all"] = judged(run, dataset, together, busy=busy)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--busy", action="store_true", help="seconds of processor time")
    parser.add_argument("--policies", type=int, default=10_000)
    parser.add_argument("--windows", type=int, default=500)
    options = parser.parse_args()
    if options.quick:
        options.policies, options.windows = 140, 50
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="modyn-backtest-") as folder:
        samples = 100 * options.windows
        found = measured(
            Path(folder), options.policies, options.windows, samples, busy=options.busy
        )
    if options.json:
        about = {
            "benchmark": "backtest",
            "command": "python -m benchmarks.backtest --json",
            "date": datetime.now(UTC).strftime("%Y-%m-%d"),
            "machine": machine_line(Path.cwd()),
            "quick": options.quick,
            "windows": options.windows,
            "models": MODELS,
        }
        print(json.dumps({**about, "seconds": found}, indent=2))
        return
    print(machine_line(Path.cwd()))
    print(f"{options.windows} windows, {MODELS} models; seconds")
    print(
        f"{'':10} {'policies':>8} {'open':>7} {'first':>7} {'again':>7} {'asked':>7} {'front':>6}"
    )
    for name, row in found.items():
        seconds = " ".join(f"{row[part]:7.2f}" for part in ("open", "first", "again"))
        print(f"{name:10} {row['policies']:8,} {seconds} {row['asked']:7,} {row['front']:6,}")


if __name__ == "__main__":
    main()
