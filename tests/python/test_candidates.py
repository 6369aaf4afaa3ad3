"""What candidates know besides their columns: who brought them, and which are still there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modyn
from modyn.policies import DataAmountTrigger, PlainContext, Selected, Selection
from modyn.sampling import Candidates
from tests.python.streams import drifting, pipeline

STARTS = ((2, 100), (3, 250), (4, 250), (5, 400))
"""Triggers 2 to 5; trigger 3 had no samples."""


@pytest.fixture(params=["arrival", "time", "arrays"])
def candidates(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Positions 100 to 599 of a stream from which some samples are erased."""
    with drifting(tmp_path / "stream", count=600, order="late") as dataset:
        order = None
        if request.param == "time":
            order = np.lexsort((np.arange(600), dataset.timestamps)).astype(np.uint64)
        keys = np.arange(600, dtype=np.uint64) if order is None else order
        if request.param == "arrays":
            whole = keys, dataset.timestamps[keys], dataset.labels[keys]
            starts = [(trigger, first - 100) for trigger, first in STARTS]
            yield Candidates.from_arrays(*(column[100:] for column in whole), starts=starts)
        else:
            yield Candidates.from_dataset(dataset, order=order, first=100, last=600, starts=STARTS)


def test_parts_are_the_candidates_trigger_by_trigger(candidates: Candidates) -> None:
    triggers, parts = zip(*candidates.parts, strict=True)

    assert triggers == (2, 3, 4, 5)
    assert [len(part) for part in parts] == [150, 0, 150, 200]
    for name in ("keys", "timestamps", "labels"):
        joined = np.concatenate([getattr(part, name) for part in parts])
        assert joined.tolist() == getattr(candidates, name).tolist()
    assert candidates.new.keys.tolist() == parts[-1].keys.tolist()


def test_parts_of_some_are_some_of_the_parts(candidates: Candidates) -> None:
    middle = int(np.median(candidates.timestamps))

    some = candidates.where(stop=middle).where(labels=[1])

    for (trigger, part), (same, whole) in zip(some.parts, candidates.parts, strict=True):
        assert trigger == same
        wanted = (whole.timestamps < middle) & (whole.labels == 1)
        assert part.keys.tolist() == whole.keys[wanted].tolist()
    assert some.new.keys.tolist() == some.parts[-1].candidates.keys.tolist()
    assert [len(again) for _, again in some.new.parts] == [len(some.new)]


def test_candidates_of_one_trigger_are_one_part() -> None:
    alone = Candidates.from_arrays([4, 7], [10, 20])

    assert [(trigger, part.keys.tolist()) for trigger, part in alone.parts] == [(0, [4, 7])]
    assert alone.new is alone


@pytest.mark.parametrize(
    "starts", [[(0, 1)], [(0, 0), (0, 1)], [(1, 0), (0, 1)], [(0, 0), (1, 3)], [(0, 1), (1, 0)]]
)
def test_starts_that_contradict_themselves_are_refused(starts: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="starts must name triggers and positions in ascending"):
        Candidates.from_arrays([4, 7], [10, 20], starts=starts)


@pytest.mark.parametrize("ascending", [True, False])
def test_what_is_erased_lives_no_more(tmp_path: Path, rand: Any, ascending: bool) -> None:
    data = drifting(tmp_path / "stream", count=600)
    erased = rand.numpy.choice(600, 50, replace=False)
    with modyn.Dataset.open(data.path, mode="w") as writer:
        writer.erase(erased.tolist(), reason="asked for")
    data.refresh()
    keys = np.concatenate((rand.numpy.integers(0, 600, 400), [10**12, 2**63])).astype(np.uint64)
    keys = np.sort(keys) if ascending else keys

    living = Candidates.from_dataset(data, first=0, last=600).where(labels=[1]).living(keys)

    assert living.tolist() == (~np.isin(keys, erased)).tolist()


def test_of_keys_in_arrays_those_live_that_are_there(rand: Any) -> None:
    keys = rand.keys(500)
    made = Candidates.from_arrays(keys, np.arange(500), np.arange(500) % 3, block_count=7)
    asked = rand.numpy.permutation(np.concatenate((keys[::3], rand.keys(200))))

    assert made.living(asked).tolist() == np.isin(asked, keys).tolist()
    assert made.where(labels=[2]).living(keys).all()
    assert made.living([]).tolist() == []


class Looks(Selection):
    """Takes a third of the candidates, and writes down what it sees beside them."""

    seen: list[Any] = []  # noqa: RUF012 - a diary of the test's own

    def __init__(self, *, tail_triggers: int | None = 0) -> None:
        self.tail_triggers = tail_triggers

    def select(self, candidates: Candidates, context: PlainContext) -> Selected:
        before = [context.training_set(trigger) for trigger in range(context.trigger)]
        self.seen.append(
            (
                [(trigger, part.keys.tolist()) for trigger, part in candidates.parts],
                [(one.keys.tolist(), one.weights.tolist()) for one in before],
            )
        )
        with pytest.raises(ValueError, match="no training set of trigger"):
            context.training_set(context.trigger)
        keys = np.sort(candidates.keys[::3])
        return Selected(keys, keys + 0.5)


@pytest.mark.parametrize("tail_triggers", [0, 1, None])
def test_a_run_shows_who_brought_a_sample_and_what_was_chosen(
    tmp_path: Path, tail_triggers: int | None
) -> None:
    Looks.seen = []
    data = drifting(tmp_path / "stream", count=400)
    settings = {"evaluation": None, "trigger": DataAmountTrigger(num_samples=100)}
    policy = Looks(tail_triggers=tail_triggers)

    half = pipeline(data, selection=policy, maximum_triggers=2, **settings)
    half.replay(tmp_path / "run")
    pipeline(data, selection=policy, **settings).replay(tmp_path / "other")

    assert [len(parts) for parts, _ in Looks.seen[:2]] == [1, 1 if tail_triggers == 0 else 2]
    for trigger, (parts, before) in enumerate(Looks.seen[2:]):
        tail = trigger if tail_triggers is None else tail_triggers
        first = max(0, trigger - tail)
        assert parts == [
            (one, list(range(100 * one, 100 * one + 100))) for one in range(first, trigger + 1)
        ]
        assert len(before) == trigger
        for one, (keys, weights) in enumerate(before):
            begin = 100 * max(0, one - (one if tail_triggers is None else tail_triggers))
            assert keys == list(range(begin, 100 * one + 100, 3))
            assert weights == [key + 0.5 for key in keys]
