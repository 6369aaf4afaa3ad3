"""The loop from Python: transitions, resuming, wrong answers, exceptions, arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.arrivals import Arrivals
from modyn.dataset import Dataset
from modyn.orchestrator import Orchestrator
from modyn.policies import (
    DataAmountTrigger,
    NewData,
    PlainContext,
    Selected,
    Selection,
    Trigger,
)
from modyn.trainset import TrainingSet
from tests.python.loops import (
    COUNT,
    CrashError,
    Ledger,
    Policies,
    by_amount,
    by_time,
    dataset,
    finish,
    order,
    start,
)
from tests.reference import triggers as twin

__all__ = ["dataset", "order"]  # fixtures


# What a transition says.


def test_transitions_are_those_of_the_twin(dataset: Dataset, tmp_path: Path) -> None:
    rows = finish(start(dataset, by_amount, tmp_path, Ledger()))

    got = [(row.trigger, row.first, row.position, row.candidates_first) for row in rows]
    assert got == twin.transitions(twin.amount_positions(COUNT, 37), tail=1)
    for row in rows:
        assert row.candidates == row.position - row.candidates_first
        assert row.first_timestamp == dataset.timestamps[row.first]
        assert row.last_timestamp == dataset.timestamps[row.position - 1]
        assert row.samples == row.candidates // 2 - (row.candidates // 2) % 3


def test_training_sets_are_what_was_chosen(dataset: Dataset, tmp_path: Path) -> None:
    class Weighed(NewData):
        def select(self, candidates: object, context: object) -> Selected:
            return Selected(candidates.keys[::-1], candidates.timestamps[::-1] ** 2.0)

    def policies() -> tuple[Trigger, Selection]:
        return DataAmountTrigger(num_samples=100), Weighed()

    rows = finish(start(dataset, policies, tmp_path, Ledger()))

    for row in rows:
        chosen = TrainingSet.open(tmp_path / f"{row.digest}.set")
        assert chosen.keys.tolist() == list(range(row.first, row.position))
        assert (chosen.weights == dataset.timestamps[row.first : row.position] ** 2.0).all()
        assert len(chosen) == row.samples


def test_time_order_follows_the_order_array(
    dataset: Dataset, order: np.ndarray, tmp_path: Path
) -> None:
    rows = finish(start(dataset, by_time, tmp_path, Ledger(), order=order))

    times = dataset.timestamps[order]
    assert [row.position for row in rows] == twin.time_positions(times.tolist(), 300)
    for row in rows:
        assert row.first_timestamp == times[row.first]
        assert row.last_timestamp == times[row.position - 1]
        keys = TrainingSet.open(tmp_path / f"{row.digest}.set").keys
        assert np.isin(keys, order[: row.position]).all()


def test_an_order_of_some_keys_is_a_stream_of_these(dataset: Dataset, tmp_path: Path) -> None:
    some = np.arange(0, COUNT, 5, dtype=np.uint64)

    rows = finish(start(dataset, by_amount, tmp_path, Ledger(), order=some))

    assert [row.position for row in rows] == [37, 74]
    keys = TrainingSet.open(tmp_path / f"{rows[0].digest}.set").keys
    assert (keys % 5 == 0).all()


def test_an_empty_dataset_has_no_trigger(tmp_path: Path) -> None:
    with Dataset.create(tmp_path / "empty", schema={"x": "int64"}) as empty:
        loop = start(empty, by_amount, tmp_path, Ledger())

        assert loop.next() is None
        assert loop.next() is None
        assert (loop.position, loop.trigger, loop.clock) == (0, 0, None)


def test_a_dataset_without_labels_has_none(tmp_path: Path) -> None:
    seen = []

    class Looks(DataAmountTrigger):
        def inform(self, arrivals: Arrivals, context: object) -> int | None:
            seen.append(arrivals.labels)
            return super().inform(arrivals, context)

    plain = Dataset.create(tmp_path / "plain", schema={"x": "int64"}, labels=False)
    plain.append({"x": np.arange(10)}, timestamps=np.arange(10))

    rows = finish(start(plain, lambda: (Looks(num_samples=4), NewData()), tmp_path, Ledger()))

    assert [row.samples for row in rows] == [4, 4]
    assert all(labels is None for labels in seen)


# Blocks and resuming.


@settings(max_examples=25, deadline=None)
@given(
    block_count=st.integers(1, 600),
    advance_every=st.integers(1, 9),
    ordered=st.booleans(),
    timed=st.booleans(),
)
def test_neither_blocks_nor_advances_change_a_transition(
    block_count: int,
    advance_every: int,
    ordered: bool,
    timed: bool,
    dataset: Dataset,
    order: np.ndarray,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    directory = tmp_path_factory.getbasetemp()
    policies = by_time if timed else by_amount
    use = order if ordered else None

    expected = finish(start(dataset, policies, directory, Ledger(), order=use))
    got = finish(
        start(
            dataset,
            policies,
            directory,
            Ledger(),
            order=use,
            block_count=block_count,
            advance_every=advance_every,
        )
    )

    assert got == expected


def crashes(loop: Orchestrator) -> bool:
    try:
        finish(loop)
    except CrashError:
        return True
    return False


@pytest.mark.parametrize("policies", [by_amount, by_time])
@pytest.mark.parametrize("step", ["inform", "select", "commit", "advance"])
@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "same"])
def test_a_step_that_raises_loses_nothing(
    dataset: Dataset, order: np.ndarray, tmp_path: Path, policies: Policies, step: str, fresh: bool
) -> None:
    """Raise at each call of a step in turn; go on in the same loop, or from the ledger."""
    more = {"order": order, "block_count": 29, "advance_every": 2}
    undisturbed = Ledger()
    finish(start(dataset, policies, tmp_path, undisturbed, **more))
    at = 0
    while True:
        calls = iter(range(10**6))

        def fail(name: str, calls=calls, at=at) -> None:
            if name == step and next(calls) == at:
                raise CrashError(name)

        ledger = Ledger()
        loop = start(dataset, policies, tmp_path, ledger, fail, **more)
        if not crashes(loop):
            break
        finish(start(dataset, policies, tmp_path, ledger, **more) if fresh else loop)
        assert ledger.transitions == undisturbed.transitions
        assert ledger.position == undisturbed.position == COUNT
        assert ledger.states == undisturbed.states
        at += 1
    assert at >= (1 if step == "advance" else len(undisturbed.transitions))


def test_a_run_resumes_at_every_transition(dataset: Dataset, tmp_path: Path) -> None:
    expected = finish(start(dataset, by_time, tmp_path, Ledger()))

    ledger = Ledger()
    for row in expected:
        assert start(dataset, by_time, tmp_path, ledger).next() == row
    assert start(dataset, by_time, tmp_path, ledger).next() is None
    assert ledger.transitions == expected


def test_the_place_is_known_while_steps_run(dataset: Dataset, tmp_path: Path) -> None:
    contexts = []

    class Notes(DataAmountTrigger):
        def inform(self, arrivals: Arrivals, context: PlainContext) -> int | None:
            contexts.append((context.position, context.trigger, context.clock))
            return super().inform(arrivals, context)

    def policies() -> tuple[Trigger, Selection]:
        return Notes(num_samples=100), NewData()

    loop = start(dataset, policies, tmp_path, Ledger(), block_count=250)
    finish(loop)

    times = dataset.timestamps
    assert contexts[:4] == [
        (0, 0, None),
        (100, 1, times[99]),
        (200, 2, times[199]),
        (250, 2, times[249]),
    ]
    assert (loop.position, loop.trigger, loop.clock) == (COUNT, 5, times[-1])
