"""How the figures of benchmarks.triggers are reckoned, on made-up results; nothing is measured."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.selecting.cells import Result
from benchmarks.triggering import families, plants
from benchmarks.triggering.models import FIRST, Starting
from benchmarks.triggering.outcome import Outcome, Race
from benchmarks.triggering.streams import STREAMS, Samples, apart, planted
from modyn.policies import DataAmountTrigger
from modyn.policies.checks import check_trigger


def result(value: float, positions: list[int]) -> Result:
    more: dict[str, Any] = {"positions": positions, "train_seconds": 1.0, "policy_seconds": 0.5}
    return Result(value=value, wall=1.0, busy=1.0, steps=1, more=more)


def outcome(family: str, value: float, count: int, *of_other_seeds: float) -> Outcome:
    entry = families.Entry(family, "x", lambda: DataAmountTrigger(num_samples=1))
    return Outcome(entry, [result(v, list(range(count))) for v in (value, *of_other_seeds)])


def race(*outcomes: Outcome) -> Race:
    return Race(STREAMS["insects"], outcomes)


def test_a_policy_wins_with_fewer_trainings_at_equal_accuracy_only():
    schedules = [outcome("amount", 80.0, 80), outcome("amount", 79.8, 40)]

    assert race(*schedules, outcome("MMD, embeddings", 79.75, 30)).verdict().met
    assert not race(*schedules, outcome("MMD, embeddings", 79.65, 30)).verdict().met
    assert not race(*schedules, outcome("MMD, embeddings", 79.95, 50)).verdict().met


def test_a_verdict_of_means_says_in_how_many_seeds_it_holds():
    schedules = [outcome("amount", 80.0, 80, 81.0), outcome("amount", 79.8, 40, 80.8)]

    verdict = race(*schedules, outcome("MMD, embeddings", 79.95, 30, 80.65)).verdict()

    assert verdict.met
    assert verdict.seen.endswith("in 1 of 2 seeds")


def test_a_gain_is_over_the_schedules_of_as_many_trainings():
    found = race(
        outcome("amount", 60.0, 10), outcome("amount", 80.0, 40), outcome("ADWIN", 75.0, 20)
    )

    (gain,) = found.gains(found.adaptive[0])

    assert gain == pytest.approx(75 - 70)  # half way between, over logarithms


def test_planted_drifts_are_found_missed_or_followed_by_an_aftermath():
    positions = [FIRST, 3000, 4900, 5500, 9700]  # drifts are at 4800, 7200 and 9600 of 12000

    found = plants.Found.of(result(50.0, positions), 12_000)

    assert found.delays == [100, 100]
    assert (found.missed, found.aftermath, found.false) == (1, 1, 1)
    assert found.still == 12_000 - FIRST - 3 * plants.AFTER


def test_a_planted_stream_changes_at_its_places_only():
    rng = np.random.default_rng(0)
    plain = Samples(
        rng.normal(size=(500, 8)).astype(np.float32),
        rng.integers(0, 2, 500),
        np.arange(500, dtype=np.int64),
    )

    found = planted(lambda folder: plain, None, 3)  # type: ignore[arg-type]

    rows = {tuple(sorted(row)) for row in plain.dense.tolist()}
    assert {tuple(sorted(row)) for row in found.dense.tolist()} == rows
    assert {tuple(r) for r in found.dense[:200].tolist()} <= {
        tuple(r) for r in plain.dense.tolist()
    }
    assert not {tuple(r) for r in found.dense[200:300].tolist()} & {
        tuple(r) for r in plain.dense.tolist()
    }


def test_times_are_set_apart_and_stay_in_order():
    found = apart(np.array([5, 5, 5, 6, 9, 9]))

    assert found.tolist() == [5_000_000, 5_000_001, 5_000_002, 6_000_000, 9_000_000, 9_000_001]


def test_a_first_training_keeps_the_promises_of_a_trigger():
    check_trigger(Starting(first=37, then=DataAmountTrigger(num_samples=30)))


def test_every_family_is_grouped_and_has_a_chosen_setting():
    from benchmarks.triggering.picture import group_of

    entries = families.adaptive(1.0)

    assert {group_of(Outcome(one, [])) for one in entries} >= {"cost", "detectors", "ensembles"}
    assert {one.family for one in entries} - {"latency"} == set(families.CHOSEN)
    assert len({(one.family, one.setting) for one in entries}) == len(entries)
