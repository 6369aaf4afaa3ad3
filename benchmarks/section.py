"""What a workload has to say: lines, tables and verdicts, as they are printed and kept.

A benchmark that measures workloads writes one JSON document:

    {"benchmark": "loader", "command": ..., "date": ..., "machine": ..., "quick": false,
     "sections": [Section, ...]}

benchmarks/page.py makes docs/performance.md and its pictures from such documents alone, so
that a section holds everything that is said about its workload.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from benchmarks.measure import Outcome, print_outcome, text_of

Cell = str | float | int | None


@dataclass(frozen=True)
class Verdict:
    """A bar that is no ratio of two contenders, and what was seen of it."""

    what: str
    bar: str
    seen: str
    met: bool


@dataclass(frozen=True)
class Table:
    """What does not fit a line of contenders: times, sizes, counts."""

    title: str
    heads: list[str]
    rows: list[list[Cell]]


@dataclass(frozen=True)
class Mark:
    """A bar of a picture, and the least and greatest of what it is the median of."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    kind: str = "rival"  # or "ours", "floor"


@dataclass(frozen=True)
class Chart:
    """A picture of groups of bars; without one, a section is drawn from its lines."""

    title: str
    unit: str
    groups: list[tuple[str, list[Mark]]]
    linear: bool = False  # also where the slowest is far behind


@dataclass(frozen=True)
class Curves:
    """A picture of quantities over steps."""

    title: str
    across: str
    up: str
    curves: dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class Dot:
    """A mean and its range, of one of the series of a picture of dots."""

    series: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Dots:
    """A picture of differences from 0: a row for each (group, name), a dot for each series."""

    title: str
    unit: str
    rows: list[tuple[str, str, list[Dot]]]
    least: float = -math.inf  # what is below is out of the picture, and is said there


@dataclass
class Section:
    """A workload: what was measured, against what, and what came out."""

    id: str  # W1 to W15
    title: str
    about: str  # what happens in a repetition, who takes part, what is not compared
    lines: list[Outcome] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    curves: list[Curves] = field(default_factory=list)
    dots: list[Dots] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)  # who does not take part, and why
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0  # that measuring took

    def as_json(self) -> dict[str, Any]:
        from dataclasses import asdict

        plain = {name: value for name, value in vars(self).items() if name != "lines"}
        for name in ("tables", "verdicts", "charts", "curves", "dots"):
            plain[name] = [asdict(part) for part in plain[name]]
        return {**plain, "lines": [line.as_json() for line in self.lines]}


def print_section(section: Section) -> None:
    print(f"\n{section.id}  {section.title}")
    for line in section.lines:
        print_outcome(line)
        for bar in (line.verdict(bar) for bar in line.bars):
            word = "met" if bar["met"] else "missed"
            always = " in every repetition" if bar["always"] else ""
            print(
                f"    {bar['of']} / {bar['to']}: {text_of(bar['seen'])}, "
                f"bar {bar['least']}{always}, {word}"
            )
    for table in section.tables:
        print_table(table)
    for verdict in section.verdicts:
        word = "met" if verdict.met else "missed"
        print(f"    {verdict.what}: {verdict.seen}, bar {verdict.bar}, {word}")
    for text in (*section.skipped, *section.notes):
        print(f"    {text}")


def print_table(table: Table) -> None:
    rows = [table.heads, *([text_of_cell(cell) for cell in row] for row in table.rows)]
    widths = [max(len(row[at]) for row in rows) for at in range(len(table.heads))]
    print(f"\n    {table.title}")
    for row in rows:
        cells = (cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))
        print(f"      {row[0]:{widths[0]}}  " + "  ".join(cells))


def text_of_cell(cell: Cell) -> str:
    if cell is None:
        return ""
    if isinstance(cell, float):
        return f"{cell:,.3g}" if abs(cell) < 100 else f"{cell:,.0f}"
    return f"{cell:,}" if isinstance(cell, int) else cell
