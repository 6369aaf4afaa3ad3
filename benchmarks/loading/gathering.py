"""W1 and W3: batches of records by key, from memory, on one thread and on two."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.loading import ways
from benchmarks.loading.cache import HUGE, SMALL
from benchmarks.loading.data import Keys
from benchmarks.loading.ground import Ground
from benchmarks.loading.race import Race, Way
from benchmarks.loading.site import Site
from benchmarks.measure import Bar, Outcome
from benchmarks.section import Section

BATCHES = (1 << 10, 1 << 12, 1 << 16)

ONE = """\
Random keys of a dataset of 25 million records of 160 bytes (4 GB), on one thread, for batches
of three sizes, with the page cache in huge pages and in pages of 4 KiB. The floor is a gather
in C for this one record that fills three arrays and checks nothing; `floor, rows` copies
records as they are. Ours fills the three arrays, and so does the loader, whose one worker is a
thread beside the loop. The rivals read the mapping of the floor and leave the fields
interleaved in rows."""

TWO = """\
The same on two threads. The floor and np.take do every other batch on each of two threads;
`fetch, 2 callers` does the same with Dataset.fetch, `fetch` asks for two threads per call, and
the loader has two workers. With less than 1.8 times the arithmetic of one thread (`ALU`) there
were no two cores to use, and only ratios within a repetition mean something."""


def draw(records: int, count: int, seed: int) -> Callable[[int], Keys]:
    """Return what draws keys that no other repetition draws."""

    def keys(repetition: int) -> Keys:
        random = np.random.default_rng((seed, repetition + 1))
        return random.integers(records, size=count, dtype=np.uint64)

    return keys


def race(ground: Ground, outcome: Outcome, count: int, seed: int) -> Race:
    count = max(1, count // ground.batch) * ground.batch
    return Race(outcome, ground.floor, draw(ground.records, count, seed), ground.batch)


def one_thread(ground: Ground) -> dict[str, Way]:
    return {
        "floor": ways.floor(ground),
        "floor, rows": ways.floor_rows(ground),
        "modyn fetch": ways.fetch(ground),
        "modyn Loader": ways.loader(ground),
        "modyn Loader, shuffled": ways.loader(ground, shuffle=True),
        "np.take(out=)": ways.take(ground),
        "memmap[keys]": ways.index(ground),
        "index_select(out=)": ways.torch_select(ground),
        "tensor[keys]": ways.torch_index(ground),
    }


def two_threads(ground: Ground) -> dict[str, Way]:
    return {
        "floor": ways.floor(ground, threads=2),
        "modyn fetch": ways.fetch(ground, threads=2),
        "modyn fetch, 2 callers": ways.fetch(ground, callers=2),
        "modyn Loader": ways.loader(ground, threads=2),
        "modyn Loader, shuffled": ways.loader(ground, shuffle=True, threads=2),
        "np.take(out=)": ways.take(ground, threads=2),
        "index_select(out=)": ways.torch_select(ground, threads=2),
    }


def measure_one(site: Site) -> Section:
    section = Section("W1", "Records of 160 bytes by key, one thread", " ".join(ONE.split()))
    for pages in (HUGE, SMALL):
        ground = Ground(site.dataset, BATCHES[-1], pages=pages)
        for batch in BATCHES if pages == HUGE or not site.quick else BATCHES[-1:]:
            ground.use_batches_of(batch)
            small = batch == BATCHES[0]
            line = Outcome("W1", 0.75 if small else 0.9, "floor", "modyn fetch")
            line.case = f"batches of {batch:,}, {pages}"
            line.bars = [
                Bar("modyn fetch", "np.take(out=)", 1.0, always=not small),
                Bar("modyn fetch", "tensor[keys]", 2.0, always=True),
            ]
            count = site.size(1 << 21, 1 << 18)
            race(ground, line, count, batch).run(one_thread(ground), site.repetitions)
            line.facts["mapped_mib"] = ground.mapped()
            section.lines.append(line)
        ground.close()
    return section


def measure_two(site: Site) -> Section:
    section = Section("W3", "Records of 160 bytes by key, two threads", " ".join(TWO.split()))
    ground = Ground(site.dataset, BATCHES[-1])
    for batch in BATCHES[site.size(0, 2) :]:
        ground.use_batches_of(batch)
        line = Outcome("W3", 0.9, "floor", "modyn Loader")
        line.case = f"batches of {batch:,}, {HUGE}"
        line.bars = [
            Bar("modyn fetch, 2 callers", "floor", 0.9),
            Bar("modyn Loader", "np.take(out=)", 1.0, always=True),
        ]
        race(ground, line, site.size(1 << 21, 1 << 18), batch).run(
            two_threads(ground), site.repetitions
        )
        line.facts["mapped_mib"] = ground.mapped()
        section.lines.append(line)
    ground.close()
    return section
