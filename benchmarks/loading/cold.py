"""W6: records that are not in memory, by random key."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import modyn
from benchmarks.loading.data import RECORD, SCHEMA, Keys, blocks, rows_of
from benchmarks.loading.disk import bytes_read, drop
from benchmarks.loading.payloads import Payloads, write
from benchmarks.loading.site import Site
from benchmarks.measure import Bar, Outcome, Seconds, Stopwatch, in_turns
from benchmarks.section import Section, Table

ABOUT = """Random keys of records of 160 bytes and of 10 to 100 KB that the page cache has been made
to forget before every contender (and that is checked).  The floor reads just the sectors that hold
the records, past the page cache, 128 at a time, with io_uring in C.  The first touch of a record of
160 bytes verifies the 64 KiB around it, so that a first pass over cold data reads more than was
asked for; `second pass` is the same handle with everything verified before, its pages dropped from
the mapping and the cache again.  The table says how much was read from the disk.  np.memmap faults
with the read-ahead of the disk, or by single pages where it was advised of random access; 32
threads of Python share the preads."""

DEPTH = 128
Bytes = npt.NDArray[np.uint8]


@dataclass
class Cold:
    """Records in a packed file and in a dataset, and what they hold."""

    name: str
    packed: Path
    dataset: Path
    fields: tuple[str, ...]
    starts: npt.NDArray[np.uint64]  # one more than there are records
    batch: int
    most: int  # bytes of a record
    check: Callable[[str, Keys, Bytes], None]
    batches: int = 4

    @property
    def count(self) -> int:
        return len(self.starts) - 1

    def pieces(self, keys: Keys) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.uint64]]:
        """Return where the records of these keys are in the packed file, and their sizes."""
        return self.starts[keys], self.starts[keys + 1] - self.starts[keys]

    def parts(self, keys: Keys) -> list[Keys]:
        return [keys[first : first + self.batch] for first in range(0, len(keys), self.batch)]

    def files(self) -> list[Path]:
        return sorted(self.dataset.glob("*.seg"))


class Way:
    """A way to take records: `open` is not measured, and finds no page in memory."""

    kind = "rival"

    def __init__(self, cold: Cold) -> None:
        self.cold = cold

    def files(self) -> list[Path]:
        """Return what has to be dropped."""
        return [self.cold.packed]

    def open(self, keys: Keys) -> None:
        """Get ready to take these keys."""

    def run(self, keys: Keys) -> tuple[Keys, Any]:
        """Take all batches; return the keys of the last one, and what it holds."""
        for part in self.cold.parts(keys):
            got = self.batch(part)
        return part, got

    def batch(self, keys: Keys) -> Any:
        raise NotImplementedError

    def plain(self, got: Any) -> Bytes:
        """Return the bytes of a batch, one record after the other."""
        array: Bytes = np.ascontiguousarray(got).view(np.uint8).ravel()
        return array

    def close(self) -> None:
        """Let go of what is open."""


class Fetch(Way):
    """Dataset.fetch; in a second pass with a handle that has verified everything."""

    kind = "ours"

    def __init__(self, cold: Cold, *, second: bool = False) -> None:
        super().__init__(cold)
        self._second = second
        self._dataset: modyn.Dataset | None = verified(cold) if second else None

    def files(self) -> list[Path]:
        return self.cold.files()

    def open(self, keys: Keys) -> None:
        if not self._second:
            self._dataset = modyn.Dataset.open(self.cold.dataset)

    def batch(self, keys: Keys) -> Any:
        assert self._dataset is not None
        return self._dataset.fetch(keys)

    def plain(self, got: Any) -> Bytes:
        if "payload" in got:
            values: Bytes = got["payload"].values
            return values
        rows = np.empty(len(got["label"]), RECORD)
        for name in SCHEMA:
            rows[name] = got[name]
        return rows.view(np.uint8).ravel()

    def close(self) -> None:
        if not self._second and self._dataset is not None:
            self._dataset.close()
            self._dataset = None


class Load(Fetch):
    """Loader over the keys, with two threads and as it chooses for itself."""

    def open(self, keys: Keys) -> None:
        super().open(keys)
        assert self._dataset is not None
        self._loader = modyn.Loader(self._dataset, keys, batch_size=self.cold.batch, threads=2)

    def run(self, keys: Keys) -> tuple[Keys, Any]:
        for batch in self._loader:
            got = {name: batch.numpy(name) for name in self.cold.fields}
        part: Any = batch.numpy("keys")
        return part, got

    def close(self) -> None:
        del self._loader
        super().close()


def verified(cold: Cold) -> modyn.Dataset:
    """Open the dataset and touch every record."""
    dataset = modyn.Dataset.open(cold.dataset)
    dataset.view.warm()
    for first in range(0, cold.count, 1 << 12):
        dataset.fetch(np.arange(first, min(first + (1 << 12), cold.count)))
    return dataset


def line(site: Site, cold: Cold, bars: dict[str, float]) -> tuple[Outcome, Table, list[str]]:
    from benchmarks.loading.cold_rivals import Floor, rivals

    found, skipped = rivals(site, cold)
    ways: dict[str, Way] = {
        "io_uring, O_DIRECT": Floor(cold),
        "modyn fetch": Fetch(cold),
        "modyn Loader": Load(cold),
        "modyn fetch, second pass": Fetch(cold, second=True),
        "modyn Loader, second pass": Load(cold, second=True),
        **found,
    }
    outcome = Outcome("W6", 0.85, "io_uring, O_DIRECT", "modyn Loader", case=cold.name)
    outcome.unit = "k records"
    read = run_line(outcome, cold, ways, min(site.repetitions, 5))
    outcome.kinds = {name: way.kind for name, way in ways.items()} | {outcome.floor: "floor"}
    outcome.bars = [
        Bar(ours, name, least, always=True)
        for ours in ("modyn Loader", "modyn Loader, second pass")
        for name, least in bars.items()
        if name in found
    ]
    return outcome, read_table(cold, read), skipped


def run_line(
    outcome: Outcome, cold: Cold, ways: dict[str, Way], repetitions: int
) -> dict[str, list[float]]:
    """Have all ways take the same fresh keys; return the MB that each read from the disk."""
    read: dict[str, list[float]] = {name: [] for name in ways}
    drawn: dict[int, Keys] = {}

    def keys_of(repetition: int) -> Keys:
        if repetition not in drawn:
            drawn.clear()
            random = np.random.default_rng((17, repetition + 1))
            size = cold.batches * cold.batch
            drawn[repetition] = random.choice(cold.count, size, replace=False).astype(np.uint64)
        return drawn[repetition]

    def contender(name: str, way: Way) -> Callable[[int], Seconds]:
        def run(repetition: int) -> Seconds:
            keys = keys_of(repetition)
            way.open(keys)
            drop(*way.files())
            before, watch = bytes_read(), Stopwatch()
            part, got = way.run(keys)
            taken = watch.stop()
            read[name].append((bytes_read() - before) / 1e6)
            cold.check(name, part, way.plain(got))
            outcome.checked += 1
            way.close()
            return taken

        return run

    in_turns(outcome, {name: contender(name, way) for name, way in ways.items()}, repetitions)
    outcome.work = cold.batches * cold.batch / 1e3
    return read


def read_table(cold: Cold, read: dict[str, list[float]]) -> Table:
    asked = cold.batches * cold.batch * float(np.diff(cold.starts).mean()) / 1e6
    rows: list[list[Any]] = []
    for name, megabytes in read.items():
        seen = statistics.median(megabytes)
        rows.append([name, seen, seen / asked])
    heads = ["", "MB read from the disk", "of what was asked for"]
    return Table(f"What it took to read {asked:,.1f} MB, {cold.name}", heads, rows)


def clicks(site: Site) -> Cold:
    """The records of 160 bytes, and a packed file of them."""
    count = min(site.count, site.size(6_000_000, 400_000))
    path = site.folder / "clicks.bin"
    with path.open("wb") as file:
        for keys in blocks(count):
            file.write(rows_of(keys).tobytes())

    def check(name: str, keys: Keys, got: Bytes) -> None:
        if got.tobytes() != rows_of(keys).tobytes():
            raise AssertionError(f"{name}: the batch is not what was stored")

    starts = np.arange(count + 1, dtype=np.uint64) * RECORD.itemsize
    batch = site.size(4096, 1024)
    return Cold("160 bytes", path, site.dataset, tuple(SCHEMA), starts, batch, 160, check, 2)


def images(site: Site) -> Cold:
    """The records of 10 to 100 KB."""
    payloads = Payloads(site.size(20_000, 600), 10_000, 100_000)
    folder = site.folder / "cold"
    write(folder, payloads)

    def check(name: str, keys: Keys, got: Bytes) -> None:
        payloads.check(name, keys, (got, payloads.offsets(keys)))

    packed, dataset = folder / "packed.bin", folder / "dataset"
    fields = ("payload",)
    batch = site.size(256, 64)
    name = "10 to 100 KB"
    return Cold(name, packed, dataset, fields, payloads.starts, batch, payloads.most, check)


def measure(site: Site) -> Section:
    section = Section("W6", "Records that are not in memory", " ".join(ABOUT.split()))
    bars = {"np.memmap": 8.0, "np.memmap, random": 8.0, "Lance take": 1.0}
    for cold in (clicks(site), images(site)):
        outcome, table, section.skipped = line(site, cold, bars)
        section.lines.append(outcome)
        section.tables.append(table)
        os.unlink(cold.packed)
    section.notes = [limited()]
    return section


def limited() -> str:
    """Say that a file larger than the memory that a group allows was not measured, and why."""
    controllers = Path("/sys/fs/cgroup/cgroup.controllers")
    if not controllers.exists() or "memory" not in controllers.read_text().split():
        why = "this machine has no memory controller of cgroup v2"
    else:
        why = "it needs a cgroup of its own, which this benchmark does not make"
    return f"A file larger than the memory that a cgroup allows was not measured: {why}."
