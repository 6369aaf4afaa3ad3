"""Training sets in Postgres: written by one transaction each, and read back as columns.

A set of trigger 17 of pipeline 3 lies in partitions of its own, named after the two numbers.
They are made in the transaction that fills them and attached at its end, so that nobody who
reads other sets waits, and half a set is never seen.  Every transaction begins with the fence of
the pipeline: who lost the lease writes nothing.

The batch that writes a set is named by pipeline, trigger and digest, so a repeated one does
nothing.  A set of the same trigger with another digest takes the place of the former one, which
was never committed to the ledger: what is committed is not chosen again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from modyn.errors import CorruptError
from modyn.metadata.fence import Fence
from modyn.metadata.modulus import modulus_of
from modyn.postgres import Connection, Copy, Statement
from modyn.trainset import TrainingSet

if TYPE_CHECKING:
    from modyn.metadata.database import Database

__all__ = ["Kept", "Trainsets", "read"]

BLOCK_SAMPLES = 16_384  # of a row of trainset_blocks

# By layout: the table of all pipelines' sets, and what names of partitions begin with.
_TABLES = {"rows": ("trainset_rows", "trainsets"), "blocks": ("trainset_blocks", "trainset_blocks")}
_COLUMNS = {
    "rows": "key bigint NOT NULL, weight double precision",
    "blocks": '"first" bigint NOT NULL, count integer NOT NULL, keys bytea NOT NULL, weights bytea',
}

_FORGET_BATCH = (
    "DELETE FROM modyn.batches WHERE id IN (SELECT 'trainset/' || pipeline || '/' || trigger "
    "|| '/' || digest FROM modyn.trainsets WHERE pipeline = $1 AND trigger = $2)"
)
_FORGET = "DELETE FROM modyn.trainsets WHERE pipeline = $1 AND trigger = $2"
_RECORD = (
    "INSERT INTO modyn.trainsets "
    "(pipeline, trigger, digest, samples, weighted, dataset_uuid, layout) "
    "VALUES ($1, $2, $3, $4, $5, $6, $7)"
)
_COPY_OUT = "COPY (SELECT {} FROM {}) TO STDOUT (FORMAT binary)"
_FIND = (
    "SELECT digest, samples, weighted, dataset_uuid, layout FROM modyn.trainsets "
    "WHERE pipeline = %s AND trigger = %s"
)


@dataclass(frozen=True, kw_only=True)
class Kept:
    """A training set as the database has it.

    Attributes
    ----------
    digest : str
        Its name, 64 hexadecimal digits.
    dataset_uuid : str or None
        The dataset whose samples it names.
    keys : uint64, shape (n,), ascending
    weights : float64, shape (n,), or None
    """

    digest: str
    dataset_uuid: str | None
    keys: npt.NDArray[np.uint64]
    weights: npt.NDArray[np.float64] | None

    def write(self, directory: str | PathLike[str]) -> TrainingSet:
        """Write the file `<digest>.set` into a directory and open it.

        Raises
        ------
        CorruptError
            When keys and weights are not those that the digest names.
        """
        found = TrainingSet.write(
            directory, self.keys, self.weights, dataset_uuid=self.dataset_uuid
        )
        if found.digest != self.digest:
            raise CorruptError(
                f"modyn.trainsets: the samples of training set {self.digest} have the digest "
                f"{found.digest}"
            )
        return found


class Trainsets:
    """Writes the training sets of one pipeline.

    Parameters
    ----------
    connection : modyn.postgres.Connection
        Used by one thread at a time.
    fence : Fence
        Which pipeline, and the right to write what belongs to it.
    layout : {"rows", "blocks"}
        One SQL row per sample, or per 16,384.
    hash_partition_modulus : int, optional
        Into how many partitions the rows of a trigger are cut; 1 leaves them whole. As many as
        their number asks for if None (modyn/metadata/modulus.py).
    unlogged : bool
        Whether to keep the partitions out of the log of the server.  They are then empty after
        a crash of the server, and only the files in the run directory are left.
    retry_seconds : float
        How long a lost server is waited for.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        fence: Fence,
        layout: Literal["rows", "blocks"] = "rows",
        hash_partition_modulus: int | None = None,
        unlogged: bool = False,
        retry_seconds: float = 60.0,
    ) -> None:
        modulus_of(hash_partition_modulus, 0)  # refuses one below 1
        self._connection = connection
        self._fence = fence
        self._pipeline = int(fence.pipeline)
        self._layout = layout
        self._modulus = hash_partition_modulus
        self._unlogged = unlogged
        self._retry_seconds = retry_seconds
        self._parents_made = False

    def write(self, trigger: int, chosen: TrainingSet) -> bool:
        """Write the training set of a trigger; return False if it was there already.

        Raises
        ------
        FencedError
            When another process holds the pipeline's lease by now.
        DatabaseError
            When the server refuses, or stays away.
        """
        parts = Partitions(self._pipeline, int(trigger))
        before = [Statement(*self._fence.statement), *parts.forget()]
        copies, after = [], []
        if len(chosen):
            self._make_parents()
            modulus = modulus_of(self._modulus, len(chosen))
            before += parts.make(self._layout, modulus, self._unlogged)
            frozen = self._layout == "blocks" or modulus == 1
            copies.append(parts.copy(self._layout, chosen, frozen=frozen))
            after.append(parts.attach(self._layout))
        after.append(parts.record(chosen, self._layout))
        return self._connection.batch(
            f"trainset/{self._pipeline}/{int(trigger)}/{chosen.digest}",
            before=before,
            copies=copies,
            after=after,
            retry_seconds=self._retry_seconds,
        )

    def _make_parents(self) -> None:
        """Make the partitions of the pipeline, once and apart: that locks others' for a moment."""
        if self._parents_made:
            return
        p = self._pipeline
        self._connection.batch(
            f"trainsets/{p}",
            before=[Statement(*self._fence.statement)],
            after=[
                Statement(
                    f"CREATE TABLE modyn.{prefix}_p{p} PARTITION OF modyn.{whole} "
                    f"FOR VALUES IN ({p}) PARTITION BY LIST (trigger)"
                )
                for whole, prefix in _TABLES.values()
            ],
            retry_seconds=self._retry_seconds,
        )
        self._parents_made = True


@dataclass(frozen=True)
class Partitions:
    """The tables of one training set, and the statements about them; all names are numbers."""

    pipeline: int
    trigger: int

    def parent(self, layout: str) -> str:
        """Return the qualified name of the table that holds all sets of the pipeline."""
        _, prefix = _TABLES[layout]
        return f"modyn.{prefix}_p{self.pipeline}"

    def table(self, layout: str) -> str:
        """Return the qualified name of the table that holds the set."""
        return f"{self.parent(layout)}_t{self.trigger}"

    def forget(self) -> Iterator[Statement]:
        """Remove the set that the trigger had, so that even the same could come again."""
        place = (str(self.pipeline), str(self.trigger))
        yield Statement(_FORGET_BATCH, place)
        yield Statement(_FORGET, place)
        for layout in _TABLES:
            yield Statement(f"DROP TABLE IF EXISTS {self.table(layout)}")

    def make(self, layout: str, modulus: int, unlogged: bool) -> Iterator[Statement]:
        """Make the tables; not attached yet, and so that attaching them needs no scan."""
        table, kind = self.table(layout), "UNLOGGED TABLE" if unlogged else "TABLE"
        columns = (
            f"pipeline integer NOT NULL DEFAULT {self.pipeline} "
            f"CHECK (pipeline = {self.pipeline}), "
            f"trigger bigint NOT NULL DEFAULT {self.trigger} CHECK (trigger = {self.trigger}), "
            f"{_COLUMNS[layout]}"
        )
        if layout == "blocks":
            yield Statement(f"CREATE {kind} {table} ({columns})")
            yield Statement(
                f"ALTER TABLE {table} ALTER COLUMN keys SET STORAGE EXTERNAL, "
                "ALTER COLUMN weights SET STORAGE EXTERNAL"
            )
        elif modulus == 1:
            yield Statement(f"CREATE {kind} {table} ({columns})")
        else:
            yield Statement(f"CREATE TABLE {table} ({columns}) PARTITION BY HASH (key)")
            for i in range(modulus):
                yield Statement(
                    f"CREATE {kind} {table}_h{i} PARTITION OF {table} "
                    f"FOR VALUES WITH (MODULUS {modulus}, REMAINDER {i})"
                )

    def copy(self, layout: str, chosen: TrainingSet, *, frozen: bool) -> Copy:
        """Return what fills the table; rows of a table that is one partition can be frozen."""
        how = "FORMAT binary, FREEZE" if frozen else "FORMAT binary"
        given: list[npt.NDArray[Any]] = [chosen.keys]
        given += [] if chosen.weights is None else [chosen.weights]
        if layout == "rows":
            rows, names = len(chosen), ["key", "weight"][: len(given)]
            columns: list[Any] = [*given]
        else:
            firsts = np.arange(0, len(chosen), BLOCK_SAMPLES, dtype=np.int64)
            counts = np.minimum(len(chosen) - firsts, BLOCK_SAMPLES).astype(np.int32)
            rows, names = len(firsts), ['"first"', "count", "keys", "weights"][: 2 + len(given)]
            columns = [firsts, counts, *map(_cut, given)]
        sql = f"COPY {self.table(layout)} ({', '.join(names)}) FROM STDIN ({how})"
        return Copy(sql, tuple(columns), rows)

    def attach(self, layout: str) -> Statement:
        """Let the table be seen as part of the whole."""
        return Statement(
            f"ALTER TABLE {self.parent(layout)} ATTACH PARTITION {self.table(layout)} "
            f"FOR VALUES IN ({self.trigger})"
        )

    def record(self, chosen: TrainingSet, layout: str) -> Statement:
        """Say that the set is there."""
        values = (
            *(str(self.pipeline), str(self.trigger), chosen.digest, str(len(chosen))),
            *("false" if chosen.weights is None else "true", chosen.dataset_uuid, layout),
        )
        return Statement(_RECORD, values, 1)


def read(database: "Database", connection: Connection, pipeline: int, trigger: int) -> Kept | None:
    """Return the training set of a trigger in key order; None if there is none.

    Raises
    ------
    CorruptError
        When its table does not hold what was written.
    DatabaseError
        When the server refuses, or stays away.
    """
    found = database.fetch_one(_FIND, (pipeline, trigger))
    if found is None:
        return None
    digest, samples, weighted, dataset_uuid, layout = found
    parts = Partitions(int(pipeline), int(trigger))
    keys = np.empty(samples, dtype=np.uint64)
    weights = np.empty(samples, dtype=np.float64) if weighted else None
    if samples:
        table = parts.table(layout)
        blocks = (_rows if layout == "rows" else _blocks)(connection, table, weighted)
        _gather(table, blocks, keys, weights)
    return Kept(digest=digest, dataset_uuid=dataset_uuid, keys=keys, weights=weights)


_Block = tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64] | None]


def _rows(connection: Connection, table: str, weighted: bool) -> Iterator[_Block]:
    names, types = ("key, weight", "Qd") if weighted else ("key", "Q")
    for block in connection.read(_COPY_OUT.format(names, table), types):
        yield block[0], block[1] if weighted else None


def _blocks(connection: Connection, table: str, weighted: bool) -> Iterator[_Block]:
    names, types = ("keys, weights", "yy") if weighted else ("keys", "y")
    for block in connection.read(_COPY_OUT.format(names, table), types):
        for row in zip(*block, strict=True):
            weights = np.frombuffer(row[1], dtype="<f8") if weighted else None
            yield np.frombuffer(row[0], dtype="<u8"), weights


def _gather(
    table: str,
    blocks: Iterator[_Block],
    keys: npt.NDArray[np.uint64],
    weights: npt.NDArray[np.float64] | None,
) -> None:
    """Fill the arrays from blocks in any order, and put them into key order."""
    filled = 0
    for some, theirs in blocks:
        end = filled + len(some)
        if end > len(keys) or (theirs is not None and len(theirs) != len(some)):
            raise CorruptError(f"{table}: more than the {len(keys)} samples that were written")
        keys[filled:end] = some
        if weights is not None and theirs is not None:
            weights[filled:end] = theirs
        filled = end
    if filled != len(keys):
        raise CorruptError(
            f"{table}: {filled} of the {len(keys)} samples that were written; an unlogged table "
            "is empty after a crash of the server"
        )
    if np.any(keys[1:] <= keys[:-1]):
        order = np.argsort(keys, kind="stable")
        keys[:] = keys[order]
        if weights is not None:
            weights[:] = weights[order]
        if np.any(keys[1:] == keys[:-1]):
            raise CorruptError(f"{table}: a sample is there twice")


def _cut(column: npt.NDArray[Any]) -> Sequence[memoryview]:
    """Return the bytes of a column, block by block."""
    data = memoryview(column.astype(column.dtype.newbyteorder("<")).tobytes())
    size = BLOCK_SAMPLES * column.itemsize
    return [data[first : first + size] for first in range(0, len(data), size)]
