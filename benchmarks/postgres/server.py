"""A server of our own for the length of a benchmark, and what is said of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What decides how fast a server writes: said with every document.
SETTINGS = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_level",
    "max_wal_size",
    "shared_buffers",
    "checkpoint_timeout",
    "autovacuum",
)
TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Server:
    """A running server: how to reach it, and its first process."""

    url: str
    pid: int

    def processor_seconds(self) -> float:
        """Processor time of all its processes, those that have ended included."""
        total = 0.0
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has ended since
            mine = int(entry.name) == self.pid
            if mine or int(fields[1]) == self.pid:
                # utime and stime; of the first process also those of children it waited for
                total += sum(map(int, fields[11 : 15 if mine else 13])) / TICK
        return total

    def settings(self) -> dict[str, str]:
        with connect(self.url) as connection:
            return {
                name: connection.execute("SELECT current_setting(%s)", (name,)).fetchone()[0]
                for name in SETTINGS
            }


@contextmanager
def private_server(folder: Path, settings: Mapping[str, str]) -> Iterator[Server]:
    """Run a server in a folder, with settings beside those that `modyn db start` gives one."""
    from modyn.metadata.server import LocalServer

    local = LocalServer(folder, settings=settings)
    local.start(child=True)
    try:
        assert local.pid is not None
        yield Server(local.url, local.pid)
    finally:
        local.stop()


def connect(url: str) -> Any:
    """Connect with psycopg, each statement a transaction."""
    import psycopg

    return psycopg.connect(url, autocommit=True)


def make_database(url: str, name: str) -> str:
    """Create a database; return how to reach it."""
    from psycopg import conninfo, sql

    with connect(url) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return conninfo.make_conninfo(url, dbname=name)


def drop_database(url: str, name: str) -> None:
    from psycopg import sql

    with connect(url) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def prepare_schema(url: str) -> None:
    """Make modyn's tables in a new database."""
    from modyn.metadata.database import Database

    with Database(url) as database:
        database.check()
