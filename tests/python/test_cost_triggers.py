"""Cost triggers: exact waits, what a training is predicted to cost, and their plain twins."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.arrivals import Arrivals
from modyn.policies import (
    AvoidableMisclassificationCostTrigger,
    DataAmountTrigger,
    DataIncorporationLatencyCostTrigger,
    Note,
    PastModel,
    PlainContext,
    TimeTrigger,
)
from modyn.policies.checks import check_trigger
from modyn.policies.checks.common import example_stream
from modyn.policies.price import predicted_samples
from tests.python.test_performance_trigger import Forgetful, fired, steady, stream_of
from tests.reference import triggers_performance as twin


def latency(worth: float, size: int = 1, **more: Any) -> DataIncorporationLatencyCostTrigger:
    return DataIncorporationLatencyCostTrigger(
        evaluation_interval_data_points=size,
        incorporation_delay_per_training_second=worth,
        **more,
    )


def avoidable(worth: float, size: int = 10, **more: Any) -> AvoidableMisclassificationCostTrigger:
    return AvoidableMisclassificationCostTrigger(
        evaluation_interval_data_points=size,
        avoidable_misclassification_latency_per_training_second=worth,
        **more,
    )


def constant(count: int, step: int = 1, first: int = 0) -> Arrivals:
    times = first + np.arange(count, dtype=np.int64) * step
    return Arrivals(np.arange(count, dtype=np.uint64), times, np.zeros(count, dtype=np.int64))


@settings(max_examples=50)
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(1, 30),
    worth=st.integers(1, 4000),
    cuts=st.lists(st.integers(1, 90), min_size=1, max_size=4),
    first=st.sampled_from([0, -(10**6), 1_700_000_000]),
)
def test_waits_are_those_of_their_twin(
    seed: int, size: int, worth: int, cuts: list[int], first: int
) -> None:
    """Where all trainings take a second."""
    stream = stream_of(300, seed)
    stream = Arrivals(stream.keys, stream.timestamps + first, stream.labels)

    found = fired(latency(float(worth), size), stream, None, cuts)

    times = stream.timestamps.tolist()
    assert found == twin.incorporation_positions(times, size, Fraction(worth), lambda *_: 1.0)


@settings(max_examples=50)
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(5, 30),
    worth=st.sampled_from([31.7, 317.1, 1317.3]),
    cuts=st.lists(st.integers(1, 90), min_size=1, max_size=4),
)
def test_avoidable_misclassifications_wait_as_those_of_their_twin(
    seed: int, size: int, worth: float, cuts: list[int]
) -> None:
    stream = stream_of(400, seed)
    models = Forgetful(stream, np.random.default_rng(seed + 1).random(997))
    times = stream.timestamps.tolist()
    world = twin.World(times, stream.labels.tolist(), lambda trigger, position: 0)
    world.guess = lambda trigger, position: models.guess(world.start_of(trigger), position)

    found = fired(avoidable(worth, size, expected_accuracy=0.93), stream, models, cuts)

    assert found == twin.avoidable_positions(
        world, size, worth=worth, expected=0.93, seconds=lambda *_: 1.0
    )


def test_the_latency_is_the_sum_of_all_waits_to_the_last_unit() -> None:
    """In nanoseconds, where float64 would have lost the last digits."""
    rng = np.random.default_rng(0)
    times = 1_700_000_000 * 10**9 + np.cumsum(rng.integers(0, 10**12, 200))
    stream = Arrivals(np.arange(200, dtype=np.uint64), times, None)
    trigger = latency(1e15, 10)

    assert fired(trigger, stream, None, [37], timestamp_unit="ns") == [10]

    waits = sum(int(times[-1]) - time for time in times[10:].tolist())
    assert trigger.state_dict()["_latency"] == waits > 2**53
    assert trigger.state_dict()["_regrets"] == 190


def test_a_constant_rate_gives_equal_periods_by_the_square_root_of_the_price() -> None:
    """Samples at rate a and trainings of T seconds: a * period**2 / 2 = worth * T."""
    stream = constant(4000)
    periods = {}
    for worth in (200.0, 800.0):
        found = fired(latency(worth), stream, None, [1000])
        periods[worth] = np.diff(found[1:])
        assert np.ptp(periods[worth]) <= 1
        assert abs(periods[worth].mean() - np.sqrt(2 * worth)) <= 1

    assert abs(periods[800.0].mean() / periods[200.0].mean() - 2) < 0.1


def test_what_waits_never_waits_less_until_a_trigger() -> None:
    notes: list[Note] = []
    fired(latency(3000.0, 5), stream_of(900, 3), None, [900], notes)

    between = 0
    for one, other in pairwise(note.values for note in notes[1:]):
        if not one["fires"]:
            between += 1
            assert other["regret_latency"] >= one["regret_latency"]
    assert between > 20


def test_twice_the_price_never_means_more_triggers() -> None:
    stream = stream_of(900, 3)
    counts = [len(fired(latency(100.0 * 2**i, 5), stream, None, [900])) for i in range(8)]

    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]


def test_files_that_mean_the_key_the_other_way_round_can_be_read() -> None:
    stream = constant(600)

    assert fired(latency(0.01, 1, conversion="multiply"), stream, None, [600]) == fired(
        latency(100.0), stream, None, [600]
    )


def test_waiting_begins_anew_with_every_trigger() -> None:
    """Also with those of the warm-up."""
    notes: list[Note] = []
    trigger = latency(1e9, 5, warmup_intervals=6, warmup_policy=DataAmountTrigger(num_samples=15))

    assert fired(trigger, constant(60), None, [60], notes) == [5, 15, 30]
    assert [note.values["regrets"] for note in notes[:8]] == [5, 5, 10, 5, 10, 15, 5, 10]
    assert [note.values["warmup"] for note in notes[:8]] == [True] * 6 + [False] * 2
    assert [note.values["fires"] for note in notes[:8]] == [
        True,
        False,
        True,
        False,
        False,
        True,
        False,
        False,
    ]
    assert notes[6].values["regret_latency"] == 4 + 3 + 2 + 1 + 0


def test_a_fixed_rate_makes_decisions_that_no_clock_changes() -> None:
    """The samples that wait are trained on at 10 per second: k of them have waited k(k - 1)/2."""
    found = fired(latency(10.0, 1, training_samples_per_second=10.0), constant(900), None, [900])

    assert set(np.diff(found[1:]).tolist()) == {3}


def models(sizes: list[tuple[int, int]]) -> list[PastModel]:
    return [
        PastModel(trigger=i, model=str(i), position=at, last_timestamp=None, samples=n, seconds=1.0)
        for i, (at, n) in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    ("sizes", "position", "expected"),
    [
        ([(100, 100), (150, 50), (450, 300)], 600, 150.0),  # all that is new
        ([(100, 50), (150, 25), (450, 150)], 600, 75.0),  # half of it
        ([(100, 100), (150, 150), (450, 450)], 600, 600.0),  # all so far
        ([(100, 10), (150, 15), (450, 45)], 600, 60.0),  # a tenth of it
        ([(100, 80), (150, 80), (450, 80)], 600, 80.0),  # a limit
        ([(100, 100)], 160, 60.0),  # one training says nothing else
        ([(0, 0)], 10, 0.0),
    ],
)
def test_the_size_of_the_next_training_set_follows_those_so_far(
    sizes: list[tuple[int, int]], position: int, expected: float
) -> None:
    assert predicted_samples(models(sizes), position) == pytest.approx(expected)


def test_trainings_of_all_data_cost_more_and_more_so_triggers_get_rarer() -> None:
    """The cost is fitted and asked for in the size of training sets, not of new data."""

    class AllSoFar(DataIncorporationLatencyCostTrigger):
        def inform(self, arrivals: Arrivals, context: Any) -> int | None:
            grown = [
                PastModel(
                    trigger=m.trigger,
                    model=m.model,
                    position=m.position,
                    last_timestamp=m.last_timestamp,
                    samples=m.position,
                    seconds=m.position / 100,
                )
                for m in context.models
            ]
            return super().inform(arrivals, PlainContext(**{**fields(context), "models": grown}))

    def fields(context: PlainContext) -> dict[str, Any]:
        return {name: getattr(context, name) for name in PlainContext.__dataclass_fields__}

    trigger = AllSoFar(
        evaluation_interval_data_points=10, incorporation_delay_per_training_second=40.0
    )

    periods = np.diff(fired(trigger, constant(6000), None, [6000]))

    assert periods[-1] > 2 * periods[1]


def test_misclassifications_that_are_not_avoidable_never_fire() -> None:
    stream, answers = steady(lambda interval: 0.8)

    assert fired(avoidable(0.001, expected_accuracy=0.8), stream, answers, [400]) == [10]


def test_regrets_wait_for_as_long_as_their_labels_are_late() -> None:
    """A label that comes late makes its misclassification wait no less."""
    stream, answers = steady(lambda interval: 0.8)
    for delay in (0, 25):
        notes: list[Note] = []
        trigger = avoidable(1e9, expected_accuracy=0.9)
        fired(trigger, stream, answers, [400], notes, label_delay=delay)

        for note in notes[4:]:
            known = [one for one in range(1, 40) if 10 * one + 9 + delay <= note.position - 1]
            middles = [10 * one + 4 for one in known]
            expected = sum(note.position - 1 - middle for middle in middles)
            assert note.values["regret_latency"] == pytest.approx(expected)
            assert note.values["regrets"] == pytest.approx(len(known))


def test_looking_ahead_counts_what_waits_until_the_next_judgement() -> None:
    stream, answers = steady(lambda interval: 0.8)
    behind = fired(avoidable(100.0, expected_accuracy=0.9), stream, answers, [400])
    ahead = fired(avoidable(100.0, expected_accuracy=0.9, mode="lookahead"), stream, answers, [400])

    assert behind[1] - ahead[1] == 10


@pytest.mark.parametrize("delay", [0, 300_000])
@pytest.mark.parametrize(
    "trigger",
    [
        latency(3e6, 7),
        latency(3e6, 7, warmup_intervals=5, warmup_policy=TimeTrigger(every="2d")),
        latency(3e6, 7, training_samples_per_second=10.0, cost_tracking_window_size=3),
        avoidable(3e5, 7, expected_accuracy=0.4),
        avoidable(3e5, 7, allow_reduction=True, mode="lookahead"),
    ],
    ids=["latency", "warm", "rate", "avoidable", "forecast"],
)
def test_it_passes_the_checks(trigger: Any, delay: int) -> None:
    context = PlainContext(seed=3, label_delay=delay)
    check_trigger(trigger, stream=example_stream(170), context=context)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"worth": 0.0}, "incorporation_delay_per_training_second must be above 0"),
        ({"worth": -1.0}, "must be at least 0"),
        ({"cost_tracking_window_size": 0}, "cost_tracking_window_size must be at least 1"),
        ({"conversion": "add"}, "conversion must be 'divide' or 'multiply', got 'add'"),
        ({"training_samples_per_second": 0}, "training_samples_per_second must be above 0"),
    ],
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        latency(**{"worth": 1.0, **wrong})


def test_an_expected_accuracy_is_a_share() -> None:
    with pytest.raises(ValueError, match="expected_accuracy must be at most 1"):
        avoidable(1.0, expected_accuracy=2.0)
