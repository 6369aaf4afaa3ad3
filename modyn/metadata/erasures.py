"""Erasures of a dataset, applied to what is in Postgres: samples, streams and signals of runs.

Each leaf, and each stream, is a transaction of its own, which does no harm when it is done again;
the last one says how many events of the dataset's journal are applied, if nothing was added
meanwhile.  So where modyn.datasets.events says n, all that the first n events erased is gone.

Rows are deleted.  Blocks are written anew, with zeros and a bitmap.  Positions, and the counts of
leaves, stay.
"""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn.metadata.columns import Columns, Sent, blocks, facts, pack
from modyn.metadata.filling import ADVANCE, SAME_EVENTS, block_samples
from modyn.metadata.signals import erase as erase_signals
from modyn.metadata.state import Leaf, State, fetch_binary
from modyn.metadata.tables import stream_parts, text
from modyn.postgres import Copy, Statement

if TYPE_CHECKING:
    from modyn.erasure import Event
    from modyn.metadata.database import Database
    from modyn.postgres import Connection

Keys = npt.NDArray[np.uint64]

_GONE = "CREATE TEMPORARY TABLE erased_keys (key bigint PRIMARY KEY) ON COMMIT DROP"
_COPY_GONE = "COPY pg_temp.erased_keys (key) FROM STDIN (FORMAT binary)"
_DELETE_ROWS = """
DELETE FROM modyn.samples s USING pg_temp.erased_keys e
WHERE s.dataset = $1 AND s.key >= $2 AND s.key < $3 AND s.key = e.key
"""
_DELETE_BLOCKS = """
DELETE FROM modyn.sample_blocks WHERE dataset = $1 AND "first" = ANY ($2::bigint[])
"""
# $3 is the count that the leaf must still have.
_LEAF = """
UPDATE modyn.leaves
SET erased = $4, min_timestamp = $5, max_timestamp = $6, last_timestamp = $7
WHERE dataset = $1 AND leaf = $2 AND count = $3
"""
_STREAMS = """
SELECT pipeline, layout, leaf_samples, number FROM modyn.streams WHERE dataset = %s
"""
_DELETE_STREAM_ROWS = """
WITH gone AS (
    DELETE FROM modyn.stream_rows s USING pg_temp.erased_keys e
    WHERE s.pipeline = $1 AND s.key = e.key RETURNING s."position", s.key
)
INSERT INTO modyn.stream_erased (pipeline, "position", key)
SELECT $1, "position", key FROM gone
"""
_STREAM_LEAVES = """
UPDATE modyn.stream_leaves l
SET erased = (
        SELECT count(*) FROM modyn.stream_erased e
        WHERE e.pipeline = $1 AND e."position" >= l."first" AND e."position" < l."first" + l.count
    ),
    (min_timestamp, max_timestamp) = (
        SELECT min("timestamp"), max("timestamp") FROM modyn.stream_rows r
        WHERE r.pipeline = $1 AND r."position" >= l."first" AND r."position" < l."first" + l.count
    )
WHERE l.pipeline = $1
"""
# $2 samples of all leaves, $3 numbers of all streams, $4 events from now on.  What was added by
# somebody who did not know of these erasures shows in the numbers.
_APPLIED = """
UPDATE modyn.datasets SET events = $4
WHERE id = $1
  AND $2 = (SELECT coalesce(sum(count), 0) FROM modyn.leaves WHERE dataset = $1)
  AND $3 = (SELECT coalesce(sum(number), 0) FROM modyn.streams WHERE dataset = $1)
"""
_LEAVES_OF_STREAM = 'SELECT leaf, "first", count FROM modyn.stream_leaves WHERE pipeline = %s'
_BLOCKS_OF_STREAM = """
SELECT "first", count, keys, timestamps, labels, erased FROM modyn.stream_blocks
WHERE pipeline = %s AND "first" >= %s AND "first" < %s ORDER BY "first"
"""
_DELETE_STREAM_BLOCKS = """
DELETE FROM modyn.stream_blocks WHERE pipeline = $1 AND "first" = ANY ($2::bigint[])
"""
_STREAM_LEAF = """
UPDATE modyn.stream_leaves SET erased = $3, min_timestamp = $4, max_timestamp = $5
WHERE pipeline = $1 AND leaf = $2
"""


def erased_by(events: "Iterable[Event]", below: int) -> Keys:
    """Return the keys below `below` that events have erased, ascending."""
    ranges = sorted(
        (keys.start, min(keys.stop, below))
        for event in events
        for keys in event.keys
        if keys.start < below
    )
    if not ranges:
        return np.empty(0, np.uint64)
    return np.unique(np.concatenate([np.arange(*bounds, dtype=np.uint64) for bounds in ranges]))


def apply_erasures(
    database: "Database",
    connection: "Connection",
    state: State,
    view: Columns,
    events: "Sequence[Event]",
    late: int | None,
) -> None:
    """Apply all events that are not applied yet; the view shows the dataset with all of them.

    Raises
    ------
    DatabaseError
        Also when leaves or streams were added meanwhile; then it is done again, from a new state.
    """
    end = max((leaf.end for leaf in state.leaves), default=0)
    keys = erased_by(events[state.events :], end)
    erase_signals(database, state.uuid, keys)
    for leaf in state.leaves:
        first, last = np.searchsorted(keys, [leaf.first, leaf.end])
        if first < last:
            _erase_leaf(connection, state, view, leaf, keys[first:last])
    streams = database.run(lambda cursor: cursor.execute(_STREAMS, (state.id,)).fetchall())
    for pipeline, layout, leaf_samples, _ in streams if len(keys) else ():
        if layout == "rows":
            _erase_stream_rows(connection, pipeline, keys)
        else:
            _erase_stream_blocks(database, connection, pipeline, leaf_samples, keys)
    _commit(
        connection,
        after=[
            Statement(SAME_EVENTS, text(state.id, state.events), 1),
            (
                _APPLIED,
                text(state.id, state.stored, sum(row[3] for row in streams), len(events)),
                1,
            ),
            Statement(ADVANCE, text(state.id, late, "false"), 1),
        ],
    )


def _commit(connection: "Connection", **parts: Any) -> None:
    """Run a transaction that may be repeated, but is not while its outcome is unknown."""
    connection.batch(f"erasure:{uuid.uuid4().hex}", **parts)


def _erase_leaf(
    connection: "Connection", state: State, view: Columns, leaf: Leaf, keys: Keys
) -> None:
    said = facts(view, leaf.first, leaf.end)
    times = (said.min_timestamp, said.max_timestamp, said.last_timestamp)
    row = (state.id, leaf.leaf, leaf.count, said.erased, *times)
    about = Statement(_LEAF, text(*row), 1)
    if state.layout == "rows":
        bounds = text(state.id, leaf.first, leaf.end)
        _commit(
            connection,
            before=[Statement(_GONE)],
            copies=[Copy(_COPY_GONE, (keys,), len(keys))],
            after=[Statement(_DELETE_ROWS, bounds), about],
        )
        return
    size = block_samples(state)
    starts = np.unique(keys // size * size).astype(np.int64).tolist()
    sent = [blocks(view, start, min(start + size, leaf.end), size) for start in starts]
    _commit(
        connection,
        before=[Statement(_DELETE_BLOCKS, text(state.id, _array(starts)), len(starts))],
        copies=[
            Copy(state.parts.copy(leaf.leaf, s.names, fresh=False), s.arrays, s.rows) for s in sent
        ],
        after=[about],
    )


def _array(numbers: Iterable[int]) -> str:
    return "{" + ",".join(map(str, numbers)) + "}"


def _erase_stream_rows(connection: "Connection", pipeline: int, keys: Keys) -> None:
    _commit(
        connection,
        before=[Statement(_GONE)],
        copies=[Copy(_COPY_GONE, (keys,), len(keys))],
        after=[
            Statement(_DELETE_STREAM_ROWS, text(pipeline)),
            Statement(_STREAM_LEAVES, text(pipeline)),
        ],
    )


def _erase_stream_blocks(
    database: "Database", connection: "Connection", pipeline: int, leaf_samples: int, keys: Keys
) -> None:
    parts = stream_parts("blocks", pipeline, leaf_samples=leaf_samples)
    leaves = database.run(lambda cursor: cursor.execute(_LEAVES_OF_STREAM, (pipeline,)).fetchall())
    for number, first, count in leaves:
        bounds = (pipeline, first, first + count)
        found = [unpack(*row) for row in fetch_binary(database, _BLOCKS_OF_STREAM, bounds)]
        touched = [block for block in found if block.erase(keys)]
        if not touched:
            continue
        times = [block.timestamps[~block.gone] for block in found if not block.gone.all()]
        low = min((int(part.min()) for part in times), default=None)
        high = max((int(part.max()) for part in times), default=None)
        gone = sum(int(np.count_nonzero(block.gone)) for block in found)
        sent = [block.sent() for block in touched]
        starts = _array(block.first for block in touched)
        _commit(
            connection,
            before=[Statement(_DELETE_STREAM_BLOCKS, text(pipeline, starts), len(touched))],
            copies=[Copy(parts.copy(number, s.names, fresh=False), s.arrays, s.rows) for s in sent],
            after=[Statement(_STREAM_LEAF, text(pipeline, number, gone, low, high), 1)],
        )


@dataclass
class StreamBlock:
    """A row of modyn.stream_blocks; `gone` are its positions that hold no sample any more."""

    first: int
    keys: Keys
    timestamps: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64] | None
    gone: npt.NDArray[np.bool_]

    def erase(self, keys: Keys) -> bool:
        """Take samples out; their keys stay, for positions to have one.  False if none was here."""
        now = np.isin(self.keys, keys) & ~self.gone
        self.gone |= now
        for column in (self.timestamps, self.labels):
            if column is not None:
                column[now] = 0
        return bool(now.any())

    def sent(self) -> Sent:
        columns = {"keys": self.keys, "timestamps": self.timestamps}
        if self.labels is not None:
            columns["labels"] = self.labels
        end = self.first + len(self.keys)
        return pack(self.first, [(self.first, end)], columns, self.gone)


def unpack(
    first: int, count: int, keys: bytes, times: bytes, labels: bytes | None, erased: bytes | None
) -> StreamBlock:
    """Return a row of modyn.stream_blocks as arrays of our own."""
    bits = np.frombuffer(erased or b"", np.uint8)
    return StreamBlock(
        first=first,
        keys=np.frombuffer(keys, "<u8").astype(np.uint64),
        timestamps=np.frombuffer(times, "<i8").astype(np.int64),
        labels=None if labels is None else np.frombuffer(labels, "<i8").astype(np.int64),
        gone=np.unpackbits(bits, count=count, bitorder="little").astype(np.bool_)
        if erased
        else np.zeros(count, np.bool_),
    )
