"""What the database says of a dataset that was published, for those who read it."""

from typing import TYPE_CHECKING, Literal

import numpy as np

from modyn.errors import ConfigError, DatabaseError
from modyn.metadata import state as states
from modyn.metadata.state import Leaf, State, fetch_binary
from modyn.metadata.tables import Parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modyn.metadata.database import Database
    from modyn.metadata.source import Source

Part = tuple[str, int, int, int]
"""A leaf as a source reads it: table, first position, positions, how many of them are erased."""


_LIVING_ROWS = """
SELECT count(*) FROM modyn.samples WHERE dataset = %s AND key >= %s AND key < %s
"""
_ERASED_IN_BLOCKS = """
SELECT "first", count, erased FROM modyn.sample_blocks
WHERE dataset = %s AND "first" >= %s AND "first" < %s
"""


class Published:
    """The published samples of a dataset, as of when this was made or refreshed.

    Keys 0 to count-1 are there, less those that are erased. What is published later is seen
    after `refresh`.

    Parameters
    ----------
    database : Database
        Where.
    uuid : str
        Which dataset.
    path : str, optional
        How messages call it.

    Raises
    ------
    ConfigError
        The dataset was not published there.
    DatabaseError
        A crash of the server has emptied unlogged tables.
    """

    def __init__(self, database: "Database", uuid: str, *, path: str | None = None) -> None:
        self.database = database
        self.uuid = uuid
        self._path = path
        self.refresh()

    def refresh(self) -> None:
        """See what was published and erased since."""
        state = self.database.run(lambda cursor: states.read(cursor, self.uuid), read_only=True)
        what, path = self._path or f"dataset {self.uuid}", self._path or "PATH"
        if state is None or state.count == 0:
            raise ConfigError(
                f"{what}: no sample of it is published in {self.database.url}: "
                f"dataset.publish(url), or modyn dataset publish {path} URL"
            )
        lost = [leaf for leaf in state.leaves if leaf.lost]
        if lost:
            samples = sum(leaf.count - leaf.erased for leaf in lost)
            why = ", because a crash of the server empties unlogged tables" * state.unlogged
            raise DatabaseError(
                f"{what}: {state.parts.leaf(lost[0].leaf)} is empty{why}; {samples:,} samples are "
                f"missing in all: dataset.publish(url), or modyn dataset publish {path} URL, "
                "sends them again"
            )
        self._state = state

    @property
    def id(self) -> int:
        """Of the dataset in this database."""
        return self._state.id

    @property
    def count(self) -> int:
        """How many samples are published: keys 0 to count-1, erased ones included."""
        return self._state.count

    @property
    def erased(self) -> int:
        """How many of them are erased."""
        return self._state.erased

    @property
    def events(self) -> int:
        """How many events of the dataset's journal are applied."""
        return self._state.events

    @property
    def layout(self) -> str:
        return self._state.layout

    @property
    def leaf_samples(self) -> int:
        return self._state.leaf_samples

    @property
    def has_labels(self) -> bool:
        return self._state.has_labels

    @property
    def timestamp_unit(self) -> str:
        return self._state.timestamp_unit

    @property
    def leaves(self) -> "Sequence[Leaf]":
        """Leaves that count, in order."""
        return tuple(leaf for leaf in self._state.leaves if leaf.first < self.count)

    @property
    def ascending(self) -> bool:
        """Whether timestamps never fall from one key to the next, erased samples left out."""
        return self.is_ascending(self.count)

    def is_ascending(self, count: int) -> bool:
        """Return the same for the first `count` samples."""
        late = self._state.first_late
        return late is None or late >= count

    def parts(self, count: int | None = None) -> list[Part]:
        """Return the leaves of the first `count` samples; the last may hold more than is said."""
        end = self.count if count is None else count
        if not 0 < end <= self.count:
            raise ValueError(f"count must be from 1 to {self.count}, got {end}")
        parts = parts_of(self._state.parts, self._state.leaves, end)
        table, first, samples, erased = parts[-1]
        if erased and end < self.count:
            erased = samples - self._living(first, end)
        return [*parts[:-1], (table, first, samples, erased)]

    def _living(self, first: int, end: int) -> int:
        """Return how many samples of a leaf are there below a key."""
        bounds = (self.id, first, end)
        if self.layout == "rows":
            return int(self.database.fetch(_LIVING_ROWS, bounds)[0][0])
        living = 0
        for start, count, erased in fetch_binary(self.database, _ERASED_IN_BLOCKS, bounds):
            here = min(count, end - start)
            bits = np.frombuffer(erased or bytes(count // 8 + 1), np.uint8)
            living += here - int(np.unpackbits(bits, count=here, bitorder="little").sum())
        return living

    def source(self, count: int | None = None) -> "Source":
        """Return the first `count` samples in the order of keys; positions are keys."""
        return source_of(
            self.database, self.parts(count), self.layout, "key", labels=self.has_labels
        )

    @property
    def state(self) -> State:
        """All of it."""
        return self._state


def parts_of(tables: Parts, leaves: "Sequence[Leaf]", end: int) -> list[Part]:
    """Return leaves up to a position."""
    return [
        (tables.leaf(leaf.leaf), leaf.first, min(leaf.end, end) - leaf.first, leaf.erased)
        for leaf in leaves
        if leaf.first < end
    ]


def source_of(
    database: "Database",
    parts: list[Part],
    layout: str,
    position: Literal["key", "position"],
    *,
    labels: bool,
) -> "Source":
    """Return the stream of samples over leaves."""
    from modyn.metadata.source import Source

    return Source(
        database.conninfo,
        parts,
        layout="blocks" if layout == "blocks" else "rows",
        position=position,
        has_labels=labels,
        retry_seconds=database.retry_seconds,
    )
