"""Labels that come late: policies that wait for them, and policies that do without."""

from __future__ import annotations

from benchmarks.section import Cell, Section, Table
from benchmarks.triggering import families
from benchmarks.triggering.outcome import Outcome, span, spread
from benchmarks.triggering.site import Site
from benchmarks.triggering.streams import STREAMS

WORKLOAD = "late"
ON = ("insects", "weather")
ABOUT = f"""\
As above, but the label of a sample is known {families.LATE:,} samples later, to policies and to
trainings: these take the newest samples that have one."""


def outcomes(site: Site, name: str) -> list[Outcome]:
    stream = STREAMS[name]
    dataset = site.dataset(stream)
    return [
        Outcome(entry, [site.cell(WORKLOAD, stream, dataset, entry, seed) for seed in site.seeds()])
        for entry in families.lately()
    ]


def measure(site: Site) -> Section:
    section = Section(id="T3", title="Labels that come late", about=ABOUT)
    for name in ON:
        rows: list[list[Cell]] = [
            [
                one.name,
                "yes" if one.entry.labels else "no",
                span(one.counts),
                spread(one.values),
            ]
            for one in outcomes(site, name)
        ]
        heads = ["", "waits for labels", "trainings", "percent right"]
        section.tables.append(Table(title=name, heads=heads, rows=rows))
    return section
