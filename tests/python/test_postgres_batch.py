"""Connection.batch: what is stored, what is refused, whole and once."""

from __future__ import annotations

import os

import numpy as np
import pytest

from modyn.errors import DatabaseError, FencedError
from tests.python.postgres_rows import (
    COPY,
    Connection,
    Copy,
    Statement,
    connection,
    rows,
    stored,
    together,
    url,
)
from tests.python.postgres_server import sql

__all__ = ["connection", "url"]  # fixtures

FENCE = "SELECT 1 FROM modyn.pipelines WHERE id = $1 AND token = $2 FOR KEY SHARE"


# What is stored -----------------------------------------------------------------------------------


def test_a_batch_is_stored_once(url, connection):
    assert connection.batch("b1", copies=[rows(1000)])
    assert not connection.batch("b1", copies=[rows(1000)])

    assert stored(url) == list(range(1000))
    assert sql(url, "SELECT id FROM modyn.batches") == [("b1",)]


def test_another_connection_knows_the_batch_too(url, connection):
    connection.batch("b1", copies=[rows(10)])

    with Connection(url) as other:
        assert not other.batch("b1", copies=[rows(10)])
    assert stored(url) == list(range(10))


def test_a_batch_without_an_id_is_stored_each_time(url, connection):
    assert connection.batch(None, copies=[rows(2)])
    assert connection.batch(None, copies=[rows(2)])

    assert stored(url) == [0, 0, 1, 1]
    assert sql(url, "SELECT id FROM modyn.batches") == []


def test_statements_and_copies_come_in_their_order(url, connection):
    connection.batch(
        "b1",
        before=[
            Statement("CREATE TABLE u (LIKE t)"),
            Statement("INSERT INTO u VALUES ($1, $2)", ("1", None), 1),
        ],
        copies=[
            Copy("COPY u (a, b) FROM STDIN (FORMAT binary)", (np.arange(5), np.arange(5)), 5),
            rows(3),
        ],
        after=[Statement("INSERT INTO t SELECT a + 100, 2 * (a + 100) FROM u", rows=6)],
    )

    assert stored(url) == [0, 1, 2, 100, 101, 101, 102, 103, 104]


def test_freeze_into_a_table_of_the_same_batch(url, connection):
    freeze = "COPY u (a, b) FROM STDIN (FORMAT binary, FREEZE)"
    connection.batch(
        "b1",
        before=[Statement("CREATE TABLE u (LIKE t)")],
        copies=[Copy(freeze, (np.arange(5000), np.arange(5000)), 5000)],
    )

    assert sql(url, "SELECT count(*) FROM u") == [(5000,)]


def test_every_type_arrives(url, connection):
    sql(url, "CREATE TABLE v (q int8, u int8, i int4, d float8, f float4, b boolean, y bytea)")
    count = 1000
    q = np.arange(count) - 500
    u = np.arange(count, dtype=np.uint64) + 2**62
    i = np.arange(count, dtype=np.int32) * -3
    d = np.arange(count) / 7
    y: list[bytes | None] = [bytes([n % 256]) * (n % 5) for n in range(count)]
    y[3] = None
    y[4] = memoryview(np.arange(100_000)).cast("B")
    columns = (q, u, i, d, d.astype(np.float32), q % 3 == 0, y)
    statement = "COPY v (q, u, i, d, f, b, y) FROM STDIN (FORMAT binary)"

    assert connection.batch("b", copies=[Copy(statement, columns, count)])

    y[4] = bytes(y[4])
    expected = list(zip(q, u, i, d, d.astype(np.float32).astype(float), q % 3 == 0, y, strict=True))
    assert sql(url, "SELECT q, u, i, d, f::float8, b, y FROM v ORDER BY q") == expected


def test_what_is_masked_is_null(url, connection):
    masked = np.ma.MaskedArray(np.arange(6), mask=[0, 1, 0, 0, 1, 0])

    connection.batch("b", copies=[Copy(COPY, (np.arange(6), masked), 6)])

    assert sql(url, "SELECT a FROM t WHERE b IS NULL ORDER BY a") == [(1,), (4,)]


@pytest.mark.parametrize("column", [np.arange(20)[::2], np.arange(10).astype(">i8")])
def test_columns_may_lie_in_memory_in_any_way(url, connection, column):
    connection.batch("b", copies=[Copy(COPY, (column, 2 * column.astype("<i8")), 10)])

    assert stored(url) == column.tolist()


def test_no_rows_are_fine(url, connection):
    assert connection.batch("b", copies=[rows(0)])

    assert stored(url) == []


@pytest.mark.parametrize("text", ["'; DROP TABLE t; --", 'a"b', "\\'", "%s $1", "ü€🙂", ""])
def test_parameters_are_values(url, connection, text):
    sql(url, "CREATE TABLE w (x text)")

    connection.batch(text, before=[Statement("INSERT INTO w VALUES ($1)", (text,), 1)])

    assert sql(url, "SELECT x FROM w") == [(text,)]
    assert sql(url, "SELECT id FROM modyn.batches") == [(text,)]


def test_large_batches_are_whole(url, connection):
    assert connection.batch("b", copies=[rows(700_000)])

    assert sql(url, "SELECT count(*), sum(a), sum(b) FROM t") == [
        (700_000, 349999 * 700_000 + 350_000, 2 * (349999 * 700_000 + 350_000))
    ]


# What is refused ----------------------------------------------------------------------------------


def refused(
    connection: Connection, url: str, pattern: str, kind: type[Exception] = DatabaseError, **work
) -> str:
    """The batch fails, leaves nothing, and the connection goes on."""
    before = stored(url)
    with pytest.raises(kind, match=pattern) as caught:
        connection.batch("refused", **work)

    assert stored(url) == before
    assert sql(url, "SELECT id FROM modyn.batches WHERE id = 'refused'") == []
    assert connection.batch("after it", copies=[rows(1, first=10**6)])
    return str(caught.value)


def test_a_constraint(url, connection):
    sql(url, "ALTER TABLE t ADD CONSTRAINT small CHECK (a < 99999)")
    sql(url, "ALTER TABLE t DROP CONSTRAINT small; ALTER TABLE t ADD CHECK (a <> 99999)")

    message = refused(
        connection, url, r"COPY into t failed after \d+ of 300000 rows", copies=[rows(300_000)]
    )

    assert "violates check constraint" in message
    assert "SQLSTATE 23514" in message


def test_a_key_that_is_there_already(url, connection):
    sql(url, "CREATE UNIQUE INDEX ON t (a)")
    connection.batch("first", copies=[rows(1, first=150_000)])

    refused(
        connection,
        url,
        r"duplicate key.*a\)=\(150000\).*\[SQLSTATE 23505\]",
        copies=[rows(200_000)],
    )


def test_a_missing_table(url, connection):
    copy = Copy("COPY nowhere (a) FROM STDIN (FORMAT binary)", (np.arange(3),), 3)

    refused(connection, url, 'relation "nowhere" does not exist.*42P01', copies=[copy])


def test_a_column_of_another_type(url, connection):
    copy = Copy(COPY, (np.zeros(100_000, np.int32), np.arange(100_000)), 100_000)

    refused(connection, url, "COPY into t failed.*SQLSTATE (08P01|22P03)", copies=[copy])


def test_a_column_too_few(url, connection):
    copy = Copy(COPY, (np.arange(5),), 5)

    refused(connection, url, "field count is 1, expected 2", copies=[copy])


def test_a_number_above_int8(url, connection):
    values = np.arange(100_000, dtype=np.uint64)
    values[77_777] = 2**63
    copy = Copy(COPY, (values, values), 100_000)

    refused(connection, url, "column 0, row 77777: 9223372036854775808", ValueError, copies=[copy])


def test_a_statement_that_fails(url, connection):
    work = {"copies": [rows(10)], "after": [Statement("SELECT 1 / $1::int", ("0",))]}

    refused(connection, url, r"SELECT 1 / \$1::int: division by zero", **work)


def test_another_number_of_rows_than_a_statement_must(url, connection):
    wrong = Statement("UPDATE t SET b = b WHERE a = 12345", rows=1)

    refused(connection, url, "affected or returned 0 rows, and must 1", after=[wrong])


def test_a_copy_that_is_none(url, connection):
    copy = Copy("SELECT 1", (np.arange(5),), 5)

    refused(connection, url, "not a COPY", ValueError, copies=[copy])


def test_a_transaction_that_a_statement_ended(url, connection):
    """COMMIT outside of a transaction is answered with COMMIT."""
    with pytest.raises(DatabaseError, match="has ended its transaction"):
        connection.batch("b", copies=[rows(10)], after=[Statement("ROLLBACK")])

    assert stored(url) == []


@pytest.mark.parametrize(
    ("columns", "error", "message"),
    [
        ((np.arange(3), np.arange(2)), ValueError, "2 values, not 3"),
        ((np.arange(3), [b""]), ValueError, "1 values, not 3"),
        ((np.arange(3), np.arange(3, dtype=np.int16)), TypeError, "int16"),
        ((np.arange(3), np.zeros((3, 1))), TypeError, r"shape \(3, 1\)"),
        ((np.arange(3), ["a", "b", "c"]), TypeError, "bytes-like"),
    ],
)
def test_columns_that_do_not_fit(connection, columns, error, message):
    with pytest.raises(error, match=message):
        connection.batch("b", copies=[Copy(COPY, columns, 3)])


def test_a_nul_in_a_parameter(url, connection):
    refused(connection, url, "NUL", ValueError, before=[Statement("SELECT $1::text", ("a\0b",))])
    with pytest.raises(ValueError, match="null"):
        connection.batch("a\0b")


def test_a_table_that_one_may_not_write(url, connection):
    role = f"reader_{os.getpid()}"
    sql(url, f"CREATE ROLE {role} LOGIN")
    sql(url, f"GRANT USAGE ON SCHEMA modyn TO {role}")
    sql(url, f"GRANT INSERT ON modyn.batches TO {role}")
    try:
        with (
            Connection(url.replace("user=modyn", f"user={role}")) as reader,
            pytest.raises(DatabaseError, match=r"permission denied.*42501.*USAGE and CREATE"),
        ):
            reader.batch("b", copies=[rows(10)._replace(sql=COPY.replace("t", "modyn.t", 1))])
    finally:
        sql(url, f"DROP OWNED BY {role}")
        sql(url, f"DROP ROLE {role}")
    assert stored(url) == []


def test_a_read_only_session(url):
    with (
        Connection(url, settings={"default_transaction_read_only": "on"}) as connection,
        pytest.raises(DatabaseError, match=r"read-only transaction.*25006.*read-only"),
    ):
        connection.batch("b", copies=[rows(10)])


# The fence ----------------------------------------------------------------------------------------


@pytest.fixture
def pipeline(url: str) -> str:
    """The id of a pipeline whose token is 7."""
    [(number,)] = sql(url, "INSERT INTO modyn.pipelines (name, token) VALUES ('p', 7) RETURNING id")
    return str(number)


def test_the_holder_of_the_token_may_write(url, connection, pipeline):
    fence = Statement(FENCE, (pipeline, "7"), 1)

    assert connection.batch("b", before=[fence], copies=[rows(5)])
    assert not connection.batch("b", before=[fence], copies=[rows(5)])
    assert stored(url) == [0, 1, 2, 3, 4]


def test_a_stale_token_may_not(url, connection, pipeline):
    fence = Statement(FENCE, (pipeline, "6"), 1)

    refused(connection, url, "taken this pipeline over", FencedError, before=[fence])


def test_the_fence_comes_before_the_row_of_the_batch(url, connection, pipeline):
    connection.batch("b", copies=[rows(5)])

    with pytest.raises(FencedError):
        connection.batch("b", before=[Statement(FENCE, (pipeline, "6"), 1)], copies=[rows(5)])


def test_what_is_before_and_no_fence_does_not_run_twice(url, connection):
    create = Statement("CREATE TABLE u (a int)")

    assert connection.batch("b", before=[create])
    assert not connection.batch("b", before=[create])


# Several at once ----------------------------------------------------------------------------------


def test_the_same_batch_from_two_connections_is_stored_once(url):
    def write() -> bool:
        with Connection(url) as connection:
            return connection.batch("b", copies=[rows(100_000)])

    outcomes = together(write, write, write)

    assert sorted(map(bool, outcomes)) == [False, False, True]
    assert not [error for error in outcomes if isinstance(error, Exception)]
    assert stored(url) == list(range(100_000))


def test_connections_of_several_threads_write_side_by_side(url):
    def write(number: int) -> bool:
        with Connection(url) as connection:
            parts = range(number * 50_000, (number + 1) * 50_000, 10_000)
            return all(connection.batch(f"b{p}", copies=[rows(10_000, p)]) for p in parts)

    assert together(*(lambda n=n: write(n) for n in range(4))) == [True] * 4
    assert stored(url) == list(range(200_000))


def test_a_connection_is_for_one_thread_at_a_time(url, connection):
    slow = Statement("SELECT pg_sleep(1)")

    outcomes = together(*[lambda: connection.batch(None, before=[slow])] * 4)

    assert outcomes.count(True) == 1
    errors = [error for error in outcomes if isinstance(error, RuntimeError)]
    assert len(errors) == 3
    assert "in use" in str(errors[0])
