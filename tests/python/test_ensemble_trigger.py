"""Ensembles: against their plain twin, in any order, nested, and with policies of any kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.policies import (
    AtLeastN,
    Custom,
    DataAmountTrigger,
    DataIncorporationLatencyCostTrigger,
    EnsembleTrigger,
    HeldHistory,
    MajorityVote,
    Note,
    PerformanceTrigger,
    PlainContext,
    StaticPerformanceThresholdCriterion,
    TimeTrigger,
    Trigger,
)
from modyn.policies.checks import check_trigger
from modyn.policies.checks.common import example_stream
from tests.python.test_performance_trigger import Forgetful, fired, stream_of
from tests.reference import triggers_performance as twin

STRATEGIES = [
    MajorityVote(),
    AtLeastN(n=1),
    AtLeastN(n=2),
    AtLeastN(n=3),
    Custom(aggregation_function=lambda votes: votes["a"] and (votes["b"] or votes["c"])),
]


def voter(num_samples: int) -> Callable[[list[int], int], bool]:
    """An amount trigger goes on counting, whoever fires."""
    return lambda _fired, position: position % num_samples == 0


@settings(max_examples=40)
@given(
    amounts=st.lists(st.integers(1, 30), min_size=3, max_size=3),
    strategy=st.sampled_from(STRATEGIES),
    cuts=st.lists(st.integers(1, 70), min_size=1, max_size=4),
)
def test_it_fires_where_its_twin_does(amounts: list[int], strategy: Any, cuts: list[int]) -> None:
    named = dict(zip("abc", amounts, strict=True))
    subtriggers = {name: DataAmountTrigger(num_samples=n) for name, n in named.items()}
    trigger = EnsembleTrigger(subtriggers=subtriggers, ensemble_strategy=strategy)

    found = fired(trigger, stream_of(200, 1), None, cuts)

    voters = {name: voter(n) for name, n in named.items()}
    assert found == twin.ensemble_positions(200, voters, strategy.decide)


def kinds() -> dict[str, Trigger]:
    """Policies that go by counts, by time, by waiting, and by what models say."""
    return {
        "amount": DataAmountTrigger(num_samples=31),
        "time": TimeTrigger(every="150s"),
        "cost": DataIncorporationLatencyCostTrigger(
            evaluation_interval_data_points=7, incorporation_delay_per_training_second=2000.0
        ),
        "performance": PerformanceTrigger(
            evaluation_interval_data_points=13,
            decision_criteria={
                "bad": StaticPerformanceThresholdCriterion(metric="Accuracy", metric_threshold=0.8)
            },
        ),
    }


def positions(
    subtriggers: Mapping[str, Trigger], strategy: Any, cuts: list[int], **more: Any
) -> list[int]:
    stream = stream_of(300, 4)
    models = Forgetful(stream, np.random.default_rng(3).random(997))
    trigger = EnsembleTrigger(subtriggers=subtriggers, ensemble_strategy=strategy)
    return fired(trigger, stream, models, cuts, **more)


@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_the_order_of_sub_policies_and_the_cuts_never_matter(n: int) -> None:
    names = list(kinds())
    expected = positions(kinds(), AtLeastN(n=n), [300])

    for turn in range(4):
        turned = {name: kinds()[name] for name in names[turn:] + names[:turn]}
        assert positions(turned, AtLeastN(n=n), [1 + 5 * turn, 40]) == expected

    assert len(expected) >= 2


def test_one_of_three_votes_before_the_first_trigger_does_not_fire() -> None:
    subtriggers = {
        "often": DataAmountTrigger(num_samples=10),
        "seldom": DataAmountTrigger(num_samples=70),
        "never": DataAmountTrigger(num_samples=10**6),
    }

    assert positions(subtriggers, MajorityVote(), [300]) == [70, 140, 210, 280]


def test_at_least_one_of_them_is_the_union() -> None:
    subtriggers = {"a": DataAmountTrigger(num_samples=60), "b": DataAmountTrigger(num_samples=90)}

    assert positions(subtriggers, AtLeastN(n=1), [300]) == [60, 90, 120, 180, 240, 270, 300]


def test_ensembles_may_be_nested() -> None:
    inner = EnsembleTrigger(
        subtriggers={
            "a": DataAmountTrigger(num_samples=20),
            "b": DataAmountTrigger(num_samples=30),
        },
        ensemble_strategy=AtLeastN(n=2),
    )
    subtriggers = {"inner": inner, "c": DataAmountTrigger(num_samples=50)}

    # The inner one votes at 30, 60, 90, ...: at 30 of its own second vote, then from 40 and 60 on.
    assert positions(subtriggers, AtLeastN(n=2), [7]) == positions(
        subtriggers, AtLeastN(n=2), [300]
    )
    assert positions(subtriggers, AtLeastN(n=1), [11])[:4] == [30, 50, 60, 90]


def test_a_sub_policy_is_judged_on_samples_after_the_trigger_alone() -> None:
    """The ensemble fires after 31 samples, in the middle of the interval from 26 to 39."""
    notes: list[Note] = []
    names = ("amount", "performance")
    subtriggers = {name: kinds()[name] for name in names}

    positions(subtriggers, AtLeastN(n=1), [300], notes=notes)

    judged = [
        one
        for note in notes
        if note.name == "performance.PerformanceTrigger"
        for one in note.values["judged"]
    ]
    assert (31, 39) in [(one["first"], one["last"]) for one in judged]


def test_notes_are_those_of_what_counted_and_no_other() -> None:
    """A sub-policy that looked ahead of a trigger is asked again, and notes again."""
    whole: list[Note] = []
    cut: list[Note] = []

    positions(kinds(), AtLeastN(n=2), [300], notes=whole)
    positions(kinds(), AtLeastN(n=2), [3], notes=cut)

    def order(notes: list[Note]) -> list[tuple[int, str, str]]:
        return sorted((note.position, note.name, repr(note.values)) for note in notes)

    assert order(whole) == order(cut)
    assert len({(note.position, note.name) for note in whole}) == len(whole)


@pytest.mark.parametrize("delay", [0, 400_000])
@pytest.mark.parametrize("strategy", STRATEGIES[:4], ids=repr)
def test_it_passes_the_checks(strategy: Any, delay: int) -> None:
    inner = EnsembleTrigger(
        subtriggers={
            "day": TimeTrigger(every="1d"),
            "amount": DataAmountTrigger(num_samples=23),
        },
        ensemble_strategy=AtLeastN(n=2),
    )
    performance = PerformanceTrigger(
        evaluation_interval_data_points=11,
        decision_criteria={
            "bad": StaticPerformanceThresholdCriterion(metric="Accuracy", metric_threshold=0.3)
        },
    )
    subtriggers = {
        "inner": inner,
        "performance": performance,
        "days": TimeTrigger(every="2d"),
    }
    trigger = EnsembleTrigger(subtriggers=subtriggers, ensemble_strategy=strategy)

    stream = example_stream(130)
    check_trigger(trigger, stream=stream, context=PlainContext(seed=5, label_delay=delay))


def test_what_is_no_ensemble_is_refused() -> None:
    with pytest.raises(ValueError, match="subtriggers must name one or more"):
        EnsembleTrigger(subtriggers={}, ensemble_strategy=MajorityVote())
    with pytest.raises(TypeError, match=r"subtriggers\.a must be a Trigger, got 3"):
        EnsembleTrigger(subtriggers={"a": 3}, ensemble_strategy=MajorityVote())


def test_a_sub_policy_that_never_moves_is_named() -> None:
    class Stuck(Trigger):
        def inform(self, arrivals: object, context: object) -> int | None:
            return 0

    trigger = EnsembleTrigger(
        subtriggers={"stuck": Stuck(), "a": DataAmountTrigger(num_samples=2)},
        ensemble_strategy=AtLeastN(n=2),
    )
    stream = stream_of(10, 1)
    context = PlainContext(history=HeldHistory(stream), informed=10)

    with pytest.raises(RuntimeError, match="sub-policy stuck answers 0 again and again"):
        trigger.inform(stream, context)


def test_models_are_asked_about_little_more_than_what_came_up_to_the_trigger() -> None:
    class Counting:
        asked = 0

        def predictions(self, model: Any, keys: Any) -> Any:
            self.asked += len(keys)
            return np.full((len(keys), 2), 0.5, dtype=np.float32)

    stream, answers = stream_of(10_000, 3), Counting()
    never = StaticPerformanceThresholdCriterion(metric="Accuracy", metric_threshold=-1.0)
    trigger = EnsembleTrigger(
        subtriggers={
            "amount": DataAmountTrigger(num_samples=500),
            "performance": PerformanceTrigger(
                evaluation_interval_data_points=50, decision_criteria={"never": never}
            ),
        },
        ensemble_strategy=AtLeastN(n=1),
    )

    assert fired(trigger, stream, answers, [len(stream)])[1:] == list(range(500, 10_001, 500))
    assert answers.asked < 4 * len(stream)
