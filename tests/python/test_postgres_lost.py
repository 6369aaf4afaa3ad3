"""Connection.batch when the connection is lost: done once, or not at all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from modyn.errors import DatabaseError
from modyn.metadata.server import LocalServer
from tests.postgres.proxy import Fault, Proxy
from tests.python.postgres_rows import (
    Connection,
    Statement,
    connection,
    prepare,
    rows,
    stored,
    together,
    url,
    wait_for,
)
from tests.python.postgres_server import kill_server, sql

__all__ = ["connection", "url"]  # fixtures


@contextmanager
def behind_proxy(server: LocalServer, url: str, fault: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy that breaks its first connection, and the connection string that leads through it."""
    name = url.partition("///")[2].partition("?")[0]
    with Proxy(
        server.socket_folder / ".s.PGSQL.5432", lambda i: None if i else Fault.of(fault)
    ) as proxy:
        yield proxy, f"host=127.0.0.1 port={proxy.port} user=modyn dbname={name} sslmode=disable"


@pytest.mark.parametrize("cut", ["commit-lost", "reply-lost", "commit-late"])
@pytest.mark.parametrize("repeat", range(3))
def test_a_commit_that_was_not_answered_is_resolved(server, url, cut, repeat):
    with (
        behind_proxy(server, url, cut) as (proxy, conninfo),
        Connection(conninfo) as connection,
    ):
        fresh = connection.batch("b", copies=[rows(5000)])

        assert proxy.hits == 1
        assert fresh == (cut == "commit-lost")
    assert stored(url) == list(range(5000))


@pytest.mark.parametrize("cut", ["commit-lost", "reply-lost", "commit-late"])
def test_without_an_id_it_is_said_that_the_outcome_is_unknown(server, url, cut):
    with (
        behind_proxy(server, url, cut) as (_, conninfo),
        Connection(conninfo) as connection,
    ):
        with pytest.raises(DatabaseError, match="the outcome is unknown"):
            connection.batch(None, copies=[rows(5000)])
        time.sleep(1)

        assert connection.batch(None, copies=[rows(1, 5000)])
    assert stored(url) in ([5000], list(range(5001)))


@pytest.mark.parametrize("offset", [1, 100, 500, 1500, 5000, 50_000, 500_000, 2_000_000])
def test_a_connection_that_is_cut_in_the_stream_is_made_again(server, url, offset):
    # Its own bytes before the batch are few: setting the session up.
    with (
        behind_proxy(server, url, f"reset@{1000 + offset}") as (proxy, conninfo),
        Connection(conninfo) as connection,
    ):
        assert connection.batch("b", copies=[rows(100_000)])
        assert proxy.hits == 1
    assert stored(url) == list(range(100_000))


@pytest.mark.long
def test_a_server_that_takes_nothing_any_more_is_given_up(server, url):
    """After 30 s in a COPY; after its timeout and 10 s more, where it should have spoken."""
    with (
        behind_proxy(server, url, "stall@100000") as (proxy, conninfo),
        Connection(conninfo) as connection,
    ):
        assert connection.batch("copy", copies=[rows(1_000_000)])
        assert proxy.hits == 1
    with (
        behind_proxy(server, url, "stall@2000") as (proxy, conninfo),
        Connection(conninfo, statement_seconds=2) as connection,
    ):
        assert connection.batch("statement", before=[Statement("SELECT 1")] * 100)
        assert proxy.hits == 1
    assert sql(url, "SELECT count(*), count(DISTINCT a) FROM t") == [(1_000_000, 1_000_000)]


def test_a_server_that_lets_in_and_then_is_silent_is_no_connection(server, url):
    with behind_proxy(server, url, "stall@300") as (proxy, conninfo):
        watchdog = threading.Timer(30, proxy.close)
        watchdog.start()
        try:
            with pytest.raises(TimeoutError):
                Connection(conninfo, connect_seconds=0.5)
        finally:
            watchdog.cancel()
            watchdog.join()
        assert proxy.hits == 1


def test_a_session_that_the_server_ended_as_idle_is_made_again(url):
    settings = {"idle_session_timeout": "50"}
    with Connection(url, settings=settings) as connection:
        time.sleep(0.5)
        assert connection.batch("b", copies=[rows(10)])
    assert stored(url) == list(range(10))


def test_a_backend_that_is_terminated_in_the_copy(url, connection):
    """The COPY waits for a lock that nobody has yet, so that it is found in the middle."""
    sql(
        url,
        "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "IF NEW.a = 1000 AND (SELECT count(*) FROM modyn.pipelines) = 0 THEN PERFORM pg_sleep(60); "
        "END IF; RETURN NEW; END $$",
    )
    sql(url, "CREATE TRIGGER hold BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION hold()")
    outcomes: list[bool] = []
    work = threading.Thread(
        target=lambda: outcomes.append(connection.batch("b", copies=[rows(200_000)]))
    )

    work.start()
    wait_for(url, "wait_event = 'PgSleep'")
    sql(url, "INSERT INTO modyn.pipelines (name) VALUES ('go on')")
    sql(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event = 'PgSleep'",
    )
    work.join(timeout=120)

    assert outcomes == [True]
    assert stored(url) == list(range(200_000))


def test_a_server_that_is_killed_and_started_again(own_server):
    url = own_server.url
    prepare(url)
    outcomes: list[object] = []

    def write() -> None:
        with Connection(url) as connection:
            for number in range(40):
                outcomes.append(connection.batch(f"b{number}", copies=[rows(5000, 5000 * number)]))

    work = threading.Thread(target=write)
    work.start()
    for _ in range(3):
        time.sleep(0.3)
        kill_server(own_server)
        own_server.start(child=True)
    work.join(timeout=120)

    assert len(outcomes) == 40
    assert stored(url) == list(range(200_000))


def test_a_server_that_stays_away_is_an_error(own_server):
    url = own_server.url
    with Connection(url) as connection:
        own_server.stop()

        with pytest.raises(DatabaseError, match=r"given up after \d+ attempts; the last: cannot"):
            connection.batch("b", retry_seconds=0.5)
        with pytest.raises(DatabaseError, match="cannot connect"):
            connection.batch("b", retry_seconds=0)

        own_server.start(child=True)
        prepare(url)
        assert connection.batch("b")


def test_a_table_that_somebody_holds(url):
    """lock_timeout strikes again and again, until the other one goes."""
    import psycopg

    with (
        Connection(url, lock_seconds=0.1) as connection,
        psycopg.connect(url) as other,
    ):
        other.execute("LOCK TABLE t")
        with pytest.raises(DatabaseError, match=r"given up after [2-9].*55P03.*lock_timeout"):
            connection.batch("b", copies=[rows(10)], retry_seconds=0.5)

        timer = threading.Timer(0.3, other.rollback)
        timer.start()
        assert connection.batch("b", copies=[rows(10)])
        timer.join()
    assert stored(url) == list(range(10))


def test_a_statement_that_takes_too_long(url):
    with Connection(url, statement_seconds=0.1) as connection:
        with pytest.raises(DatabaseError, match=r"statement timeout.*57014.*statement_timeout"):
            connection.batch("b", before=[Statement("SELECT pg_sleep(60)")], retry_seconds=0.2)

        assert connection.batch("b", copies=[rows(10)])


def test_two_batches_in_each_others_way_both_arrive(url):
    """A deadlock ends one of them, which is done again."""
    sql(url, "INSERT INTO t VALUES (1, 2), (2, 4)")
    lock = "UPDATE t SET b = b WHERE a = $1"

    def write(first: str, second: str) -> bool:
        with Connection(url, settings={"deadlock_timeout": "50ms"}) as connection:
            before = [Statement(lock, (first,), 1), Statement("SELECT pg_sleep(0.3)")]
            return connection.batch(first, before=[*before, Statement(lock, (second,), 1)])

    assert together(lambda: write("1", "2"), lambda: write("2", "1")) == [True, True]
