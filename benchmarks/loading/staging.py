"""W7: partitions read from the disk ahead of a loop that shuffles inside them."""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

import numpy as np
import numpy.typing as npt

import modyn
from benchmarks.loading.data import RECORD, SCHEMA, Fields, Keys, check
from benchmarks.loading.disk import bytes_read, drop
from benchmarks.loading.ground import split_rows
from benchmarks.loading.site import Site
from benchmarks.machine import compile_floor
from benchmarks.measure import Bar, Outcome, Seconds, Stopwatch, in_turns
from benchmarks.section import Section, Table

ABOUT = """An epoch over records of 160 bytes that the page cache has been made to forget, in
partitions: their order is drawn, and so is the order inside each, in batches of 65,536.  `read` has
the kernel read the files in and map them (MADV_POPULATE_READ), nothing else; `consume` is the epoch
when all is in memory and verified; the greater of the two is what nobody can do better than who
does not skip the reading, and the floor.  Ours has partitions brought in ahead, so many of them; in
the first pass over cold data every block is verified, in a second pass it was before.  `read, then
take` reads a partition in order with a thread that is one partition ahead, and has np.take draw
from it."""

BATCH = 1 << 16
PARTITIONS = 10
AHEAD = (1, 2, 4, 6)
FLOOR = "read or consume"


@dataclass
class Epoch:
    """The records, and how they are cut."""

    path: Path
    records: int
    partition: int  # records

    def segments(self) -> list[Path]:
        """Return the files that hold the records."""
        files = sorted(self.path.glob("*.seg"))
        per_file = files[0].stat().st_size // RECORD.itemsize
        return files[: -(-self.records // per_file)]

    def keys(self) -> Keys:
        return np.arange(self.records, dtype=np.uint64)


# Runs an epoch of that number, and returns its last batch with its keys.
Run = Callable[[int], tuple[Keys, Fields]]


@dataclass
class Way:
    """A way through the epoch; `open` comes before the cache is dropped."""

    run: Run
    open: Callable[[], None] = lambda: None
    kind: str = "ours"
    cold: bool = True


def read(epoch: Epoch) -> Way:
    """Map and populate: the rate at which files come into memory at best."""
    floor = compile_floor()

    def run(number: int) -> tuple[Keys, Fields]:
        for file in epoch.segments():
            size = file.stat().st_size
            at = floor.floor_reserve(size, 0)
            if floor.floor_map(at, os.fsencode(file), size) != 0:
                raise OSError(f"{file} could not be mapped")
            floor.floor_release(at, size)
        return np.zeros(0, np.uint64), {}

    return Way(run, kind="floor")


def staged() -> bool:
    """Whether the loader has partitions brought in ahead."""
    return "num_prefetched_partitions" in inspect.signature(modyn.Loader).parameters


class Load:
    """A loader with shuffle="partition" on a handle of its own, or on one that was used."""

    def __init__(self, epoch: Epoch, ahead: int | None, *, used: bool) -> None:
        self._epoch, self._used = epoch, used
        self._more = {} if ahead is None else {"num_prefetched_partitions": ahead}
        self._dataset: modyn.Dataset | None = None

    def open(self) -> None:
        if self._dataset is None or not self._used:
            self.close()
            self._dataset = modyn.Dataset.open(self._epoch.path)
        if self._used:  # read in as well as can be, mapped, and verified
            drop(*self._epoch.segments())
            self._dataset.view.warm()
            for keys in np.array_split(self._epoch.keys(), PARTITIONS * 16):
                self._dataset.fetch(keys)

    def close(self) -> None:
        if self._dataset is not None:
            self._dataset.close()
            self._dataset = None

    def run(self, number: int) -> tuple[Keys, Fields]:
        assert self._dataset is not None
        loader = modyn.Loader(
            self._dataset,
            self._epoch.keys(),
            batch_size=BATCH,
            shuffle="partition",
            partition_size=self._epoch.partition,
            epoch=number,
            **self._more,  # type: ignore[arg-type]
        )
        rows = 0
        for batch in loader:
            rows += len(batch)
            keys: Any = batch.numpy("keys")
            fields: Any = {name: batch.numpy(name) for name in SCHEMA}
        assert rows == self._epoch.records
        return keys, fields


def read_then_take(epoch: Epoch) -> Way:
    """Read a partition in order while np.take draws batches from the one before."""
    files = epoch.segments()
    rooms = [np.ones(epoch.partition, "V160") for _ in range(3)]

    def bring(order: list[int], ready: Queue[tuple[int, npt.NDArray[Any]] | None]) -> None:
        for turn, partition in enumerate(order):
            room = rooms[turn % len(rooms)]
            first = partition * epoch.partition
            rows = min(epoch.partition, epoch.records - first)
            read_range(files, first * RECORD.itemsize, room[:rows].view(np.uint8))
            ready.put((first, room[:rows]))
        ready.put(None)

    def run(number: int) -> tuple[Keys, Fields]:
        random = np.random.default_rng(number)
        order = random.permutation(-(-epoch.records // epoch.partition)).tolist()
        ready: Queue[tuple[int, npt.NDArray[Any]] | None] = Queue(1)
        thread = threading.Thread(target=bring, args=(order, ready))
        thread.start()
        outs = [np.ones(BATCH, "V160") for _ in range(3)]
        for turn, (first, rows, chosen) in enumerate(drawn(ready, random)):
            out = np.take(rows, chosen, out=outs[turn % 3][: len(chosen)], mode="clip")
            keys = chosen + first
        thread.join()
        return keys.astype(np.uint64), split_rows(out)

    return Way(run, kind="rival")


def drawn(
    ready: Queue[tuple[int, npt.NDArray[Any]] | None], random: np.random.Generator
) -> Iterator[tuple[int, npt.NDArray[Any], npt.NDArray[np.int64]]]:
    """Yield the rows of batches, drawn from one partition after the other."""
    while (got := ready.get()) is not None:
        first, rows = got
        chosen = random.permutation(len(rows))
        for at in range(0, len(chosen), BATCH):
            yield first, rows, chosen[at : at + BATCH]


def read_range(files: list[Path], start: int, room: npt.NDArray[np.uint8]) -> None:
    """Fill the room from these files, which lie one after the other."""
    size = files[0].stat().st_size
    done = 0
    while done < len(room):
        file, at = divmod(start + done, size)
        with files[file].open("rb", buffering=0) as opened:
            opened.seek(at)
            done += opened.readinto(room[done : done + size - at].data)


def ways(epoch: Epoch) -> dict[str, Way]:
    def load(ahead: int | None, **how: Any) -> Way:
        used, cold = how.get("used", False), how.get("cold", True)
        loader = Load(epoch, ahead, used=used)
        return Way(loader.run, loader.open, cold=cold)

    found = {"read": read(epoch), "consume": load(None, used=True, cold=False)}
    if staged():
        found |= {f"modyn, {ahead} ahead": load(ahead) for ahead in AHEAD}
        found["modyn, 2 ahead, second pass"] = load(2, used=True)
    else:
        found["modyn, not staged"] = load(None)
    found["read, then take"] = read_then_take(epoch)
    return found


def run_line(outcome: Outcome, epoch: Epoch, repetitions: int) -> list[list[Any]]:
    """Have every way go through an epoch; return what each read from the disk."""
    megabytes: dict[str, float] = {}

    def contender(name: str, way: Way) -> Callable[[int], Seconds]:
        def run(repetition: int) -> Seconds:
            way.open()
            if way.cold:
                drop(*epoch.segments())
            before, watch = bytes_read(), Stopwatch()
            keys, fields = way.run(repetition + 1)
            taken = watch.stop()
            megabytes[name] = (bytes_read() - before) / 1e6
            if fields:
                check(name, keys, fields)
                outcome.checked += 1
            return taken

        return run

    named = ways(epoch)
    in_turns(outcome, {name: contender(name, way) for name, way in named.items()}, repetitions)
    for table in (outcome.wall, outcome.busy):
        pairs = zip(table["read"], table["consume"], strict=True)
        table[FLOOR] = [max(pair) for pair in pairs]
    outcome.kinds = {name: way.kind for name, way in named.items()} | {FLOOR: "floor"}
    outcome.work, outcome.unit = epoch.records / 1e6, "M records"
    return [[name, seen] for name, seen in megabytes.items()]


def measure(site: Site) -> Section:
    section = Section("W7", "Partitions read ahead", " ".join(ABOUT.split()))
    records = min(site.count, site.size(10_000_000, 1_000_000))
    epoch = Epoch(site.dataset, records, records // PARTITIONS)
    ours = "modyn, 2 ahead" if staged() else "modyn, not staged"
    outcome = Outcome("W7", round(1 / 1.05, 3), FLOOR, ours)
    outcome.case = f"{PARTITIONS} partitions of {epoch.partition:,}"
    rows = run_line(outcome, epoch, min(site.repetitions, 5))
    outcome.bars = [Bar(ours, "read", 0.9), Bar(ours, "read, then take", 1.0, always=True)]
    section.lines.append(outcome)
    size = records * RECORD.itemsize / 1e6
    title = f"Read from the disk for {size:,.0f} MB of records"
    section.tables.append(Table(title, ["", "MB"], rows))
    if not staged():
        section.notes.append("The loader brings no partitions in ahead yet.")
    return section
