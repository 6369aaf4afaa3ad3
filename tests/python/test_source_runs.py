"""A loop over a source in Postgres makes the transitions of the loop over the dataset itself."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType

import numpy as np
import pytest

pytest.importorskip("modyn.postgres", reason="modyn was built without libpq")

from modyn.dataset import Dataset
from modyn.metadata.source import Source
from modyn.policies import DataAmountTrigger, LabelBalanced, Random, TimeTrigger
from tests.python.loops import CrashError, Ledger, finish, start
from tests.python.postgres_server import terminate_backends
from tests.python.source_tables import Samples, publish

COUNT = 6000
LAYOUTS = pytest.mark.parametrize("layout", ["rows", "blocks"])


def by_amount() -> tuple[object, object]:
    return DataAmountTrigger(num_samples=700), LabelBalanced(ratio=50, tail_triggers=2)


def by_time() -> tuple[object, object]:
    return TimeTrigger(every="300s"), Random(ratio=30, tail_triggers=None)


@pytest.fixture
def dataset(tmp_path: Path, rand) -> Dataset:
    path = tmp_path / "data"
    times = np.arange(COUNT) + rand.numpy.integers(-50, 50, COUNT)
    with Dataset.create(path, schema={"x": "float32[1]"}) as made:
        x = np.zeros((COUNT, 1), dtype=np.float32)
        made.append({"x": x}, labels=rand.integers(0, 4, COUNT), timestamps=times)
        made.erase(np.flatnonzero(rand.numpy.random(COUNT) < 0.05), reason="a test")
    return Dataset.open(path)


def source_of(url: str, dataset: Dataset, order: np.ndarray | None, layout: str) -> Source:
    keys = np.arange(COUNT, dtype=np.uint64) if order is None else order
    samples = Samples(
        keys=keys,
        timestamps=np.asarray(dataset.timestamps)[keys],
        labels=np.asarray(dataset.labels)[keys],
        erased=np.asarray(dataset.view.erased(0, COUNT))[keys].astype(bool),
    )
    return publish(url, samples, 2500, layout=layout, own_keys=order is not None)


@pytest.mark.parametrize("policies", [by_amount, by_time])
@pytest.mark.parametrize("ordered", [False, True], ids=["arrival", "time"])
@LAYOUTS
def test_transitions_are_those_of_the_dataset(
    database_url, dataset, tmp_path, policies, ordered, layout
):
    order = None
    if ordered:
        order = np.argsort(np.asarray(dataset.timestamps), kind="stable").astype(np.uint64)
    (tmp_path / "one").mkdir()
    (tmp_path / "other").mkdir()
    want, got = Ledger(), Ledger()
    finish(start(dataset, policies, tmp_path / "one", want, order=order))

    source = source_of(database_url, dataset, order, layout)
    finish(start(dataset, policies, tmp_path / "other", got, order=order, source=source))

    assert got.transitions == want.transitions
    assert got.states == want.states
    assert len(got.transitions) > 5


@LAYOUTS
@pytest.mark.parametrize("step", ["inform", "select", "commit", "advance"])
def test_a_run_that_crashes_anywhere_resumes_from_the_source(
    database_url, dataset, tmp_path, layout, step
):
    want, got = Ledger(), Ledger()
    finish(start(dataset, by_amount, tmp_path, want, block_count=300, advance_every=1))
    source = source_of(database_url, dataset, None, layout)
    calls = 0

    def fail(name: str) -> None:
        nonlocal calls
        calls += name == step
        if name == step and calls % 3 == 2:
            if calls % 2:
                terminate_backends(database_url)
            raise CrashError

    for _ in range(100):
        try:
            finish(
                start(
                    dataset,
                    by_amount,
                    tmp_path,
                    got,
                    fail,
                    block_count=300,
                    advance_every=1,
                    source=source,
                )
            )
            break
        except CrashError:
            continue

    assert calls > 3
    assert got.transitions == want.transitions


def test_a_source_that_holds_fewer_samples_ends_earlier(database_url, dataset, tmp_path):
    want, got = Ledger(), Ledger()
    finish(start(dataset, by_amount, tmp_path, want))
    keys = np.arange(4000, dtype=np.uint64)
    samples = Samples(
        keys=keys,
        timestamps=np.asarray(dataset.timestamps)[:4000],
        labels=np.asarray(dataset.labels)[:4000],
        erased=np.asarray(dataset.view.erased(0, 4000)).astype(bool),
    )

    finish(start(dataset, by_amount, tmp_path, got, source=publish(database_url, samples, 2500)))

    assert got.transitions == want.transitions[: len(got.transitions)]
    assert 4 < len(got.transitions) < len(want.transitions)


def test_a_position_beyond_the_source_is_refused(database_url, dataset, tmp_path):
    source = source_of(database_url, dataset, None, "rows")
    ledger = Ledger()
    ledger.position = COUNT + 1

    with pytest.raises(ValueError, match="beyond the end of the stream at 6000"):
        start(dataset, by_amount, tmp_path, ledger, source=source)


def test_a_signal_ends_a_wait_for_arrivals_and_no_block_is_lost(database_url, dataset, tmp_path):
    want, got = Ledger(), Ledger()
    finish(start(dataset, by_amount, tmp_path, want))
    source = source_of(database_url, dataset, None, "rows")
    loop = start(dataset, by_amount, tmp_path, got, source=source)

    waiting = False

    def ring(signum: int, frame: FrameType | None) -> None:
        # Only in C, below this test: not in a policy or in the ledger, which are Python.
        if waiting and frame is not None and frame.f_code is here:
            raise CrashError

    here = sys._getframe().f_code
    before = signal.signal(signal.SIGALRM, ring)
    ended = False
    try:
        for _ in range(60):
            if ended:
                break
            try:
                waiting = True
                signal.setitimer(signal.ITIMER_REAL, 0.003)
                ended = loop.next() is None
                waiting = False
            except CrashError:
                waiting = False
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    finish(loop)

    assert got.transitions == want.transitions
