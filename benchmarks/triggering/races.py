"""All families of policies on the real streams: percent right for so many trainings."""

from __future__ import annotations

import statistics

from benchmarks.section import Cell, Section, Table
from benchmarks.triggering import families, models
from benchmarks.triggering.outcome import Outcome, Race, span
from benchmarks.triggering.outcome import families as by_family
from benchmarks.triggering.site import Site, seconds_apart

WORKLOAD = "triggers"
ABOUT = f"""\
After a first training at {models.FIRST:,} samples a policy says when to train: a fixed schedule,
or one that looks at the stream every {families.INTERVAL} samples. Each training begins afresh and
takes the newest samples (1,000 for insects and elec2, 4,000 for the others: the better of the two
for the densest schedule), so that all trainings of a stream cost the same, and the model is a
function of the place of its trigger. Percent right is that of all samples after the first
training, each by the model that was in use. Every family is tried with a few settings, and so are
schedules; with as many seeds as is said below, of which initial weights, the order of batches and
whatever a policy draws depend. Labels are known at once."""


def run_all(site: Site) -> None:
    """Run what was not run yet, all policies with one seed before the next."""
    for seed in site.seeds():
        for stream in site.streams():
            dataset = site.dataset(stream)
            for entry in families.entries(stream, seconds_apart(dataset)):
                site.cell(WORKLOAD, stream, dataset, entry, seed)


def races(site: Site) -> list[Race]:
    """Return what all policies got; where nothing new is run, with the seeds that are complete."""
    found = []
    for stream in site.streams():
        dataset = site.dataset(stream)
        entries = families.entries(stream, seconds_apart(dataset))
        seeds = [
            seed
            for seed in site.seeds()
            if not site.no_new or all(site.has(WORKLOAD, stream, entry, seed) for entry in entries)
        ]
        if seeds:
            cells = [
                [site.cell(WORKLOAD, stream, dataset, entry, seed) for seed in seeds]
                for entry in entries
            ]
            found.append(Race(stream, [*map(Outcome, entries, cells)]))
    return found


def measure(site: Site) -> Section:
    if not site.no_new:
        run_all(site)
    found = races(site)
    section = Section(id="T1", title="When to train on real streams", about=ABOUT)
    section.notes = [
        f"{race.stream.name}: {len(race.outcomes[0].results)} of {len(site.seeds())} seeds"
        for race in found
    ]
    section.verdicts = [race.verdict() for race in found]
    section.tables.append(by_family(found))
    for race in found:
        section.tables += [race.fixed_table(), race.adaptive_table()]
        if race.stream.drifts:
            section.tables.append(known(race, len(site.dataset(race.stream))))
    return section


def known(race: Race, count: int) -> Table:
    """Return how soon after a known drift each policy trained, and how often just before it."""
    rows: list[list[Cell]] = []
    place = int(race.stream.drifts[0] * count)
    before = models.FIRST  # samples, in which a training was not for the drift
    for one in race.adaptive:
        delays, early = [], []
        for result in one.results:
            later = [p - place for p in result.more["positions"] if p > place]
            delays.append(min(later) if later else count - place)
            early.append(sum(place - before < p <= place for p in result.more["positions"]))
        rows.append([one.name, f"{statistics.median(delays):,.0f}", span(early)])
    return Table(
        title=f"{race.stream.name}: at sample {place:,} the prices of Victoria begin to move",
        heads=["", "samples until a training", f"trainings in the {before:,} samples before"],
        rows=rows,
    )
