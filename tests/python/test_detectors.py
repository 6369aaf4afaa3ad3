"""Streaming detectors: river's decisions, at every step, and what detectors promise."""

from __future__ import annotations

import base64
import json
import math
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.drift import detectors
from modyn.drift.detectors import ADWIN, DDM, EDDM, KSWIN, Detector, PageHinkley
from modyn.drift.detectors.kswin import least_distance

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/detectors/river.json").read_text())
EAGER = [
    ADWIN(delta=0.3, clock=4),
    PageHinkley(threshold=3.0, min_instances=10),
    KSWIN(alpha=0.05, window_size=40, stat_size=15),
    DDM(warm_start=10, drift_threshold=2.0),
    EDDM(warm_start=5, beta=0.9),
]


def series(name: str) -> list[float]:
    text = GOLDEN["series"][name]["int16"]
    values = np.frombuffer(zlib.decompress(base64.b64decode(text)), "<i2")
    return values.astype(np.float64).tolist()


def one_by_one(detector: Detector, values: list[float]) -> tuple[list[int], int]:
    """The places of drifts, and how often there was a warning."""
    drifts, warnings = [], 0
    for n, value in enumerate(values):
        if detector.update([value]) is not None:
            drifts.append(n)
        else:
            warnings += detector.warning
    return drifts, warnings


def switching(seed: int, count: int = 800) -> list[float]:
    """Zeros and ones whose share of ones changes now and then."""
    rng = np.random.default_rng(seed)
    shares = np.repeat(rng.uniform(0.05, 0.9, size=4), count // 4)
    return (rng.random(count) < shares).astype(float).tolist()


@pytest.mark.parametrize(
    "answer", GOLDEN["answers"], ids=lambda a: f"{a['detector']} {a['series']}"
)
def test_drifts_are_at_the_places_where_river_sees_them(answer):
    detector = getattr(detectors, answer["detector"])(**answer["parameters"])

    found = detector.drifts(series(answer["series"])[: answer["count"]])

    assert found == answer["drifts"]


@pytest.mark.parametrize(
    "answer",
    [a for a in GOLDEN["answers"] if a["detector"] in ("DDM", "EDDM")],
    ids=lambda a: f"{a['detector']} {a['series']}",
)
def test_warnings_are_as_many_as_river_gives(answer):
    detector = getattr(detectors, answer["detector"])(**answer["parameters"])

    _, warnings = one_by_one(detector, series(answer["series"])[: answer["count"]])

    # Where EDDM drifts in the warning zone, river's warning stands beside the drift.
    drifts = len(answer["drifts"]) if answer["detector"] == "EDDM" else 0
    assert answer["warnings"] - drifts <= warnings <= answer["warnings"]


@pytest.mark.parametrize("name", ["ADWIN", "PageHinkley", "KSWIN", "DDM", "EDDM"])
def test_river_says_the_same_of_series_at_random(name):
    drift = pytest.importorskip("river.drift")
    theirs = getattr(drift, name, None) or getattr(drift.binary, name)
    parameters: dict[str, Any] = {"seed": 5} if name == "KSWIN" else {}

    for seed in range(2 if name == "KSWIN" else 20):
        values, running, drifts = switching(seed, 4000), theirs(**parameters), []
        for n, value in enumerate(values):
            running.update(value)
            if running.drift_detected:
                drifts.append(n)

        assert getattr(detectors, name)(**parameters).drifts(values) == drifts


@pytest.mark.parametrize("detector", EAGER, ids=lambda d: type(d).__name__)
@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(1, 300), min_size=1, max_size=9))
def test_cuts_and_saved_states_change_nothing(detector, seed, cuts):
    values = switching(seed)
    expected = replace(detector).drifts(values)

    running, found, first, turn = replace(detector), [], 0, 0
    while first < len(values):
        taken = running.update(values[first : first + cuts[turn % len(cuts)]])
        first = min(first + cuts[turn % len(cuts)], len(values)) if taken is None else first + taken
        found += [] if taken is None else [first - 1]
        turn += 1
        state = json.loads(json.dumps(running.state(), allow_nan=False))
        running = replace(detector)
        running.load(state)

    assert found == expected


@pytest.mark.parametrize("detector", EAGER, ids=lambda d: type(d).__name__)
def test_a_state_is_a_copy_and_loading_it_leaves_it_alone(detector):
    values = switching(1)[:95]
    running = replace(detector)
    running.update(values[:60])

    state = running.state()
    kept = json.dumps(state)
    other = replace(detector)
    other.load(state)
    running.update(values[60:])
    other.update(values[60:])

    assert json.dumps(state) == kept
    assert other.state() == running.state()
    assert other == detector


def test_a_state_of_another_detector_is_refused():
    with pytest.raises(ValueError, match="DDM has no 'ticks'"):
        DDM().load({"ticks": 3})


@pytest.mark.parametrize("detector", EAGER, ids=lambda d: type(d).__name__)
def test_values_that_make_no_sense_are_refused_before_any_is_looked_at(detector):
    running = replace(detector)
    before = running.state()

    for wrong in (math.nan, math.inf, *([0.5] if detector.binary else [])):
        with pytest.raises(ValueError, match="values must be"):
            running.update([0.0, 1.0, wrong])
    with pytest.raises(ValueError, match="one dimension"):
        running.update(np.zeros((2, 2)))

    assert running.state() == before
    assert running.update([]) is None


@pytest.mark.parametrize(
    "make",
    [
        lambda: ADWIN(delta=0.0),
        lambda: ADWIN(clock=0),
        lambda: ADWIN(grace_period=-1),
        lambda: KSWIN(alpha=2.0),
        lambda: KSWIN(stat_size=0),
        lambda: KSWIN(window_size=59),
        lambda: PageHinkley(mode="sideways"),
        lambda: PageHinkley(alpha=1.1),
        lambda: PageHinkley(threshold=math.nan),
        lambda: PageHinkley(min_instances=0),
        lambda: DDM(warm_start=0),
        lambda: DDM(drift_threshold=math.inf),
        lambda: EDDM(warm_start=0),
        lambda: EDDM(alpha=0.8),
    ],
)
def test_parameters_that_make_no_sense_are_refused(make):
    with pytest.raises(ValueError, match="must"):
        make()


@pytest.mark.parametrize(
    ("detector", "delay"),
    [
        (ADWIN(), 100),
        (PageHinkley(), 200),
        (KSWIN(alpha=1e-4), 100),
        (DDM(), 150),
        (EDDM(alpha=0.7, beta=0.6), 1000),  # which averages over all since the last drift
    ],
    ids=lambda d: type(d).__name__,
)
def test_a_planted_change_is_found_soon_and_stillness_is_left_alone(detector, delay):
    rng = np.random.default_rng(11)
    still = (rng.random(1500) < 0.2).astype(float)
    loud = (rng.random(1500) < 0.7).astype(float)

    found = replace(detector).drifts(np.concatenate([still, loud]))

    assert [place for place in found if place < 1500] == []
    assert found
    assert found[0] < 1500 + delay


def test_the_least_distance_is_that_of_the_exact_test():
    stats = pytest.importorskip("scipy.stats")
    for count, alpha in ((7, 0.01), (30, 0.005), (50, 1e-3), (200, 0.2), (1000, 1e-6)):
        least = least_distance(count, alpha)

        values = np.arange(count, dtype=float)
        p = [stats.ks_2samp(values, values + h - 0.5).pvalue for h in (least - 1, least)]
        assert p[1] <= alpha < p[0]
    assert least_distance(2, 1e-9) == 3
