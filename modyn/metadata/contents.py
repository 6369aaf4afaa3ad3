"""What lies in a metadata database, for people who look."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modyn.errors import DatabaseError
from modyn.metadata import schema
from modyn.metadata.database import Database

if TYPE_CHECKING:
    from modyn.metadata.database import Cursor

SCHEMA = """
SELECT n.oid, c.oid IS NOT NULL
FROM pg_namespace n
LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'schema_version'
WHERE n.nspname = 'modyn'
"""
SIZE = """
SELECT COALESCE(sum(pg_total_relation_size(c.oid)), 0)::int8
FROM pg_class c
WHERE c.relnamespace = %s AND c.relkind = 'r'
"""
DATASETS = """
SELECT uuid, name, count, erased, layout, unlogged, ascending FROM modyn.datasets ORDER BY name, id
"""
# A lease that is over is nobody's.
PIPELINES = """
SELECT p.name,
       (SELECT count(*) FROM modyn.ledger_transitions t WHERE t.pipeline = p.id),
       COALESCE(l.finished, false),
       CASE WHEN p.expires > now() THEN p.holder END
FROM modyn.pipelines p
LEFT JOIN modyn.ledger_progress l ON l.pipeline = p.id
ORDER BY p.name
"""


@dataclass(frozen=True)
class PublishedDataset:
    """A dataset whose metadata is there: `count` samples, `erased` of them erased."""

    uuid: str
    name: str
    count: int
    erased: int
    layout: str
    unlogged: bool
    ascending: bool


@dataclass(frozen=True)
class KnownPipeline:
    """A pipeline whose ledger is there, and who holds its lease just now."""

    name: str
    triggers: int
    finished: bool
    holder: str | None


@dataclass(frozen=True)
class Contents:
    """All of it, as of one moment.

    Attributes
    ----------
    schema : int
        Version of the tables.
    size_bytes : int
        Bytes of all of them, on the disk of the server.
    datasets : tuple of PublishedDataset
        By name.
    pipelines : tuple of KnownPipeline
        By name.
    """

    schema: int
    size_bytes: int
    datasets: tuple[PublishedDataset, ...]
    pipelines: tuple[KnownPipeline, ...]


def contents(database: Database) -> Contents | None:
    """Return what is in a database, or None if modyn was never there.

    Raises
    ------
    DatabaseError
        The tables are of another version than ours.
    """
    return database.run(_contents, read_only=True)


def _contents(cursor: Cursor) -> Contents | None:
    found = cursor.execute(SCHEMA).fetchone()
    if found is None or not found[1]:
        return None
    row = cursor.execute("SELECT max(version) FROM modyn.schema_version").fetchone()
    version, ours = row and row[0], schema.steps()[-1].version
    if version != ours:
        raise DatabaseError(
            f"the database has schema {version}, this modyn knows {ours}: the first run or "
            "publication of a newer modyn updates the tables"
        )
    size = cursor.execute(SIZE, [found[0]]).fetchone()
    return Contents(
        schema=ours,
        size_bytes=0 if size is None else size[0],
        datasets=tuple(PublishedDataset(*one) for one in cursor.execute(DATASETS).fetchall()),
        pipelines=tuple(KnownPipeline(*one) for one in cursor.execute(PIPELINES).fetchall()),
    )
