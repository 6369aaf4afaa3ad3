"""W2: records by the ids that users gave them, arbitrary numbers of 64 bits, through an index."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

import modyn
from benchmarks.loading import ways
from benchmarks.loading.data import Fields, Keys, user_ids
from benchmarks.loading.gathering import draw
from benchmarks.loading.ground import Ground, split_rows
from benchmarks.loading.race import Race, Way
from benchmarks.loading.rivals import present
from benchmarks.loading.site import Site
from benchmarks.loading.stores import Lmdb, as_tensors
from benchmarks.measure import Bar, Outcome
from benchmarks.section import Section, Table

ABOUT = """\
Samples are asked for by the ids of users, random numbers below 2**62, one per record. `floor`
is the gather in C by position, without ids; `floor, index` a hash table of cache lines in C
that looks up and gathers in one pass and trusts that every id is there. pandas and
np.searchsorted find positions, which np.take gathers. LMDB holds the first million records by
id."""

PER_LINE, LOAD = 5, 0.5


class Ids:
    """The ids of all records, and keys of a repetition turned into them."""

    def __init__(self, ground: Ground) -> None:
        self.all = user_ids(ground.records)
        self.asked: Keys = np.zeros(0, np.uint64)

    def prepare(self, keys: Keys) -> None:
        self.asked = self.all[keys]


Find = Callable[[Keys], npt.NDArray[Any]]


def floor_index(ground: Ground, ids: Ids) -> Way:
    """A hash table in C, built for this line."""
    floor, count = ground.floor, len(ids.all)
    lines = int(count / (PER_LINE * LOAD)) + 1
    table = floor.floor_reserve(64 * (lines + 64), 1)
    floor.floor_index_build(table, lines, ids.all.ctypes.data, count)

    def run(keys: Keys) -> tuple[Keys, Fields]:
        for slot, part in ground.batches(ids.asked):
            start = part.ctypes.data
            floor.floor_index_gather(
                table, lines, ground.base, start, len(part), *ground.addresses[slot]
            )
        return keys[-ground.batch :], ground.outputs[slot]

    def close() -> None:
        floor.floor_release(table, 64 * (lines + 64))

    return Way(run, ids.prepare, kind="floor", close=close)


def found(ground: Ground, ids: Ids, find: Find) -> Way:
    """Find positions, then np.take."""

    def run(keys: Keys) -> tuple[Keys, Fields]:
        for slot, part in ground.batches(ids.asked):
            np.take(ground.memmap, find(part), out=ground.rows[slot], mode="clip")
        return keys[-ground.batch :], split_rows(ground.rows[slot])

    return Way(run, ids.prepare, share=1 / 4)


def ours(ground: Ground, ids: Ids, index: Any) -> Way:
    """KeyIndex.keys, then Dataset.fetch."""
    found = np.zeros(ground.batch, np.uint64)

    def run(keys: Keys) -> tuple[Keys, Fields]:
        for slot, part in ground.batches(ids.asked):
            index.keys(part, out=found)
            ground.dataset.fetch(found, out=ground.outputs[slot])
        return keys[-ground.batch :], ground.outputs[slot]

    return Way(run, ids.prepare, kind="ours")


class LmdbById(Lmdb):
    """LMDB by 8-byte ids."""

    ids: Keys = np.zeros(0, np.uint64)  # of the records of the dataset

    def names(self) -> tuple[Keys, npt.NDArray[Any]]:
        ids = self.ids[: self.records]
        order = np.argsort(ids)
        return ids[order], self.rows[order]


def lmdb(store: LmdbById, ground: Ground, ids: Ids) -> Way:
    def prepare(keys: Keys) -> None:
        ids.prepare(keys % np.uint64(store.records))

    def run(keys: Keys) -> tuple[Keys, Fields]:
        for _, part in ground.batches(ids.asked):
            _, rows = store.batch(part)
            tensors = as_tensors(rows)
        positions = (keys % np.uint64(store.records))[-ground.batch :]
        by_id = positions[np.argsort(ids.asked[-ground.batch :])]
        return by_id, {name: tensor.numpy() for name, tensor in tensors.items()}

    return Way(run, prepare, share=store.share, close=store.close)


def sorted_search(ids: Ids) -> tuple[Find, float]:
    """np.searchsorted over the sorted ids; how long sorting took."""
    started = time.perf_counter()
    order = np.argsort(ids.all)
    ascending = ids.all[order]

    def find(part: Keys) -> npt.NDArray[Any]:
        return order[np.searchsorted(ascending, part)]

    return find, time.perf_counter() - started


def pandas_index(ids: Ids) -> tuple[Find, float]:
    """pandas.Index.get_indexer; how long its hash table took."""
    import pandas

    started = time.perf_counter()
    index = pandas.Index(ids.all)
    index.get_indexer(ids.all[:1])
    return index.get_indexer, time.perf_counter() - started


def measure(site: Site) -> Section:
    section = Section("W2", "Records of 160 bytes by the ids of users", " ".join(ABOUT.split()))
    ground = Ground(site.dataset, 1 << 16)
    ids = Ids(ground)
    built: list[list[Any]] = []
    finds: dict[str, Find] = {}
    here, section.skipped = present("pandas", "LMDB")
    finds["searchsorted, np.take"], seconds = sorted_search(ids)
    built.append(["searchsorted: sorting", round(seconds, 2)])
    if "pandas" in here:
        finds["pandas Index, np.take"], seconds = pandas_index(ids)
        built.append(["pandas Index", round(seconds, 2)])
    index = None
    if hasattr(modyn, "KeyIndex"):
        index, seconds = key_index(ids)
        built.append(["modyn.KeyIndex", round(seconds, 2)])
        section.notes.append(f"modyn.KeyIndex: {index.nbytes / len(index):.1f} bytes per key")
    else:
        section.notes.append("modyn.KeyIndex: not there yet")
    store = None
    if "LMDB" in here:
        LmdbById.ids = ids.all
        store = LmdbById(site.folder, ground.memmap, site.size(1_000_000, 50_000))
        built.append([f"LMDB, {store.records:,} records", round(store.build_s, 2)])
    for batch in [1 << 16] if site.quick else [1 << 12, 1 << 16]:
        ground.use_batches_of(batch)
        everybody = {"floor": ways.floor(ground), "floor, index": floor_index(ground, ids)}
        if index is not None:
            everybody["modyn KeyIndex"] = ours(ground, ids, index)
        everybody |= {name: found(ground, ids, find) for name, find in finds.items()}
        if store is not None:
            everybody["LMDB"] = lmdb(store, ground, ids)
        section.lines.append(measure_line(site, ground, everybody))
        everybody["floor, index"].close()
    section.tables.append(Table("What an index took to build", ["index", "seconds"], built))
    ground.close()
    return section


def measure_line(site: Site, ground: Ground, everybody: dict[str, Way]) -> Outcome:
    first = "modyn KeyIndex" if "modyn KeyIndex" in everybody else "floor, index"
    line = Outcome("W2", 0.6, "floor", first, case=f"batches of {ground.batch:,}")
    asked = [("floor, index", 0.9), ("pandas Index, np.take", 2.0), ("LMDB", 20.0)]
    if first == "modyn KeyIndex":
        line.bars = [
            Bar(first, name, least, always=not name.startswith("floor"))
            for name, least in asked
            if name in everybody
        ]
    count = site.size(1 << 21, 1 << 18)
    race = Race(line, ground.floor, draw(ground.records, count, 2), ground.batch)
    race.run(everybody, site.repetitions)
    line.facts["mapped_mib"] = ground.mapped()
    return line


def key_index(ids: Ids) -> tuple[Any, float]:
    """Build ours: the ids are those of keys 0, 1, 2, ..."""
    started = time.perf_counter()
    index = modyn.KeyIndex(ids.all)
    return index, time.perf_counter() - started
