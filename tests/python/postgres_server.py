"""A private Postgres for tests, never a mock: fixtures, and what tests do to a server.

server          one per pytest run; fsync is off, it is a child of ours and dies with us
database_url    an empty database of it, for one test
guarded         a role of it that has a password (PASSWORD); all others come in without one
own_server      a server for one test that kills it, fills its disk or stops it for a while
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from modyn.errors import ConfigError
from modyn.metadata import programs
from modyn.metadata.server import LocalServer

PASSWORD = "s3cret-of-the-test"
_numbers = itertools.count()


def _fastest() -> str | None:
    """Where making a database takes a third of the time: in memory, where there is plenty."""
    memory = Path("/dev/shm")
    if memory.is_dir() and shutil.disk_usage(memory).free > 4 << 30:
        return str(memory)
    return None


@contextmanager
def new_server(**settings: str) -> Iterator[LocalServer]:
    """A server in a temporary folder that the server's user can reach, gone afterwards."""
    try:
        programs.find()
    except ConfigError as error:
        pytest.skip(str(error))
    folder = Path(tempfile.mkdtemp(prefix="modyn-pg-", dir=_fastest()))
    folder.chmod(0o755)
    server = LocalServer(folder / "server", settings={"fsync": "off", **settings})
    try:
        server.start(child=True)
        yield server
    finally:
        try:
            if server.pid is not None:
                os.kill(server.pid, signal.SIGCONT)  # of one that a test has paused
            server.stop(seconds=10)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def _server() -> Iterator[LocalServer]:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with new_server() as server:
        yield server


@pytest.fixture
def server(_server: LocalServer) -> LocalServer:
    """The server of this run; one that a test has killed is started again."""
    _server.start(child=True)
    return _server


@pytest.fixture
def own_server() -> Iterator[LocalServer]:
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    with new_server() as server:
        yield server


@contextmanager
def new_database(server: LocalServer) -> Iterator[str]:
    """The URL of an empty database; who is connected at the end is thrown out."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    sql(server.url, f"CREATE DATABASE {name}")
    try:
        yield server.url_of(name)
    finally:
        server.start(child=True)  # of a test that has killed it
        sql(server.url, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def database_url(server: LocalServer) -> Iterator[str]:
    with new_database(server) as url:
        yield url


@pytest.fixture
def guarded(server: LocalServer) -> str:
    """The name of a role that must say PASSWORD, and may create databases."""
    rules = server.data / "pg_hba.conf"
    line = "local all guarded scram-sha-256\n"
    if not rules.read_text().startswith(line):
        rules.write_text(line + rules.read_text())
        sql(server.url, "SET password_encryption = 'scram-sha-256'")
        sql(server.url, f"CREATE ROLE guarded LOGIN CREATEDB PASSWORD '{PASSWORD}'")
        sql(server.url, "SELECT pg_reload_conf()")
    return "guarded"


def sql(url: str, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Run one statement in a session of its own, outside of a transaction."""
    import psycopg

    with psycopg.connect(url, autocommit=True, connect_timeout=30) as connection:
        cursor = connection.execute(statement, parameters or None)
        return cursor.fetchall() if cursor.description else []


def terminate_backends(url: str, like: str = "%") -> int:
    """End all other sessions of this database that run a statement LIKE this; say how many."""
    ended = sql(
        url,
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE %s",
        like,
    )
    return len(ended)


def backends(url: str) -> list[int]:
    """The processes of the other sessions of this database."""
    found = sql(
        url,
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend' ORDER BY pid",
    )
    return [pid for (pid,) in found]


def kill_server(server: LocalServer) -> None:
    """SIGKILL the server and its sessions at once, as when a machine runs out of memory."""
    assert server.pid is not None
    kill_all(server.pid)
    server.stop()  # waits for our child; it is gone already


def kill_all(pid: int) -> None:
    """SIGKILL a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for process in (pid, *map(int, children)):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
