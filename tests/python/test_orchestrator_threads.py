"""The loop with threads, interrupts and forks, and the arrays that it hands out."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from modyn.arrivals import Arrivals
from modyn.dataset import Dataset
from modyn.orchestrator import Transition
from modyn.policies import (
    DataAmountTrigger,
    NewData,
    PlainContext,
    Selection,
    Trigger,
)
from tests.python.loops import COUNT, Ledger, by_amount, dataset, finish, order, start

__all__ = ["dataset", "order"]  # fixtures


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
