"""What docs/postgres-figures.md says beside its sections."""

from __future__ import annotations

from typing import Any

ORDER = ["M1", "M2", "M3", "M4", "M5", "M6", "M7"]

HEAD = """\
# Postgres: figures

How fast sample metadata goes into Postgres and comes out again, beside what libpq itself can do
and what else there is. How to set it up, and what it promises, is in [postgres.md](postgres.md).
This page and its pictures are made by `python -m benchmarks.page` from the JSON in
[benchmarks/results](../benchmarks/results); it says what was measured, misses included.
"""

HOW = """\
## How it is measured

* **One machine.** The server is a private one (`modyn db start`) on a Unix socket, next to the
  client, so that both share the cores. Tables are logged and fsync is on; the settings that
  matter are above.
* **In turns.** In each repetition every contender does the same work, one after the other in an
  order that rotates. A ratio is taken within a repetition; shown are the median and, in brackets,
  the least and greatest. A bar against a floor is met by the median, one that says "always" only
  by every repetition.
* **By processor** is the ratio of processor time, of client and server together. It says who does
  less work, also where others use the machine at the same time.
* **Floor.** `libpq` is plain C around PQputCopyData and PQgetCopyData
  ([postgres_floor.c](../benchmarks/postgres_floor.c)): blocking, one transaction, no retry, no
  batch id, and what comes out is freed unread.
* **Rivals** are used as their own documentation says is fastest. Slow ones do a share of the work.
* **Checked.** What every contender left in the server, or got from it, is compared with the truth
  in every repetition.
* **Two connections.** `ALU` says how much more arithmetic two threads did than one, in the same
  seconds. Each connection keeps a backend busy, which is a core of the server; where `ALU` is well
  below 2, two connections had no two cores.
"""

NOT_CLAIMED = """\
## What is not claimed

* That these rates hold on other machines, on other disks or across a network. Ratios to libpq
  carry over better than rates.
* That modyn is faster than libpq. It stands on libpq; most of the time is the server's, and what
  is shown is how little is added for exactly-once, for time limits and for being interruptible.
* That a rival is slow at what it is made for. Rows of Python objects are convenient.
* Anything about a server that is shared with others, or that has replicas: those need
  `wal_level = replica`, and then a new table is written twice, once to the log.
"""

TITLE = """\
## Which layout, how many connections, what an index costs
"""

LAYOUTS = """\
**Rows or blocks.** `layout="rows"` keeps a row for each sample: what SQL can filter, join and
count. `layout="blocks"` keeps one for each 16,384 samples, with columns as bytes that modyn reads
back; SQL sees how many there are and between which times. Take rows, unless the server is what
you wait for, or its disk what you pay for.

| | rows | blocks |
| --- | ---: | ---: |
{rows}
"""

CONNECTIONS = """\
**How many connections.** A connection keeps a backend busy, which is a core of the server; the
client needs little beside. Two connections were this many times as fast as one: {seen}.
More of them than the server has cores to spare bring nothing; two is the default.
"""

INDEXES = """\
**What an index costs.** modyn makes none on samples: leaves are ranges of keys, and a run reads
ranges. With a primary key on ascending keys, inserting ran at {ascending} of the rate without
one, on random keys at {random}. Who wants to look up single samples in SQL builds an index on a
leaf that is full, which took {later} M rows/s here; an index on the parent table would be kept up
with every row that comes.
"""

Sections = dict[str, dict[str, Any]]


def line_of(sections: Sections, id: str, case: str) -> dict[str, Any] | None:
    """Return a line of a section, if it was measured."""
    lines = sections.get(id, {"lines": []})["lines"]
    return next((line for line in lines if line.get("case") == case), None)


def rate(sections: Sections, id: str, case: str, name: str) -> float | None:
    """Return M samples/s of a contender."""
    line = line_of(sections, id, case)
    return line["rate"].get(name) if line else None


def cell(sections: Sections, id: str, title: str, row: str, column: int) -> Any:
    """Return a cell of a table of a section."""
    for table in sections.get(id, {"tables": []})["tables"]:
        if table["title"] == title:
            return next((cells[column] for cells in table["rows"] if cells[0] == row), None)
    return None


def say(value: Any, unit: str = "") -> str:
    return "" if value is None else f"{value:,.3g}{unit}"


def layouts(sections: Sections) -> str:
    """Compare the two layouts."""
    sizes = "Bytes on disk per sample, table and all"
    facts = [
        ("M samples/s in, one connection", lambda c, i: rate(sections, i, c, "modyn")),
        ("two connections", lambda c, i: rate(sections, i, c, "modyn, 2 connections")),
        (
            "M samples/s out, into columns",
            lambda c, i: rate(sections, "M3", f"{c}, all", "modyn Source"),
        ),
        ("bytes on disk per sample", lambda c, i: cell(sections, "M4", sizes, c, 1)),
        (
            "publish, choose, write back (s)",
            lambda c, i: cell(sections, "M5", "Seconds", f"{c}: all", 1),
        ),
    ]
    seen = [(what, find("rows", "M1"), find("blocks", "M2")) for what, find in facts]
    rows = [
        f"| {what} | {say(in_rows)} | {say(in_blocks)} |"
        for what, in_rows, in_blocks in seen
        if in_rows is not None or in_blocks is not None
    ]
    if not rows:
        return ""
    return LAYOUTS.format(rows="\n".join(rows))


def connections(sections: Sections) -> str:
    """Say what a second connection brings."""
    said = []
    for id, case in (("M1", "rows"), ("M1", "rows, unlogged"), ("M2", "blocks")):
        line = line_of(sections, id, case)
        if line is None:
            continue
        ours = next(
            bar["seen"]
            for bar in line["bars"]
            if (bar["of"], bar["to"]) == ("modyn, 2 connections", "modyn")
        )
        alu = line["alu_two_threads_to_one"]["median"]
        said.append(f"{ours['median']:.2f} for {case} (arithmetic: {alu:.2f})")
    return CONNECTIONS.format(seen=", ".join(said)) if said else ""


def indexes(sections: Sections) -> str:
    """Say what an index costs."""
    title = "What an index costs"
    ascending = cell(sections, "M4", title, "primary key, ascending", 3)
    random = cell(sections, "M4", title, "primary key, random", 3)
    later = cell(sections, "M4", title, "B-tree built afterwards", 2)
    if ascending is None or random is None:
        return ""
    return INDEXES.format(ascending=ascending, random=random, later=say(later))


def chapter(sections: Sections) -> str:
    """Say what follows from the figures for who has to choose."""
    parts = [part(sections) for part in (layouts, connections, indexes)]
    return "\n".join([TITLE, *parts]) if any(parts) else ""
