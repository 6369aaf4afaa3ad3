"""Presampling by time and by signal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from modyn.policies import (
    FreshnessSampling,
    MostRecent,
    PlainContext,
    QuantileBand,
    RandomNoReplacement,
    Selected,
    TimeStratified,
    TopBySignal,
    Weighted,
)
from modyn.policies.weighted import Scheme
from modyn.sampling import weighted
from modyn.signals import Kept, Signals
from tests.python.presampling_streams import SEED, Stream, by_key, made, run, some_signals
from tests.reference import presampling as twin


@pytest.mark.parametrize("tail", [0, 1, None])
def test_most_recent_is_its_twin(rand: Any, tail: int | None) -> None:
    data = made(rand, erased=True)

    got = run(MostRecent(ratio=30, limit=44, tail_triggers=tail), data)

    for keys, parts in zip(got, data.windows(tail), strict=True):
        samples = [sample for part in parts for sample in part]
        assert keys == twin.newest(samples, min(44, len(samples) * 30 // 100))


def last_losses(signals: dict[int, Signals], trigger: int, trainings: int) -> dict[int, float]:
    values: dict[int, float] = {}
    before = [one for one in sorted(signals) if one < trigger]
    for one in before[len(before) - trainings :] if trainings < len(before) else before:
        last = signals[one].last()
        pairs = zip(last.keys.tolist(), last.loss.tolist(), strict=True)
        values |= {key: value for key, value in pairs if not math.isnan(value)}
    return values


@pytest.mark.parametrize("trainings", [1, 2, 5])
@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("unseen", ["first", "last"])
def test_top_by_signal_is_its_twin(rand: Any, trainings: int, largest: bool, unseen: Any) -> None:
    data = made(rand, erased=True)
    signals = some_signals(data)
    policy = TopBySignal(
        signal="loss", ratio=40, largest=largest, unseen=unseen, trainings=trainings
    )

    got = run(policy, data, signals=signals)

    for trigger, keys in enumerate(data.flat(None)):
        assert got[trigger] == twin.top(
            keys,
            last_losses(signals, trigger, trainings),
            len(keys) * 40 // 100,
            twin.seed_of(SEED, trigger),
            largest=largest,
            first=unseen == "first",
        )


def test_bands_that_meet_share_no_sample_and_leave_none_out(rand: Any) -> None:
    data = made(rand, erased=True)
    signals = some_signals(data)
    edges = [0.0, 0.1, 0.25, 0.7, 1.0]

    bands = [
        run(QuantileBand(signal="loss", low=low, high=high, unseen="none"), data, signals=signals)
        for low, high in itertools.pairwise(edges)
    ]

    for trigger, keys in enumerate(data.flat(None)):
        values = last_losses(signals, trigger, 1)
        if trigger == 0:
            assert all(band[0] == sorted(keys) for band in bands)  # nobody has a value yet
            continue
        for band, low, high in zip(bands, edges, edges[1:], strict=False):
            assert band[trigger] == twin.band(keys, values, low, high)
        together = sorted(key for band in bands for key in band[trigger])
        assert together == sorted(key for key in keys if key in values)


def chosen_by(policy: Weighted, data: Stream, trigger: int, **known: Any) -> Selected:
    context = PlainContext(seed=SEED, trigger=trigger, **known)
    return policy.select(data.candidates(trigger, policy.tail_triggers), context)


@pytest.mark.parametrize("scheme", get_args(Scheme))
@pytest.mark.parametrize("by", ["timestamp", "label", "half_life", "function", "loss"])
def test_weighted_draws_by_the_weights_that_it_says(rand: Any, scheme: Any, by: str) -> None:
    data = replace(made(rand, erased=True), ends=(100, 600))
    data = replace(data, timestamps=data.timestamps + 400)
    signals = some_signals(replace(data, ends=(100,) * 4))
    clock, parts = 5000, data.windows(None)[1]
    keys, timestamps, labels = map(np.array, zip(*itertools.chain(*parts), strict=True))
    known = last_losses(signals, 1, 1)
    usual = np.mean([known[key] for key in keys.tolist() if key in known])  # none that is erased
    weights = {
        "timestamp": timestamps,
        "label": labels,
        "half_life": 0.5 ** ((clock - timestamps) / 600),
        "function": keys % 10,
        "loss": [known.get(key, usual) for key in keys.tolist()],
    }[by]
    expected = weighted(
        keys, 150, weights=weights, seed=twin.seed_of(SEED, 1), scheme=scheme, floor=0.25
    )

    policy = Weighted(
        ratio=100,
        limit=150,
        by={"half_life": "timestamp", "function": by_key}.get(by, by),  # type: ignore[arg-type]
        half_life="10m" if by == "half_life" else None,
        scheme=scheme,
        floor=0.25,
        tail_triggers=None,
    )
    got = chosen_by(policy, data, 1, clock=clock, recorded=Kept({0: signals[0]}))

    assert got.keys.tolist() == expected.keys.tolist()
    if expected.weights is None:
        assert got.weights is None
    else:
        assert got.weights is not None
        assert got.weights.tolist() == pytest.approx(expected.weights.tolist(), rel=1e-12)
        assert scheme != "pps" or got.weights.max() <= 1 / 0.25 * (1 + 1e-12)
    # Before any training all weigh alike, and a clock that nobody gives is the newest sample's.
    if by == "loss":
        assert len(chosen_by(policy, data, 0, recorded=Kept({})).keys) > 0
    if by == "half_life":
        assert len(chosen_by(policy, data, 1).keys) > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: TopBySignal(signal="los", ratio=3),
            "signal must be one of loss, gradient_norm, p",
        ),
        (lambda: TopBySignal(signal="loss", ratio=3, unseen="all"), "unseen must be one of first"),
        (lambda: TopBySignal(signal="loss", ratio=3, trainings=0), "trainings must be at least 1"),
        (lambda: QuantileBand(signal="loss", low=0.5, high=0.5), "0 <= low < high <= 1: 0.5, 0.5"),
        (lambda: QuantileBand(signal="loss", low=-1, high=0.5), "0 <= low < high <= 1: -1, 0.5"),
        (
            lambda: Weighted(ratio=3, by="los"),
            "by must be a function or one of timestamp, label",
        ),
        (
            lambda: Weighted(ratio=3, by="loss", half_life="1d"),
            "half_life is for by='timest",
        ),
        (
            lambda: Weighted(ratio=3, by="timestamp", half_life="d"),
            "half_life: expected an int",
        ),
        (lambda: Weighted(ratio=3, by="loss", scheme="all"), "scheme must be one of "),
        (
            lambda: Weighted(ratio=3, by="loss", floor=1),
            "floor must be at least 0 and below",
        ),
        (lambda: TimeStratified(every="1 day", ratio=3), "every: expected an integer and one of"),
        (lambda: FreshnessSampling(unused_data_ratio=100), "unused_data_ratio must be 1 to 99"),
        (lambda: FreshnessSampling(unused_data_ratio=1, without_unused=""), "must be 'used' or 'n"),
        (lambda: RandomNoReplacement(ratio=101), r"ratio must be from 0 to ratio_max \(100\), got"),
        (lambda: MostRecent(limit=0), "limit must be at least 1, or -1 for no limit, got 0"),
    ],
)
def test_parameters_that_cannot_be_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_signals_that_are_not_recorded_are_asked_for_in_words(rand: Any) -> None:
    with pytest.raises(
        ValueError, match=r"no signals are recorded: name them in training\.signals"
    ):
        run(TopBySignal(signal="loss", ratio=10), made(rand))
