"""The loop from Python: transitions, resuming, wrong answers, exceptions, arrays."""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modyn.arrivals import Arrivals
from modyn.dataset import Dataset
from modyn.orchestrator import Orchestrator, Transition
from modyn.policies import (
    DataAmountTrigger,
    LabelBalanced,
    NewData,
    PlainContext,
    Random,
    Selected,
    Selection,
    TimeTrigger,
    Trigger,
)
from modyn.trainset import TrainingSet
from tests.reference import triggers as twin

COUNT = 500


class CrashError(Exception):
    """What a test raises in a step."""


class Ledger:
    """What a run commits: transitions, and the state of the policies at the last place."""

    def __init__(self) -> None:
        self.transitions: list[Transition] = []
        self.position = 0
        self.states = "[{}, {}]"

    def resume(self) -> dict[str, object]:
        return {
            "position": self.position,
            "trigger": len(self.transitions),
            "trigger_starts": [0, *(row.position for row in self.transitions)],
        }


class Steps:
    """A pipeline over a ledger in memory; `fail` is called with the name of each step."""

    def __init__(
        self,
        trigger: Trigger,
        selection: Selection,
        ledger: Ledger,
        fail: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.trigger, self.selection, self.ledger, self.fail = trigger, selection, ledger, fail
        self.loop: Orchestrator
        if ledger.position > 0:
            for policy, state in zip((trigger, selection), json.loads(ledger.states), strict=True):
                policy.load_state_dict(state)

    def context(self) -> PlainContext:
        return PlainContext(
            clock=self.loop.clock,
            position=self.loop.position,
            trigger=self.loop.trigger,
            seed=11,
        )

    def inform(self, arrivals: Arrivals) -> int | None:
        self.fail("inform")
        return self.trigger.inform(arrivals, self.context())

    def select(self, transition: Transition, candidates: object) -> object:
        self.fail("select")
        assert len(candidates) <= transition.candidates  # some may be erased
        return self.selection.select(candidates, self.context())

    def save(self, position: int) -> None:
        self.ledger.position = position
        self.ledger.states = json.dumps([self.trigger.state_dict(), self.selection.state_dict()])

    def commit(self, transition: Transition) -> None:
        self.fail("commit")
        self.ledger.transitions.append(transition)
        self.save(transition.position)

    def advance(self, position: int) -> None:
        self.fail("advance")
        self.save(position)


Policies = Callable[[], tuple[Trigger, Selection]]


def start(
    dataset: Dataset,
    policies: Policies,
    directory: Path,
    ledger: Ledger,
    fail: Callable[[str], None] = lambda step: None,
    **more: object,
) -> Orchestrator:
    """A loop that goes on from what the ledger says."""
    trigger, selection = policies()
    steps = Steps(trigger, selection, ledger, fail)
    usual = {"tail_triggers": selection.tail_triggers, "block_count": 64, **ledger.resume()}
    steps.loop = Orchestrator(
        dataset,
        steps=steps,
        trainset_directory=directory,
        trigger_name=type(trigger).__name__,
        selection_name=type(selection).__name__,
        **{**usual, **more},
    )
    return steps.loop


def finish(loop: Orchestrator) -> list[Transition]:
    transitions = []
    while (transition := loop.next()) is not None:
        transitions.append(transition)
    return transitions


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Samples that come late now and then, three labels."""
    rng = np.random.default_rng(3)
    times = np.arange(COUNT) * 10 + rng.integers(-40, 40, size=COUNT)
    dataset = Dataset.create(tmp_path_factory.mktemp("data") / "set", schema={"x": "int64"})
    dataset.append({"x": np.arange(COUNT)}, labels=np.arange(COUNT) % 3, timestamps=times)
    return dataset


@pytest.fixture(scope="module")
def order(dataset: Dataset) -> np.ndarray:
    """Time order: by timestamp, then key."""
    return np.argsort(dataset.timestamps, kind="stable").astype(np.uint64)


def by_amount() -> tuple[Trigger, Selection]:
    return DataAmountTrigger(num_samples=37), LabelBalanced(ratio=50, tail_triggers=1)


def by_time() -> tuple[Trigger, Selection]:
    return TimeTrigger(every="5m"), Random(ratio=30, tail_triggers=None)


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


# Wrong answers.


def answering(answer: object) -> Policies:
    class Odd(Trigger):
        def inform(self, arrivals: Arrivals, context: object) -> object:
            return answer

    return lambda: (Odd(), NewData())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (65, "Odd answered 65 when informed of 64 samples: a trigger falls due after 0 to 64"),
        (-1, "Odd answered -1 when informed of 64 samples"),
        (2**63, "Odd answered 9223372036854775807 when"),
        (-(2**80), "Odd answered -9223372036854775808 when"),
        (True, "Odd.inform answered True"),
        (1.0, "Odd.inform answered 1.0"),
        ("1", "Odd.inform answered '1'"),
        ([1], r"Odd.inform answered \[1\]"),
    ],
)
def test_a_trigger_that_answers_nonsense_is_named(
    dataset: Dataset, tmp_path: Path, answer: object, message: str
) -> None:
    ledger = Ledger()

    with pytest.raises((TypeError, ValueError), match=message):
        start(dataset, answering(answer), tmp_path, ledger).next()

    assert ledger.transitions == []


def test_a_trigger_without_new_samples_comes_once(dataset: Dataset, tmp_path: Path) -> None:
    ledger = Ledger()
    loop = start(dataset, answering(0), tmp_path, ledger)

    first = loop.next()
    with pytest.raises(ValueError, match="Odd answered 0 again at position 0"):
        loop.next()
    with pytest.raises(ValueError, match="Odd answered 0 again at position 0"):
        start(dataset, answering(0), tmp_path, ledger).next()

    assert (first.first, first.position, first.samples) == (0, 0, 0)
    assert (first.first_timestamp, first.last_timestamp) == (None, None)
    assert len(TrainingSet.open(tmp_path / f"{first.digest}.set")) == 0


def choosing(answer: Callable[[object], object]) -> Policies:
    class Odd(Selection):
        def select(self, candidates: object, context: object) -> object:
            return answer(candidates)

    return lambda: (DataAmountTrigger(num_samples=50), Odd())


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda c: [COUNT - 1], "Odd chose key 499, which is not among its 50 candidates"),
        (lambda c: [2**64 - 1], "Odd chose key 18446744073709551615, which is not among"),
        (lambda c: np.repeat(c.keys[:1], 2), "Odd chose key [0-9]+ twice"),
        (lambda c: (c.keys, np.full(50, np.nan)), "Odd gave key [0-9]+ the weight nan"),
        (lambda c: (c.keys, np.full(50, -0.5)), "Odd gave key [0-9]+ the weight -0.5"),
        (lambda c: (c.keys, [1.0]), r"Odd.select answered weights of shape \(1,\) for 50 keys"),
        (lambda c: None, "Odd.select answered NoneType"),
        (lambda c: c.labels == 1, "Odd.select answered a mask of bool"),
        (lambda c: c.keys * 1.0, "Odd.select answered keys of float64"),
        (lambda c: [-1], "Odd chose key -1"),
    ],
)
def test_a_selection_that_chooses_nonsense_is_named(
    dataset: Dataset,
    order: np.ndarray,
    tmp_path: Path,
    ordered: bool,
    answer: Callable[[object], object],
    message: str,
) -> None:
    ledger = Ledger()
    use = order if ordered else None

    with pytest.raises((TypeError, ValueError), match=message):
        start(dataset, choosing(answer), tmp_path, ledger, order=use).next()

    assert ledger.transitions == []
    assert list(tmp_path.iterdir()) == []


def test_a_choice_is_let_go_when_it_is_committed(dataset: Dataset, tmp_path: Path) -> None:
    kept = []

    def choose(candidates: object) -> object:
        keys = candidates.keys[:10].copy()
        kept.append(weakref.ref(keys))
        return keys

    loop = start(dataset, choosing(choose), tmp_path, Ledger())
    loop.next()

    assert [ref() for ref in kept] == [None]


def test_no_key_is_an_answer(dataset: Dataset, tmp_path: Path) -> None:
    row = start(dataset, choosing(lambda c: []), tmp_path, Ledger()).next()

    assert row.samples == 0


def test_a_training_set_that_cannot_be_written_is_tried_again(
    dataset: Dataset, tmp_path: Path
) -> None:
    informed = []

    class Notes(DataAmountTrigger):
        def inform(self, arrivals: Arrivals, context: PlainContext) -> int | None:
            informed.append(context.position)
            return super().inform(arrivals, context)

    ledger = Ledger()
    sets = tmp_path / "sets"
    loop = start(dataset, lambda: (Notes(num_samples=50), NewData()), sets, ledger)

    with pytest.raises(OSError, match="sets"):
        loop.next()
    assert ledger.transitions == []
    sets.mkdir()
    row = loop.next()

    assert (row.trigger, row.position, informed) == (0, 50, [0])


# Wrong places.


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"position": COUNT + 1}, "position 501 is beyond the end of the stream at 500"),
        ({"position": -1}, "position must be at least 0, got -1"),
        ({"block_count": 0}, "block_count must be at least 1, got 0"),
        ({"advance_every": 0}, "advance_every must be at least 1, got 0"),
        ({"tail_triggers": -1}, "tail_triggers must be at least 0, got -1"),
        ({"trigger": 2}, "first positions of triggers 0 to 2, which is 3 numbers, got 1"),
        ({"trigger": 1, "trigger_starts": [0, 9], "position": 8}, "beyond the position 8"),
        ({"trigger_starts": [5], "position": 8}, "trigger 0 must start at position 0, not 5"),
    ],
)
def test_a_place_that_cannot_be_is_refused(
    dataset: Dataset, tmp_path: Path, wrong: dict, message: str
) -> None:
    steps = Steps(*by_amount(), Ledger())
    given = {"tail_triggers": 0, **wrong}

    with pytest.raises(ValueError, match=message):
        Orchestrator(dataset, steps=steps, trainset_directory=tmp_path, **given)


@pytest.mark.parametrize("wrong", [np.arange(3), np.arange(3.0), [0, 1], np.zeros((2, 2))])
def test_an_order_of_another_type_is_refused(dataset: Dataset, tmp_path: Path, wrong) -> None:
    with pytest.raises(TypeError):
        start(dataset, by_amount, tmp_path, Ledger(), order=wrong)


def test_an_order_with_a_key_that_is_none_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    wrong = np.array([1, COUNT], dtype=np.uint64)

    with pytest.raises(KeyError, match="500"):
        start(dataset, by_amount, tmp_path, Ledger(), order=wrong).next()


# Arrays.


def collect(dataset: Dataset, directory: Path, **more: object) -> list[Arrivals]:
    kept = []

    class Keeps(Trigger):
        def inform(self, arrivals: Arrivals, context: object) -> None:
            kept.append(arrivals)

    finish(start(dataset, lambda: (Keeps(), NewData()), directory, Ledger(), **more))
    return kept


@pytest.mark.parametrize("ordered", [True, False])
def test_arrays_outlive_their_block_and_the_loop(
    dataset: Dataset, order: np.ndarray, tmp_path: Path, ordered: bool
) -> None:
    keys = order.copy() if ordered else np.arange(COUNT, dtype=np.uint64)

    kept = collect(dataset, tmp_path, order=keys.copy() if ordered else None, block_count=60)
    gc.collect()

    assert [len(block) for block in kept] == [60] * 8 + [20]
    assert np.concatenate([block.keys for block in kept]).tolist() == keys.tolist()
    times = np.concatenate([block.timestamps for block in kept])
    assert (times == dataset.timestamps[keys]).all()
    assert (np.concatenate([b.labels for b in kept]) == dataset.labels[keys]).all()
    for array in (kept[0].keys, kept[0].timestamps, kept[0].labels):
        assert not array.flags.writeable


def test_arrival_order_is_seen_without_copies(dataset: Dataset, tmp_path: Path) -> None:
    for block in collect(dataset, tmp_path, block_count=100):
        assert np.shares_memory(block.timestamps, dataset.timestamps)
        assert np.shares_memory(block.labels, dataset.labels)


def test_time_order_shares_its_keys(dataset: Dataset, order: np.ndarray, tmp_path: Path) -> None:
    for block in collect(dataset, tmp_path, block_count=100, order=order):
        assert np.shares_memory(block.keys, order)


# Threads, signals, garbage.


def test_a_step_must_not_call_next(dataset: Dataset, tmp_path: Path) -> None:
    class Calls(DataAmountTrigger):
        def inform(self, arrivals: Arrivals, context: object) -> int | None:
            loop.next()
            return None

    loop = start(dataset, lambda: (Calls(num_samples=5), NewData()), tmp_path, Ledger())

    with pytest.raises(RuntimeError, match="running already"):
        loop.next()


def test_other_threads_run_while_the_loop_does(dataset: Dataset, tmp_path: Path) -> None:
    """Two loops in two threads, whose steps wait for each other."""
    barrier = threading.Barrier(2, timeout=20)
    rows: dict[int, list[Transition]] = {}

    def work(number: int) -> None:
        def meet(step: str) -> None:
            if step == "commit":
                barrier.wait()

        rows[number] = finish(start(dataset, by_amount, tmp_path, Ledger(), meet))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)

    assert rows[0] == rows[1] == finish(start(dataset, by_amount, tmp_path, Ledger()))


def test_a_loop_may_move_from_thread_to_thread(dataset: Dataset, tmp_path: Path) -> None:
    loop = start(dataset, by_amount, tmp_path, Ledger())
    rows: list[Transition | None] = []

    for _ in range(4):
        thread = threading.Thread(target=lambda: rows.append(loop.next()))
        thread.start()
        thread.join(timeout=20)

    assert [row.trigger for row in rows] == [0, 1, 2, 3]


def test_an_interrupt_comes_through_and_no_block_is_lost(dataset: Dataset, tmp_path: Path) -> None:
    seen, signals = [], [signal.SIGINT]
    original = signal.signal(signal.SIGINT, signal.default_int_handler)

    class Interrupts(DataAmountTrigger):
        def inform(self, arrivals: Arrivals, context: PlainContext) -> int | None:
            seen.append(context.position)
            return super().inform(arrivals, context)

    def policies() -> tuple[Trigger, Selection]:
        return Interrupts(num_samples=10**6), NewData()

    def interrupt(step: str) -> None:
        if step == "advance" and signals:
            os.kill(os.getpid(), signals.pop())

    loop = start(dataset, policies, tmp_path, Ledger(), interrupt, block_count=50, advance_every=3)
    try:
        with pytest.raises(KeyboardInterrupt):
            loop.next()
        assert loop.next() is None
    finally:
        signal.signal(signal.SIGINT, original)

    assert seen == list(range(0, COUNT, 50))


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("ordered", [True, False])
def test_a_loop_goes_on_in_parent_and_child_of_a_fork(
    dataset: Dataset, order: np.ndarray, tmp_path: Path, ordered: bool
) -> None:
    """Whatever was read ahead by then."""
    keys = order if ordered else None
    want = finish(start(dataset, by_amount, tmp_path, Ledger(), order=keys))
    loop = start(dataset, by_amount, tmp_path, Ledger(), order=keys)
    first = [loop.next() for _ in range(4)]

    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = int(first + finish(loop) != want)
        finally:
            os._exit(status)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert first + finish(loop) == want


def test_a_loop_that_refers_to_itself_is_collected(dataset: Dataset, tmp_path: Path) -> None:
    class Seen:
        def __del__(self) -> None:
            gone.append(True)

    gone: list[bool] = []
    loop = start(dataset, by_amount, tmp_path, Ledger())
    loop.next()
    loop._steps.seen = Seen()
    loop._steps.cycle = loop

    del loop
    gc.collect()

    assert gone == [True]


def test_many_loops_leave_no_references(
    dataset: Dataset, order: np.ndarray, tmp_path: Path
) -> None:

    view = dataset.view
    before = sys.getrefcount(view), sys.getrefcount(order)

    for _ in range(20):
        finish(start(dataset, by_amount, tmp_path, Ledger(), order=order))
        with pytest.raises(ValueError, match="beyond"):
            start(dataset, by_amount, tmp_path, Ledger(), order=order[:3], position=4)
    gc.collect()

    assert (sys.getrefcount(view), sys.getrefcount(order)) == before
