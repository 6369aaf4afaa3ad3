"""Connections to Postgres: settings, ends, refusals, and nothing left behind."""

from __future__ import annotations

import gc
import os

import numpy as np
import pytest

from modyn.errors import DatabaseError
from tests.python.postgres_rows import (
    COPY,
    Connection,
    Copy,
    Statement,
    postgres,
    rows,
    stored,
    url,
)
from tests.python.postgres_server import PASSWORD, sql
from tests.python.test_leaks import left_behind

__all__ = ["url"]  # fixtures


# The connection -----------------------------------------------------------------------------------


def test_the_session_is_as_promised(url):
    settings = {
        "synchronous_commit": "on",
        "statement_timeout": "1500ms",
        "lock_timeout": "2500ms",
        "synchronize_seqscans": "off",
        "application_name": "modyn",
        "client_encoding": "UTF8",
        "work_mem": "5MB",
    }
    given = {"synchronous_commit": "off", "work_mem": "5MB"}
    with Connection(url, statement_seconds=1.5, lock_seconds=2.5, settings=given) as connection:
        for name, value in settings.items():
            check = "SELECT 1 WHERE current_setting($1) = $2"
            connection.batch(None, before=[Statement(check, (name, value), 1)])


def test_commits_are_waited_for_on_a_remote_standby_as_the_server_says(url):
    with Connection(url, settings={"synchronous_commit": "remote_apply"}) as connection:
        check = "SELECT 1 WHERE current_setting('synchronous_commit') = 'remote_apply'"
        connection.batch(None, before=[Statement(check, (), 1)])


def test_close_may_be_called_again_and_ends_the_use(url):
    connection = Connection(url)
    connection.close()
    connection.close()

    assert connection.closed
    assert repr(connection) == "<modyn.postgres.Connection: closed>"
    with pytest.raises(ValueError, match="closed"):
        connection.batch("b")


def test_its_repr_tells_no_secret(server, guarded):
    conninfo = f"host={server.socket_folder} user={guarded} password={PASSWORD} dbname=postgres"
    with Connection(conninfo) as connection:
        assert (
            repr(connection) == f"<modyn.postgres.Connection: server {connection.server_version}>"
        )
        with pytest.raises(DatabaseError) as caught:
            connection.batch("b", before=[Statement(f"SELECT '{PASSWORD}'::int")])

    assert PASSWORD not in str(caught.value)


def test_a_wrong_password_is_final_and_not_repeated(server, guarded):
    conninfo = f"host={server.socket_folder} user={guarded} password=wrong-{PASSWORD}"

    with pytest.raises(DatabaseError, match=r"28P01.*PGPASSWORD") as caught:
        Connection(conninfo + " dbname=postgres")

    assert PASSWORD not in str(caught.value)


def test_no_password_is_final_too(server, guarded, monkeypatch):
    monkeypatch.delenv("PGPASSWORD", raising=False)
    monkeypatch.setenv("PGPASSFILE", os.devnull)
    with pytest.raises(DatabaseError, match=r"no password .*28P01.*PGPASSWORD"):
        Connection(f"host={server.socket_folder} user={guarded} dbname=postgres")


def test_a_missing_database_is_named(server):
    with pytest.raises(DatabaseError, match=r'"nowhere" does not exist \[SQLSTATE 3D000\]'):
        Connection(server.url_of("nowhere"))


def test_a_setting_that_does_not_exist(url):
    with pytest.raises(DatabaseError, match="no_such_setting"):
        Connection(url, settings={"no_such_setting": "1"})


@pytest.mark.parametrize(
    "options", [{"connect_seconds": 0}, {"statement_seconds": -1}, {"lock_seconds": float("nan")}]
)
def test_times_must_make_sense(options):
    with pytest.raises(ValueError, match="must be"):
        Connection("host=/nowhere", **options)


def test_a_forked_child_refuses_and_leaves_the_parent_its_connection(url):
    connection = Connection(url)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = b"nothing"
        try:
            connection.batch("child")
        except RuntimeError as error:
            said = str(error).encode()
        del connection
        gc.collect()
        os.write(writing, said)
        os._exit(0)
    os.close(writing)
    said = os.read(reading, 1000)
    os.close(reading)
    os.waitpid(child, 0)

    assert b"after a fork" in said
    assert connection.batch("parent", copies=[rows(10)])
    connection.close()
    assert stored(url) == list(range(10))


def test_parsing_a_connection_string():
    assert postgres.parse_conninfo("host=/a user='x y' sslmode=require") == {
        "host": "/a",
        "sslmode": "require",
        "user": "x y",
    }
    assert postgres.parse_conninfo("postgresql://u@h1:1,h2:2/d?application_name=a%20b") == {
        "application_name": "a b",
        "dbname": "d",
        "host": "h1,h2",
        "port": "1,2",
        "user": "u",
    }
    with pytest.raises(ValueError, match="libpq") as caught:
        postgres.parse_conninfo("password='s3cret")
    assert "s3cret" not in str(caught.value)


# Leaks --------------------------------------------------------------------------------------------


class Calls:
    """Calls of a connection, where they work and where they fail."""

    def __init__(self, url: str) -> None:
        self.url, self.number = url, 0
        self.connection = Connection(url)
        Connection(url).batch("known")

    def batch(self) -> None:
        self.number += 1
        fence = Statement("SELECT 1 WHERE $1 = '1'", ("1",), 1)
        pieces = Copy("COPY u (y) FROM STDIN (FORMAT binary)", ([b"x" * 100, None],), 2)
        assert self.connection.batch(None, before=[fence], copies=[rows(10), pieces])

    def known_batch(self) -> None:
        assert not self.connection.batch("known", copies=[rows(10)])

    def refused_copy(self) -> None:
        with pytest.raises(DatabaseError):
            self.connection.batch(None, copies=[Copy(COPY, (np.arange(5),), 5)])

    def refused_statement(self) -> None:
        with pytest.raises(DatabaseError):
            self.connection.batch(None, before=[Statement("SELECT 1 / 0")])

    def refused_values(self) -> None:
        values = np.array([2**63], np.uint64)
        with pytest.raises(ValueError, match="too large"):
            self.connection.batch(None, copies=[Copy(COPY, (values, values), 1)])

    def wrong_arguments(self) -> None:
        with pytest.raises(TypeError):
            self.connection.batch(None, copies=[Copy(COPY, (np.arange(3), ["a", b"", b""]), 3)])

    def connect(self) -> None:
        Connection(self.url).close()

    def connect_to_nothing(self) -> None:
        with pytest.raises(DatabaseError):
            Connection("host=/nowhere user=modyn")

    def parse(self) -> None:
        postgres.parse_conninfo(self.url)


@pytest.mark.parametrize("name", [name for name in vars(Calls) if not name.startswith("_")])
def test_a_call_leaves_nothing_behind(url, name):
    sql(url, "CREATE TABLE u (y bytea)")
    calls = Calls(url)

    references, blocks, descriptors, threads, tasks, memory = left_behind(
        getattr(calls, name)
    ).tolist()
    calls.connection.close()

    assert (descriptors, threads, tasks) == (0, 0, 0)
    assert references <= 20
    assert blocks <= 20
    assert memory <= 64 * 200
