"""Signals of trainings in Postgres: written by COPY as a training runs, read back as columns.

The rows of trigger 17 of pipeline 3 lie in a table of its own, named after the two numbers and cut
by a hash of the key.

    begin    makes the table, after it has removed what an interrupted training left there
    put      one transaction for each chunk of rows: a COPY, named by pipeline, trigger, model and
             the number of the chunk, so that a repeated one does nothing
    commit   attaches the table to modyn.signals, and says in modyn.signal_sets how many rows it has

So nobody who reads modyn.signals ever sees rows of a training that is not over.  Every transaction
begins with the fence of the pipeline: who lost the lease writes nothing.

Whoever reads compares the number of rows with what was committed, so that a lost row cannot pass.
"""

import secrets
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from modyn.errors import CorruptError, DatabaseError
from modyn.metadata.fence import Fence
from modyn.metadata.modulus import modulus_of
from modyn.postgres import Connection, Copy, Statement
from modyn.signals import Recording, Rows, Signals, check_names, dtypes, sorted_signals

if TYPE_CHECKING:
    from modyn.metadata.database import Database

__all__ = ["PostgresSignals", "erase", "read"]

KEYS_AT_ONCE = 2**20  # of erased samples in one transaction
ATTEMPTS = 5  # at reading, each after the server has answered

_FORGET_BATCHES = "DELETE FROM modyn.batches WHERE id LIKE $1 AND id <> $2"
_FORGET = "DELETE FROM modyn.signal_sets WHERE pipeline = $1 AND trigger = $2"
_RECORD = (
    "INSERT INTO modyn.signal_sets (pipeline, trigger, model, dataset_uuid, names, classes, "
    "row_count, erased, leaf_count) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
)
_FIND = (
    "SELECT model, names, classes, row_count, leaf_count FROM modyn.signal_sets "
    "WHERE pipeline = %s AND trigger = %s"
)
_STALE = "SELECT pipeline, trigger FROM modyn.signal_sets WHERE dataset_uuid = %s AND erased <> %s"
_LOOKED = "UPDATE modyn.signal_sets SET erased = %s WHERE pipeline = %s AND trigger = %s"
_SETS = (
    "SELECT pipeline, trigger FROM modyn.signal_sets WHERE dataset_uuid = %s "
    "ORDER BY pipeline, trigger"
)
_GONE = "CREATE TEMPORARY TABLE erased_keys ON COMMIT DROP AS SELECT unnest(%s::bigint[]) AS key"
_ERASE = """
WITH gone AS (
    DELETE FROM modyn.signals s USING pg_temp.erased_keys e
    WHERE s.pipeline = %(pipeline)s AND s.trigger = %(trigger)s AND s.key = e.key RETURNING 1
)
UPDATE modyn.signal_sets SET row_count = row_count - (SELECT count(*) FROM gone)
WHERE pipeline = %(pipeline)s AND trigger = %(trigger)s
RETURNING (SELECT count(*) FROM gone)
"""


class PostgresSignals:
    """The signals of one pipeline; whoever writes them holds its lease.

    Parameters
    ----------
    database : Database
        Used by the thread of the caller; writers have connections of their own.
    fence : Fence
        Which pipeline, and the right to write what belongs to it.
    dataset_uuid : str
        Of the samples.
    hash_partition_modulus : int, optional
        Into how many partitions the rows of a trigger are cut by key. How many rows there will be
        is not known when the first of them comes, so that it is 1 unless somebody says more.
    unlogged : bool
        Whether to keep the partitions out of the log of the server.  They are then empty after
        a crash of the server, and to read them is an error that says so.
    retry_seconds : float
        How long a lost server is waited for.
    """

    def __init__(
        self,
        database: "Database",
        fence: Fence,
        dataset_uuid: str,
        *,
        hash_partition_modulus: int | None = None,
        unlogged: bool = False,
        retry_seconds: float = 60.0,
    ) -> None:
        self._database = database
        self._fence = fence
        self._pipeline = int(fence.pipeline)
        self._dataset_uuid = dataset_uuid
        self._modulus = modulus_of(hash_partition_modulus, 0)
        self._unlogged = unlogged
        self._retry_seconds = retry_seconds

    def clean(self) -> None:
        """Do nothing: what a killed process left goes when its training is done again."""

    def ready(self, trigger: int, model: str) -> bool:
        """Return whether there are rows, and of the training that made this model."""
        found = _find(self._database, self._pipeline, trigger)
        return found is not None and found.model == model

    def begin(self, recording: Recording, /) -> "PostgresWriter":
        """Make the table of a training."""
        connection = self._database.bulk()
        try:
            writer = PostgresWriter(
                connection,
                self._fence,
                recording,
                dataset_uuid=self._dataset_uuid,
                modulus=self._modulus,
                unlogged=self._unlogged,
                retry_seconds=self._retry_seconds,
            )
            writer.make()
        except BaseException:
            connection.close()
            raise
        return writer

    def read(self, trigger: int, names: Sequence[str] | None = None, /) -> Signals:
        """Return the signals of a trigger.

        Raises
        ------
        KeyError, ValueError, CorruptError
            As `SignalStore.read`.
        """
        return read(self._database, self._pipeline, trigger, names)

    def erase(self, erased: npt.NDArray[np.bool_], /) -> int:
        """Remove the rows of erased samples, in all pipelines of the dataset."""
        count = int(np.count_nonzero(erased))
        stale = self._database.fetch(_STALE, (self._dataset_uuid, count))
        if not stale:
            return 0
        keys = np.flatnonzero(erased).astype(np.uint64)
        removed = erase(self._database, self._dataset_uuid, keys)
        looked = [(count, *one) for one in stale]  # what was committed since is left to its run
        self._database.run(lambda cursor: cursor.executemany(_LOOKED, looked))
        return removed


class PostgresWriter:
    """The rows of one training on their way; for one thread at a time, but `cancel`."""

    def __init__(
        self,
        connection: Connection,
        fence: Fence,
        recording: Recording,
        *,
        dataset_uuid: str,
        modulus: int,
        unlogged: bool,
        retry_seconds: float,
    ) -> None:
        self._connection = connection
        self._fence = fence
        self._recording = recording
        self._dataset_uuid = dataset_uuid
        self._modulus = modulus
        self._unlogged = unlogged
        self._retry_seconds = retry_seconds
        self._partition = Partition(int(fence.pipeline), int(recording.trigger))
        self._chunks = 0
        self._rows = 0

    def make(self) -> None:
        """Make the table, empty and not attached."""
        self._make_parent()
        this_batch = f"{self._partition.batches}begin/{secrets.token_hex(8)}"
        self._batch(
            this_batch,
            before=[
                *self._partition.forget(this_batch),
                *self._partition.make(self._modulus, self._unlogged),
            ],
        )

    def put(self, rows: Rows, /) -> None:
        """Copy a chunk into the table."""
        if len(rows) == 0:
            return
        names = self._recording.names
        columns: list[npt.NDArray[Any]] = [rows.keys, rows.epoch]
        columns += [
            rows.columns[name].astype(np.int32 if name == "forgetting" else np.float32)
            for name in names
        ]
        listed = ", ".join(("key", "epoch", *names))
        copy = f"COPY {self._partition.table} ({listed}) FROM STDIN (FORMAT binary)"
        self._batch(
            f"{self._partition.batches}{self._recording.model}/{self._chunks}",
            copies=[Copy(copy, tuple(columns), len(rows))],
        )
        self._chunks += 1
        self._rows += len(rows)

    def commit(self) -> None:
        """Let the table be seen, and say what is in it; the chunks' names are not needed then."""
        done = f"{self._partition.batches}end"
        what = self._recording
        values = (
            *self._partition.place,
            *(what.model, self._dataset_uuid, ",".join(what.names), "ft"[what.classes]),
            *(str(self._rows), str(what.erased), str(self._modulus)),
        )
        self._batch(
            done,
            after=[
                Statement(_FORGET_BATCHES, (f"{self._partition.batches}%", done)),
                self._partition.attach,
                Statement(_RECORD, values, 1),
            ],
        )
        self._connection.close()

    def abort(self) -> None:
        """Let go; the table stays, unseen, until the training is done again."""
        self._connection.close()

    def cancel(self) -> None:
        """End a `put` that another thread is at."""
        self._connection.cancel()

    def _make_parent(self) -> None:
        """Make the partition of the pipeline, once and apart: that locks others for a moment."""
        pipeline = self._partition.pipeline
        statement = (
            f"CREATE TABLE modyn.signals_p{pipeline} PARTITION OF modyn.signals "
            f"FOR VALUES IN ({pipeline}) PARTITION BY LIST (trigger)"
        )
        self._batch(f"signals/{pipeline}", after=[Statement(statement)])

    def _batch(
        self,
        batch_id: str,
        *,
        before: Sequence[Statement] = (),
        copies: Sequence[Copy] = (),
        after: Sequence[Statement] = (),
    ) -> None:
        self._connection.batch(
            batch_id,
            before=[Statement(*self._fence.statement), *before],
            copies=copies,
            after=after,
            retry_seconds=self._retry_seconds,
        )


class Partition(NamedTuple):
    """The table of one training, and the statements about it; all names are numbers."""

    pipeline: int
    trigger: int

    @property
    def place(self) -> tuple[str, str]:
        """Both numbers, as parameters."""
        return str(self.pipeline), str(self.trigger)

    @property
    def table(self) -> str:
        """The qualified name."""
        return f"modyn.signals_p{self.pipeline}_t{self.trigger}"

    @property
    def batches(self) -> str:
        """What the names of the batches that write it begin with."""
        return f"signals/{self.pipeline}/{self.trigger}/"

    def forget(self, this_batch: str) -> Iterator[Statement]:
        """Remove what there is of the trigger, whole or not."""
        yield Statement(_FORGET_BATCHES, (f"{self.batches}%", this_batch))
        yield Statement(_FORGET, self.place)
        yield Statement(f"DROP TABLE IF EXISTS {self.table}")

    def make(self, modulus: int, unlogged: bool) -> Iterator[Statement]:
        """Make the table and its leaves; so that attaching it needs no scan."""
        kind = "UNLOGGED " if unlogged else ""
        yield Statement(
            f"CREATE TABLE {self.table} ("
            f"trigger bigint NOT NULL DEFAULT {self.trigger} CHECK (trigger = {self.trigger}), "
            "key bigint NOT NULL, "
            f"pipeline integer NOT NULL DEFAULT {self.pipeline} "
            f"CHECK (pipeline = {self.pipeline}), "
            "epoch integer NOT NULL, loss real, gradient_norm real, prediction real, "
            "forgetting integer) PARTITION BY HASH (key)"
        )
        for i in range(modulus):
            yield Statement(
                f"CREATE {kind}TABLE {self.table}_h{i} PARTITION OF {self.table} "
                f"FOR VALUES WITH (MODULUS {modulus}, REMAINDER {i})"
            )

    @property
    def attach(self) -> Statement:
        """Let the table be seen as part of the whole."""
        return Statement(
            f"ALTER TABLE modyn.signals_p{self.pipeline} ATTACH PARTITION {self.table} "
            f"FOR VALUES IN ({self.trigger})"
        )


class _Set(NamedTuple):
    """What modyn.signal_sets says of a trigger."""

    model: str
    names: tuple[str, ...]
    classes: bool
    row_count: int
    leaf_count: int


def _find(database: "Database", pipeline: int, trigger: int) -> _Set | None:
    found = database.fetch_one(_FIND, (pipeline, trigger))
    if found is None:
        return None
    model, names, classes, row_count, leaf_count = found
    return _Set(model, tuple(names.split(",")), classes, row_count, leaf_count)


def read(
    database: "Database", pipeline: int, trigger: int, names: Sequence[str] | None = None
) -> Signals:
    """Return the signals of a trigger.

    Raises
    ------
    KeyError
        When there are none.
    ValueError
        When one of `names` was not recorded.
    CorruptError
        When there are more or fewer rows than were committed.
    DatabaseError
        When the server refuses, or stays away.
    """
    partition, attempts = Partition(pipeline, trigger), 0
    while True:
        found = _find(database, pipeline, trigger)  # which waits for a server that was lost
        if found is None:
            raise KeyError(f"no signals of trigger {trigger} of pipeline {pipeline}")
        wanted = found.names if names is None else tuple(names)
        check_names(wanted, found.names)
        attempts += 1
        try:
            rows, count = _gather(database, partition, found, wanted)
        except DatabaseError:
            if attempts >= ATTEMPTS:
                raise
            continue
        if _find(database, pipeline, trigger) == found:
            break  # else samples were erased meanwhile, or it was trained again
    if count != found.row_count:
        raise CorruptError(
            f"{partition.table}: {count} rows, and {found.row_count} were committed; "
            "an unlogged table is empty after a crash of the server"
        )
    signals = sorted_signals(rows, trigger)
    same = (signals.keys[1:] == signals.keys[:-1]) & (signals.epoch[1:] == signals.epoch[:-1])
    if same.any():
        raise CorruptError(f"{partition.table}: a row is there twice, and another one is not")
    return signals


def _gather(
    database: "Database", partition: Partition, found: _Set, names: tuple[str, ...]
) -> tuple[Rows, int]:
    """Return the rows of all leaves in any order, and how many there are, which may be more."""
    types = {"key": np.dtype(np.uint64), "epoch": np.dtype(np.int32)}
    types |= dtypes(names, classes=found.classes)
    columns = {name: np.empty(found.row_count, dtype) for name, dtype in types.items()}
    codes = "Qi" + "".join("i" if name == "forgetting" else "f" for name in names)
    listed, count = ", ".join(types), 0
    with database.bulk() as connection:
        for i in range(found.leaf_count):
            copy = f"COPY {partition.table}_h{i} ({listed}) TO STDOUT (FORMAT binary)"
            for block in connection.read(copy, codes):
                for column, values in zip(columns.values(), block, strict=True):
                    column[count : count + len(values)] = values[: max(len(column) - count, 0)]
                count += len(block[0])
    own = [columns.pop(name)[:count] for name in ("key", "epoch")]
    return Rows(own[0], own[1], {name: column[:count] for name, column in columns.items()}), count


def erase(database: "Database", dataset_uuid: str, keys: npt.NDArray[np.uint64]) -> int:
    """Remove the rows of these samples, in all pipelines; return how many there were.

    Whoever publishes erasures does this, too.  It may be done again without harm.
    """
    removed = 0
    for first in range(0, len(keys), KEYS_AT_ONCE):
        some = keys[first : first + KEYS_AT_ONCE].tolist()

        def work(cursor: Any, some: list[int] = some) -> int:
            sets = cursor.execute(_SETS, (dataset_uuid,)).fetchall()
            if not sets:
                return 0
            cursor.execute(_GONE, (some,))
            gone = 0
            for pipeline, trigger in sets:
                cursor.execute(_ERASE, {"pipeline": pipeline, "trigger": trigger})
                gone += sum(row[0] for row in cursor.fetchall())
            return gone

        removed += database.run(work)
    return removed
