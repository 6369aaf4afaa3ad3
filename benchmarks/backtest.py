"""How fast policies are held against a recorded matrix: 10,000 of them over 500 windows.

    python -m benchmarks.backtest [--json] [--quick] [--busy] [--policies 10000] [--windows 500]

A stream of two drifting classes is recorded by one run (a model every 1/50 of it, a small network),
measured on --windows windows, and by another whose labels come late by 1/100 of it.  Then
--policies policies are tried, of these families in the parts that MIX names; all but the first two
look as often as there are windows:

    time, amount      periods and amounts from very short to very long
    threshold         accuracy at or below a threshold
    quantile          accuracy below a quantile of the last ten
    rolling           accuracy below the mean of the last ten by a share
    avoidable         so many avoidable misclassifications
    drift             Kolmogorov-Smirnov distance of embeddings at or above a threshold
    waiting, regrets  cost: samples that wait, avoidable misclassifications that wait
    ensembles         nested, of three policies, all at ends of one interval
    forecast          avoidable misclassifications with a forecast of what to expect
    detectors         ADWIN, Page-Hinkley and DDM of errors
    mixed             ensembles with a time trigger, which may fire anywhere
    late, estimated   threshold with late labels: waiting for them, or estimated (CBPE)
    kswin             the slowest detector, of which there are none in the mix

Those up to `ensembles` are played side by side over arrays, the others one at a time by their
class, with answers that all of them share.

`open` reads the ledger into arrays; `first` is the first judging, in which models are asked what
they say of intervals and windows; `again` judges the same policies when that is known.  All with
the upper bound and the front.  One thread.  On a machine that others use, --busy counts processor
time in place of the wall clock.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

import modyn
from benchmarks.machine import machine_line
from modyn import drift
from modyn.backtesting import Cost
from modyn.backtesting.backtest import Bench, recordings
from modyn.drift.detectors import ADWIN, DDM, KSWIN, PageHinkley
from modyn.pipelines import (
    Accuracy,
    EvalDataset,
    EvalHandler,
    Evaluation,
    Model,
    SlicingEvalStrategy,
)
from modyn.policies import (
    CBPE,
    AmountWindowingStrategy,
    AtLeastN,
    AvoidableMisclassificationCostTrigger,
    DataAmountTrigger,
    DataDriftTrigger,
    DataIncorporationLatencyCostTrigger,
    DetectorTrigger,
    DynamicQuantilePerformanceThresholdCriterion,
    DynamicRollingAveragePerformanceThresholdCriterion,
    EnsembleTrigger,
    NewData,
    PerformanceTrigger,
    StaticNumberAvoidableMisclassificationCriterion,
    StaticPerformanceThresholdCriterion,
    ThresholdDecisionCriterion,
    TimeTrigger,
    Trigger,
)
from modyn.policies.drift import Metric

# Families, and how many of 10,000 policies are theirs.
MIX = {
    "time": 1300,
    "amount": 1326,
    "threshold": 1000,
    "quantile": 900,
    "rolling": 900,
    "avoidable": 1000,
    "drift": 1200,
    "waiting": 900,
    "regrets": 900,
    "ensembles": 500,
    "forecast": 30,
    "detectors": 12,
    "mixed": 12,
    "late": 10,
    "estimated": 10,
}
SLOW = {"kswin": 2}  # measured alone: a test of thirty numbers per sample
LATE = ("late", "estimated")  # played on a recording whose labels come late
MODELS = 50


def stream(folder: Path, samples: int) -> modyn.Dataset:
    """Make a stream whose border turns, a sample per minute."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(samples, 8)).astype(np.float32)
    angle = np.linspace(0, 4 * np.pi, samples)
    labels = (x[:, 0] * np.cos(angle) + x[:, 1] * np.sin(angle) > 0).astype(np.int64)
    times = np.arange(samples, dtype=np.int64) * 60
    made = modyn.Dataset.create(folder / "stream", schema={"dense": "float32[8]"})
    made.append({"dense": x}, labels=labels, timestamps=times)
    made.close()
    return modyn.Dataset.open(folder / "stream")


def recorded(dataset: modyn.Dataset, out: Path, windows: int, *, delay: int = 0) -> Any:
    """Record a run with a model every 1/50 of a stream."""
    samples = len(dataset)
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
        label_delay=delay,
    )
    return pipeline.replay(out)


def policies_of(family: str, count: int, samples: int, windows: int) -> list[Trigger]:
    """Return policies of a family, as different as it can have them."""
    make = Makers(samples=samples, interval=samples // windows)
    return [getattr(make, family)((i + 1) / count, i) for i in range(count)]


@dataclass(frozen=True)
class Makers:
    """How to make a policy of each family, given a share from 0 to 1, and its number."""

    samples: int
    interval: int

    def time(self, share: float, number: int) -> Trigger:
        return TimeTrigger(every=f"{int(60 * self.samples * share)}s")

    def amount(self, share: float, number: int) -> Trigger:
        return DataAmountTrigger(num_samples=max(int(self.samples * share), 1))

    def threshold(self, share: float, number: int) -> Trigger:
        return self._judging(
            StaticPerformanceThresholdCriterion(metric="Accuracy", metric_threshold=0.5 + share / 2)
        )

    def quantile(self, share: float, number: int) -> Trigger:
        return self._judging(
            DynamicQuantilePerformanceThresholdCriterion(metric="Accuracy", quantile=share)
        )

    def rolling(self, share: float, number: int) -> Trigger:
        return self._judging(
            DynamicRollingAveragePerformanceThresholdCriterion(
                metric="Accuracy", deviation=share / 2
            )
        )

    def avoidable(self, share: float, number: int) -> Trigger:
        return self._judging(self._number(share, expected=0.9))

    def forecast(self, share: float, number: int) -> Trigger:
        return self._judging(self._number(share, expected=None))

    def drift(self, share: float, number: int) -> Trigger:
        criterion = ThresholdDecisionCriterion(threshold=share / 2)
        return DataDriftTrigger(
            evaluation_interval_data_points=self.interval,
            metrics={"ks": Metric(metric=drift.KS(), decision_criterion=criterion)},
            windowing_strategy=AmountWindowingStrategy(amount_ref=500, amount_cur=500),
            sample_size=500,
        )

    def waiting(self, share: float, number: int) -> Trigger:
        return DataIncorporationLatencyCostTrigger(
            evaluation_interval_data_points=self.interval,
            incorporation_delay_per_training_second=10.0 ** (6 + 4 * share),
            training_samples_per_second=1e4,
        )

    def regrets(self, share: float, number: int) -> Trigger:
        return AvoidableMisclassificationCostTrigger(
            evaluation_interval_data_points=self.interval,
            avoidable_misclassification_latency_per_training_second=10.0 ** (5 + 4 * share),
            expected_accuracy=0.9,
            training_samples_per_second=1e4,
        )

    def ensembles(self, share: float, number: int) -> Trigger:
        every = self.interval * (1 + number % 20)
        inner = EnsembleTrigger(
            subtriggers={"low": self._plain(share), "waits": self.waiting(share, number)},
            ensemble_strategy=AtLeastN(n=1 + number % 2),
        )
        return EnsembleTrigger(
            subtriggers={"often": DataAmountTrigger(num_samples=every), "inner": inner},
            ensemble_strategy=AtLeastN(n=2),
        )

    def mixed(self, share: float, number: int) -> Trigger:
        every = f"{60 * self.interval * (1 + number)}s"
        return EnsembleTrigger(
            subtriggers={"time": TimeTrigger(every=every), "low": self._plain(share)},
            ensemble_strategy=AtLeastN(n=2),
        )

    def detectors(self, share: float, number: int) -> Trigger:
        kinds = (ADWIN(delta=share / 10), PageHinkley(threshold=5 + 50 * share), DDM())
        return self._detecting(kinds[number % 3])

    def kswin(self, share: float, number: int) -> Trigger:
        return self._detecting(KSWIN(alpha=0.005 * share), of="uncertainty")

    def late(self, share: float, number: int) -> Trigger:
        return self._plain(share)

    def estimated(self, share: float, number: int) -> Trigger:
        return self._plain(share, estimator=CBPE())

    def _judging(self, criterion: Any) -> Trigger:
        return PerformanceTrigger(
            evaluation_interval_data_points=self.interval,
            decision_criteria={"bad": criterion},
            warmup_intervals=10,
            warmup_policy=DataAmountTrigger(num_samples=self.interval),
        )

    def _plain(self, share: float, **more: Any) -> Trigger:
        low = StaticPerformanceThresholdCriterion(
            metric="Accuracy", metric_threshold=0.5 + share / 2
        )
        return PerformanceTrigger(
            evaluation_interval_data_points=self.interval, decision_criteria={"low": low}, **more
        )

    def _number(self, share: float, expected: float | None) -> Any:
        return StaticNumberAvoidableMisclassificationCriterion(
            avoidable_misclassification_threshold=max(int(share * self.samples / 20), 1),
            expected_accuracy=expected,
        )

    def _detecting(self, detector: Any, **more: Any) -> Trigger:
        return DetectorTrigger(
            evaluation_interval_data_points=self.interval, detector=detector, **more
        )


def judged(
    runs: dict[bool, Any],
    dataset: modyn.Dataset,
    policies: dict[str, Trigger],
    *,
    busy: bool,
) -> dict[str, Any]:
    """Judge policies twice, each on the recording that it is of, and return the seconds."""
    clock = time.process_time if busy else time.perf_counter
    found = {"policies": len(policies), "open": 0.0, "first": 0.0, "again": 0.0}
    found |= {"front": 0, "asked": 0}
    for late, run in runs.items():
        some = {name: one for name, one in policies.items() if name.startswith(LATE) == late}
        if not some:
            continue
        began = clock()
        _, matrices = recordings(run, dataset=dataset)
        opened = clock()
        bench = Bench(matrices=matrices, dataset=dataset, policies=some, cost=Cost())
        first = bench.judge()
        known = clock()
        again = bench.judge()
        done = clock()
        assert [e.score for e in first] == [e.score for e in again]
        found["open"] += opened - began
        found["first"] += known - opened
        found["again"] += done - known
        found["front"] += len(again.front)
        found["asked"] += sum(len(player.scores or ()) for player in bench.players)
    return found


def measured(folder: Path, count: int, windows: int, samples: int, *, busy: bool) -> dict[str, Any]:
    """Return the seconds of each family alone, and of all together."""
    dataset = stream(folder, samples)
    runs = {
        late: recorded(dataset, folder / f"run-{late}", windows, delay=60 * samples // 100 * late)
        for late in (False, True)
    }
    found, together = {}, {}
    for family, share in (MIX | SLOW).items():
        policies = {
            f"{family} {i}": policy
            for i, policy in enumerate(
                policies_of(family, max(share * count // 10_000, 1), samples, windows)
            )
        }
        found[family] = judged(runs, dataset, policies, busy=busy)
        print(f"{family}: {found[family]}", file=sys.stderr, flush=True)
        together |= policies if family in MIX else {}
    found["all"] = judged(runs, dataset, together, busy=busy)
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
        f"{'':10} {'policies':>8} {'open':>7} {'first':>7} {'again':>7} {'per second':>10} "
        f"{'asked':>7} {'front':>6}"
    )
    for name, row in found.items():
        seconds = " ".join(f"{row[part]:7.2f}" for part in ("open", "first", "again"))
        pace = row["policies"] / max(row["again"], 1e-9)
        print(
            f"{name:10} {row['policies']:8,} {seconds} {pace:10,.0f} {row['asked']:7,} "
            f"{row['front']:6,}"
        )


if __name__ == "__main__":
    main()
