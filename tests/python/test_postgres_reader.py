"""Connection.read: rows of a COPY as columns, against what went in."""

from __future__ import annotations

import os
import signal
import threading
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("modyn.postgres", reason="modyn was built without libpq")

from modyn.errors import CorruptError, DatabaseError
from modyn.postgres import Connection, Copy, Statement
from tests.python.postgres_server import terminate_backends

TABLE = "CREATE TABLE t (n int8, q int8, i int4, d float8, f float4, b boolean, y bytea)"
TYPES = "qQ0i0d0f0?0y0"
OUT = "COPY (SELECT * FROM t ORDER BY n) TO STDOUT (FORMAT binary)"


def columns(rand, count):
    """One of each type, with NULL here and there."""
    rng = rand.numpy
    mask = rng.random((6, count)) < 0.2
    return (
        np.arange(count),
        np.ma.array(rng.integers(0, 2**63, count, dtype=np.uint64), mask=mask[0]),
        np.ma.array(rng.integers(-(2**31), 2**31, count).astype(np.int32), mask=mask[1]),
        np.ma.array(rng.normal(size=count), mask=mask[2]),
        np.ma.array(rng.normal(size=count).astype(np.float32), mask=mask[3]),
        np.ma.array(rng.random(count) < 0.5, mask=mask[4]),
        [None if gone else rng.bytes(int(rng.integers(0, 50))) for gone in mask[5]],
    )


@pytest.fixture
def filled(database_url, rand):
    data = columns(rand, 1000)
    with Connection(database_url) as connection:
        copy = Copy("COPY t FROM STDIN (FORMAT binary)", data, 1000)
        connection.batch(None, before=(Statement(TABLE),), copies=(copy,))
        yield connection, data


@pytest.mark.parametrize("block_rows", [1, 7, 999, 1000, 1001])
def test_what_went_in_comes_out(filled, block_rows):
    connection, data = filled

    blocks = list(connection.read(OUT, TYPES, block_rows=block_rows))

    assert all(len(a[0]) == block_rows for a, _ in pairwise(blocks))
    for number, want in enumerate(data):
        parts = [block[number] for block in blocks]
        if isinstance(want, list):
            assert [value for part in parts for value in part] == want
            continue
        got = np.ma.concatenate(parts)
        assert got.dtype == want.dtype
        assert got.tolist() == want.tolist()


def test_no_rows_are_no_blocks(filled):
    connection, _ = filled

    assert (
        list(connection.read("COPY (SELECT 1::int8 WHERE false) TO STDOUT (FORMAT binary)", "q"))
        == []
    )


def test_blocks_of_large_values_end_early(filled):
    connection, _ = filled
    query = "SELECT convert_to(repeat('x', 3000000), 'UTF8') FROM generate_series(1, 20)"

    blocks = list(connection.read(f"COPY ({query}) TO STDOUT (FORMAT binary)", "y"))

    assert [len(block[0]) for block in blocks] == [6, 6, 6, 2]
    assert all(value == b"x" * 3_000_000 for block in blocks for value in block[0])


def test_a_reader_that_is_left_frees_its_connection(filled):
    connection, _ = filled

    with connection.read(OUT, TYPES, block_rows=10) as reader:
        next(reader)
        with pytest.raises(RuntimeError, match="in use"):
            connection.read(OUT, TYPES)
    assert list(reader) == []

    assert len(list(connection.read(OUT, TYPES))) == 1


@pytest.mark.parametrize(
    ("query", "types", "message"),
    [
        ("SELECT NULL::int8", "q", "a NULL in column 0"),
        ("SELECT 1::int4", "q", "4 bytes in column 0"),
        ("SELECT 1::int8, 2::int8", "q", "a row of 2 columns where 1 were asked for"),
        ("SELECT 'abc'::text", "i", "3 bytes in column 0"),
        ('SELECT 7::"char"', "?", "a bool of 7"),
    ],
)
def test_columns_of_another_type_are_refused(filled, query, types, message):
    connection, _ = filled
    reader = connection.read(f"COPY ({query}) TO STDOUT (FORMAT binary)", types)

    with pytest.raises(CorruptError, match=message):
        next(reader)

    assert len(list(connection.read(OUT, TYPES))) == 1


def test_a_negative_number_is_no_uint64(filled):
    connection, _ = filled

    with pytest.raises(DatabaseError, match="negative"):
        list(connection.read("COPY (SELECT -1::int8) TO STDOUT (FORMAT binary)", "Q"))


@pytest.mark.parametrize("types", ["", "0", "x", "q00", "q" * 65])
def test_types_that_are_none_are_refused(filled, types):
    with pytest.raises(ValueError, match=r"types|fields"):
        filled[0].read(OUT, types)


@pytest.mark.parametrize("sql", ["SELECT 1", "COPY t FROM STDIN (FORMAT binary)", "nonsense"])
def test_what_is_no_copy_out_is_refused(filled, sql):
    connection, _ = filled

    with pytest.raises((ValueError, DatabaseError)):
        connection.read(sql, "q")


def test_a_text_copy_is_refused(filled):
    connection, _ = filled

    with pytest.raises(CorruptError, match=r"no binary COPY stream|before its end"):
        list(connection.read("COPY t TO STDOUT", TYPES))


def test_a_backend_that_is_gone_is_an_error(filled, database_url):
    connection, _ = filled
    forever = "COPY (SELECT generate_series(1, 10000000000)) TO STDOUT (FORMAT binary)"
    reader = connection.read(forever, "q", block_rows=10)
    next(reader)

    assert terminate_backends(database_url, "COPY%") == 1

    with pytest.raises(DatabaseError):
        for _ in reader:
            pass


class RangError(Exception):
    pass


def test_a_signal_ends_the_wait(filled):
    connection, _ = filled

    def ring(signum: int, frame: object) -> None:
        raise RangError

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(RangError):
            list(connection.read("COPY (SELECT pg_sleep(60)::text) TO STDOUT (FORMAT binary)", "y"))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert len(list(connection.read(OUT, TYPES))) == 1


def test_other_threads_run_while_a_reader_waits(filled):
    connection, _ = filled
    done = threading.Event()
    counted = 0

    def wait() -> None:
        list(connection.read("COPY (SELECT pg_sleep(0.5)::text) TO STDOUT (FORMAT binary)", "y"))
        done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    while not done.is_set() and thread.is_alive():
        counted += 1
    thread.join(timeout=30)

    assert done.is_set()
    assert counted > 1000


def test_a_forked_child_does_not_read_from_its_parents_connection(filled):
    connection, _ = filled
    query = "COPY (SELECT generate_series(0, 999999)) TO STDOUT (FORMAT binary)"
    reader = connection.read(query, "i", block_rows=1000)
    first = next(reader)[0]

    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            next(reader)
        except RuntimeError:
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    rest = [block[0] for block in reader]
    assert np.array_equal(np.concatenate([first, *rest]), np.arange(1_000_000))
