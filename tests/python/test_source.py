"""Samples in Postgres as candidates and arrivals: the same as embedded, or a clear error."""

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

pytest.importorskip("modyn.postgres", reason="modyn was built without libpq")

from postgres_server import sql, terminate_backends
from source_tables import BLOCK, Samples, backends_busy, made, publish

from modyn.errors import CorruptError, DatabaseError
from modyn.metadata.source import Part, Source
from modyn.sampling import Candidates, balanced, uniform

LAYOUTS = pytest.mark.parametrize("layout", ["rows", "blocks"])
OWN_KEYS = pytest.mark.parametrize("own_keys", [False, True], ids=["keys", "positions"])


def embedded(samples: Samples, first: int, last: int) -> Candidates:
    at = samples.living(first, last)
    labels = None if samples.labels is None else samples.labels[at]
    return Candidates.from_arrays(samples.keys[at], samples.timestamps[at], labels)


def assert_equal(got: Candidates, want: Candidates, seed: int = 5) -> None:
    assert len(got) == len(want)
    assert got.keys.tolist() == want.keys.tolist()
    assert got.timestamps.tolist() == want.timestamps.tolist()
    if want.labels is None:
        assert got.labels is None
    else:
        assert got.labels is not None
        assert got.labels.tolist() == want.labels.tolist()
    for count in (0, 1, len(want) // 3, len(want)):
        one, other = uniform(got, count, seed=seed), uniform(want, count, seed=seed)
        assert one.tolist() == other.tolist()
        if want.labels is not None:
            one, other = balanced(got, count, seed=seed), balanced(want, count, seed=seed)
            assert one.tolist() == other.tolist()


@LAYOUTS
@OWN_KEYS
@pytest.mark.parametrize("erased", [0.0, 0.2])
def test_any_range_is_that_of_embedded_candidates(database_url, rand, layout, own_keys, erased):
    count = 5 * BLOCK + 321
    samples = made(rand.numpy, count, permuted=own_keys)
    samples.erased = rand.numpy.random(count) < erased
    samples.erased[2 * BLOCK - 5 : 3 * BLOCK + 5] |= erased > 0  # whole blocks, and leaf ends
    source = publish(database_url, samples, 2 * BLOCK, layout=layout, own_keys=own_keys)

    assert source.count == count
    for first, last in [(0, count), (count, count), (7, 7), *rand.numpy.integers(0, count, (8, 2))]:
        first, last = sorted((int(first), int(last)))
        got = Candidates.from_source(source, first=first, last=last)
        assert_equal(got, embedded(samples, first, last))


@LAYOUTS
def test_blocks_are_cut_as_asked_for(database_url, rand, layout):
    samples = made(rand.numpy, 3 * BLOCK + 17)
    samples.erased = rand.numpy.random(len(samples)) < 0.1
    source = publish(database_url, samples, 2 * BLOCK, layout=layout)
    whole = embedded(samples, 0, len(samples))

    for block_count in (1, 7, BLOCK - 1, BLOCK, 10**12):
        last = 40 if block_count == 1 else len(samples)
        whole = embedded(samples, 0, last)
        got = Candidates.from_source(source, first=0, last=last, block_count=block_count)
        blocks = list(got.blocks())
        assert {len(block) for block in blocks[:-1]} <= {block_count}
        assert np.concatenate([b.keys for b in blocks]).tolist() == whole.keys.tolist()
        assert np.concatenate([b.timestamps for b in blocks]).tolist() == whole.timestamps.tolist()


@LAYOUTS
def test_a_dataset_without_labels(database_url, rand, layout):
    samples = made(rand.numpy, 2500)
    samples.labels = None
    source = publish(database_url, samples, BLOCK, layout=layout)

    got = Candidates.from_source(source, first=100, last=2400)

    assert_equal(got, embedded(samples, 100, 2400))
    with pytest.raises(ValueError, match="no labels"):
        got.where(labels=[1])
    with pytest.raises(ValueError, match="no labels"):
        balanced(got, 3, seed=1)


# Filters ----------------------------------------------------------------------------------------


@LAYOUTS
@OWN_KEYS
@pytest.mark.parametrize("erased", [0.0, 0.2])
def test_a_filter_is_that_of_embedded_candidates(database_url, rand, layout, own_keys, erased):
    samples = made(rand.numpy, 4 * BLOCK + 99, permuted=own_keys)
    samples.erased = rand.numpy.random(len(samples)) < erased
    source = publish(database_url, samples, 2 * BLOCK, layout=layout, own_keys=own_keys)
    first, last = 50, len(samples) - 60
    got = Candidates.from_source(source, first=first, last=last)
    want = embedded(samples, first, last)
    low, high = np.quantile(samples.timestamps, [0.3, 0.6]).astype(int)

    for bounds in (
        {"start": low},
        {"stop": high},
        {"start": low, "stop": high, "labels": [0, 3, 77]},
        {"labels": [-2]},
        {"labels": []},
        {"start": high, "stop": low},
        {"start": -(2**63), "stop": 2**63 - 1},
    ):
        assert_equal(got.where(**bounds), want.where(**bounds))
    twice = got.where(start=low, labels=[0, 1, 2]).where(stop=high, labels=[1, 2, 4])
    assert_equal(twice, want.where(start=low, stop=high, labels=[1, 2]))
    assert next(iter(twice.blocks())).keys.tolist() == twice.keys.tolist()


def test_a_filter_that_keeps_no_label_is_not_widened():
    source = Source("", [Part("modyn.samples_d1_l0", 0, 5)])

    none = source.where(labels=[0]).where(labels=[1])

    assert none.where(labels=[1])._labels == frozenset()


def test_a_filter_of_arrays_and_views_keeps_what_it_says(rand):
    samples = made(rand.numpy, 3000)
    assert samples.labels is not None
    candidates = embedded(samples, 0, 3000)

    got = candidates.where(start=-500, stop=900, labels=[1, 3])

    keep = (samples.timestamps >= -500) & (samples.timestamps < 900)
    keep &= np.isin(samples.labels, [1, 3])
    assert len(got) == keep.sum()
    assert got.keys.tolist() == samples.keys[keep].tolist()
    assert (
        balanced(got, 5, seed=1).tolist()
        == balanced(samples.keys[keep], 5, labels=samples.labels[keep], seed=1).tolist()
    )


# What is wrong with a table -----------------------------------------------------------------------


def shuffled(url: str, table: str, order: str) -> None:
    """Rewrite a table so that its rows lie in another order."""
    sql(url, f"CREATE TABLE public.other AS SELECT * FROM {table} ORDER BY {order}")
    sql(url, f"DROP TABLE {table}")
    sql(url, f"ALTER TABLE public.other RENAME TO {table.split('.')[1]}")


@LAYOUTS
@pytest.mark.parametrize("erased", [0.0, 0.2])
def test_tables_that_do_not_lie_in_order_are_sorted(database_url, rand, layout, erased):
    samples = made(rand.numpy, 6 * BLOCK)
    samples.erased = rand.numpy.random(len(samples)) < erased
    source = publish(database_url, samples, 3 * BLOCK, layout=layout)
    column = '"first"' if layout == "blocks" else "key"
    shuffled(database_url, "public.leaf_0", f"({column} + {2 * BLOCK}) % {3 * BLOCK}")
    shuffled(database_url, "public.leaf_1", f"{column} DESC")

    for _ in range(2):
        got = Candidates.from_source(source, first=10, last=6 * BLOCK - 10)
        assert_equal(got, embedded(samples, 10, 6 * BLOCK - 10))
    low = int(np.median(samples.timestamps))
    fresh = Candidates.from_source(source.where(), first=0, last=6 * BLOCK).where(start=low)
    assert_equal(fresh, embedded(samples, 0, 6 * BLOCK).where(start=low))


@pytest.mark.parametrize("fill", [10, 55, 100])
def test_a_part_of_a_table_is_found_wherever_it_lies(database_url, rand, fill):
    samples = made(rand.numpy, 20 * BLOCK)
    source = publish(database_url, samples, 20 * BLOCK)
    if fill < 100:  # a part of the pages holds fewer rows
        sql(database_url, "CREATE TABLE public.other (LIKE public.leaf_0)")
        for setting, rows in ((fill, "< 9000"), (100, ">= 9000")):
            sql(database_url, f"ALTER TABLE public.other SET (fillfactor = {setting})")
            move = f"SELECT * FROM public.leaf_0 WHERE key {rows} ORDER BY key"
            sql(database_url, f"INSERT INTO public.other {move}")
        sql(database_url, "DROP TABLE public.leaf_0")
        sql(database_url, "ALTER TABLE public.other RENAME TO leaf_0")

    for first, last in [
        (0, 1),
        (8990, 9010),
        (19 * BLOCK, 20 * BLOCK),
        (20 * BLOCK - 1, 20 * BLOCK),
    ]:
        got = Candidates.from_source(source, first=first, last=last)
        assert_equal(got, embedded(samples, first, last))


@LAYOUTS
@pytest.mark.parametrize("order", [None, "asc", "desc"])
@pytest.mark.parametrize("parts", [1, 3])
def test_the_last_table_may_hold_more(database_url, rand, layout, order, parts):
    samples = made(rand.numpy, 9 * BLOCK)
    publish(database_url, samples, 9 * BLOCK // parts, layout=layout)
    count = 8 * BLOCK + 123
    if order:
        column = '"first"' if layout == "blocks" else "key"
        shuffled(database_url, f"public.leaf_{parts - 1}", f"{column} {order}")
    leaf = 9 * BLOCK // parts
    firsts = range(0, count, leaf)
    wanted = [Part(f"public.leaf_{n}", f, min(leaf, count - f)) for n, f in enumerate(firsts)]
    source = Source(database_url, wanted, layout=layout)

    for first, last in [(0, count), (5, count - 5), (count - 1, count)]:
        got = Candidates.from_source(source, first=first, last=last)
        assert_equal(got, embedded(samples, first, last))
        low = int(np.median(samples.timestamps))
        assert_equal(got.where(start=low), embedded(samples, first, last).where(start=low))


@LAYOUTS
@pytest.mark.parametrize("position", [0, BLOCK, 3 * BLOCK - 1])
def test_a_row_that_is_missing_in_a_part_is_named(database_url, rand, layout, position):
    samples = made(rand.numpy, 4 * BLOCK)
    source = publish(database_url, samples, 4 * BLOCK, layout=layout)
    column = '"first"' if layout == "blocks" else "key"
    at = position // BLOCK * BLOCK if layout == "blocks" else position
    sql(database_url, f"DELETE FROM public.leaf_0 WHERE {column} = {at}")
    first = max(position - 5, 0)
    due = max(first, at)

    with pytest.raises(CorruptError, match=rf"public.leaf_0: .*position {due} is missing"):
        Candidates.from_source(source, first=first, last=position + 5).keys  # noqa: B018


@LAYOUTS
@pytest.mark.parametrize("position", [0, BLOCK, 3 * BLOCK - 1])
def test_a_row_that_is_missing_is_named(database_url, rand, layout, position):
    samples = made(rand.numpy, 4 * BLOCK)
    source = publish(database_url, samples, 3 * BLOCK, layout=layout)
    column = '"first"' if layout == "blocks" else "key"
    at = position // BLOCK * BLOCK if layout == "blocks" else position
    sql(database_url, f"DELETE FROM public.leaf_0 WHERE {column} = {at}")

    with pytest.raises(CorruptError, match=rf"public.leaf_0: .*position {at} is missing"):
        uniform(Candidates.from_source(source, first=0, last=len(samples)), 5, seed=0)
    with pytest.raises(CorruptError, match=rf"public.leaf_0 .*where {3 * BLOCK} are due"):
        next(Candidates.from_source(source, first=0, last=len(samples)).where(start=0).blocks())


@LAYOUTS
@pytest.mark.parametrize("position", [0, BLOCK, 3 * BLOCK - 1])
@pytest.mark.parametrize("order", [None, "rank"])
def test_a_row_that_is_there_twice_is_named(database_url, rand, layout, position, order):
    samples = made(rand.numpy, 4 * BLOCK)
    source = publish(database_url, samples, 3 * BLOCK, layout=layout)
    column = '"first"' if layout == "blocks" else "key"
    at = position // BLOCK * BLOCK if layout == "blocks" else position
    sql(
        database_url,
        f"INSERT INTO public.leaf_0 SELECT * FROM public.leaf_0 WHERE {column} = {at}",
    )
    if order:
        shuffled(database_url, "public.leaf_0", column)

    with pytest.raises(CorruptError, match=rf"public.leaf_0: .*position {at} is there twice"):
        uniform(Candidates.from_source(source, first=0, last=len(samples)), 5, seed=0)


def test_an_erased_leaf_that_lost_a_row_is_refused(database_url, rand):
    samples = made(rand.numpy, 3000)
    samples.erased[100:200] = True
    source = publish(database_url, samples, 3000)
    sql(database_url, "DELETE FROM public.leaf_0 WHERE key = 2000")

    with pytest.raises(CorruptError, match=r"public.leaf_0 .*holds 2899 .*where 2900 are due"):
        uniform(Candidates.from_source(source, first=0, last=3000), 5, seed=0)


@pytest.mark.parametrize(
    "damage",
    [
        "timestamps = substr(timestamps, 9)",
        "labels = NULL",
        "erased = '\\x00'",
        "count = 0",
        "count = -5",
        "count = 2000000000",
        "timestamps = NULL",
        '"first" = -1',
    ],
)
def test_blocks_that_contradict_themselves_are_refused(database_url, rand, damage):
    samples = made(rand.numpy, 3 * BLOCK)
    source = publish(database_url, samples, 3 * BLOCK, layout="blocks")
    sql(database_url, f'UPDATE public.leaf_0 SET {damage} WHERE "first" = {BLOCK}')

    with pytest.raises(CorruptError, match=r"public\.leaf_0"):
        Candidates.from_source(source, first=0, last=len(samples)).labels  # noqa: B018


# Faults -------------------------------------------------------------------------------------------


@LAYOUTS
@pytest.mark.parametrize("erased", [0.0, 0.1])
def test_reading_goes_on_after_the_backend_is_gone(database_url, rand, layout, erased):
    samples = made(rand.numpy, 60 * BLOCK)
    samples.erased = rand.numpy.random(len(samples)) < erased
    source = publish(database_url, samples, 30 * BLOCK, layout=layout)
    candidates = Candidates.from_source(
        source, first=5, last=len(samples), block_count=3 * BLOCK // 2
    )

    got = []
    for number, block in enumerate(candidates.blocks()):
        got.append(block)
        if number % 7 == 3:
            terminate_backends(database_url)

    want = embedded(samples, 5, len(samples))
    assert np.concatenate([block.keys for block in got]).tolist() == want.keys.tolist()
    assert np.concatenate([block.timestamps for block in got]).tolist() == want.timestamps.tolist()


def test_what_cannot_pass_is_an_error_at_once(database_url, rand):
    samples = made(rand.numpy, 100)
    source = publish(database_url, samples, 100)
    sql(database_url, "DROP TABLE public.leaf_0")

    with pytest.raises(DatabaseError, match=r"leaf_0.*does not exist"):
        uniform(Candidates.from_source(source, first=0, last=100), 5, seed=0)


def test_a_server_that_is_not_there_is_given_up_in_the_end(tmp_path):
    source = Source(f"host={tmp_path}", [Part("leaf", 0, 10)], retry_seconds=0.3)

    with pytest.raises(DatabaseError, match="cannot connect"):
        uniform(Candidates.from_source(source, first=0, last=10), 1, seed=0)


@LAYOUTS
def test_a_stream_left_early_leaves_nothing_running(database_url, rand, layout):
    samples = made(rand.numpy, 300 * BLOCK)
    source = publish(database_url, samples, 300 * BLOCK, layout=layout)
    blocks = Candidates.from_source(source, first=0, last=len(samples), block_count=10).blocks()
    next(blocks)
    assert backends_busy(database_url) == 1

    blocks.close()

    for _ in range(200):
        if backends_busy(database_url) == 0:
            break
    assert backends_busy(database_url) == 0
    assert_equal(Candidates.from_source(source, first=0, last=10), embedded(samples, 0, 10))


# Making a source ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([("t; DROP TABLE x", 0, 1, 0)], "not the name of a table"),
        ([("a.b.c", 0, 1, 0)], "not the name of a table"),
        ([("T", 0, 1, 0)], "not the name of a table"),
        ([("t", 1, 1, 0)], "cannot follow position 0"),
        ([("t", 0, 0, 0)], "cannot follow position 0"),
        ([("t", 0, 5, 6)], "cannot follow position 0"),
        ([("t", 0, 5, 0), ("u", 6, 5, 0)], "cannot follow position 5"),
        ([("t", 0, 5, 0), ("u", 5, 2**63 - 1, 0)], "cannot follow position 5"),
    ],
)
def test_parts_that_cannot_be_are_refused(parts, message):
    with pytest.raises(ValueError, match=message):
        Source("host=/nowhere", parts)


def test_a_source_of_nothing_is_empty():
    source = Source("host=/nowhere", [])

    candidates = Candidates.from_source(source, first=0, last=0)

    assert len(candidates) == 0
    assert candidates.keys.tolist() == []
    assert uniform(candidates, 3, seed=0).tolist() == []


def test_positions_out_of_range_are_refused():
    source = Source("host=/nowhere", [Part("t", 0, 5)])

    with pytest.raises(ValueError, match="0 <= first <= last <= 5"):
        Candidates.from_source(source, first=0, last=6)


# Waiting ------------------------------------------------------------------------------------------


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


# Who brought them, and which are still there ----------------------------------------------------


@LAYOUTS
@OWN_KEYS
def test_parts_are_those_of_embedded_candidates(database_url, rand, layout, own_keys):
    samples = made(rand.numpy, 3 * BLOCK + 99, permuted=own_keys)
    samples.erased = rand.numpy.random(len(samples)) < 0.2
    source = publish(database_url, samples, 2 * BLOCK, layout=layout, own_keys=own_keys)
    last, starts = len(samples), [(3, 17), (4, BLOCK + 5), (5, BLOCK + 5), (7, 2 * BLOCK)]
    whole = Candidates.from_source(source, first=17, last=last, starts=starts)
    ends = [first for _, first in starts[1:]] + [last]

    for (trigger, first), end, part in zip(starts, ends, whole.parts, strict=True):
        assert part.trigger == trigger
        assert_equal(part.candidates, embedded(samples, first, end))
        some = whole.where(labels=[1]).parts[trigger - 3 if trigger < 7 else 3].candidates
        assert_equal(some, embedded(samples, first, end).where(labels=[1]))
    assert_equal(whole.new, embedded(samples, 2 * BLOCK, last))


@LAYOUTS
def test_without_a_view_the_stream_says_what_lives(database_url, rand, layout):
    samples = made(rand.numpy, 2 * BLOCK + 99)
    samples.erased = rand.numpy.random(len(samples)) < 0.2
    source = publish(database_url, samples, BLOCK, layout=layout)

    whole = Candidates.from_source(source, first=0, last=len(samples))

    assert whole.living(samples.keys).tolist() == (~samples.erased).tolist()
