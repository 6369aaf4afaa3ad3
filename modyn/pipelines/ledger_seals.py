"""What the tables of a ledger in SQLite add up to: a value that changed on its disk is noticed.

    seals    a row per table: its name, and the sum of its rows modulo 2**128, hexadecimal

A row counts as the BLAKE2b-128 of canonical JSON: a list of the table's name and the values.  What
tables there are is a table, too: SQLite's own, less where in the file they begin.  So a transaction
adds what it inserts and takes away what it replaces, whatever else is there, and who opens the file
adds all up, once.  SQLite itself has checksums of nothing: it finds what breaks its structure only.

Ledgers of version 1 have no seals; they are read, and written, as before.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

from modyn.errors import BusyError, RunCorruptError

__all__ = ["SCHEMA", "Seals", "blaming"]

TABLE = "seals"
COLUMNS = "name TEXT PRIMARY KEY, seal TEXT NOT NULL"
SCHEMA = "sqlite_master"
MODULUS = 1 << 128
BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
NO_DAMAGE = {  # what the content is not to blame for
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,  # such as a killed writer's journal that cannot be rolled back
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}

_encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=True).encode


@contextmanager
def blaming(path: Path) -> Iterator[None]:
    """Name the file of a ledger in what goes wrong in reading it, and say what that is.

    Raises
    ------
    RunCorruptError
        When the content is not as it was written.
    BusyError
        When another process did not let go of the file in time.
    OSError
        When it cannot be read, whatever the content.
    """
    try:
        yield
    except (sqlite3.DatabaseError, TypeError, ValueError) as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in BUSY:
            raise BusyError(f"{path}: {error}") from error
        if code in NO_DAMAGE:
            raise OSError(f"{path}: {error}") from error
        raise _damaged(path, str(error)) from error


class Seals:
    """The seals of an open ledger.

    Parameters
    ----------
    db : sqlite3.Connection
    path : Path
        Of its file, to be named.
    tables : sequence of str
        Those that it may have.
    """

    def __init__(self, db: sqlite3.Connection, path: Path, tables: Sequence[str]) -> None:
        self._db = db
        self._path = path
        self._known = tables
        self._sealed = False
        self._changes: dict[str, int] = {}

    def make(self) -> None:
        """Begin with them; in the transaction that makes the tables."""
        self._sealed = True
        with self.changing(SCHEMA):
            self._db.execute(f"CREATE TABLE {TABLE} ({COLUMNS}) STRICT")

    def verify(self, *, there: bool) -> None:
        """Hold all that there is against its seals.

        Parameters
        ----------
        there : bool
            Whether the ledger is of a version that has seals.

        Raises
        ------
        RunCorruptError
            When anything is not as it was written; names file and table.
        """
        self._db.execute("BEGIN DEFERRED")
        try:
            self._verify(there)
        finally:
            if self._db.in_transaction:  # some errors end it
                self._db.execute("ROLLBACK")

    def _verify(self, there: bool) -> None:
        tables = {name for (name,) in self._db.execute(f"SELECT name FROM {SCHEMA}")}  # noqa: S608
        self._sealed = there or TABLE in tables
        if not self._sealed:
            return
        (structure,) = self._db.execute("PRAGMA integrity_check(1)").fetchone()
        if structure != "ok":
            raise _damaged(self._path, structure)
        seals = dict(self._db.execute(f"SELECT name, seal FROM {TABLE}"))  # noqa: S608
        for table in (SCHEMA, *(known for known in self._known if known in tables)):
            if seals.get(table, _text(0)) != _text(self._sum(table, "TRUE", ())):
                raise _damaged(self._path, f"table {table} does not match its checksum")

    @contextmanager
    def changing(
        self, table: str, where: str = "TRUE", values: Iterable[Any] = ()
    ) -> Iterator[None]:
        """Take note of what the block does to the rows of a table that meet a condition."""
        if not self._sealed:
            yield
            return
        asked = tuple(values)
        before = self._sum(table, where, asked)
        yield
        change = self._sum(table, where, asked) - before
        self._changes[table] = self._changes.get(table, 0) + change

    def write(self) -> None:
        """Write down what has changed; in the transaction that changed it."""
        for table, change in self._changes.items():
            select = f"SELECT seal FROM {TABLE} WHERE name = ?"  # noqa: S608
            found = self._db.execute(select, (table,)).fetchone()
            seal = (int(found[0], 16) if found else 0) + change
            insert = f"INSERT OR REPLACE INTO {TABLE} VALUES (?, ?)"  # noqa: S608
            self._db.execute(insert, (table, _text(seal)))
        self.forget()

    def forget(self) -> None:
        """Take back what was noted of a transaction that is rolled back."""
        self._changes.clear()

    def _sum(self, table: str, where: str, values: tuple[Any, ...]) -> int:
        columns = "type, name, tbl_name, sql" if table == SCHEMA else "*"
        rows = self._db.execute(f"SELECT {columns} FROM {table} WHERE {where}", values)  # noqa: S608
        return sum(_number(table, row) for row in rows)


def _number(table: str, row: tuple[Any, ...]) -> int:
    digest = blake2b(_encode([table, *row]).encode(), digest_size=16).digest()
    return int.from_bytes(digest, "little")


def _text(seal: int) -> str:
    return f"{seal % MODULUS:032x}"


def _damaged(path: Path, what: str) -> RunCorruptError:
    return RunCorruptError(
        f"{path}: damaged ({what}); restore it from a copy, or run the pipeline again "
        "in another output directory, with --models and the models of this one"
    )
