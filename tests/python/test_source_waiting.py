"""Streams of samples in Postgres: nothing waits for ever, and nothing stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from modyn.metadata.source import Part, Source
from modyn.sampling import Candidates, balanced, uniform
from tests.python.postgres_server import sql
from tests.python.source_tables import (
    BLOCK,
    LAYOUTS,
    assert_equal,
    backends_busy,
    embedded,
    made,
    publish,
)

pytest.importorskip("modyn.postgres", reason="modyn was built without libpq")


class RangError(Exception):
    pass


@pytest.fixture
def ringing() -> Iterator[None]:
    """In 0.2 s a signal handler raises RangError."""

    def ring(signum: int, frame: object) -> None:
        raise RangError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Nobody else can read the leaf."""
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("LOCK TABLE public.leaf_0 IN ACCESS EXCLUSIVE MODE")
        yield
        connection.rollback()


@pytest.mark.parametrize(
    "read",
    [
        lambda candidates: uniform(candidates, 5, seed=0),
        lambda candidates: balanced(candidates, 5, seed=0),
        lambda candidates: candidates.keys,
        lambda candidates: next(candidates.blocks()),
        lambda candidates: candidates.where(start=5),
    ],
    ids=["uniform", "balanced", "columns", "blocks", "where"],
)
def test_a_signal_ends_any_wait_for_the_server(database_url, rand, ringing, read):
    samples = made(rand.numpy, 1000)
    signal.setitimer(signal.ITIMER_REAL, 0)
    source = publish(database_url, samples, 1000)
    candidates = Candidates.from_source(source, first=0, last=1000)

    with locked(database_url):
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(RangError):
            read(candidates)

    assert_equal(Candidates.from_source(source, first=0, last=1000), embedded(samples, 0, 1000))
    assert backends_busy(database_url) == 0


def test_a_signal_ends_the_wait_for_a_server_that_is_not_there(tmp_path, ringing):
    source = Source(f"host={tmp_path}", [Part("leaf", 0, 10)])

    with pytest.raises(RangError):
        uniform(Candidates.from_source(source, first=0, last=10), 1, seed=0)


@LAYOUTS
def test_threads_read_from_one_source_at_once(database_url, rand, layout):
    samples = made(rand.numpy, 30 * BLOCK)
    source = publish(database_url, samples, 7 * BLOCK, layout=layout)
    want = uniform(embedded(samples, 0, len(samples)), 500, seed=3).tolist()
    start, got = threading.Barrier(4), []

    def read(number: int) -> None:
        start.wait(timeout=30)
        for _ in range(3):
            candidates = Candidates.from_source(source, first=0, last=len(samples))
            if number % 2:
                assert sum(len(block) for block in candidates.blocks()) == len(samples)
            got.append(uniform(candidates, 500, seed=3).tolist())

    threads = [threading.Thread(target=read, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)

    assert len(got) == 12
    assert all(keys == want for keys in got)


def test_an_iterator_is_for_one_thread_at_a_time(database_url, rand):
    samples = made(rand.numpy, 100)
    source = publish(database_url, samples, 100)
    core = Candidates.from_source(source, first=0, last=100)._core.blocks(10)
    outcome: list[object] = []

    def read() -> None:
        outcome.append(next(core))

    with locked(database_url):
        thread = threading.Thread(target=read)
        thread.start()
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            waiting = sql(database_url, "SELECT 1 FROM pg_locks WHERE NOT granted")
            if waiting:
                break
        with pytest.raises(RuntimeError, match="in use by another thread"):
            next(core)
    thread.join(timeout=60)

    assert len(outcome) == 1


def test_the_child_of_a_fork_reads_over_connections_of_its_own(database_url, rand):
    samples = made(rand.numpy, 5 * BLOCK)
    source = publish(database_url, samples, 5 * BLOCK)
    want = uniform(Candidates.from_source(source, first=0, last=len(samples)), 50, seed=3)

    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            got = uniform(Candidates.from_source(source, first=0, last=len(samples)), 50, seed=3)
            status = 0 if got.tolist() == want.tolist() else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    got = uniform(Candidates.from_source(source, first=0, last=len(samples)), 50, seed=3)
    assert got.tolist() == want.tolist()


@pytest.mark.parametrize("layout", ["rows", "blocks"])
def test_an_open_stream_goes_on_in_parent_and_child_of_a_fork(database_url, rand, layout):
    samples = made(rand.numpy, 50 * BLOCK)
    source = publish(database_url, samples, 50 * BLOCK, layout=layout)
    candidates = Candidates.from_source(source, first=0, last=len(samples), block_count=BLOCK // 2)
    blocks = candidates.blocks()
    first = next(blocks).keys

    def goes_on() -> bool:
        keys = np.concatenate([first, *(block.keys for block in blocks)])
        return np.array_equal(keys, samples.keys)

    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if goes_on() else 2
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert goes_on()


MEMORY = """
import resource, sys
from modyn.metadata.source import Part, Source
from modyn.sampling import Candidates, balanced, uniform

url, count, layout = sys.argv[1], int(sys.argv[2]), sys.argv[3]
source = Source(url, [Part("public.leaf_0", 0, count)], layout=layout)
uniform(Candidates.from_source(source, first=0, last=1000), 10, seed=0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
candidates = Candidates.from_source(source, first=0, last=count)
assert sum(len(block) for block in candidates.blocks()) == count
assert len(uniform(candidates, 1000, seed=0)) == 1000
assert len(balanced(candidates, 1000, seed=0)) <= 1000
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@LAYOUTS
def test_memory_does_not_grow_with_the_stream(database_url, rand, layout):
    count = 3_000_000
    publish(database_url, made(rand.numpy, count), count, layout=layout)

    done = subprocess.run(
        [sys.executable, "-c", MEMORY, database_url, str(count), layout],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )

    assert int(done.stdout) < 16 * 1024  # KiB, where the columns take 72 MB
