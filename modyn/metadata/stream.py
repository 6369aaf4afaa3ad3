"""The stream that a run follows, in Postgres.

A run that follows all samples in the order of keys reads the samples themselves: position = key.
So does a run in time order where timestamps ascend. Any other run has its stream written once, in
one transaction, when it begins: positions 0, 1, 2, ... in the order of (timestamp, key), or of keys
that are in an interval of time. It follows that to its end, also where erasures leave timestamps
that ascend.

What is erased later keeps its position, as in a run without a server. What was erased before is
another matter: the database knows no timestamp of it, so it has no position in a stream that is
written, whereas modyn/pipelines/stream.py finds its place in the dataset's files. Both runs choose
from the same samples in the same order, but the positions in their ledgers differ by what was
erased, and so do their digests. Where a stream is not written positions are keys in both.
"""

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from modyn.errors import ConfigError, DatabaseError, FencedError
from modyn.metadata.columns import chunks, pack
from modyn.metadata.erasures import unpack
from modyn.metadata.published import Part, Published, parts_of, source_of
from modyn.metadata.state import Leaf, fetch_binary
from modyn.metadata.tables import BLOCK, Parts, stream_parts, text
from modyn.postgres import Copy, Statement

if TYPE_CHECKING:
    import psycopg

    from modyn.metadata.source import Source

    Cursor = psycopg.Cursor[tuple[Any, ...]]

Keys = npt.NDArray[np.uint64]
FenceStatement = tuple[str, tuple[str | None, ...], int]

__all__ = ["StreamOf", "Wanted", "stream_of"]

ATTEMPTS = 10  # each fails only because samples were erased meanwhile

_STREAM = """
SELECT dataset, sort, start, stop, samples, layout, leaf_samples, count, ascending
FROM modyn.streams WHERE pipeline = %s
"""
_LEAVES = """
SELECT leaf, "first", count, erased, min_timestamp, max_timestamp
FROM modyn.stream_leaves WHERE pipeline = %s ORDER BY leaf
"""
_BLOCKS = """
SELECT "first", count, timestamps, labels, erased FROM modyn.sample_blocks
WHERE dataset = %s AND "first" >= %s AND "first" < %s ORDER BY "first"
"""
_INSERT = """
INSERT INTO modyn.stream_rows ("position", key, "timestamp", label)
SELECT row_number() OVER (ORDER BY "timestamp", key) - 1, key, "timestamp", label
FROM modyn.samples
WHERE dataset = $1 AND key < $2
  AND ("timestamp" >= $3::bigint) IS NOT FALSE AND ("timestamp" < $4::bigint) IS NOT FALSE
"""
_INSERT_BY_KEY = _INSERT.replace('"timestamp", key) - 1', "key) - 1")
# $8: whether it is known that timestamps ascend.
_NEW_STREAM_OF_ROWS = """
INSERT INTO modyn.streams
    (pipeline, dataset, sort, start, stop, samples, layout, leaf_samples, count, ascending)
SELECT $1::integer, $2::integer, $3, $4::bigint, $5::bigint, $6::bigint, 'rows', $7::bigint,
       count(*),
       $8::boolean OR NOT EXISTS (
           SELECT 1 FROM (
               SELECT "timestamp" < lag("timestamp") OVER (ORDER BY "position") AS late
               FROM modyn.stream_rows
           ) AS pairs WHERE late
       )
FROM modyn.stream_rows
"""
_LEAVES_OF_ROWS = """
INSERT INTO modyn.stream_leaves
    (pipeline, leaf, "first", count, erased, min_timestamp, max_timestamp)
SELECT $1::integer, "position" / $2::bigint, min("position"), count(*), 0, min("timestamp"),
       max("timestamp")
FROM modyn.stream_rows GROUP BY 2
"""
_NEW_STREAM_OF_BLOCKS = """
INSERT INTO modyn.streams
    (pipeline, dataset, sort, start, stop, samples, layout, leaf_samples, count, ascending)
VALUES ($1, $2, $3, $4, $5, $6, 'blocks', $7, $8, $9)
"""
_LEAF_OF_BLOCKS = """
INSERT INTO modyn.stream_leaves
    (pipeline, leaf, "first", count, erased, min_timestamp, max_timestamp)
VALUES ($1, $2, $3, $4, 0, $5, $6)
"""
_FORGET = "DELETE FROM modyn.streams WHERE pipeline = $1"
# Samples that were erased while the stream was made might be in it.
_SAME_EVENTS = "SELECT 1 FROM modyn.datasets WHERE id = $1 AND events = $2 FOR SHARE"
_KEYS_OF_ROWS = """
COPY (
    SELECT "position", key FROM modyn.stream_rows
    WHERE pipeline = %s AND "position" >= %s AND "position" < %s
    UNION ALL
    SELECT "position", key FROM modyn.stream_erased
    WHERE pipeline = %s AND "position" >= %s AND "position" < %s
) TO STDOUT (FORMAT binary)
"""
_KEYS_OF_BLOCKS = """
SELECT "first", count, keys FROM modyn.stream_blocks
WHERE pipeline = %s AND "first" >= %s AND "first" < %s
"""


class StreamOf(NamedTuple):
    """A stream: where it comes from, its keys by position, whether timestamps ascend.

    `order` is None where positions are keys.
    """

    source: "Source"
    order: Keys | None
    ascending: bool


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a stream is made of: the first `samples` keys with start <= time < stop, sorted."""

    dataset: int
    sort: str
    start: int | None
    stop: int | None
    samples: int


@dataclass(frozen=True, kw_only=True)
class Written:
    """A stream that is in the database."""

    wanted: Wanted
    layout: str
    leaf_samples: int
    count: int
    ascending: bool
    leaves: tuple[Leaf, ...]

    def tables(self, pipeline: int) -> Parts:
        return stream_parts(self.layout, pipeline, leaf_samples=self.leaf_samples)

    def parts(self, pipeline: int) -> list[Part]:
        return parts_of(self.tables(pipeline), self.leaves, self.count)


def stream_of(
    published: Published,
    pipeline_id: int,
    order: Literal["time", "arrival"],
    start: int | None,
    stop: int | None,
    count: int,
    *,
    fence: FenceStatement | None = None,
) -> StreamOf:
    """Return the stream of a pipeline over the first `count` samples of a dataset.

    Where it has to be written that is done by the first call; the next ones find it, also in
    another process, whatever was erased since. A stream with other settings, which a run that
    never began has left, is replaced.

    Parameters
    ----------
    published : Published
        The dataset.
    pipeline_id : int
        Whose stream it is.
    order : {"time", "arrival"}
        How samples follow each other: by (timestamp, key), or by key.
    start, stop : int or None
        Samples with start <= timestamp < stop; None for no bound.
    count : int
        Samples take part whose keys are below.
    fence : (str, tuple, int), optional
        The first statement of what is written: `modyn.metadata.fence.Fence.statement`.

    Raises
    ------
    ConfigError
        There are no such samples.
    FencedError
        Another process has taken over the pipeline.
    """
    if not 0 < count <= published.count:
        raise ValueError(f"count must be from 1 to {published.count}, got {count}")
    ascending = published.is_ascending(count)
    wanted = Wanted(dataset=published.id, sort=order, start=start, stop=stop, samples=count)
    writer = Writer(published, pipeline_id, wanted, fence)
    if start is None and stop is None and (order == "arrival" or ascending):
        # A run that follows a stream goes on with it when those that were late are erased.
        stream = None if order == "arrival" else writer.find()
        if stream is None:
            return StreamOf(published.source(count), None, ascending)
    else:
        stream = writer.find_or_write()
    if stream.count == 0:
        raise ConfigError(f"dataset {published.uuid}: no samples to follow ({count} published)")
    source = source_of(
        published.database,
        stream.parts(pipeline_id),
        stream.layout,
        "position",
        labels=published.has_labels,
    )
    return StreamOf(source, keys_of(published, pipeline_id, stream), stream.ascending)


class Writer:
    """Writes the stream of one pipeline."""

    def __init__(
        self, published: Published, pipeline: int, wanted: Wanted, fence: FenceStatement | None
    ) -> None:
        self._published = published
        self._database = published.database
        self._pipeline = pipeline
        self._wanted = wanted
        self._fence = [] if fence is None else [Statement(*fence)]

    def find(self) -> Written | None:
        """Return the stream if it is there."""
        found = self._database.run(self._find, read_only=True)
        return found if found is not None and found.wanted == self._wanted else None

    def find_or_write(self) -> Written:
        """Return the stream that is there, or is there now."""
        failed: DatabaseError | None = None
        for _ in range(ATTEMPTS):
            found = self._database.run(self._find, read_only=True)
            if found is not None and found.wanted == self._wanted:
                return found
            events = self._published.events
            if failed is not None:
                self._published.refresh()
                if self._published.events == events:
                    raise failed  # it was not because samples were erased meanwhile
            try:
                self._write(found)
                failed = None
            except FencedError:
                raise
            except DatabaseError as error:
                failed = error
        raise failed or DatabaseError("the stream of the pipeline was removed again and again")

    def _find(self, cursor: "Cursor") -> Written | None:
        found = cursor.execute(_STREAM, (self._pipeline,)).fetchone()
        if found is None:
            return None
        dataset, sort, start, stop, samples, layout, leaf_samples, count, ascending = found
        leaves = cursor.execute(_LEAVES, (self._pipeline,)).fetchall()
        names = ("leaf", "first", "count", "erased", "min_timestamp", "max_timestamp")
        return Written(
            wanted=Wanted(dataset=dataset, sort=sort, start=start, stop=stop, samples=samples),
            layout=layout,
            leaf_samples=leaf_samples,
            count=count,
            ascending=ascending,
            leaves=tuple(Leaf(**dict(zip(names, row, strict=True))) for row in leaves),
        )

    def _write(self, old: Written | None) -> None:
        """Write the stream in one transaction, in the place of another one if there is one."""
        before = list(self._fence)
        if old is not None:
            before.append(Statement(f"DROP TABLE {old.tables(self._pipeline).name}"))
            before.append(Statement(_FORGET, text(self._pipeline), 1))
        rows = self._published.layout == "rows"
        statements, copies, after = self._rows() if rows else self._blocks()
        events = Statement(_SAME_EVENTS, text(self._published.id, self._published.events), 1)
        tables = self._tables
        with self._database.bulk() as connection:
            connection.batch(
                f"stream:{self._pipeline}:{uuid.uuid4().hex}",
                before=[*before, *map(Statement, tables.create_apart()), *statements],
                copies=copies,
                after=[*after, Statement(tables.attach()), events],
                retry_seconds=self._database.retry_seconds,
            )

    @property
    def _tables(self) -> Parts:
        published = self._published
        return stream_parts(published.layout, self._pipeline, leaf_samples=published.leaf_samples)

    def _leaves(self, count: int) -> list[Statement]:
        """Return the statements that make the leaves for so many positions."""
        tables = self._tables
        numbers = range(-(-count // tables.leaf_samples))
        return [
            statement
            for number in numbers
            for statement in (tables.create_leaf(number), tables.attach_leaf(number))
        ]

    def _facts(self) -> tuple[int | str | None, ...]:
        wanted = self._wanted
        return (
            *(self._pipeline, wanted.dataset, wanted.sort, wanted.start, wanted.stop),
            *(wanted.samples, self._tables.leaf_samples),
        )

    # Rows: the server does it -------------------------------------------------------------------

    def _rows(self) -> tuple[list[Statement], list[Copy], list[Statement]]:
        wanted, tables = self._wanted, self._tables
        interval = (wanted.dataset, wanted.samples, wanted.start, wanted.stop)
        ascending = wanted.sort == "time" or self._published.is_ascending(wanted.samples)

        def here(sql: str) -> str:
            return sql.replace("modyn.stream_rows", tables.name)

        insert = here(_INSERT if wanted.sort == "time" else _INSERT_BY_KEY)
        about = text(*self._facts(), "true" if ascending else "false")
        return (
            [
                *self._leaves(self._most()),
                Statement("SET LOCAL work_mem = '256MB'"),
                Statement(insert, text(*interval)),
                Statement(here(_NEW_STREAM_OF_ROWS), about, 1),
                Statement(here(_LEAVES_OF_ROWS), text(self._pipeline, tables.leaf_samples)),
            ],
            [],
            [],
        )

    def _most(self) -> int:
        """Return what the stream has no more positions than; to count them takes a whole scan."""
        wanted = self._wanted
        return sum(
            min(leaf.end, wanted.samples) - leaf.first
            for leaf in self._published.leaves
            if leaf.first < wanted.samples and _meets(leaf, wanted)
        )

    # Blocks: read, sorted here, and written -----------------------------------------------------

    def _blocks(self) -> tuple[list[Statement], list[Copy], list[Statement]]:
        columns = self._sorted()
        times, count = columns["timestamps"], len(columns["keys"])
        ascending = bool((times[1:] >= times[:-1]).all())
        tables = self._tables
        size = min(BLOCK, tables.leaf_samples)
        copies, leaves = [], []
        for first, last in chunks(0, count, tables.leaf_samples):
            part = {name: column[first:last] for name, column in columns.items()}
            sent = pack(first, list(chunks(first, last, size)), part, None)
            number = first // tables.leaf_samples
            copies.append(Copy(tables.copy(number, sent.names, fresh=True), sent.arrays, sent.rows))
            bounds = int(part["timestamps"].min()), int(part["timestamps"].max())
            about = text(self._pipeline, number, first, last - first, *bounds)
            leaves.append(Statement(_LEAF_OF_BLOCKS, about, 1))
        about = text(*self._facts(), count, "true" if ascending else "false")
        return self._leaves(count), copies, [Statement(_NEW_STREAM_OF_BLOCKS, about, 1), *leaves]

    def _sorted(self) -> dict[str, npt.NDArray[Any]]:
        """Return keys, timestamps and labels of the stream, in its order."""
        wanted, parts = self._wanted, []
        step = self._published.leaf_samples
        for first in range(0, wanted.samples, step):
            bounds = (wanted.dataset, first, min(first + step, wanted.samples))
            for row in fetch_binary(self._database, _BLOCKS, bounds):
                parts.append(self._choose(*row))
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        if wanted.sort == "time":  # keys ascend already, and stay so where times are equal
            order = np.argsort(columns[1], kind="stable")
            columns = [column[order] for column in columns]
        return dict(zip(("keys", "timestamps", "labels"), columns, strict=False))

    def _choose(
        self, first: int, count: int, times: bytes, labels: bytes | None, erased: bytes | None
    ) -> list[npt.NDArray[Any]]:
        """Return the columns of those samples of a block that belong to the stream."""
        wanted = self._wanted
        keys = np.arange(first, first + count, dtype=np.uint64)
        block = unpack(first, count, keys.astype("<u8").tobytes(), times, labels, erased)
        right = ~block.gone & (keys < wanted.samples)
        if wanted.start is not None:
            right &= block.timestamps >= wanted.start
        if wanted.stop is not None:
            right &= block.timestamps < wanted.stop
        columns = [block.keys, block.timestamps]
        if block.labels is not None:
            columns.append(block.labels)
        return [column[right] for column in columns]


def _meets(leaf: Leaf, wanted: Wanted) -> bool:
    """Return whether a leaf may hold a sample of an interval of time."""
    if leaf.min_timestamp is None or leaf.max_timestamp is None:
        return False  # all are erased
    return (wanted.start is None or leaf.max_timestamp >= wanted.start) and (
        wanted.stop is None or leaf.min_timestamp < wanted.stop
    )


def keys_of(published: Published, pipeline: int, stream: Written) -> Keys:
    """Return the keys of a stream by position, those of erased samples included.

    Raises
    ------
    DatabaseError
        A position has no key: rows of the stream were deleted by somebody else.
    """
    keys = np.empty(stream.count, np.uint64)
    found = np.zeros(stream.count, np.bool_)
    for leaf in stream.leaves:
        bounds = (pipeline, leaf.first, leaf.end)
        if stream.layout == "rows":
            places, values = _pairs(published, (*bounds, *bounds))
            keys[places], found[places] = values, True
            continue
        for first, count, blob in fetch_binary(published.database, _KEYS_OF_BLOCKS, bounds):
            keys[first : first + count] = np.frombuffer(blob, "<u8")
            found[first : first + count] = True
    if not found.all():
        raise DatabaseError(
            f"{stream.tables(pipeline).name}: position {int(found.argmin())} of the stream of "
            "the pipeline has no key"
        )
    return keys


_PAIR = np.dtype(
    [("columns", ">i2"), ("s0", ">i4"), ("position", ">i8"), ("s1", ">i4"), ("key", ">i8")]
)
_HEAD, _TAIL = 19, 2  # bytes of a binary COPY before its first row and behind its last


def _pairs(published: Published, parameters: tuple[int, ...]) -> tuple[npt.NDArray[np.int64], Keys]:
    """Return positions of a leaf of stream_rows, and their keys."""

    def copy(cursor: "Cursor") -> bytes:
        with cursor.copy(_KEYS_OF_ROWS, parameters) as rows:
            return b"".join(rows)

    data = published.database.run(copy, read_only=True)
    table = np.frombuffer(data[_HEAD : len(data) - _TAIL], _PAIR)
    return table["position"].astype(np.int64), table["key"].astype(np.uint64)
