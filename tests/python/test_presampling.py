"""What presampling policies choose: against plain twins, by exact rules, and by statistics."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import modyn.policies
from modyn.arrivals import Arrivals
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
from modyn.policies.weighted import Scheme
from modyn.sampling import Candidates, KeySet, uniform, weighted
from modyn.signals import Kept, Rows, Signals, sorted_signals
from tests.reference import presampling as twin
from tests.reference.permutation import draw, stream
from tests.reference.statistics import chi_square_p

SEED = 11
ENDS = (40, 41, 200, 330, 330, 600)


def by_key(block: Arrivals) -> npt.NDArray[np.float64]:
    """A weight of one's own."""
    return (block.keys % np.uint64(10)).astype(np.float64)


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


@dataclass(frozen=True)
class Stream:
    """Samples in stream order, how many there are at each trigger, and what is erased behind it."""

    keys: npt.NDArray[np.uint64]
    timestamps: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    ends: tuple[int, ...] = ENDS
    gone: tuple[tuple[int, ...], ...] = ()

    @property
    def samples(self) -> list[twin.Sample]:
        columns = (self.keys, self.timestamps, self.labels)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def windows(self, tail: int | None) -> list[list[list[twin.Sample]]]:
        return twin.windows(self.samples, self.ends, tail, self.gone)

    def flat(self, tail: int | None) -> list[list[int]]:
        return [twin.flat(parts) for parts in self.windows(tail)]

    def candidates(self, trigger: int, tail: int | None, block_count: int = 65_536) -> Candidates:
        parts = self.windows(tail)[trigger]
        starts, rows = [], []
        for one, part in enumerate(parts, start=trigger + 1 - len(parts)):
            starts.append((one, len(rows)))
            rows += part
        keys, timestamps, labels = zip(*rows, strict=True) if rows else ((), (), ())
        return Candidates.from_arrays(
            keys, timestamps, labels, starts=starts, block_count=block_count
        )


def made(rand: Any, count: int = 600, *, erased: bool = False, classes: int = 5) -> Stream:
    """Keys below 4096 in any order, late timestamps, labels of which the first is most common."""
    keys = rand.numpy.permutation(4096)[:count].astype(np.uint64)
    timestamps = np.sort(rand.numpy.integers(-400, 4000, count)) + rand.numpy.integers(0, 90, count)
    labels = 7 - np.minimum(rand.numpy.geometric(0.5, count), classes)
    gone = tuple(
        tuple(rand.numpy.choice(keys[:end], end // 8, replace=False).tolist()) if erased else ()
        for end in ENDS
    )
    return Stream(keys, timestamps, labels, gone=gone)


def run(
    policy: Selection,
    stream: Stream,
    *,
    seed: int = SEED,
    block_count: int = 65_536,
    resumed: bool = False,
    signals: dict[int, Signals] | None = None,
) -> list[list[int]]:
    """The chosen keys of each trigger, as a run asks for them."""
    policy = replace(policy)  # type: ignore[type-var]
    chosen: dict[int, Selected] = {}
    for trigger, end in enumerate(stream.ends):
        candidates = stream.candidates(trigger, policy.tail_triggers, block_count)
        context = PlainContext(
            seed=seed,
            trigger=trigger,
            position=end,
            training_sets=chosen,
            recorded=None if signals is None else Kept(signals),
        )
        found = policy.select(candidates, context) if len(candidates) else Selected(np.empty(0))
        chosen[trigger] = found
        if resumed:
            state = json.loads(json.dumps(policy.state_dict()))
            policy = replace(policy)  # type: ignore[type-var]
            policy.load_state_dict(state)
    return [chosen[trigger].keys.tolist() for trigger in range(len(stream.ends))]


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


# Without replacement ----------------------------------------------------------------------------


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


# Freshness --------------------------------------------------------------------------------------


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


# Balanced ---------------------------------------------------------------------------------------


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


# Buffers ----------------------------------------------------------------------------------------


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


# By time and by signal --------------------------------------------------------------------------


@pytest.mark.parametrize("tail", [0, 1, None])
def test_most_recent_is_its_twin(rand: Any, tail: int | None) -> None:
    data = made(rand, erased=True)

    got = run(MostRecent(ratio=30, limit=44, tail_triggers=tail), data)

    for keys, parts in zip(got, data.windows(tail), strict=True):
        samples = [sample for part in parts for sample in part]
        assert keys == twin.newest(samples, min(44, len(samples) * 30 // 100))


def some_signals(data: Stream) -> dict[int, Signals]:
    """Of the trainings of triggers 0, 2 and 3: two epochs over some samples, with ties and nan."""
    rng = np.random.default_rng(3)
    found = {}
    for trigger in (0, 2, 3):
        keys = rng.permutation(data.keys[: data.ends[trigger]])[: data.ends[trigger] // 2]
        loss = rng.integers(0, 9, 2 * len(keys)).astype(np.float32)
        loss[-3:] = np.nan
        rows = Rows(
            np.concatenate((keys, keys)),
            np.repeat(np.arange(2, dtype=np.int32), len(keys)),
            {
                "loss": loss,
                "gradient_norm": loss / 9,
                "prediction": rng.integers(0, 4, len(loss), dtype=np.int32),
                "forgetting": rng.integers(0, 3, len(loss)).astype(np.int32),
            },
        )
        found[trigger] = sorted_signals(rows, trigger)
    return found


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


# What they are made of --------------------------------------------------------------------------


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
