"""Forgetting a pipeline: all that a database has of it goes, and its name is free again.

First its row gets another name, under its lease and with a token of its own, so that nobody can go
on with what is about to be half there; then its partitions are dropped, a few per transaction,
because a transaction can hold no lock for each of thousands; then the row goes, and with it all
rows that refer to it.  Who is killed in between does it again and goes on.

Partitions are found by their names, which end in _p and the pipeline's id (with the trigger or leaf
behind it): what is written in several transactions is attached only at the end.
"""

from typing import TYPE_CHECKING, Any

from modyn.errors import ConfigError
from modyn.metadata.database import Database
from modyn.pipelines.lease import Lease, this_process

if TYPE_CHECKING:
    from psycopg import Cursor

TABLES_AT_ONCE = 16

_FIND = """
    SELECT id, (SELECT count(*) FROM modyn.ledger_transitions WHERE pipeline = id)
    FROM modyn.pipelines
    WHERE name = %(name)s OR name = 'forgotten/' || id || '/' || %(name)s
    ORDER BY id"""
_RENAME = """
    UPDATE modyn.pipelines SET name = 'forgotten/' || id || '/' || name
    WHERE id = %s AND name NOT LIKE 'forgotten/%%'"""
# The tables of triggers and leaves, whose own parts go with them, before those that hold them.
_PARTITIONS = """
    SELECT format('%%I.%%I', nspname, relname)
    FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
    WHERE nspname = 'modyn' AND relkind IN ('r', 'p') AND relname ~ %s
    ORDER BY relname LIMIT %s"""
_BATCHES = "DELETE FROM modyn.batches WHERE id ~ %s"
_REMOVE = "DELETE FROM modyn.pipelines WHERE id = %s"


def triggers_of(database: Database, name: str) -> int | None:
    """Return how many triggers a pipeline has committed; None if there is no such pipeline."""
    found = database.run(lambda cursor: _found(cursor, name), read_only=True)
    return sum(triggers for _, triggers in found) if found else None


def forget(database: Database, name: str) -> None:
    """Remove a pipeline, with its ledger, stream, training sets and signals.

    Parameters
    ----------
    database : Database
        Where it is.
    name : str
        What it is called.

    Raises
    ------
    ConfigError
        When there is no such pipeline.
    BusyError
        When somebody is running it.
    """
    found = database.run(lambda cursor: _found(cursor, name), read_only=True)
    if not found:
        raise ConfigError(f"{database.url}: there is no pipeline {name!r}")
    for pipeline, _ in found:
        with Lease(database, pipeline, holder=f"modyn db forget, {this_process()}") as lease:
            _forget(database, lease)


def _forget(database: Database, lease: Lease) -> None:
    def rename(cursor: "Cursor[Any]") -> None:
        lease.fence.check(cursor)
        cursor.execute(_RENAME, (lease.pipeline,))

    def remove(cursor: "Cursor[Any]") -> None:
        cursor.execute(_BATCHES, (rf"^(trainsets?|signals|stream)[/:]{lease.pipeline}([/:]|$)",))
        cursor.execute(_REMOVE, (lease.pipeline,))

    database.run(rename)
    for pattern in (rf"_p{lease.pipeline}_[a-z]\d+$", rf"_p{lease.pipeline}$"):
        while _drop(database, lease, pattern):
            pass
    database.run(remove)


def _drop(database: Database, lease: Lease, pattern: str) -> int:
    """Drop some of the tables whose names match; return how many."""

    def drop(cursor: "Cursor[Any]") -> int:
        lease.fence.check(cursor)
        names = [name for (name,) in cursor.execute(_PARTITIONS, (pattern, TABLES_AT_ONCE))]
        for name in names:
            cursor.execute(f"DROP TABLE {name}")
        return len(names)

    return database.run(drop)


def _found(cursor: "Cursor[Any]", name: str) -> list[tuple[int, int]]:
    rows = cursor.execute(_FIND, {"name": name}).fetchall()
    return [(pipeline, triggers) for pipeline, triggers in rows]
