"""The drift trigger: windows, calibration, votes, and who is asked how often."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from modyn.arrivals import Arrivals
from modyn.drift.base import Distance
from modyn.policies import DataAmountTrigger
from modyn.policies.aggregation import AtLeastN
from modyn.policies.checks import check_trigger
from modyn.policies.criteria import (
    DynamicQuantileThresholdCriterion,
    ThresholdDecisionCriterion,
)
from modyn.policies.drift import DataDriftTrigger, Metric
from modyn.policies.windows import AmountWindowingStrategy, TimeWindowingStrategy
from tests.python.drift_play import WIDTH, Models, Played, play
from tests.reference import triggers_drift as twin

Rows = npt.NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Gap:
    """The largest difference of means; undefined for less than `least` rows."""

    least: int = 1

    def distance(self, reference: Rows, current: Rows, /, *, seed: int = 0) -> Distance:
        if min(len(reference), len(current)) < self.least:
            return Distance(value=math.nan)
        means = [np.asarray(rows, dtype=np.float64).mean(axis=0) for rows in (reference, current)]
        gap = float(np.abs(means[0] - means[1]).max())
        return Distance(value=gap * (1 + seed % 101 / 1000), details={"rows": len(current)})


def far(threshold: float, **more: object) -> Metric:
    criterion = ThresholdDecisionCriterion(threshold=threshold)
    return Metric(metric=Gap(), decision_criterion=criterion, **more)  # type: ignore[arg-type]


def far_for_once(window_size: int = 5, **more: object) -> Metric:
    criterion = DynamicQuantileThresholdCriterion(window_size=window_size, quantile=0.1)
    return Metric(metric=Gap(), decision_criterion=criterion, **more)  # type: ignore[arg-type]


def stream_of(timestamps: list[int], seed: int = 0) -> Arrivals:
    keys = np.random.default_rng(seed).permutation(len(timestamps)).astype(np.uint64)
    return Arrivals(keys, np.array(timestamps, dtype=np.int64), (keys % 2).astype(np.int64))


def noise(count: int, *, moved_from: int | None = None, by: float = 3.0) -> Models:
    """Rows of normal numbers; the samples from that position on are moved."""
    rows = np.random.default_rng(1).normal(size=(count, WIDTH))
    if moved_from is not None:
        rows[moved_from:] += by
    return Models(rows)


def in_order(count: int) -> Arrivals:
    """A stream whose keys are positions."""
    keys = np.arange(count, dtype=np.uint64)
    return Arrivals(keys, np.arange(count, dtype=np.int64) * 10, (keys % 2).astype(np.int64))


# Against the twin ------------------------------------------------------------------------------


def drawn(seed: int) -> tuple[DataDriftTrigger, twin.Settings]:
    """A trigger and what its twin is told."""
    rng = np.random.default_rng(seed)

    def number(least: int, most: int) -> int:
        return int(rng.integers(least, most + 1))

    v, every, overlap = number(0, 5), number(10, 60), bool(rng.integers(2))
    amount, time = ((number(1, 60), number(1, 40)), None)
    strategy: AmountWindowingStrategy | TimeWindowingStrategy = AmountWindowingStrategy(
        amount_ref=amount[0], amount_cur=amount[1], allow_overlap=overlap
    )
    if rng.integers(2):
        amount, time = None, (number(1, 300), number(1, 200))
        strategy = TimeWindowingStrategy(
            limit_ref=f"{time[0]}s", limit_cur=f"{time[1]}s", allow_overlap=overlap
        )
    looks = ("embeddings", "predictions", "features")
    metrics = {}
    for name in "abc"[: number(1, 3)]:
        of = looks[number(0, 2)]
        metrics[name] = (
            far_for_once(number(1, 6), of=of) if number(0, 3) else far(rng.random(), of=of)
        )
    how = twin.Settings(
        interval=number(4, 25),
        metrics=metrics,
        row=lambda of, model, key: [],
        amount=amount,
        time=time,
        overlap=overlap,
        sample_size=number(2, 12) if rng.integers(2) else None,
        warmup_intervals=v,
        warmup_every=every,
        anew=bool(rng.integers(2)),
        cut=bool(rng.integers(2)),
        seed=number(0, 3),
    )
    return DataDriftTrigger(
        evaluation_interval_data_points=how.interval,
        warmup_intervals=v,
        warmup_policy=DataAmountTrigger(num_samples=every),
        metrics=metrics,
        windowing_strategy=strategy,
        sample_size=how.sample_size,
        reset_history_on_model=how.anew,
        reset_windows_in_warmup=how.cut,
    ), how


@pytest.mark.parametrize("seed", range(60))
def test_it_is_its_twin_however_the_stream_is_cut(seed: int) -> None:
    trigger, how = drawn(seed)
    rng = np.random.default_rng(1000 + seed)
    gaps = rng.choice([0, 1, 10, 30], size=300)
    times = (np.cumsum(gaps) if rng.integers(2) else 20 * gaps).tolist()
    stream, answers = stream_of(times, seed=seed), noise(len(times), moved_from=200, by=0.3)
    samples = [
        twin.Sample(i, key, timestamp)
        for i, (key, timestamp) in enumerate(zip(stream.keys.tolist(), times, strict=True))
    ]
    cuts = rng.integers(1, 80, size=4).tolist()

    expected = twin.run(samples, dataclasses.replace(how, row=answers.row))
    got = play(trigger, stream, answers, cuts, seed=how.seed, resume=bool(rng.integers(2)))

    assert got.fired == expected.fired
    _check_windows(got, expected, stream)
    for name in how.metrics:
        for interval, value in got.scores(name):
            assert value == pytest.approx(expected.distances[interval][name], abs=1e-12)


def _check_windows(got: Played, expected: twin.Outcome, stream: Arrivals) -> None:
    assert [note.values["interval"] for note in got.notes] == list(expected.windows)
    for note in got.notes:
        for side, keys in zip(
            ("reference", "current"), expected.windows[note.values["interval"]], strict=True
        ):
            first, last, since = note.values[side]
            window = slice(first, last)
            times = stream.timestamps[window]
            kept = np.ones(len(times), dtype=bool) if since is None else times >= since
            assert stream.keys[window][kept].tolist() == keys


@pytest.mark.parametrize("overlap", [False, True])
@pytest.mark.parametrize("by", ["amount", "time"])
def test_it_keeps_the_promises_of_a_trigger(by: str, overlap: bool) -> None:
    amount = AmountWindowingStrategy(amount_ref=60, amount_cur=30, allow_overlap=overlap)
    time = TimeWindowingStrategy(limit_ref="10d", limit_cur="2d", allow_overlap=overlap)
    check_trigger(
        DataDriftTrigger(
            evaluation_interval_data_points=17,
            warmup_intervals=3,
            warmup_policy=DataAmountTrigger(num_samples=20),
            metrics={"q": far_for_once(), "f": far(0.2, of="features"), "l": far(1, of="labels")},
            windowing_strategy=amount if by == "amount" else time,
            aggregation_strategy=AtLeastN(n=1),
            sample_size=20,
            reset_history_on_model=overlap,
        )
    )
