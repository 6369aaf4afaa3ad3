"""M1, M2: samples into the server, as rows and as blocks."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

from benchmarks.measure import Bar, Outcome
from benchmarks.postgres import rivals
from benchmarks.postgres.floor import Floor
from benchmarks.postgres.ground import Ground, side_by_side
from benchmarks.postgres.samples import BLOCK, LAYOUTS, Blocks, Samples, make_samples
from benchmarks.postgres.server import prepare_schema
from benchmarks.postgres.site import Site
from benchmarks.postgres.turns import Turns, Way, chart_of
from benchmarks.section import Section

ABOUT_ROWS = """\
Samples (key, timestamp, label), a row of three int8 for each, into a table that is created in the
same transaction and has no index: a leaf as `dataset.publish` makes it, logged, with COPY FREEZE
where a way can. From BEGIN to the answer to COMMIT. The floor encodes the rows in C and hands them
to PQputCopyData in pieces of 1 MiB; it checks the result of COPY and nothing else. Ours is
`modyn.postgres.Connection.batch` with a batch id, so that it pays for exactly-once. With two
connections each fills a leaf of its own with half of the samples. psql reads a file that is in
the page cache; write_row and SQLAlchemy make their rows of Python from the same arrays.
`psycopg, packed` writes bytes that NumPy has put in the form of the wire. Before each contender
the leaves are dropped and the server has written everything out. What arrived is compared with
the samples each time, by count and a sum that changes with every value. Processor time is of
client and server together."""

ABOUT_BLOCKS = """\
The same samples with a row for each 16,384 of them, which holds their timestamps and labels as
bytes (`layout="blocks"`); the keys follow from the first. The floor copies the same bytes into the
same messages. SQLAlchemy and ADBC are left out. What arrived is compared by hashes of all bytes."""

SAMPLES = {"rows": 4 << 20, "blocks": 16 << 20}  # of a contender in a repetition


def floor(ground: Ground, connections: int = 1) -> Way:
    """Bare libpq."""
    open_ones = [Floor(ground.url) for _ in range(connections)]

    def fill(connection: Floor, leaf: int, part: Samples) -> None:
        connection.execute(f"BEGIN; {ground.create(leaf, part)}")
        copy = ground.layout.copy_in(leaf)
        if isinstance(ground.layout, Blocks):
            connection.copy_blocks(copy, part.first, part.timestamps, part.labels, BLOCK)
        else:
            connection.copy_rows(copy, part.keys.view("int64"), part.timestamps, part.labels)
        connection.execute("COMMIT")

    def run(count: int) -> None:
        parts = ground.parts(count, connections)
        side_by_side([partial(fill, c, *part) for c, part in zip(open_ones, parts, strict=True)])

    def close() -> None:
        for connection in open_ones:
            connection.close()

    return Way(run, ground.check(connections), kind="floor", close=close)


def ours(ground: Ground, connections: int = 1) -> Way:
    """modyn.postgres.Connection.batch."""
    from modyn.postgres import Connection

    open_ones = [Connection(ground.url) for _ in range(connections)]
    numbers = itertools.count()

    def fill(connection: Any, leaf: int, part: Samples) -> None:
        layout = ground.layout
        committed = connection.batch(
            f"benchmark-{connections}-{next(numbers)}",
            before=[(ground.create(leaf, part), (), None)],
            copies=[(layout.copy_in(leaf), layout.columns(part), layout.count(part))],
        )
        assert committed

    def run(count: int) -> None:
        parts = ground.parts(count, connections)
        side_by_side([partial(fill, c, *part) for c, part in zip(open_ones, parts, strict=True)])

    def close() -> None:
        for connection in open_ones:
            connection.close()

    return Way(run, ground.check(connections), kind="ours", close=close)


def everybody(ground: Ground, site: Site, *, rivals_too: bool) -> dict[str, Callable[[], Way]]:
    """Return all contenders of a layout, by name; a share where one is slow."""
    ways: dict[str, Callable[[], Way]] = {
        "libpq": lambda: floor(ground),
        "modyn": lambda: ours(ground),
        "libpq, 2 connections": lambda: floor(ground, 2),
        "modyn, 2 connections": lambda: ours(ground, 2),
    }
    if not rivals_too:
        return ways
    ways = {
        **ways,
        "psql \\copy": lambda: rivals.psql(ground, site.folder),
    }
    if isinstance(ground.layout, Blocks):
        return {
            **ways,
            "psycopg, write_row": lambda: rivals.psycopg_rows(ground),
            "asyncpg": lambda: rivals.asyncpg(ground),
        }
    return {
        **ways,
        "psycopg, packed": lambda: rivals.psycopg_packed(ground),
        "psycopg, write_row": lambda: rivals.psycopg_rows(ground),
        "asyncpg": lambda: rivals.asyncpg(ground, 1 / 2),
        "ADBC": lambda: rivals.adbc(ground),
        "SQLAlchemy": lambda: rivals.sqlalchemy(ground, 1 / 32),
    }


def present(ways: dict[str, Callable[[], Way]]) -> tuple[dict[str, Way], list[str]]:
    """Make those who can take part; say who cannot."""
    there, lines = {}, []
    for name, make in ways.items():
        rival = name.split(",")[0]
        line = rivals.missing(rival) if rival in rivals.RIVALS else None
        if line is None:
            there[name] = make()
        elif line not in lines:
            lines.append(line)
    return there, lines


def line_of(site: Site, layout: str, section: Section, *, unlogged: bool = False) -> Outcome:
    """Measure one kind of table."""
    case = f"{layout}, unlogged" if unlogged else layout
    line = Outcome(f"COPY in, {case}", 0.95, "libpq", "modyn", case=case)
    line.bars = [
        Bar("modyn, 2 connections", "libpq, 2 connections", 0.95),
        Bar("modyn, 2 connections", "modyn", 1.5),
        Bar("modyn", "psql \\copy", 1.0),
        Bar("modyn", "psycopg, write_row", 1.0, always=True),
        Bar("modyn", "SQLAlchemy", 1.0, always=True),
    ]
    samples = make_samples(site.size(SAMPLES[layout], 1 << 16))
    with site.database("filling") as url:
        prepare_schema(url)
        ground = Ground(url, LAYOUTS[layout], samples, unlogged)
        ways, skipped = present(everybody(ground, site, rivals_too=not unlogged))
        section.skipped += skipped
        try:
            return Turns(site, line, len(samples), ground.clear).run(ways, site.repetitions)
        finally:
            ground.close()


def measure_rows(site: Site) -> Section:
    """Measure rows, logged with all rivals and unlogged without."""
    section = Section("M1", "Samples into Postgres, a row for each", ABOUT_ROWS)
    section.lines = [line_of(site, "rows", section)]
    if not site.quick:
        section.lines.append(line_of(site, "rows", section, unlogged=True))
    section.charts = [chart_of(section.title, section.lines)]
    section.notes = [rivals.versions()]
    return section


def measure_blocks(site: Site) -> Section:
    """Measure blocks."""
    section = Section("M2", "Samples into Postgres, in blocks", ABOUT_BLOCKS)
    section.lines = [line_of(site, "blocks", section)]
    section.charts = [chart_of(section.title, section.lines)]
    return section
