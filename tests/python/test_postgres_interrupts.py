"""Connection.batch when somebody interrupts: Ctrl-C, signals, threads."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from modyn.errors import DatabaseError
from tests.python.postgres_rows import (
    Connection,
    Statement,
    connection,
    prepare,
    rows,
    stored,
    url,
    wait_for,
)
from tests.python.postgres_server import backends, sql

__all__ = ["connection", "url"]  # fixtures


INTERRUPTED = """
import sys, time, numpy as np
from modyn.postgres import Connection, Copy, Statement
url, what = sys.argv[1:]
connection = Connection(url)
a = np.arange(20_000_000)
work = {
    "copy": {"copies": [Copy("COPY t (a, b) FROM STDIN (FORMAT binary)", (a, a), len(a))]},
    "statement": {"before": [Statement("SELECT pg_sleep(600)")]},
    "lock": {"before": [Statement("LOCK TABLE t")]},
}[what]
print("ready", flush=True)
try:
    connection.batch("interrupted", **work)
except KeyboardInterrupt:
    print("interrupted", time.monotonic(), flush=True)
if sys.stdin.readline() == "again\\n":
    a = np.arange(10)
    copies = [Copy("COPY t (a, b) FROM STDIN (FORMAT binary)", (a, 2 * a), 10)]
    print(connection.batch("interrupted", copies=copies), flush=True)
"""


@contextmanager
def interruptible(url: str, what: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, url, what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def interrupt(process: subprocess.Popen[str]) -> float:
    """Seconds from SIGINT to KeyboardInterrupt."""
    assert process.stdout is not None
    sent = time.monotonic()
    process.send_signal(signal.SIGINT)
    word, caught = process.stdout.readline().split()
    assert word == "interrupted"
    return float(caught) - sent


@pytest.mark.parametrize("what", ["copy", "statement", "lock"])
def test_control_c_ends_the_batch_and_the_next_call_works(url, what):
    import psycopg

    conditions = {
        "copy": "query LIKE 'COPY t%%' AND state = 'active'",
        "statement": "wait_event = 'PgSleep'",
        "lock": "wait_event_type = 'Lock'",
    }
    with psycopg.connect(url) as other:
        if what == "lock":
            other.execute("LOCK TABLE t")
        with interruptible(url, what) as process:
            wait_for(url, conditions[what])
            seconds = interrupt(process)
            other.rollback()
            output, _ = process.communicate("again\n", timeout=60)

        assert output == "True\n"
        assert stored(url) == list(range(10))
        assert not [pid for pid in backends(url) if pid != other.info.backend_pid]
    assert seconds < 5  # 0.2 is promised; this machine may be busy


def test_control_c_in_a_commit_without_an_id_is_control_c(url, connection):
    sql(
        url,
        "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "PERFORM pg_sleep(60); RETURN NULL; END $$",
    )
    sql(
        url,
        "CREATE CONSTRAINT TRIGGER hold AFTER INSERT ON t INITIALLY DEFERRED "
        "FOR EACH ROW EXECUTE FUNCTION hold()",
    )

    def interrupt_it() -> None:
        wait_for(url, "query = 'COMMIT' AND state = 'active'")
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = threading.Thread(target=interrupt_it)
    interrupting.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            connection.batch(None, before=[Statement("INSERT INTO t VALUES (1, 1)")])
    finally:
        interrupting.join()


@pytest.mark.parametrize("what", ["copy", "statement"])
def test_control_c_is_heard_while_the_server_is_stopped(own_server, what):
    url = own_server.url
    prepare(url)
    condition = {"copy": "query LIKE 'COPY t%%'", "statement": "wait_event = 'PgSleep'"}[what]
    with interruptible(url, what) as process:
        wait_for(url, condition)
        stopped = [*backends(url), own_server.pid]
        try:
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            time.sleep(0.2)
            seconds = interrupt(process)
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)
        output, _ = process.communicate("again\n", timeout=60)

        assert output == "True\n"
        assert stored(url) == list(range(10))
    assert seconds < 5


def test_a_server_that_is_stopped_for_a_while_goes_on(url, connection):
    done: list[bool] = []
    work = threading.Thread(
        target=lambda: done.append(connection.batch("b", copies=[rows(2_000_000)]))
    )
    work.start()
    wait_for(url, "query LIKE 'COPY t%%' AND state = 'active'")
    stopped = backends(url)
    try:
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(0.5)
        assert not done
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    work.join(timeout=120)

    assert done == [True]
    assert sql(url, "SELECT count(*) FROM t") == [(2_000_000,)]


def end_asleep(url: str, write: Callable[[], None], end: Callable[[], None]) -> None:
    """Write in another thread, and end it from this one as soon as the server sleeps."""
    work = threading.Thread(target=write)
    work.start()
    wait_for(url, "wait_event = 'PgSleep'")
    end()
    work.join(timeout=30)


def test_another_thread_may_cancel(url, connection):
    outcomes: list[object] = []

    def write() -> None:
        try:
            outcomes.append(connection.batch("b", before=[Statement("SELECT pg_sleep(600)")]))
        except DatabaseError as error:
            outcomes.append(str(error))

    end_asleep(url, write, connection.cancel)

    assert outcomes == ["cancelled from another thread"]
    with pytest.raises(DatabaseError, match="was cancelled"):
        connection.batch("b")


def test_close_from_another_thread_ends_the_call(url):
    connection = Connection(url)
    outcomes: list[str] = []

    def write() -> None:
        with pytest.raises(DatabaseError) as caught:
            connection.batch("b", before=[Statement("SELECT pg_sleep(600)")])
        outcomes.append(str(caught.value))

    end_asleep(url, write, connection.close)

    assert outcomes == ["cancelled from another thread"]
    assert connection.closed
