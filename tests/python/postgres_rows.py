"""A table in Postgres, and rows for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from modyn.metadata.database import Database
from tests.python.postgres_server import sql

postgres = pytest.importorskip("modyn.postgres", reason="modyn was built without libpq")
Connection, Copy, Statement = postgres.Connection, postgres.Copy, postgres.Statement


COPY = "COPY t (a, b) FROM STDIN (FORMAT binary)"


def prepare(url: str) -> None:
    """Make modyn's tables, and a table t."""
    with Database(url) as database:
        database.check()
    sql(url, "CREATE TABLE t (a bigint, b bigint)")


@pytest.fixture
def url(database_url: str) -> str:
    """A database with modyn's tables, and a table t (a bigint, b bigint) without an index."""
    prepare(database_url)
    return database_url


@pytest.fixture
def connection(url: str) -> Iterator[Connection]:
    with Connection(url, lock_seconds=20) as connection:
        yield connection


def rows(count: int, first: int = 0) -> Copy:
    """Rows first .. first + count - 1 of t, with b = 2 a."""
    a = np.arange(first, first + count)
    return Copy(COPY, (a, 2 * a), count)


def stored(url: str) -> list[int]:
    """Column a of t; b must go with it."""
    found = sql(url, "SELECT a, b FROM t ORDER BY a")
    assert all(b == 2 * a for a, b in found)
    return [a for a, _ in found]


def wait_for(url: str, condition: str, *parameters: object) -> None:
    """Until a row of pg_stat_activity (of other sessions of this database) fulfils a condition."""
    deadline = time.monotonic() + 60
    query = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() "
        f"AND pid <> pg_backend_pid() AND {condition}"
    )
    while not sql(url, query, *parameters):
        assert time.monotonic() < deadline, condition
        time.sleep(0.01)


def together(*calls: Callable[[], object]) -> list[object]:
    """Run calls in threads that start at once; what they return or raise."""
    outcomes: list[object] = [None] * len(calls)
    barrier = threading.Barrier(len(calls))

    def run(number: int) -> None:
        barrier.wait(timeout=30)
        try:
            outcomes[number] = calls[number]()
        except Exception as error:
            outcomes[number] = error

    threads = [threading.Thread(target=run, args=[number]) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
        assert not thread.is_alive()
    return outcomes
