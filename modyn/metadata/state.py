"""What the database says about one dataset, read in one transaction."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modyn.metadata.tables import Parts, sample_parts

if TYPE_CHECKING:
    import psycopg

    from modyn.metadata.database import Database


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A leaf holds keys first .. first+count-1, less those that are erased."""

    leaf: int
    first: int
    count: int
    erased: int
    min_timestamp: int | None
    max_timestamp: int | None
    refills: int = 0
    empty: bool = False
    """Whether its table has no byte; then something is wrong, unless all is erased."""

    @property
    def end(self) -> int:
        return self.first + self.count

    @property
    def lost(self) -> bool:
        """Whether a crash of the server has emptied it, as it does with unlogged tables."""
        return self.empty and self.count > self.erased


@dataclass(frozen=True, kw_only=True)
class State:
    """A row of modyn.datasets with its leaves, by number."""

    id: int
    uuid: str
    fields: str
    timestamp_unit: str
    has_labels: bool
    layout: str
    unlogged: bool
    leaf_samples: int
    count: int
    erased: int
    events: int
    first_late: int | None
    last_timestamp: int | None
    leaves: tuple[Leaf, ...]

    @property
    def parts(self) -> Parts:
        return sample_parts(
            self.layout, self.id, leaf_samples=self.leaf_samples, unlogged=self.unlogged
        )

    @property
    def stored(self) -> int:
        """How many samples leaves are for, those that do not count yet included."""
        return sum(leaf.count for leaf in self.leaves)

    def leaf(self, number: int) -> Leaf | None:
        return next((leaf for leaf in self.leaves if leaf.leaf == number), None)


_COLUMNS = (
    *("id", "uuid", "fields", "timestamp_unit", "has_labels", "layout", "unlogged"),
    *("leaf_samples", "count", "erased", "events", "first_late", "last_timestamp"),
)
_LEAF_COLUMNS = (
    *("leaf", "first", "count", "erased", "min_timestamp", "max_timestamp"),
    *("refills", "empty"),
)
_DATASET = """
SELECT id, uuid, fields, timestamp_unit, has_labels, layout, unlogged, leaf_samples, count,
       erased, events, first_late, last_timestamp
FROM modyn.datasets WHERE uuid = %s
"""
_LEAVES = """
SELECT leaf, "first", count, erased, min_timestamp, max_timestamp, refills,
       coalesce(pg_relation_size(to_regclass(format(%s, leaf))) = 0, true)
FROM modyn.leaves WHERE dataset = %s ORDER BY leaf
"""


def read(cursor: "psycopg.Cursor[Any]", uuid: str) -> State | None:
    """Return what is known of the dataset with this uuid, None if it was never published."""
    found = cursor.execute(_DATASET, (uuid,)).fetchone()
    if found is None:
        return None
    facts = dict(zip(_COLUMNS, found, strict=True))
    parts = sample_parts(facts["layout"], facts["id"], leaf_samples=facts["leaf_samples"])
    rows = cursor.execute(_LEAVES, (f"{parts.name}_l%s", facts["id"])).fetchall()
    leaves = tuple(Leaf(**dict(zip(_LEAF_COLUMNS, row, strict=True))) for row in rows)
    return State(**facts, leaves=leaves)


def fetch_binary(
    database: "Database", sql: str, parameters: tuple[int, ...]
) -> list[tuple[Any, ...]]:
    """Return rows; bytes come as they are, not as hexadecimal digits."""

    def fetch(cursor: "psycopg.Cursor[Any]") -> list[tuple[Any, ...]]:
        return cursor.execute(sql.encode(), parameters, binary=True).fetchall()

    return database.run(fetch, read_only=True)
