"""Drifts planted in real streams that have no other: how soon they are seen, and what is not one.

A trigger within `AFTER` samples after a planted place is of that drift, the first one its
discovery and the others its aftermath, while the newest samples are still mixed; all other triggers
are false alarms.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.section import Cell, Section, Table
from benchmarks.selecting.cells import Result
from benchmarks.triggering import families, models
from benchmarks.triggering.families import Entry
from benchmarks.triggering.site import Site
from benchmarks.triggering.streams import PLANTED, STREAMS

WORKLOAD = "planted"
ON = ("insects", "weather")
AFTER = 2000
ABOUT = f"""\
Two streams in a drawn order, so that nothing drifts, but for three places
({", ".join(f"{100 * share:.0f}" for share in PLANTED)} percent of the stream) from which on the
columns are in a new order. Three seeds draw orders, columns and all else, so there are
{3 * len(PLANTED)} drifts in each stream. A drift is found by the first training within {AFTER:,}
samples after it; later ones of these are its aftermath, and all others are false alarms. One
setting for each family, the same everywhere."""


@dataclass(frozen=True)
class Found:
    """What came of the planted drifts of a stream."""

    delays: list[int]
    missed: int
    aftermath: int
    false: int
    still: int  # samples in which every alarm is false

    @classmethod
    def of(cls, result: Result, count: int) -> Found:
        """Read it off the places of the triggers after the first."""
        positions = result.more["positions"][1:]
        places = [int(share * count) for share in PLANTED]
        delays, aftermath = [], 0
        for place in places:
            mine = [p - place for p in positions if place < p <= place + AFTER]
            delays += mine[:1]
            aftermath += len(mine[1:])
        false = len(positions) - len(delays) - aftermath
        still = count - models.FIRST - AFTER * len(places)
        return cls(delays, len(places) - len(delays), aftermath, false, still)


def chosen(site: Site) -> list[tuple[Entry, dict[str, list[Found]]]]:
    """Return what each policy found, by stream and seed; run what was not run yet."""
    rows: dict[str, tuple[Entry, dict[str, list[Found]]]] = {}
    for seed in site.seeds():
        for name in ON:
            stream = STREAMS[name]
            dataset = site.planted(stream, seed)
            for entry in families.chosen(1.0):
                result = site.cell(WORKLOAD, stream, dataset, entry, seed)
                _, found = rows.setdefault(f"{entry.family} {entry.setting}", (entry, {}))
                found.setdefault(name, []).append(Found.of(result, len(dataset)))
    return list(rows.values())


def measure(site: Site) -> Section:
    rows: list[list[Cell]] = []
    for entry, found in chosen(site):
        row: list[Cell] = [f"{entry.family} {entry.setting}", "yes" if entry.labels else "no"]
        for name in ON:
            row += cells_of(found[name])
        rows.append(row)
    heads = ["", "labels"]
    for name in ON:
        heads += [f"{name}: found", "delay", "false / 10,000", "aftermath"]
    section = Section(id="T2", title="Planted drifts", about=ABOUT)
    section.tables.append(
        Table(title="Found, samples until then (median), false alarms", heads=heads, rows=rows)
    )
    return section


def cells_of(found: Sequence[Found]) -> list[Cell]:
    delays = [delay for one in found for delay in one.delays]
    count = len(delays) + sum(one.missed for one in found)
    still = sum(one.still for one in found)
    return [
        f"{len(delays)} of {count}",
        f"{statistics.median(delays):,.0f}" if delays else "",
        f"{10_000 * sum(one.false for one in found) / still:.1f}",
        f"{sum(one.aftermath for one in found) / max(len(delays), 1):.1f}",
    ]
