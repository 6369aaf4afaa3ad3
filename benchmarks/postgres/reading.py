"""M3: samples out of the server, into columns."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.measure import Bar, Outcome
from benchmarks.postgres import rivals
from benchmarks.postgres.filling import present
from benchmarks.postgres.floor import Floor
from benchmarks.postgres.samples import (
    BLOCK,
    LAYOUTS,
    Blocks,
    Rows,
    Samples,
    leaf_name,
    make_samples,
)
from benchmarks.postgres.server import connect, prepare_schema
from benchmarks.postgres.site import Site
from benchmarks.postgres.turns import Turns, Way, chart_of
from benchmarks.section import Section

ABOUT = """\
A leaf is read by COPY TO STDOUT, binary: all of it, and the half in its middle, which the server
filters. The floor takes what comes with PQgetCopyData and frees it unread. `modyn read`
(`modyn.postgres.Connection.read`) makes columns of it: arrays of 65,536 rows, and of blocks the
bytes of each. `modyn Source` is what selection policies and pipelines read: blocks of samples
(key, timestamp, label) in order of their positions, each checked against the one that is due; from
rows and from blocks it gives the same. Both hand out one block after the other, and nobody keeps
them. psql writes to /dev/null. `psycopg, unpacked` joins what comes and has NumPy make columns of
it; ADBC makes an Arrow table; psycopg and asyncpg make a tuple of Python for each row, of a leaf
that is an eighth as long. Columns are compared with the truth each time, ours when they are read
once more, and of the floor the number of bytes."""

SAMPLES = {"rows": 4 << 20, "blocks": 16 << 20}
SHARE = 1 / 8  # of leaf 2, for who makes objects of rows
HEAD_AND_END = 19 + 2  # bytes
TYPES = {"rows": "qqq", "blocks": "qiqqyy"}
Columns = Sequence[Any]


@dataclass
class Ground:
    """Two leaves that are there to be read; the second is short."""

    url: str
    layout: Rows | Blocks
    samples: Samples
    first: int = 0  # of the range that is read
    last: int = 0
    control: Any = field(init=False)

    def __post_init__(self) -> None:
        self.control = connect(self.url)
        for statement in self.layout.blank:
            self.control.execute(statement)
        self.last = self.last or len(self.samples)
        floor = Floor(self.url)
        short = self.samples.part(0, round(SHARE * len(self.samples)))
        for leaf, part in ((1, self.samples), (2, short)):
            floor.execute(f"BEGIN; {self.layout.create(leaf, part)}")
            copy = self.layout.copy_in(leaf)
            if isinstance(self.layout, Blocks):
                floor.copy_blocks(copy, part.first, part.timestamps, part.labels, BLOCK)
            else:
                floor.copy_rows(copy, part.keys.view("int64"), part.timestamps, part.labels)
            floor.execute("COMMIT")
        floor.close()
        self.control.execute("CHECKPOINT")

    @property
    def whole(self) -> bool:
        return self.last - self.first == len(self.samples)

    @property
    def wanted(self) -> Samples:
        return self.samples.part(self.first, self.last)

    def what(self) -> str:
        """Return what COPY is to copy: the table, or a query."""
        columns, table = self.layout.columns_sql, leaf_name(1)
        if self.whole:
            return f"{table} ({columns})"
        at = '"first"' if isinstance(self.layout, Blocks) else "key"
        where = f"{at} >= {self.first} AND {at} < {self.last}"
        return f"(SELECT {columns} FROM {table} WHERE {where})"  # noqa: S608

    def copy(self) -> str:
        return f"COPY {self.what()} TO STDOUT (FORMAT binary)"

    def size(self) -> int:
        """Return how many bytes come."""
        samples, rows = self.last - self.first, self.layout.count(self.wanted)
        if isinstance(self.layout, Blocks):
            return HEAD_AND_END + rows * (2 + 12 + 8 + 12 + 12 + 4 + 4) + 16 * samples
        return HEAD_AND_END + rows * (2 + 3 * 12)

    def check_size(self, count: int, left: Any) -> None:
        if left != self.size():
            raise AssertionError(f"{left} bytes came, expected {self.size()}")

    def check_columns(self, count: int, left: Columns) -> None:
        wanted = self.samples.part(self.first, self.first + count)
        for seen, truth in zip(left, (wanted.keys, wanted.timestamps, wanted.labels), strict=True):
            if not np.array_equal(np.asarray(seen).view(truth.dtype), truth):
                raise AssertionError("other columns were read than were written")

    def close(self) -> None:
        self.control.close()


def joined(blocks: list[Any]) -> Columns:
    """Return columns of columns in pieces."""
    return [np.concatenate(pieces) for pieces in zip(*blocks, strict=True)]


def floor(ground: Ground) -> Way:
    """Read and free."""
    connection = Floor(ground.url)

    def run(count: int) -> int:
        return connection.drain(ground.copy())[1]

    return Way(run, ground.check_size, kind="floor", close=connection.close)


def read(ground: Ground) -> Way:
    """modyn.postgres.Connection.read."""
    from modyn.postgres import Connection

    connection = Connection(ground.url)
    types = TYPES[ground.layout.name]

    def run(count: int) -> int:
        blocks = connection.read(ground.copy(), types)
        return sum(len(columns[0]) for columns in blocks)

    def check(count: int, left: int) -> None:
        assert left == ground.layout.count(ground.wanted)
        blocks = list(connection.read(ground.copy(), types))
        if not isinstance(ground.layout, Blocks):
            ground.check_columns(count, joined(blocks))
            return
        first, counts = joined([columns[:2] for columns in blocks])
        times, labels = (
            np.concatenate([np.frombuffer(part, "<i8") for block in blocks for part in block[at]])
            for at in (4, 5)
        )
        keys = np.repeat(first, counts) + (np.arange(len(times)) % BLOCK)
        ground.check_columns(count, (keys, times, labels))

    return Way(run, check, kind="ours", close=connection.close)


def source(ground: Ground) -> Way:
    """modyn.metadata.source.Source, by way of candidates."""
    from modyn.metadata.source import Source
    from modyn.sampling import Candidates

    part = (leaf_name(1), 0, len(ground.samples), 0)
    stream = Source(
        ground.url, parts=[part], layout=ground.layout.name, position="key", has_labels=True
    )

    def blocks() -> Iterator[Any]:
        return Candidates.from_source(stream, first=ground.first, last=ground.last).blocks()

    def run(count: int) -> int:
        return sum(len(block.keys) for block in blocks())

    def check(count: int, left: int) -> None:
        assert left == count
        ground.check_columns(count, joined([(b.keys, b.timestamps, b.labels) for b in blocks()]))

    return Way(run, check, kind="ours")


def psql(ground: Ground) -> Way:
    """\\copy to a file that takes everything."""
    copy = f"\\copy {ground.what()} to '/dev/null' with (format binary)"
    command = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", ground.url, "-c", copy]

    def run(count: int) -> None:
        subprocess.run(command, check=True, capture_output=True)

    return Way(run, lambda count, left: None)


def psycopg_unpacked(ground: Ground) -> Way:
    """Copy, joined, and columns made by NumPy."""
    import psycopg

    connection = psycopg.connect(ground.url, autocommit=True)

    def run(count: int) -> Columns:
        with connection.cursor() as cursor, cursor.copy(ground.copy()) as copy:
            data = b"".join(copy)
        rows = np.frombuffer(data, rivals.PACKED, count, 19)
        return [rows[name].astype(np.int64) for name in "ktl"]

    return Way(run, ground.check_columns, close=connection.close)


def psycopg_rows(ground: Ground) -> Way:
    """Copy.rows, with the types of the columns set."""
    import psycopg

    connection = psycopg.connect(ground.url, autocommit=True)

    def run(count: int) -> list[Any]:
        with connection.cursor() as cursor, cursor.copy(ground.layout.copy_out(2)) as copy:
            copy.set_types(rivals.COLUMN_TYPES["rows"])
            return list(copy.rows())

    def check(count: int, left: list[Any]) -> None:
        ground.check_columns(count, np.array(left).T.copy())

    return Way(run, check, share=SHARE, close=connection.close)


def asyncpg(ground: Ground) -> Way:
    """Connection.fetch."""
    runner, connection = rivals.asyncpg_connection(ground.url)
    query = f"SELECT {ground.layout.columns_sql} FROM {leaf_name(2)}"  # noqa: S608

    def run(count: int) -> list[Any]:
        return runner.run(connection.fetch(query))

    def check(count: int, left: list[Any]) -> None:
        ground.check_columns(count, np.array([tuple(row) for row in left]).T.copy())

    def close() -> None:
        runner.run(connection.close())
        runner.close()

    return Way(run, check, share=SHARE, close=close)


def adbc(ground: Ground) -> Way:
    """Cursor.fetch_arrow_table."""
    import adbc_driver_postgresql.dbapi as driver

    connection = driver.connect(rivals.uri_of(ground.url))
    query = f"SELECT {ground.layout.columns_sql} FROM {leaf_name(1)}"  # noqa: S608

    def run(count: int) -> Any:
        with connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetch_arrow_table()

    def check(count: int, left: Any) -> None:
        ground.check_columns(count, [column.to_numpy() for column in left.columns])

    return Way(run, check, close=connection.close)


def everybody(ground: Ground) -> dict[str, Callable[[], Way]]:
    """Return all contenders, by name."""
    ways: dict[str, Callable[[], Way]] = {
        "libpq": lambda: floor(ground),
        "modyn read": lambda: read(ground),
        "modyn Source": lambda: source(ground),
        "psql \\copy": lambda: psql(ground),
    }
    if isinstance(ground.layout, Rows):
        ways["psycopg, unpacked"] = lambda: psycopg_unpacked(ground)
        if ground.whole:
            ways["psycopg, rows"] = lambda: psycopg_rows(ground)
            ways["asyncpg"] = lambda: asyncpg(ground)
            ways["ADBC"] = lambda: adbc(ground)
    return ways


def lines_of(site: Site, layout: str, section: Section) -> list[Outcome]:
    """Measure one layout: all, and a range."""
    samples = make_samples(site.size(SAMPLES[layout], 1 << 16))
    lines = []
    with site.database("reading") as url:
        prepare_schema(url)
        ground = Ground(url, LAYOUTS[layout], samples)
        try:
            for case in ("all", "a range"):
                if case == "a range":
                    blocks = -(-len(samples) // BLOCK)
                    ground.first, ground.last = blocks // 4 * BLOCK, 3 * blocks // 4 * BLOCK
                name = f"{layout}, {case}"
                line = Outcome(f"COPY out, {name}", 0.95, "libpq", "modyn Source", case=name)
                line.bars = [
                    Bar("modyn read", "libpq", 0.95),
                    Bar("modyn Source", "psql \\copy", 1),
                ]
                ways, skipped = present(everybody(ground))
                section.skipped += [words for words in skipped if words not in section.skipped]
                turns = Turns(site, line, len(ground.wanted), lambda: None)
                lines.append(turns.run(ways, site.repetitions))
        finally:
            ground.close()
    return lines


def measure(site: Site) -> Section:
    """Read rows and blocks."""
    section = Section("M3", "Samples out of Postgres, into columns", ABOUT)
    for layout in LAYOUTS:
        lines = lines_of(site, layout, section)
        section.lines += lines
        section.charts.append(chart_of(f"{section.title}: {layout}", lines))
    return section
