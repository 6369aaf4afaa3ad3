"""The tables of modyn in a database: the numbered files of modyn/metadata/sql, applied in order.

All lie in the schema `modyn`, one per database.  What has been applied stands in
modyn.schema_version, with the checksum of the file: a file never changes once it has been released,
what is to be different comes with the next number.

All files that are missing are applied in one transaction, under a lock that whoever comes at the
same time waits for, so a database has all of a version or nothing of it.  Who finds nothing to do
needs no right but to read.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from modyn.errors import DatabaseError
from modyn.metadata.programs import OLDEST

if TYPE_CHECKING:
    import psycopg

    Cursor = psycopg.Cursor[tuple[Any, ...]]

LOCK = int.from_bytes(b"modyn")
"""The advisory lock of the database under which the schema is made."""

LOOK = """
SELECT n.oid,
       pg_get_userbyid(n.nspowner),
       has_schema_privilege(n.oid, 'USAGE'),
       has_schema_privilege(n.oid, 'CREATE'),
       c.oid,
       COALESCE(has_table_privilege(c.oid, 'SELECT'), false),
       (SELECT count(*) FROM pg_class WHERE relnamespace = n.oid),
       (SELECT array_agg(attname::text) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0)
FROM pg_namespace n
LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'schema_version'
WHERE n.nspname = 'modyn'
"""
WHERE = """
SELECT current_user, current_database(), has_database_privilege(current_database(), 'CREATE')
"""
BEGIN = """
CREATE TABLE modyn.schema_version (
    version integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    applied timestamptz NOT NULL DEFAULT now()
)
"""
COLUMNS = {"version", "name", "checksum", "applied"}


@dataclass(frozen=True)
class Step:
    """One numbered file.

    Attributes
    ----------
    version : int
        Its number.
    name : str
        The rest of its name, "control".
    text : str
        Its statements.
    """

    version: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        """What tells this text from another one."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True)
class _Found:
    """What there is of a schema modyn, and what this role may do with it."""

    exists: bool = False
    owner: str = ""
    usage: bool = False
    create: bool = False
    versioned: bool = False
    readable: bool = False
    objects: int = 0
    columns: frozenset[str] = frozenset()


@cache
def steps() -> tuple[Step, ...]:
    """Return all steps, in order."""
    found = []
    for file in resources.files("modyn.metadata").joinpath("sql").iterdir():
        if match := re.fullmatch(r"(\d{3})_(\w+)\.sql", file.name):
            found.append(Step(int(match[1]), match[2], file.read_text(encoding="utf-8")))
    return tuple(sorted(found, key=lambda step: step.version))


def check_server(version: int) -> None:
    """Refuse a server that is too old, 120022 for 12.22."""
    if version < OLDEST * 10000:
        raise DatabaseError(
            f"the server is PostgreSQL {version // 10000}.{version % 10000}, and modyn needs "
            f"{OLDEST} or newer"
        )


def prepare(connection: psycopg.Connection[Any], known: tuple[Step, ...] | None = None) -> int:
    """Bring the schema of a database to our version and return that.

    Parameters
    ----------
    connection : psycopg.Connection
        In autocommit, not within a transaction.
    known : tuple of Step, optional
        The steps, if not those of this installation.

    Raises
    ------
    DatabaseError
        The server is too old; the schema is newer than this modyn, was made by other files, or
        is not ours; or this role may not do what is missing. The message has the GRANT.
    psycopg.Error
        Whatever else the server finds wrong.
    """
    known = steps() if known is None else known
    check_server(connection.info.server_version)
    with connection.cursor() as cursor:
        found = _look(cursor)
        _check_ours(cursor, found)
        if not found.versioned or _missing(cursor, known):
            _check_rights(cursor, found, known)
            with connection.transaction():
                _apply(cursor, known)
    return known[-1].version


def _look(cursor: Cursor) -> _Found:
    row = cursor.execute(LOOK).fetchone()
    if row is None:
        return _Found()
    _, owner, usage, create, table, readable, objects, columns = row
    return _Found(
        True, owner, usage, create, table is not None, readable, objects, frozenset(columns or ())
    )


def _check_ours(cursor: Cursor, found: _Found) -> None:
    """Refuse a schema that somebody else made, or that this role may not look at."""
    if not found.exists or (not found.versioned and not found.objects):
        return  # an empty one was made for us
    if not found.versioned or not found.columns >= COLUMNS:
        raise DatabaseError(
            f"the schema modyn, of the role {found.owner}, was not made by this program: use "
            "another database, or rename that schema"
        )
    if not (found.usage and found.readable):
        role, _, _ = _where(cursor)
        raise DatabaseError(
            f"the role {role} may not read the schema modyn; as {found.owner}: "
            f"GRANT USAGE ON SCHEMA modyn TO {_quoted(role)}; "
            f"GRANT SELECT ON ALL TABLES IN SCHEMA modyn TO {_quoted(role)}"
        )


def _missing(cursor: Cursor, known: tuple[Step, ...]) -> list[Step]:
    """Return the steps that are still to be applied; refuse what others have applied."""
    rows = cursor.execute("SELECT version, name, checksum FROM modyn.schema_version").fetchall()
    applied = {version: (name, checksum) for version, name, checksum in rows}
    newest = max(applied, default=0)
    if newest > known[-1].version:
        raise DatabaseError(
            f"the database has schema {newest}, this modyn knows {known[-1].version}: update modyn"
        )
    for step in known:
        if step.version in applied and applied[step.version] != (step.name, step.checksum):
            raise DatabaseError(
                f"step {step.version} ({step.name}) of the schema was applied from another file "
                "than this modyn has: use the modyn that made this database, or another database"
            )
    return [step for step in known if step.version not in applied]


def _check_rights(cursor: Cursor, found: _Found, known: tuple[Step, ...]) -> None:
    """Say in advance what this role may not do, and who can change that."""
    role, database, may_create = _where(cursor)
    if not found.exists and not may_create:
        raise DatabaseError(
            f"the role {role} may not create the schema modyn in the database {database}; as its "
            f"owner: CREATE SCHEMA modyn AUTHORIZATION {_quoted(role)}, or "
            f"GRANT CREATE ON DATABASE {_quoted(database)} TO {_quoted(role)}"
        )
    if found.exists and not found.create:
        raise DatabaseError(
            f"the schema modyn is to be brought to version {known[-1].version}, which the role "
            f"{role} may not: run this once as {found.owner}, or as {found.owner}: "
            f"GRANT {_quoted(found.owner)} TO {_quoted(role)}"
        )


def _apply(cursor: Cursor, known: tuple[Step, ...]) -> None:
    """Apply what is missing, within a transaction; others who come now wait for its end."""
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
    found = _look(cursor)  # somebody may have been here meanwhile
    _check_ours(cursor, found)
    if not found.exists:
        cursor.execute("CREATE SCHEMA modyn")
    if not found.versioned:
        cursor.execute(BEGIN)
    for step in _missing(cursor, known):
        cursor.execute(step.text.encode())
        cursor.execute(
            "INSERT INTO modyn.schema_version (version, name, checksum) VALUES (%s, %s, %s)",
            [step.version, step.name, step.checksum],
        )


def _where(cursor: Cursor) -> tuple[str, str, bool]:
    row = cursor.execute(WHERE).fetchone()
    assert row is not None  # noqa: S101 - it reads no table
    return row[0], row[1], row[2]


def _quoted(name: str) -> str:
    """Return an identifier as SQL writes it; for messages only."""
    return name if re.fullmatch(r"[a-z_][a-z0-9_]*", name) else '"' + name.replace('"', '""') + '"'
