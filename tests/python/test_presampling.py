"""What presampling policies choose: against plain twins, by exact rules, and by statistics."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import modyn.policies
from modyn.policies import (
    ClassBalancedReservoir,
    FreshnessSampling,
    GDumb,
    LabelBalanced,
    MostRecent,
    NewData,
    PlainContext,
    QuantileBand,
    Random,
    RandomNoReplacement,
    Reservoir,
    Selected,
    Selection,
    TimeStratified,
    TopBySignal,
    TriggerBalanced,
    Weighted,
)
from modyn.policies.checks import check_selection
from modyn.policies.drawing import Draw, fractions, steady_seed
from modyn.policies.freshness import freshness_counts
from modyn.sampling import Candidates, KeySet, uniform
from tests.python.presampling_streams import SEED, by_key, made, run, some_signals
from tests.reference import presampling as twin
from tests.reference.permutation import draw, stream

# Every public policy that needs no more than its parameters; check_selection runs over all.
POLICIES: tuple[Selection, ...] = (
    NewData(tail_triggers=None, limit=50),
    Random(ratio=30, tail_triggers=1),
    RandomNoReplacement(ratio=30),
    RandomNoReplacement(ratio=70, tail_triggers=1),
    LabelBalanced(ratio=30, force_required_target_size=True),
    TriggerBalanced(ratio=50),
    TriggerBalanced(ratio=50, tail_triggers=1, force_required_target_size=True),
    TimeStratified(every="1w", ratio=30, tail_triggers=None),
    Weighted(ratio=30, by="timestamp", half_life="10m", tail_triggers=None),
    Weighted(ratio=30, by="label", floor=0, scheme="sequential"),
    Weighted(ratio=30, by="loss", scheme="with_replacement", tail_triggers=1),
    Weighted(ratio=30, by=by_key, scheme="priority"),
    MostRecent(ratio=20),
    FreshnessSampling(unused_data_ratio=40),
    FreshnessSampling(unused_data_ratio=60, limit=30, without_unused="nothing"),
    Reservoir(size=40),
    ClassBalancedReservoir(size=40),
    GDumb(size=40),
    TopBySignal(signal="loss", ratio=30),
    TopBySignal(signal="gradient_norm", ratio=30, largest=False, unseen="last", trainings=2),
    QuantileBand(signal="forgetting", low=0.1, high=0.9, limit=20),
    QuantileBand(signal="loss", low=0.1, high=0.9, unseen="none"),
)


def test_every_public_policy_is_checked() -> None:
    public = {
        one
        for one in map(modyn.policies.__dict__.get, modyn.policies.__all__)
        if isinstance(one, type) and issubclass(one, Selection) and one is not Selection
    }

    assert {type(policy) for policy in POLICIES} == public


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_policies_keep_their_promises(policy: Selection) -> None:
    check_selection(policy)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: type(policy).__name__)
def test_blocks_and_resumes_do_not_matter(rand: Any, policy: Selection) -> None:
    data = made(rand, erased=True)
    signals = some_signals(data)
    expected = run(policy, data, signals=signals)

    assert run(policy, data, signals=signals, block_count=37) == expected
    assert run(policy, data, signals=signals, resumed=True) == expected
    assert run(policy, data, signals=signals, seed=SEED + 1) != expected or not draws(policy)


def draws(policy: Selection) -> bool:
    """Whether the seed has a say; where few samples leave, GDumb may happen to let the same go."""
    return not isinstance(policy, MostRecent | TopBySignal | QuantileBand | NewData | GDumb)


# Without replacement ------------------------------------------------------------------------------


@pytest.mark.parametrize("tail", [0, 1, None])
@pytest.mark.parametrize("ratio", [0, 10, 45, 80, 100])
@pytest.mark.parametrize("erased", [False, True])
def test_random_no_replacement_is_its_twin(
    rand: Any, tail: int | None, ratio: int, erased: bool
) -> None:
    data = made(rand, erased=erased)

    got = run(RandomNoReplacement(ratio=ratio, tail_triggers=tail), data)

    assert got == twin.random_no_replacement(data.flat(tail), ratio, SEED)


@pytest.mark.parametrize("ratio", [7, 34, 50, 75])
def test_data_that_stay_are_used_equally_often_but_for_one_time(rand: Any, ratio: int) -> None:
    data = replace(made(rand, 97), ends=(97,) * 12)

    got = run(RandomNoReplacement(ratio=ratio), data)

    counts = Counter[int](dict.fromkeys(data.keys.tolist(), 0))
    for keys in got:
        assert len(set(keys)) == len(keys) == 97 * ratio // 100
        counts.update(keys)
        assert max(counts.values()) - min(counts.values()) <= 1


def test_leftovers_of_a_pass_come_again_in_the_next(rand: Any) -> None:
    """The 20 left of 100 open a pass of their trigger, and may be drawn in it once more."""
    data = replace(made(rand, 100), ends=(100,) * 3)

    got = [set(keys) for keys in run(RandomNoReplacement(ratio=40), data)]

    left = set(data.keys.tolist()) - got[0] - got[1]
    assert len(left) == 20
    assert left < got[2]
    assert len(got[2] - left) == 20


# Freshness ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("percent", [1, 30, 50, 99])
@pytest.mark.parametrize("limit", [-1, 1, 25, 10_000])
@pytest.mark.parametrize("erased", [False, True])
def test_freshness_is_its_twin(rand: Any, percent: int, limit: int, erased: bool) -> None:
    data = made(rand, erased=erased)

    got = run(FreshnessSampling(unused_data_ratio=percent, limit=limit), data)

    assert got == twin.freshness(data.flat(None), percent, limit, SEED)


def test_d22_a_trigger_without_new_data_takes_used_ones_or_nothing(rand: Any) -> None:
    data = replace(made(rand, 60), ends=(60, 60))

    used = run(FreshnessSampling(unused_data_ratio=50, limit=70), data)
    nothing = run(FreshnessSampling(unused_data_ratio=50, without_unused="nothing"), data)

    assert used == [sorted(data.keys.tolist())] * 2
    assert nothing == [used[0], []]


@given(
    unused=st.integers(0, 5000),
    used=st.integers(0, 5000),
    percent=st.integers(1, 99),
    limit=st.integers(1, 9000) | st.just(-1),
)
@settings(max_examples=300, deadline=None)
def test_the_ratio_is_right_within_a_sample(
    unused: int, used: int, percent: int, limit: int
) -> None:
    fresh, again = freshness_counts(unused, used, percent, limit)

    assert (fresh, again) == twin.counts(unused, used, percent, limit)
    assert 0 <= fresh <= unused
    assert 0 <= again <= used
    assert limit == -1 or fresh + again <= limit
    if unused and used:
        assert abs(100 * fresh - percent * (fresh + again)) <= 100
        more = fresh + again + 2  # no larger set has the ratio, unless the limit ends it
        room = limit == -1 or more <= limit
        assert not room or more * percent > 100 * unused or more * (100 - percent) > 100 * used


# Balanced -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("tail", [1, 3, None])
@pytest.mark.parametrize("options", [{}, {"equal": True}, {"exact": True}], ids=str)
@pytest.mark.parametrize("erased", [False, True])
def test_trigger_balanced_is_its_twin(
    rand: Any, tail: int | None, options: dict[str, bool], erased: bool
) -> None:
    data = made(rand, erased=erased)
    groups = [[[key for key, _, _ in part] for part in parts] for parts in data.windows(tail)]

    policy = TriggerBalanced(ratio=37, tail_triggers=tail, **forced(options))

    counts = [len(keys) * 37 // 100 for keys in data.flat(tail)]
    assert run(policy, data) == twin.balanced(groups, counts, SEED, **options)


@pytest.mark.parametrize("tail", [0, None])
@pytest.mark.parametrize("options", [{}, {"equal": True}, {"exact": True}], ids=str)
def test_time_stratified_is_its_twin(rand: Any, tail: int | None, options: dict[str, bool]) -> None:
    data = made(rand, erased=True)
    groups = []
    for parts in data.windows(tail):
        periods: dict[int, list[int]] = {}
        for key, timestamp, _ in (sample for part in parts for sample in part):
            periods.setdefault(math.floor(timestamp / 300), []).append(key)
        groups.append([periods[one] for one in sorted(periods)])

    policy = TimeStratified(every="5m", ratio=37, tail_triggers=tail, **forced(options))

    counts = [len(keys) * 37 // 100 for keys in data.flat(tail)]
    assert run(policy, data) == twin.balanced(groups, counts, SEED, **options)


def forced(options: dict[str, bool]) -> dict[str, bool]:
    names = {"equal": "force_column_balancing", "exact": "force_required_target_size"}
    return {names[name]: value for name, value in options.items()}


def test_d20_small_triggers_of_equal_size_leave_no_budget_unused() -> None:
    starts = [(trigger, 5 * trigger) for trigger in range(9)]
    candidates = Candidates.from_arrays(range(440), range(440), starts=starts)

    keys = TriggerBalanced(ratio=100, limit=100).select(candidates, PlainContext()).keys

    assert len(keys) == 100
    assert int((keys < 40).sum()) == 40


# What they are made of ----------------------------------------------------------------------------


def test_draws_are_those_of_the_core(rand: Any) -> None:
    keys = np.append(rand.keys(50), np.array([0, 2**63, 2**64 - 1], dtype=np.uint64))

    got = fractions(12345, 21, keys)

    assert got.tolist() == [twin.fraction(12345, 21, key) for key in keys.tolist()]
    assert steady_seed(PlainContext(seed=9)) == draw(stream(9, 20), 0)


@pytest.mark.parametrize("count", [0, 1, 50, 999, 5000])
@pytest.mark.parametrize("fewer", [0, 20, 1000, None])
def test_a_draw_is_one_whatever_blocks_came(rand: Any, count: int, fewer: int | None) -> None:
    keys = rand.keys(2000)
    some = Draw(count, seed=5)

    for block in np.array_split(keys, 31):
        some.offer(block)

    assert some.offered == 2000
    least = count if fewer is None else min(count, fewer)
    assert some.keys(fewer).tolist() == uniform(keys, least, seed=5).tolist()


def test_what_was_used_is_read_once_and_again_after_a_crash(rand: Any) -> None:
    """A bit per key in memory, in no state."""
    data = made(rand)
    read: list[int] = []

    class Counted(dict[int, Selected]):
        def __getitem__(self, trigger: int) -> Selected:
            read.append(trigger)
            return super().__getitem__(trigger)

    policy, chosen = FreshnessSampling(unused_data_ratio=50), Counted()
    for trigger in range(4):
        context = PlainContext(seed=SEED, trigger=trigger, training_sets=chosen)
        chosen[trigger] = policy.select(data.candidates(trigger, None), context)
    assert read == [0, 1, 2]
    assert policy.state_dict() == {}

    policy.load_state_dict(policy.state_dict())
    policy.select(data.candidates(3, None), context)
    assert read == [0, 1, 2, 0, 1, 2]


def test_a_million_keys_in_little_memory(rand: Any) -> None:
    """State that grows with the data is in no ledger: a reservoir has a fingerprint."""
    keys = np.arange(1_000_000, dtype=np.uint64)
    candidates = Candidates.from_arrays(keys, keys.astype(np.int64), keys.astype(np.int64) % 3)
    for policy in (RandomNoReplacement(ratio=50), Reservoir(size=100_000)):
        policy.select(candidates, PlainContext())
        assert len(json.dumps(policy.state_dict())) < 200
    assert KeySet(keys).nbytes == 125_000
