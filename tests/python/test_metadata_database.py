"""Database: one connection with retries, deadlines and no secrets; against a private server."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from modyn.errors import ClosedError, ConfigError, DatabaseError, FencedError
from modyn.metadata import faults
from modyn.metadata.database import Database
from tests.python.postgres_server import (
    PASSWORD,
    backends,
    kill_server,
    sql,
    terminate_backends,
)

psycopg = pytest.importorskip("psycopg")


@pytest.fixture
def database(database_url):
    with Database(database_url) as database:
        yield database


def add(cursor, name: str) -> int:
    cursor.execute("INSERT INTO modyn.pipelines (name) VALUES (%s) ON CONFLICT DO NOTHING", [name])
    return cursor.rowcount


def names(url: str) -> list[str]:
    return [name for (name,) in sql(url, "SELECT name FROM modyn.pipelines ORDER BY id")]


def in_transaction(database, work):
    """Add something and do `work`, in one transaction."""
    with database.transaction() as cursor:
        add(cursor, "undone")
        work(cursor)


# Doing things -------------------------------------------------------------------------------------


def test_nothing_is_connected_before_the_first_statement(database, database_url):
    assert backends(database_url) == []

    database.check()

    assert len(backends(database_url)) == 1


def test_a_url_with_a_password_is_refused():
    with pytest.raises(ConfigError, match="take the password out") as caught:
        Database("postgresql://me:s3cret@localhost/db")

    assert "s3cret" not in str(caught.value)


def test_work_is_done_in_one_transaction(database, database_url):
    assert database.run(lambda cursor: add(cursor, "a")) == 1

    assert names(database_url) == ["a"]
    assert database.fetch("SELECT name FROM modyn.pipelines") == [("a",)]
    assert database.fetch_one("SELECT 1 WHERE false") is None
    assert database.execute("UPDATE modyn.pipelines SET token = 7 WHERE name = %s", ["a"]) == 1


def test_what_work_raises_comes_out_as_it_is_and_undoes_it(database, database_url):
    fenced = FencedError("another controller has it")

    def work(cursor):
        add(cursor, "a")
        raise fenced

    with pytest.raises(FencedError) as caught:
        database.run(work)

    assert caught.value is fenced
    assert names(database_url) == []
    assert database.fetch("SELECT 1") == [(1,)]


def test_an_error_that_work_swallows_is_no_commit(database, database_url):
    def work(cursor):
        add(cursor, "a")
        with suppress(psycopg.Error):
            cursor.execute("SELECT 1 / 0")

    with pytest.raises(DatabaseError, match="was undone"):
        database.run(work)

    assert names(database_url) == []


def test_read_only_work_cannot_write_and_sees_one_moment(database, database_url):
    with pytest.raises(DatabaseError, match=r"read-only transaction.*25006"):
        database.run(lambda cursor: add(cursor, "a"), read_only=True)

    with database.transaction(read_only=True) as cursor:
        before = cursor.execute("SELECT count(*) FROM modyn.pipelines").fetchone()
        sql(database_url, "INSERT INTO modyn.pipelines (name) VALUES ('b')")
        assert cursor.execute("SELECT count(*) FROM modyn.pipelines").fetchone() == before


def test_a_transaction_commits_at_its_end_or_is_undone(database, database_url):
    with database.transaction() as cursor:
        add(cursor, "a")
        assert names(database_url) == []

    def fail(cursor):
        raise KeyError

    with pytest.raises(KeyError):
        in_transaction(database, fail)
    with pytest.raises(DatabaseError, match="22012"):
        in_transaction(database, lambda cursor: cursor.execute("SELECT 1 / 0"))

    assert names(database_url) == ["a"]


def test_a_transaction_within_another_is_refused(database):
    with database.transaction(), pytest.raises(RuntimeError, match="use its cursor"):
        database.fetch("SELECT 1")
    with pytest.raises(RuntimeError, match="use its cursor"):
        database.run(lambda cursor: database.fetch("SELECT 1"))

    assert database.fetch("SELECT 1") == [(1,)]


def test_threads_take_turns(database, database_url):
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(database.pipeline_id, f"p{i % 4}") for i in range(64)]
        numbers = [future.result(timeout=60) for future in futures]

    assert len(set(numbers)) == 4
    assert len(backends(database_url)) == 1


def test_another_connection_does_not_wait_for_the_turn(database):
    database.check()
    with database.transaction(), ThreadPoolExecutor(1) as pool:
        connection = pool.submit(database.connect).result(timeout=30)

    with connection:
        assert connection.execute("SHOW application_name").fetchone() == ("modyn",)


def test_pipelines_have_numbers(database):
    first = database.pipeline_id('it\'s "one" % \\ \u2603')

    assert database.pipeline_id('it\'s "one" % \\ \u2603') == first
    assert database.pipeline_id("two") != first


def test_a_dataset_is_a_row_or_none(database, database_url):
    database.check()
    sql(
        database_url,
        "INSERT INTO modyn.datasets (uuid, name, fields, timestamp_unit, has_labels, layout, "
        "unlogged, leaf_samples) VALUES (%s, 'd', '{}', 's', true, 'rows', false, 1024)",
        "0" * 32,
    )

    found = database.dataset("0" * 32)

    assert (found.name, found.leaf_samples, found.count, found.last_timestamp) == (
        "d",
        1024,
        0,
        None,
    )
    assert database.dataset("1" * 32) is None


def test_a_closed_database_says_so(database):
    database.check()

    database.close()
    database.close()

    with pytest.raises(ClosedError):
        database.fetch("SELECT 1")


def test_sessions_are_set_up(server, database_url):
    sql(server.url, "ALTER DATABASE " + database_url[14:].split("?")[0] + " SET datestyle = German")
    options = "&options=-csynchronous_commit%3Doff%20-csearch_path%3Dpublic"
    with Database(database_url + options, statement_seconds=5, lock_seconds=2) as database:
        settings = dict(database.fetch("SELECT name, setting FROM pg_settings"))

    assert settings["synchronous_commit"] == "on"
    assert settings["search_path"] == "pg_catalog"
    assert settings["statement_timeout"] == "5000"
    assert settings["lock_timeout"] == "2000"
    assert settings["TimeZone"] == "UTC"


@pytest.mark.parametrize("name", ["connect_seconds", "statement_seconds", "lock_seconds"])
def test_times_must_lie_ahead(name):
    with pytest.raises(ValueError, match=f"{name} must be above 0"):
        Database("postgresql:///db", **{name: 0})


# Losing the server --------------------------------------------------------------------------------


def test_a_backend_that_is_ended_is_replaced(database, database_url):
    database.check()

    assert terminate_backends(database_url) == 1

    assert database.run(lambda cursor: add(cursor, "a")) == 1
    terminate_backends(database_url)
    assert database.fetch("SELECT 1") == [(1,)]
    terminate_backends(database_url)
    with database.transaction() as cursor:
        add(cursor, "b")
    assert names(database_url) == ["a", "b"]


def test_work_is_repeated_whole_after_its_backend_was_ended(database, database_url):
    calls = []

    def work(cursor):
        calls.append(add(cursor, "a"))
        if len(calls) < 3:
            terminate_backends(database_url)
        return add(cursor, "b")

    assert database.run(work) == 1
    assert calls == [1, 1, 1]
    assert names(database_url) == ["a", "b"]


def test_a_transaction_is_not_repeated(database, database_url):
    def work(cursor):
        terminate_backends(database_url)
        add(cursor, "b")

    with pytest.raises(DatabaseError, match="terminat"):
        in_transaction(database, work)

    assert names(database_url) == []
    assert database.fetch("SELECT 1") == [(1,)]


def test_a_killed_server_that_comes_back_is_waited_for(own_server):
    with Database(own_server.url) as database:
        database.pipeline_id("a")
        kill_server(own_server)
        starter = threading.Timer(0.5, lambda: own_server.start())
        starter.start()
        try:
            assert database.fetch("SELECT name FROM modyn.pipelines") == [("a",)]
        finally:
            starter.join(timeout=60)


def test_a_server_that_stays_away_is_an_error(own_server):
    with Database(own_server.url, retry_seconds=0.3) as database:
        database.check()
        own_server.stop()

        with pytest.raises(DatabaseError, match=r"modyn at .*: .*No such file"):
            database.fetch("SELECT 1")


def test_who_cannot_be_reached_at_first_is_an_error_at_once(tmp_path, database_url):
    for url in (f"postgresql:///db?host={tmp_path}", "postgresql://127.0.0.1:1/db"):
        pauses = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(faults.time, "sleep", pauses.append)
            with pytest.raises(DatabaseError, match=r"db at .*(No such file|refused)"):
                Database(url).check()
        assert pauses == []


def test_a_paused_server_is_given_up_and_found_again(own_server, monkeypatch):
    monkeypatch.setattr("modyn.metadata.database.GRACE_SECONDS", 0.3)
    with Database(own_server.url, statement_seconds=0.2, retry_seconds=0) as database:
        database.check()
        (backend,) = [pid for (pid,) in database.fetch("SELECT pg_backend_pid()")]
        os.kill(backend, signal.SIGSTOP)
        try:
            with pytest.raises(DatabaseError, match="has not answered for"):
                database.fetch("SELECT 1")
        finally:
            os.kill(backend, signal.SIGCONT)

        assert database.fetch("SELECT 1") == [(1,)]


def test_a_silent_server_ends_at_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]

        with pytest.raises(DatabaseError, match="timeout"):
            Database(f"postgresql://127.0.0.1:{port}/db", connect_seconds=2).check()


def test_a_slow_statement_is_ended(database_url):
    with (
        Database(database_url, statement_seconds=0.1, retry_seconds=0) as database,
        pytest.raises(DatabaseError, match="57014"),
    ):
        database.fetch("SELECT pg_sleep(60)")


def test_a_lock_is_not_waited_for_longer_than_asked(database, database_url):
    database.check()
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE modyn.pipelines")
        with (
            Database(database_url, lock_seconds=0.1, retry_seconds=0.3) as waiting,
            pytest.raises(DatabaseError, match="55P03"),
        ):
            waiting.fetch("SELECT name FROM modyn.pipelines")


def test_a_deadlock_is_solved(database_url):
    met = threading.Barrier(2)

    def swap(first: str, second: str) -> int:
        attempts = []

        def work(cursor):
            attempts.append(1)
            cursor.execute("UPDATE modyn.pipelines SET token = token + 1 WHERE name = %s", [first])
            if len(attempts) == 1:
                met.wait(timeout=30)
            cursor.execute("UPDATE modyn.pipelines SET token = token + 1 WHERE name = %s", [second])

        with Database(database_url) as database:
            database.run(work)
        return len(attempts)

    with Database(database_url) as database:
        database.pipeline_id("a")
        database.pipeline_id("b")
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(swap, "a", "b"), pool.submit(swap, "b", "a")]
        attempts = [future.result(timeout=60) for future in futures]

    assert sorted(attempts) == [1, 2]
    assert sql(database_url, "SELECT token FROM modyn.pipelines") == [(2,), (2,)]


def test_an_interrupt_ends_the_wait_and_the_statement(database, database_url):
    database.check()
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            database.run(lambda cursor: cursor.execute("SELECT pg_sleep(60)"))
    finally:
        timer.join(timeout=30)

    assert database.fetch("SELECT 1") == [(1,)]
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' "
    assert sql(database_url, running + "AND state = 'active'") == [(0,)]


def test_a_fork_is_refused(database, database_url):
    database.check()

    child = os.fork()
    if child == 0:
        code = 1
        try:
            database.close()
            database.fetch("SELECT 1")
        except RuntimeError:
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert database.fetch("SELECT 1") == [(1,)]


def test_an_older_server_is_refused(database_url, monkeypatch):
    monkeypatch.setattr("modyn.metadata.schema.OLDEST", 99)

    with pytest.raises(DatabaseError, match=r"is PostgreSQL \d+\.\d+, and modyn needs 99"):
        Database(database_url).check()


# Secrets ------------------------------------------------------------------------------------------

CANARY = "canary-7f3a91"


def shown(error: BaseException) -> str:
    """All that anybody could print of an error, with the locals of our frames."""
    parts, pending = [], [error]
    while pending:
        one = pending.pop()
        parts += [repr(one), str(one), repr(vars(one))]
        pending += [other for other in (one.__cause__, one.__context__) if other is not None]
        # Not the frame of the test, which knows the password.
        within = one.__traceback__ and one.__traceback__.tb_next
        stack = traceback.TracebackException(type(one), one, within, capture_locals=True)
        parts += stack.format(chain=False)
    return "\n".join(parts)


def command_lines() -> str:
    """The command lines of all processes; not the server's titles, which show users."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            found.append(path.read_bytes().decode(errors="replace"))
    return "\n".join(line for line in found if not line.startswith("postgres:"))


@pytest.fixture
def failing(server, guarded, tmp_path):
    """URLs and environments in which every attempt fails, each in its own way."""
    host = server.socket_folder
    service = tmp_path / "service.conf"
    service.write_text(f"[canary]\nhost={host}\nuser={guarded}\npassword={CANARY}\n")
    broken = tmp_path / "broken.conf"
    broken.write_text(f"[canary]\n{CANARY}\n")
    passfile = tmp_path / "pgpass"
    passfile.write_text(f"*:*:*:*:{CANARY}\n")
    passfile.chmod(0o600)
    base = f"postgresql:///postgres?host={host}&user={guarded}"
    password = {"PGPASSWORD": CANARY}
    return {
        "wrong password": (base, password),
        "in pgpass": (base, {"PGPASSFILE": str(passfile)}),
        "in a service": ("service=canary dbname=postgres", {"PGSERVICEFILE": str(service)}),
        "in a broken service": ("service=canary", {"PGSERVICEFILE": str(broken)}),
        "as user": (f"postgresql:///postgres?host={host}", {**password, "PGUSER": CANARY}),
        "as database": (f"postgresql://modyn@/?host={host}", {**password, "PGDATABASE": CANARY}),
        "refused": ("postgresql://127.0.0.1:1/db", password),
        "no such host": ("postgresql://nosuch.invalid/db", password),
        "no TLS": (base + "&sslmode=require&gssencmode=disable", password),
        "no certificate": (
            "postgresql://127.0.0.1:1/db?sslmode=verify-full&sslrootcert=/nowhere",
            password,
        ),
    }


@pytest.mark.parametrize(
    "kind",
    [
        "wrong password",
        "in pgpass",
        "in a service",
        "in a broken service",
        "as user",
        "as database",
        "refused",
        "no such host",
        "no TLS",
        "no certificate",
    ],
)
def test_no_failure_to_connect_tells_the_password(failing, kind, monkeypatch, caplog):
    url, environment = failing[kind]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    caplog.set_level(logging.DEBUG)
    database = Database(url, connect_seconds=2)

    with pytest.raises(DatabaseError) as caught:
        database.check()

    text = shown(caught.value) + repr(database) + repr(vars(database)) + command_lines()
    assert caught.value.__context__ is None
    assert CANARY not in text
    # psycopg's own log names the host, and that is all.
    assert CANARY not in caplog.text


def test_no_failure_of_a_statement_tells_the_password(
    server, guarded, database_url, monkeypatch, caplog
):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    caplog.set_level(logging.DEBUG)
    name = database_url[14:].split("?")[0]
    sql(server.url, f"GRANT CREATE ON DATABASE {name} TO {guarded}")
    url = server.url_of(name, guarded)
    database = Database(url, statement_seconds=0.5, retry_seconds=0)
    statements = [
        "SELECT nonsense",
        "SELECT 1 / 0",
        "SELECT * FROM pg_authid",
        f"SELECT '{PASSWORD}'::integer",
        "INSERT INTO modyn.schema_version SELECT * FROM modyn.schema_version",
        "SELECT pg_sleep(60)",
        "SELECT pg_terminate_backend(pg_backend_pid())",
    ]

    texts = []
    with database:
        for statement in statements:
            with pytest.raises(DatabaseError) as caught:
                database.run(lambda cursor, statement=statement: cursor.execute(statement))
            assert caught.value.__context__ is None
            texts.append(str(caught.value) + repr(vars(caught.value)))
        with database.connect() as connection:
            texts += [repr(connection), repr(database), repr(vars(database)), command_lines()]

    assert PASSWORD not in "\n".join(texts)
    assert PASSWORD not in caplog.text


def test_a_wrong_password_is_final_and_says_where_it_belongs(
    server, guarded, monkeypatch, tmp_path
):
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    url = server.url_of("postgres", guarded)
    pauses = []
    monkeypatch.setattr(faults.time, "sleep", pauses.append)

    with pytest.raises(DatabaseError, match=r"no password supplied.*PGPASSFILE"):
        Database(url).check()
    monkeypatch.setenv("PGPASSWORD", "wrong")
    with pytest.raises(DatabaseError, match=r"password authentication failed.*PGPASSFILE"):
        Database(url).check()

    assert pauses == []


def test_without_psycopg_it_is_said_what_to_install():
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from modyn.metadata.database import Database\n"
        "try: Database('postgresql:///db')\n"
        "except ModuleNotFoundError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)

    assert done.stdout == ("metadata in Postgres needs psycopg: pip install 'modyn[postgres]'\n"), (
        done.stderr
    )


def test_importing_it_imports_no_psycopg():
    code = "import sys, modyn.metadata.database; sys.exit('psycopg' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


# Bulk ---------------------------------------------------------------------------------------------


def test_a_connection_for_bulk_data_waits_for_its_server(own_server):
    pytest.importorskip("modyn.postgres", reason="modyn was built without libpq")
    with Database(own_server.url) as database:
        with database.bulk() as bulk:
            assert bulk.server_version >= 130000
        kill_server(own_server)
        starter = threading.Timer(0.5, own_server.start)
        starter.start()
        try:
            with database.bulk(settings={"work_mem": "1MB"}) as bulk:
                assert bulk.server_version >= 130000
        finally:
            starter.join(timeout=60)


def test_a_connection_for_bulk_data_gives_up_in_time(own_server):
    pytest.importorskip("modyn.postgres", reason="modyn was built without libpq")
    with Database(own_server.url, retry_seconds=0.2) as database:
        database.check()
        own_server.stop()

        with pytest.raises(DatabaseError, match="No such file"):
            database.bulk()
