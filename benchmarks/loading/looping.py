"""W4: the whole loop, from keys to the tensors of a batch, with everybody who can do it."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

from benchmarks.loading import pipelines, ways
from benchmarks.loading.gathering import race
from benchmarks.loading.ground import Ground
from benchmarks.loading.race import Way
from benchmarks.loading.rivals import missing, present
from benchmarks.loading.site import Site
from benchmarks.loading.stores import STORES, Files, Store
from benchmarks.measure import Bar, Outcome
from benchmarks.section import Section, Table

ABOUT = """\
A loop asks for batch after batch and takes the tensors label, dense and cat of each, with
everything that a way has to read ahead switched on: two threads or two workers. The rivals
above the stores gather with np.take from the mapping of the floor, in whole batches, without a
copy that could be spared; workers are forked before anything is measured and put their batches
straight into shared memory. The stores hold the first four million records (Lance, HF datasets)
or the first million (the others), to their advantage, in memory, and get to sort the keys of a
batch where they like that. Slow ways fetch a share of the keys. `per-sample Python` is how the
published system reads: seek, read and parse, sample by sample, in two DataLoader workers or
none."""

IN_PROCESS = ("np.take, thread ahead", "DataLoader, 0 workers", "SPDL, np.take")
PROCESSES = ("DataLoader, 1 worker", "DataLoader, 2 workers")
SLOW = ("torch DataLoader", "MosaicML Streaming")  # one batch of 65,536 takes them seconds


def open_stores(site: Site, rows: npt.NDArray[Any]) -> tuple[dict[str, Store], list[str]]:
    """Write and open the stores of all rivals that are here."""
    here, left_out = present(*STORES)
    some = site.size(1_000_000, 50_000)
    return {name: STORES[name](site.folder, rows, some) for name in here}, left_out


def forked(ground: Ground) -> dict[str, Way]:
    """Return the ways with worker processes, which come before any threads."""
    return {
        name: pipelines.dataloader(ground, workers)
        for workers, name in enumerate(PROCESSES, start=1)
    }


def contenders(ground: Ground, stores: dict[str, Store], processes: dict[str, Way]) -> Any:
    batch = ground.batch
    all_ways: dict[str, Way] = {
        "floor": ways.floor(ground),
        "modyn fetch": ways.fetch(ground),
        "modyn Loader": ways.loader(ground, threads=2),
        "modyn Loader, shuffled": ways.loader(ground, shuffle=True, threads=2),
        "np.take, thread ahead": pipelines.thread_ahead(ground),
        "DataLoader, 0 workers": pipelines.dataloader(ground, 0),
    }
    if missing("SPDL") is None:
        all_ways["SPDL, np.take"] = pipelines.spdl(ground)
    all_ways.update(processes)
    for name, store in stores.items():
        if batch > 1 << 12 and name in SLOW:
            continue
        all_ways[store.name] = store.way(batch)
        if isinstance(store, Files):
            all_ways[f"{store.name}, 2 workers"] = store.way(batch, workers=2)
    return all_ways


def measure(site: Site) -> Section:
    section = Section("W4", "The whole loop, from keys to tensors", " ".join(ABOUT.split()))
    ground = Ground(site.dataset, 1 << 16)
    processes = forked(ground)
    _, section.skipped = present("SPDL", "FFCV")
    stores, left_out = open_stores(site, ground.memmap)
    section.skipped += left_out
    for batch in [1 << 16] if site.quick else [1 << 12, 1 << 16]:
        ground.use_batches_of(batch)
        everybody = contenders(ground, stores, processes)
        line = Outcome("W4", 0.85, "modyn fetch", "modyn Loader", case=f"batches of {batch:,}")
        line.bars = bars(everybody)
        race(ground, line, site.size(1 << 21, 1 << 18), batch).run(everybody, site.repetitions)
        line.facts["mapped_mib"] = ground.mapped()
        section.lines.append(line)
    section.tables.append(written(stores))
    for store in stores.values():
        store.close()
    return section


def bars(everybody: dict[str, Way]) -> list[Bar]:
    """Ask to be ahead of all who work in this process, and far ahead of other processes."""
    return [
        Bar("modyn Loader", name, least, always=True)
        for names, least in ((IN_PROCESS, 1.2), (PROCESSES, 4.0))
        for name in names
        if name in everybody
    ]


def written(stores: dict[str, Store]) -> Table:
    rows: list[list[str | float | int | None]] = [
        [store.name, store.records, round(store.build_s, 2)] for store in stores.values()
    ]
    return Table("What writing the stores took", ["store", "records", "seconds"], rows)
