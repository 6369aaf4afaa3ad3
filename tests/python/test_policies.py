"""Triggers and selections of the package, their parameters and their state."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections import Counter, deque
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.arrivals import Arrivals, example_arrivals
from modyn.policies import (
    DataAmountTrigger,
    LabelBalanced,
    NewData,
    PlainContext,
    Random,
    Selected,
    TimeTrigger,
    Trigger,
    seed_of,
)
from modyn.policies.answers import due_after, selected
from modyn.policies.checks import check_selection, check_trigger, example_stream
from modyn.policies.time import seconds_of
from modyn.sampling import Candidates
from tests.reference import triggers as twin

CONTEXT = PlainContext(seed=5)


def arrivals_at(timestamps: list[int], labels: list[int] | None = None) -> Arrivals:
    return Arrivals(
        np.arange(len(timestamps), dtype=np.uint64),
        np.array(timestamps, dtype=np.int64),
        None if labels is None else np.array(labels, dtype=np.int64),
    )


def fired(trigger: Trigger, blocks: list[Arrivals], context: PlainContext = CONTEXT) -> list[int]:
    """The positions of all triggers; the state goes through JSON after each."""
    positions, position = [], 0
    for block in blocks:
        while len(block) > 0:
            due = trigger.inform(block, context)
            position += len(block) if due is None else due
            block = block[len(block) if due is None else due :]
            if due is not None:
                positions.append(position)
                state = json.loads(json.dumps(trigger.state_dict()))
                trigger = type(trigger)(**public(trigger))
                trigger.load_state_dict(state)
    return positions


def public(policy: object) -> dict[str, object]:
    return {name: value for name, value in vars(policy).items() if name[0] != "_"}


def candidates_of(arrivals: Arrivals) -> Candidates:
    return Candidates.from_arrays(arrivals.keys, arrivals.timestamps, arrivals.labels)


def chosen(policy: NewData | Random | LabelBalanced, arrivals: Arrivals, trigger: int = 0) -> list:
    context = PlainContext(seed=5, trigger=trigger)
    return policy.select(candidates_of(arrivals), context).keys.tolist()


# Arrivals.


def test_arrivals_refuse_arrays_that_do_not_fit() -> None:
    keys = np.arange(3, dtype=np.uint64)
    times = np.arange(3, dtype=np.int64)

    with pytest.raises(TypeError, match="keys must be an array of uint64, got int64"):
        Arrivals(times, times)
    with pytest.raises(TypeError, match="timestamps must be an array of int64, got list"):
        Arrivals(keys, [1, 2, 3])
    with pytest.raises(ValueError, match=r"labels must have shape \(3,\), got \(2,\)"):
        Arrivals(keys, times, times[:2])
    with pytest.raises(TypeError, match="arrivals are cut by slices"):
        Arrivals(keys, times)[1]


def test_arrivals_are_cut_without_copies() -> None:
    arrivals = example_arrivals(10)

    parts = arrivals.split(4)

    assert [len(part) for part in parts] == [4, 4, 2]
    assert all(np.shares_memory(part.keys, arrivals.keys) for part in parts)
    assert arrivals.split(10)[0].labels.tolist() == arrivals.labels.tolist()
    with pytest.raises(ValueError, match="count must be at least 1, got 0"):
        arrivals.split(0)


# Time triggers.


def test_a_sample_on_the_boundary_opens_the_next_period() -> None:
    assert fired(TimeTrigger(every="10s"), [arrivals_at([0, 9, 10, 19, 20])]) == [2, 4]


def test_a_gap_of_many_periods_fires_once() -> None:
    assert fired(TimeTrigger(every="10s"), [arrivals_at([0, 1, 35])]) == [2]
    assert fired(TimeTrigger(every="1s"), [arrivals_at([0, 10**17, 10**17 + 1])]) == [1, 2]


def test_boundaries_stay_where_they_are_after_a_gap() -> None:
    assert fired(TimeTrigger(every="10s"), [arrivals_at([3, 36, 42, 43])]) == [1, 3]


def test_an_empty_block_is_fine() -> None:
    trigger = TimeTrigger(every="10s")

    assert trigger.inform(example_arrivals(0), CONTEXT) is None
    assert fired(trigger, [arrivals_at([0, 10])]) == [1]


def test_time_zero_and_times_before_it_are_times() -> None:
    start = TimeTrigger(every="10s", start_timestamp=0)
    early = TimeTrigger(every="10s", start_timestamp=-25)

    assert fired(start, [arrivals_at([4, 9, 10])]) == [2]
    assert fired(early, [arrivals_at([-25, -16, -15, -1, 0, 4, 5])]) == [2, 3, 6]
    assert fired(TimeTrigger(every="10s"), [arrivals_at([-5, 0, 4, 5])]) == [3]


def test_a_start_long_before_the_first_sample_fires_nothing() -> None:
    trigger = TimeTrigger(every="10s", start_timestamp=0)

    assert fired(trigger, [arrivals_at([1005, 1009, 1010])]) == [2]


def test_a_start_after_the_first_samples_counts_them_to_the_first_period() -> None:
    trigger = TimeTrigger(every="10s", start_timestamp=100)

    assert fired(trigger, [arrivals_at([0, 50, 109, 110])]) == [3]


def test_late_samples_count_for_the_period_in_which_they_come() -> None:
    times = [0, 12, 3, 11, 25, 1, 30]

    assert fired(TimeTrigger(every="10s"), [arrivals_at(times)]) == [1, 4, 6]


@pytest.mark.parametrize(("unit", "scale"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_the_unit_of_the_dataset_counts(unit: str, scale: int) -> None:
    arrivals = arrivals_at([0, 60 * scale - 1, 60 * scale])

    assert fired(TimeTrigger(every="1m"), [arrivals], PlainContext(timestamp_unit=unit)) == [2]


def test_extreme_times_do_not_overflow() -> None:
    low, high = -(2**63), 2**63 - 1

    assert fired(TimeTrigger(every="1y"), [arrivals_at([low, high])]) == [1]
    assert fired(TimeTrigger(every="1y"), [arrivals_at([high, high])]) == []


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(-100, 100), max_size=60),
    st.integers(1, 30),
    st.none() | st.integers(-120, 120),
    st.integers(1, 60),
)
def test_a_time_trigger_fires_where_its_twin_does(
    times: list[int], period: int, start: int | None, count: int
) -> None:
    trigger = TimeTrigger(every=f"{period}s", start_timestamp=start)

    assert fired(trigger, arrivals_at(times).split(count)) == twin.time_positions(
        times, period, start
    )


def test_many_triggers_in_a_long_block_are_all_found(rand) -> None:
    times = np.cumsum(rand.integers(0, 3, 60_000)).tolist()

    assert fired(TimeTrigger(every="900s"), [arrivals_at(times)]) == twin.time_positions(times, 900)


@pytest.mark.parametrize(
    "text", ["", "d", "1", "1 d", "-1d", "1.5d", "1D", "1d2h", "\u0661d", "1d\n"]
)
def test_what_is_no_time_string_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match="every: expected an integer and one of s m h d w y"):
        TimeTrigger(every=text)


def test_time_strings_mean_seconds() -> None:
    seconds = [seconds_of(f"2{unit}") for unit in "smhdwy"]

    assert seconds == [2, 120, 7200, 172_800, 1_209_600, 2 * 365 * 86_400]
    with pytest.raises(ValueError, match="every: expected at least one second, got '0d'"):
        TimeTrigger(every="0d")


# Amount triggers.


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 200), st.integers(1, 50), st.integers(1, 60))
def test_an_amount_trigger_carries_the_remainder(count: int, amount: int, block: int) -> None:
    trigger = DataAmountTrigger(num_samples=amount)

    assert fired(trigger, example_arrivals(count).split(block)) == twin.amount_positions(
        count, amount
    )


def test_an_amount_must_be_positive() -> None:
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        DataAmountTrigger(num_samples=0)


@pytest.mark.parametrize("wrong", [1e5, "7", True, np.int64(7), None])
def test_a_parameter_of_another_type_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match="num_samples must be an int, got"):
        DataAmountTrigger(num_samples=wrong)
    with pytest.raises(TypeError, match="ratio must be an int, got"):
        Random(ratio=wrong)
    with pytest.raises(TypeError, match="limit must be an int, got"):
        NewData(limit=wrong)
    with pytest.raises(ValueError, match="every: expected an integer and one of"):
        TimeTrigger(every=wrong)
    for name, kind in (("tail_triggers", NewData), ("start_timestamp", TimeTrigger)):
        if wrong is not None:
            more = {"every": "1d"} if kind is TimeTrigger else {}
            with pytest.raises(TypeError, match=f"{name} must be an int, got"):
                kind(**{name: wrong}, **more)


# Selections.


def test_new_data_is_all_candidates_by_key() -> None:
    arrivals = example_stream(50)

    assert chosen(NewData(), arrivals) == sorted(arrivals.keys.tolist())


def test_last_x_is_the_newest_by_timestamp_then_key() -> None:
    arrivals = arrivals_at([5, 9, 9, 1, 9, 0])

    assert chosen(NewData(tail_triggers=None, limit=2), arrivals) == [2, 4]
    assert chosen(NewData(tail_triggers=None, limit=4), arrivals) == [0, 1, 2, 4]


def test_last_x_of_many_blocks_is_the_same(rand) -> None:
    times = rand.integers(0, 40, 20_000)
    arrivals = arrivals_at(times.tolist())
    newest = sorted(zip(times.tolist(), range(20_000), strict=True))[-30:]

    got = chosen(NewData(tail_triggers=None, limit=30), arrivals)

    assert got == sorted(key for _, key in newest)


@pytest.mark.parametrize("tail", [0, 3])
def test_a_limit_on_a_window_draws_from_all_of_it(tail: int) -> None:
    arrivals = example_arrivals(1000)
    policy = NewData(tail_triggers=tail, limit=100)

    got = chosen(policy, arrivals)

    assert len(got) == 100
    assert min(got) < 100 < 900 < max(got)
    assert got != chosen(policy, arrivals, trigger=1)
    assert got == chosen(NewData(tail_triggers=None, limit=100, limit_reset="sampleUAR"), arrivals)


def test_a_limit_that_is_not_reached_keeps_all() -> None:
    assert len(chosen(NewData(limit=10), example_arrivals(10))) == 10
    assert len(chosen(Random(ratio=100, limit=10), example_arrivals(10))) == 10


@pytest.mark.parametrize(
    ("ratio", "ratio_max", "limit", "count"),
    [(50, 100, -1, 5), (1, 3, -1, 3), (0, 100, -1, 0), (100, 100, -1, 11), (90, 100, 4, 4)],
)
def test_random_keeps_the_floor_of_the_share(
    ratio: int, ratio_max: int, limit: int, count: int
) -> None:
    policy = Random(ratio=ratio, ratio_max=ratio_max, limit=limit)

    got = chosen(policy, example_arrivals(11))

    assert len(set(got)) == len(got) == count


def test_a_seed_reaches_the_draw_and_so_does_the_trigger() -> None:
    candidates = candidates_of(example_arrivals(200))
    contexts = [PlainContext(seed=seed, trigger=i) for seed in (1, 2) for i in (0, 1)]

    draws = [tuple(Random(ratio=50).select(candidates, c).keys.tolist()) for c in contexts]

    assert len(set(draws)) == 4
    assert draws[0] == tuple(Random(ratio=50).select(candidates, contexts[0]).keys.tolist())


def test_label_balanced_fills_classes_evenly() -> None:
    labels = [0] * 60 + [1] * 30 + [2] * 10
    arrivals = arrivals_at(list(range(100)), labels)

    def sizes(**force: bool) -> dict[int, int]:
        keys = chosen(LabelBalanced(ratio=50, **force), arrivals)
        return dict(Counter(labels[key] for key in keys))

    assert sizes() == {0: 20, 1: 20, 2: 10}
    assert sum(sizes(force_required_target_size=True).values()) == 50
    assert sizes(force_column_balancing=True) == {0: 10, 1: 10, 2: 10}


def test_label_balanced_needs_labels() -> None:
    with pytest.raises(ValueError, match="labels"):
        chosen(LabelBalanced(ratio=50), arrivals_at([1, 2, 3]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ratio": -1}, r"ratio must be from 0 to ratio_max \(100\), got -1"),
        ({"ratio": 101}, r"ratio must be from 0 to ratio_max \(100\), got 101"),
        ({"ratio": 1, "ratio_max": 0}, "ratio_max must be at least 1, got 0"),
        ({"ratio": 1, "limit": 0}, "limit must be at least 1, or -1 for no limit, got 0"),
        ({"ratio": 1, "limit": -2}, "limit must be at least 1, or -1 for no limit, got -2"),
        ({"ratio": 1, "tail_triggers": -1}, "tail_triggers must be at least 0, or None, got -1"),
    ],
)
@pytest.mark.parametrize("kind", [Random, LabelBalanced])
def test_wrong_parameters_are_refused(kind, wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**wrong)


def test_new_data_refuses_wrong_parameters() -> None:
    with pytest.raises(ValueError, match="limit must be at least 1"):
        NewData(limit=0)
    with pytest.raises(ValueError, match="limit_reset must be 'lastX' or 'sampleUAR', got 'x'"):
        NewData(limit_reset="x")
    with pytest.raises(ValueError, match="tail_triggers must be at least 0"):
        NewData(tail_triggers=-1)


# Every policy of the package passes the checks.


@pytest.mark.parametrize(
    "trigger",
    [
        DataAmountTrigger(num_samples=1),
        DataAmountTrigger(num_samples=37),
        TimeTrigger(every="1d"),
        TimeTrigger(every="3h", start_timestamp=-5),
        TimeTrigger(every="1s", start_timestamp=10**6),
    ],
    ids=repr,
)
def test_every_trigger_passes_the_checks(trigger: Trigger) -> None:
    check_trigger(trigger)


@pytest.mark.parametrize(
    "selection",
    [
        NewData(),
        NewData(tail_triggers=None, limit=20),
        NewData(tail_triggers=2, limit=20),
        Random(ratio=30, tail_triggers=None),
        LabelBalanced(ratio=50),
        LabelBalanced(ratio=50, force_column_balancing=True),
        LabelBalanced(ratio=50, force_required_target_size=True, limit=77),
    ],
    ids=repr,
)
def test_every_selection_passes_the_checks(selection) -> None:
    check_selection(selection)


def test_seeds_of_triggers_follow_the_random_numbers_of_the_core() -> None:
    """Worked out once with mdn_draw(mdn_stream(seed, MDN_STREAM_TRIGGER), trigger)."""
    assert seed_of(PlainContext(seed=0, trigger=0)) == SEED_0_0
    assert seed_of(PlainContext(seed=42, trigger=7)) == SEED_42_7
    assert seed_of(PlainContext(seed=2**64 + 42, trigger=7)) == SEED_42_7
    assert len({seed_of(PlainContext(seed=3, trigger=i)) for i in range(1000)}) == 1000


SEED_0_0 = 8570064944855568398
SEED_42_7 = 4438393121590889484


# State.


class Plain(Trigger):
    """What a user would write in a notebook."""

    def __init__(self, *, size: int = 3) -> None:
        self.size = size
        self._seen = []

    def inform(self, arrivals: Arrivals, context: object) -> int | None:
        self._seen += arrivals.timestamps.tolist()
        return None


STATES = [
    None,
    True,
    0,
    -(2**70),
    0.1,
    -0.0,
    math.inf,
    -math.inf,
    "text",
    [],
    {},
    [1, [2.5, {"a": None}]],
    np.int64(-3),
    np.float32(0.1),
    np.bool_(True),
    np.datetime64("2020-01-01"),
    np.arange(6, dtype=np.uint16).reshape(2, 3),
    np.array([np.nan, 1.5]),
    np.zeros((0, 4)),
    np.array(5),
]


@pytest.mark.parametrize("value", STATES, ids=repr)
def test_state_comes_back_as_it_was(value: object) -> None:
    policy, other = Plain(), Plain()
    policy._value = value

    other.load_state_dict(json.loads(json.dumps(policy.state_dict(), allow_nan=False)))

    assert type(other._value) is type(value)
    assert repr(other._value) == repr(value)
    if isinstance(value, np.ndarray):
        assert other._value.dtype == value.dtype
        assert other._value.shape == value.shape
        assert other._value.flags.writeable


def test_nan_comes_back() -> None:
    policy, other = Plain(), Plain()
    policy._value = math.nan

    other.load_state_dict(json.loads(json.dumps(policy.state_dict(), allow_nan=False)))

    assert math.isnan(other._value)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ((1, 2), "Plain._value is a tuple"),
        ({1}, "Plain._value is a set"),
        (deque([1]), "Plain._value is a deque"),
        ([{"a": (1,)}], r"Plain._value\[0\]\['a'\] is a tuple"),
        ({1: 2}, "Plain._value has the key 1"),
        ({"$array": 2}, r"Plain._value has the key '\$array'"),
        (np.array([object()]), "Plain._value has dtype object"),
        (np.random.default_rng(0), "Plain._value is a Generator"),
    ],
)
def test_state_that_would_come_back_changed_is_refused(value: object, name: str) -> None:
    policy = Plain()
    policy._value = value

    with pytest.raises(TypeError, match=name):
        policy.state_dict()


def test_state_travels_whole() -> None:
    policy, other = Plain(), Plain()
    other._extra = 1
    policy._seen = [1]

    other.load_state_dict(policy.state_dict())

    assert other.state_dict() == {"_seen": [1]}
    assert not hasattr(other, "_extra")


def test_saved_state_does_not_change_with_the_policy() -> None:
    policy = Plain()

    state = policy.state_dict()
    policy._seen.append(1)

    assert state == {"_seen": []}


def test_public_names_are_no_state() -> None:
    with pytest.raises(ValueError, match="state of Plain names 'size'"):
        Plain().load_state_dict({"size": 1})


def test_state_in_slots_and_in_frozen_dataclasses_travels() -> None:
    class Slotted(Trigger):
        __slots__ = ("_late", "_seen")

        def __init__(self) -> None:
            self._seen = 1

    @dataclass(frozen=True)
    class Frozen(Trigger):
        size: int = 1

        def __post_init__(self) -> None:
            object.__setattr__(self, "_seen", 2)

    slotted, frozen = Slotted(), Frozen()
    slotted.load_state_dict({"_seen": 5, "_late": 6})
    frozen.load_state_dict({"_seen": 7})

    assert slotted.state_dict() == {"_late": 6, "_seen": 5}
    assert frozen.state_dict() == {"_seen": 7}


# Answers.


@pytest.mark.parametrize("answer", [0, 3, np.int64(3), np.uint8(3), -1, 2**70])
def test_an_integer_is_an_answer(answer: object) -> None:
    assert due_after(answer, "P") == int(answer)
    assert due_after(None, "P") is None


@pytest.mark.parametrize("answer", [True, np.True_, 2.0, "3", [3], np.array([3, 4]), object()])
def test_anything_else_is_none(answer: object) -> None:
    with pytest.raises(TypeError, match=r"^Mine\.inform answered .*: return None, or an int"):
        due_after(answer, "Mine")


def test_a_choice_is_read_whatever_its_form() -> None:
    keys = np.array([5, 1, 3], dtype=np.uint64)
    weights = [0.5, 0.1, 0.3]

    for answer in (Selected(keys, np.array(weights)), (keys, weights), (keys.tolist(), weights)):
        got = selected(answer, "P")
        assert got.keys.tolist() == [1, 3, 5]
        assert got.keys.dtype == np.uint64
        assert got.weights.tolist() == [0.1, 0.3, 0.5]
    assert selected(keys, "P").weights is None
    assert selected(keys[::2], "P").keys.tolist() == [3, 5]
    assert selected([], "P").keys.dtype == np.uint64


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (None, "Mine.select answered NoneType: return Selected"),
        (7, "Mine.select answered int"),
        (np.zeros((2, 2), dtype=np.uint64), "Mine.select answered ndarray"),
        ([0.5], "Mine.select answered keys of float64"),
        (["a"], "Mine.select answered keys of <U1"),
        (np.array([True]), "Mine.select answered a mask of bool: return candidates.keys"),
        ([-1], "Mine chose key -1"),
        (([1], [1.0, 2.0]), r"weights of shape \(2,\) for 1 keys"),
        (([1], ["a"]), "Mine.select answered weights of <U1"),
    ],
)
def test_a_choice_that_is_none_is_refused_by_name(answer: object, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        selected(answer, "Mine")


def test_policies_need_neither_torch_nor_pipelines() -> None:
    program = (
        "import modyn.policies, sys; "
        "wrong = {'torch', 'modyn.pipelines', 'sqlite3', 'unittest'};"
        "sys.exit(str(wrong & set(sys.modules)) if wrong & set(sys.modules) else 0)"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
