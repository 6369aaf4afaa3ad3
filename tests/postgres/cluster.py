"""A server of our own that may be killed, paused and restarted, and what trials ask of it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import psycopg

from modyn.metadata.server import LocalServer
from tests.python.postgres_server import backends, kill_server, new_database, new_server, sql

T = TypeVar("T")
READY_SECONDS = 60.0
BATCHES = """
CREATE SCHEMA modyn;
CREATE TABLE modyn.batches (id text PRIMARY KEY, committed timestamptz NOT NULL DEFAULT now())
"""


class Cluster:
    """A context: a server with an empty database, gone at the end.

    Its data directory is synced (fsync on): a commit that was acknowledged must be there after
    SIGKILL of all processes.
    """

    def __init__(self, server: LocalServer | None = None, **settings: str) -> None:
        self._server = server
        self._settings = {"fsync": "on", **settings}
        self._stack = contextlib.ExitStack()
        self.conninfo = ""

    def __enter__(self) -> Self:
        if self._server is None:
            self._server = self._stack.enter_context(new_server(**self._settings))
        self.conninfo = self._stack.enter_context(new_database(self._server))
        self.sql(BATCHES)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, value, trace)

    @property
    def server(self) -> LocalServer:
        if self._server is None:
            raise ValueError("the cluster has not been started")
        return self._server

    @property
    def socket(self) -> Path:
        """Where the server listens."""
        return self.server.socket_folder / ".s.PGSQL.5432"

    def tcp_conninfo(self, port: int) -> str:
        """The same database by way of a proxy on loopback."""
        parts = psycopg.conninfo.conninfo_to_dict(self.conninfo)
        way = {"host": "127.0.0.1", "port": port, "sslmode": "disable", "gssencmode": "disable"}
        return psycopg.conninfo.make_conninfo("", **{**parts, **way})

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        return patiently(lambda: sql(self.conninfo, statement))

    def backends(self) -> list[int]:
        return patiently(lambda: backends(self.conninfo))

    def lock(self, table: str, seconds: float) -> threading.Thread:
        """Hold a table for so long, from now on; to be joined."""
        held = threading.Event()

        def hold() -> None:
            with psycopg.connect(self.conninfo) as connection:
                connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
                held.set()
                time.sleep(seconds)

        thread = threading.Thread(target=hold, daemon=True)
        thread.start()
        held.wait(READY_SECONDS)
        return thread

    def stop_immediately(self) -> None:
        """End the server without a checkpoint: it recovers at its next start."""
        pid = self.server.pid
        if pid is not None:
            os.kill(pid, signal.SIGQUIT)
        self.server.stop()

    def kill(self) -> None:
        kill_server(self.server)

    def start(self) -> None:
        self.server.start(child=True)
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until connections are taken, as after a server has restarted itself."""
        self.sql("SELECT 1")

    def wait_until_quiet(self) -> None:
        """Wait until nobody else is connected, so that nothing can be committed any more."""
        deadline = time.monotonic() + READY_SECONDS
        while self.backends():
            if time.monotonic() > deadline:
                raise TimeoutError(f"still connected: {self.sql('TABLE pg_stat_activity')}")
            time.sleep(0.01)


def patiently(work: Callable[[], T]) -> T:
    """Do it again while the server is away: it notes the end of a session a moment later."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            return work()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
