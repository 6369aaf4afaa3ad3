"""Presampling policies that keep a buffer: what is in it after so many samples."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from modyn.policies import (
    ClassBalancedReservoir,
    GDumb,
    PlainContext,
    Reservoir,
    Selection,
)
from modyn.sampling import Candidates
from tests.python.presampling_streams import SEED, Stream, made, run
from tests.reference import presampling as twin
from tests.reference.statistics import chi_square_p


@pytest.mark.parametrize("size", [1, 17, 300, 1000])
@pytest.mark.parametrize("erased", [False, True])
def test_a_reservoir_is_its_twin(rand: Any, size: int, erased: bool) -> None:
    data = made(rand, erased=erased)

    assert run(Reservoir(size=size), data) == twin.reservoir(data.flat(None), size, SEED)


def test_a_reservoir_reads_new_data_only() -> None:
    whole = Candidates.from_arrays(range(100), range(100), starts=[(0, 0), (1, 60)])
    policy, first = Reservoir(size=10), whole.parts[0].candidates
    chosen = policy.select(first, PlainContext(seed=SEED))

    class NewOnly(Candidates):
        """Has no samples but the new ones."""

        @property
        def parts(self) -> Any:
            return (whole.parts[0]._replace(candidates=None), whole.parts[1])  # type: ignore[arg-type]

    blind = NewOnly(whole._core, 1, whole._place)
    context = PlainContext(seed=SEED, trigger=1, training_sets={0: chosen})
    expected = Reservoir(size=10).select(whole, PlainContext(seed=SEED, trigger=1))

    assert policy.select(blind, context).keys.tolist() == expected.keys.tolist()


@pytest.mark.parametrize("size", [1, 3, 17, 100, 1000])
@pytest.mark.parametrize("erased", [False, True])
@pytest.mark.parametrize("kind", [GDumb, ClassBalancedReservoir])
def test_a_buffer_is_its_twin(
    rand: Any,
    monkeypatch: pytest.MonkeyPatch,
    kind: Callable[..., Selection],
    size: int,
    erased: bool,
) -> None:
    data = made(rand, erased=erased)
    plain = {GDumb: twin.gdumb, ClassBalancedReservoir: twin.class_balanced_reservoir}[kind]
    expected = plain(data.samples, data.ends, size, SEED, data.gone)

    assert run(kind(size=size), data) == expected
    for module in ("gdumb", "class_balanced_reservoir"):
        monkeypatch.setattr(f"modyn.policies.{module}.CHUNK", 5)
    assert run(kind(size=size), data, block_count=11, resumed=True) == expected


@pytest.mark.parametrize("kind", [GDumb, ClassBalancedReservoir])
def test_classes_of_a_buffer_differ_by_one_once_all_are_plentiful(
    rand: Any, kind: Callable[..., Selection]
) -> None:
    data = replace(made(rand, 3000), ends=(1000, 3000))
    label_of = dict(zip(data.keys.tolist(), data.labels.tolist(), strict=True))

    counts = Counter(label_of[key] for key in run(kind(size=33), data)[-1])

    assert len(counts) == 5
    assert max(counts.values()) - min(counts.values()) <= 1
    assert sum(counts.values()) == 33


@pytest.mark.parametrize("kind", [GDumb, ClassBalancedReservoir])
def test_a_buffer_needs_labels(kind: Callable[..., Selection]) -> None:
    candidates = Candidates.from_arrays(range(5), range(5))

    with pytest.raises(ValueError, match=f"{kind.__name__} needs labels; there are none"):  # type: ignore[attr-defined]
        kind(size=3).select(candidates, PlainContext())


@pytest.mark.parametrize("kind", [GDumb, ClassBalancedReservoir, Reservoir])
def test_buffers_are_of_all_data(kind: Callable[..., Selection]) -> None:
    with pytest.raises(ValueError, match="tail_triggers must be None, got 0"):
        kind(size=3, tail_triggers=0)
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        kind(size=0)


def test_each_sample_is_in_a_reservoir_with_the_same_chance() -> None:
    """After 60 samples in three triggers, of 1000 seeds: inclusions by place, size / 60 each."""
    data = Stream(*(np.arange(60, dtype=d) for d in (np.uint64, np.int64, np.int64)), (20, 30, 60))
    counts = np.zeros(60)
    for seed in range(1000):
        counts[run(Reservoir(size=6), data, seed=seed)[-1]] += 1

    # Inclusions of one draw exclude each other: the sum of squares is 59 / 60 * chi squared (59).
    expected = 100.0
    statistic = float(((counts - expected) ** 2).sum() / (expected * 0.9)) * 59 / 60
    assert chi_square_p(statistic, 59) > 1e-4


def test_who_leaves_a_reservoir_is_any_of_those_inside() -> None:
    """As in algorithm R: given who was in, each is the one that a new sample pushes out alike."""
    data = Stream(*(np.arange(9, dtype=d) for d in (np.uint64, np.int64, np.int64)), (8, 9))
    counts = np.zeros(4)
    for seed in range(1600):
        before, after = run(Reservoir(size=4), data, seed=seed)
        if before != after:
            (left,) = set(before) - set(after)
            counts[before.index(left)] += 1

    total = counts.sum()
    assert abs(total - 1600 * 4 / 9) < 4 * math.sqrt(1600 * 4 / 9 * 5 / 9)  # enters with k / t
    assert chi_square_p(float(((counts - total / 4) ** 2).sum() / (total / 4)), 3) > 1e-4


def test_inside_a_class_a_balanced_reservoir_is_uniform() -> None:
    """One class only: then it is algorithm R."""
    keys = np.arange(40, dtype=np.uint64)
    data = Stream(keys, keys.astype(np.int64), np.zeros(40, dtype=np.int64), (10, 40))
    counts = np.zeros(40)
    for seed in range(800):
        counts[run(ClassBalancedReservoir(size=8), data, seed=seed)[-1]] += 1

    expected = 800 * 8 / 40
    statistic = float(((counts - expected) ** 2).sum() / (expected * 0.8)) * 39 / 40
    assert chi_square_p(statistic, 39) > 1e-4
