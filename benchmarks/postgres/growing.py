"""M4: does inserting get slower as tables grow, and what does an index cost."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from benchmarks.measure import significant, spread, text_of
from benchmarks.postgres.samples import (
    LAYOUTS,
    Blocks,
    Rows,
    Samples,
    leaf_name,
    make_samples,
)
from benchmarks.postgres.server import connect, prepare_schema
from benchmarks.postgres.site import Site
from benchmarks.section import Curves, Section, Table, Verdict

ABOUT = """\
Leaf after leaf of 4,194,304 samples is added to a table partitioned by key, as publishing does
it: in one transaction the leaf is created, filled by COPY FREEZE, and attached. Beside each, in
turns, the same goes into a partitioned table that is empty; the ratio of the two says what the
samples cost that are there already, whatever else the machine does. No index is on these tables.
Then batches of 1,048,576 rows go into one table with a primary key, on keys that ascend and on
random ones of 64 bits, and into one without, in which a B-tree is built afterwards. Nobody waits
for the server to write out what it has: checkpoints come when they come."""

LEAF = 1 << 22
LEAVES = 25
BATCH = 1 << 20  # rows into a table with an index
BATCHES = 10
POINTS = (0, 10_000_000, 50_000_000, 100_000_000)
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@dataclass
class Growth:
    """Rates at which samples went into a table that had so many."""

    name: str
    there: list[int] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)  # M samples/s
    ratios: list[float] = field(default_factory=list)  # to an empty table

    def curve(self) -> list[tuple[float, float]]:
        return [
            (n / 1e6, significant(rate)) for n, rate in zip(self.there, self.rates, strict=True)
        ]

    def near(self, count: int) -> list[int]:
        """Return which batches found about that many samples: the three nearest."""
        order = sorted(range(len(self.there)), key=lambda at: abs(self.there[at] - count))
        return sorted(order[:3])


class Growing:
    """A partitioned table that grows, and one that is empty every time."""

    def __init__(self, url: str, layout: Rows | Blocks) -> None:
        from modyn.postgres import Connection

        self.layout = layout
        self.control = connect(url)
        self.bulk = Connection(url)
        self.first = '"first"' if isinstance(layout, Blocks) else "key"
        for statement in layout.blank:
            self.control.execute(statement)
        self.make("grown")

    def make(self, table: str) -> None:
        by = f"LIKE public.blank INCLUDING ALL) PARTITION BY RANGE ({self.first})"
        self.control.execute(f"CREATE TABLE public.{table} ({by}")

    def add(self, table: str, leaf: int, samples: Samples) -> float:
        """Add a leaf in one transaction; return the seconds."""
        first, last = samples.first, samples.first + len(samples)
        attach = (
            f"ALTER TABLE public.{table} ATTACH PARTITION {leaf_name(leaf)} "
            f"FOR VALUES FROM ({first}) TO ({last})"
        )
        layout = self.layout
        copy = (layout.copy_in(leaf), layout.columns(samples), layout.count(samples))
        create = (layout.create(leaf, samples), (), None)
        started = time.perf_counter()
        done = self.bulk.batch(None, before=[create], copies=[copy], after=[(attach, (), None)])
        assert done
        return time.perf_counter() - started

    def add_to_empty(self, leaf: int, samples: Samples) -> float:
        self.make("fresh")
        try:
            return self.add("fresh", leaf, samples)
        finally:
            self.control.execute("DROP TABLE public.fresh")

    def count(self) -> int:
        what = "sum(count)" if isinstance(self.layout, Blocks) else "count(*)"
        (found,) = self.control.execute(f"SELECT {what}::bigint FROM public.grown").fetchone()  # noqa: S608
        return int(found)

    def bytes_per_sample(self) -> float:
        query = (
            "SELECT sum(pg_total_relation_size(relid)) "
            "FROM pg_partition_tree('public.grown') WHERE isleaf"
        )
        (size,) = self.control.execute(query).fetchone()
        return round(float(size) / self.count(), 1)

    def close(self) -> None:
        self.bulk.close()
        self.control.close()


def grow(site: Site, layout: str) -> tuple[Growth, float]:
    """Add leaves; return the growth and how many bytes a sample takes."""
    size, leaves = site.size(LEAF, 1 << 16), site.size(LEAVES, 4) if not site.samples else 4
    growth = Growth(f"{layout}, no index")
    with site.database("growing") as url:
        prepare_schema(url)
        growing = Growing(url, LAYOUTS[layout])
        try:
            growing.add_to_empty(0, make_samples(size))  # warms up
            for leaf in range(leaves):
                samples = make_samples(size, leaf * size)
                taken: dict[str, float] = {}
                for which in ("grown", "empty") if leaf % 2 else ("empty", "grown"):
                    if which == "grown":
                        taken[which] = growing.add("grown", leaf + 1, samples)
                    else:
                        taken[which] = growing.add_to_empty(0, samples)
                growth.there.append(leaf * size)
                growth.rates.append(size / taken["grown"] / 1e6)
                growth.ratios.append(taken["empty"] / taken["grown"])
            if growing.count() != leaves * size:
                raise AssertionError(f"{growing.count()} samples arrived, not {leaves * size}")
            return growth, growing.bytes_per_sample()
        finally:
            growing.close()


def scattered(keys: Any) -> Any:
    """Return random keys of 63 bits, each a different one."""
    mixed = keys * GOLDEN
    return ((mixed ^ (mixed >> np.uint64(32))) & np.uint64(2**63 - 1)).astype(np.uint64)


def grow_indexed(site: Site) -> tuple[list[Growth], list[list[Any]]]:
    """Add batches to tables with and without a primary key, in turns."""
    from modyn.postgres import Connection

    size = min(site.size(BATCH, 1 << 15), BATCH)
    batches = 3 if site.samples or site.quick else BATCHES
    kinds = {"no index": "", "ascending": " PRIMARY KEY", "random": " PRIMARY KEY"}
    found = {kind: Growth(f"primary key, {kind}" if key else kind) for kind, key in kinds.items()}
    copy_in = 'COPY public."{}" (key, "timestamp", label) FROM STDIN (FORMAT binary)'
    with site.database("indexed") as url, connect(url) as control, Connection(url) as bulk:
        for kind, key in kinds.items():
            columns = f'key bigint NOT NULL{key}, "timestamp" bigint NOT NULL, label bigint'
            control.execute(f'CREATE TABLE public."{kind}" ({columns})')
        for batch in range(batches):
            samples = make_samples(size, batch * size)
            for kind, growth in found.items():
                keys = scattered(samples.keys) if kind == "random" else samples.keys
                sent = (copy_in.format(kind), (keys, samples.timestamps, samples.labels), size)
                started = time.perf_counter()
                assert bulk.batch(None, copies=[sent])
                growth.rates.append(size / (time.perf_counter() - started) / 1e6)
                growth.there.append(batch * size)
        started = time.perf_counter()
        control.execute('CREATE INDEX later ON public."no index" (key)')
        built = batches * size / (time.perf_counter() - started) / 1e6
        for growth in found.values():
            growth.ratios = [
                rate / without
                for rate, without in zip(growth.rates, found["no index"].rates, strict=True)
            ]
    return list(found.values()), [["B-tree built afterwards", significant(built)]]


def growth_table(growths: list[Growth]) -> Table:
    """Say what was seen at 0, 10, 50 and 100 million samples."""
    rows: list[list[Any]] = []
    for growth in growths:
        last = growth.there[-1]
        points = [point for point in POINTS if point <= 1.1 * last] or [0]
        for point in [*points] if last in points or len(points) > 1 else [*points, last]:
            near = growth.near(point)
            rates = [growth.rates[at] for at in near]
            ratio = spread([growth.ratios[at] for at in near])
            rows.append([growth.name, point, significant(statistics.median(rates)), text_of(ratio)])
    heads = ["", "samples there", "M samples/s", "to an empty one"]
    return Table("Inserting into a table that has so many samples already", heads, rows)


def last_to_empty(growth: Growth) -> Verdict:
    near = growth.near(growth.there[-1])
    seen = spread([growth.ratios[at] for at in near])
    there = f"{growth.there[-1] / 1e6:,.0f} M samples there"
    what = f"{growth.name}, {there} / an empty table"
    return Verdict(what, "0.9", text_of(seen), seen["median"] >= 0.9)


def index_table(indexed: list[Growth], extra: list[list[Any]]) -> Table:
    rows: list[list[Any]] = []
    for growth in indexed:
        first, last = growth.rates[0], statistics.median(growth.rates[-3:])
        ratio = text_of(spread(growth.ratios[-3:]))
        rows.append([growth.name, significant(first), significant(last), ratio])
    rows += [[name, None, rate, None] for name, rate in extra]
    total = (indexed[0].there[-1] + indexed[0].there[1]) / 1e6
    heads = ["one table", "M rows/s, empty", f"at {total:,.1f} M", "to no index"]
    return Table("What an index costs", heads, rows)


def measure(site: Site) -> Section:
    """Let tables grow."""
    section = Section("M4", "Inserting into tables that grow", ABOUT)
    growths, sizes = [], []
    for layout in LAYOUTS:
        growth, size = grow(site, layout)
        growths.append(growth)
        sizes.append([layout, size])
    indexed, extra = grow_indexed(site)
    section.tables = [
        growth_table(growths),
        index_table(indexed, extra),
        Table("Bytes on disk per sample, table and all", ["layout", "bytes"], sizes),
    ]
    section.verdicts = [last_to_empty(growth) for growth in growths]
    section.curves = [
        Curves(
            "Inserting into a table that has so many samples already",
            "million samples there",
            "M samples/s",
            {growth.name: growth.curve() for growth in growths},
        ),
        Curves(
            "A primary key on keys that ascend, and on random ones",
            "million rows there",
            "M rows/s",
            {growth.name.removeprefix("primary key, "): growth.curve() for growth in indexed},
        ),
    ]
    return section
