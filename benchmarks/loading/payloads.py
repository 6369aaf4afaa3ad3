"""Records of varying length: what they hold, where they lie, and memory for batches of them."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import modyn
from benchmarks.loading.data import Keys
from benchmarks.loading.site import Site
from benchmarks.machine import compile_floor, mapping_state

NOISE = 1 << 23  # bytes that payloads are slices of
STEP = 7919 * 64  # from the slice of one key to that of the next
ROTATE = 3  # blocks that take turns, so that none stays in a near cache
APPEND = 1 << 26  # bytes per append

Ragged = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]  # values, offsets
# Takes the batches of these keys, and returns the keys of the last one and what it holds.
Run = Callable[[Keys], tuple[Keys, Ragged | None]]


class Payloads:
    """What records hold: record k is a slice of noise that k and its size decide."""

    def __init__(self, count: int, least: int, most: int) -> None:
        random = np.random.default_rng(5)
        self.count, self.most = count, most
        self.sizes = random.integers(least, most + 1, count)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.uint64)
        self._noise = random.integers(0, 256, NOISE + most, dtype=np.uint8)

    def __getitem__(self, key: int) -> memoryview:
        at = key * STEP % NOISE
        return memoryview(self._noise)[at : at + int(self.sizes[key])]

    def __iter__(self) -> Iterator[memoryview]:
        return (self[key] for key in range(self.count))

    def offsets(self, keys: Keys) -> npt.NDArray[np.int64]:
        """Return where the payloads of these keys end when they lie back to back."""
        return np.concatenate([[0], np.cumsum(self.sizes[keys])]).astype(np.int64)

    def check(self, name: str, keys: Keys, got: Ragged) -> None:
        """Refuse a batch that is not what was stored."""
        wanted, seen = hashlib.blake2b(), hashlib.blake2b()
        for key in keys.tolist():
            wanted.update(self[key])
        values, offsets = got
        seen.update(np.ascontiguousarray(values))
        same = wanted.digest() == seen.digest()
        if not same or not np.array_equal(offsets, self.offsets(keys)):
            raise AssertionError(f"{name}: the batch is not what was stored")


@dataclass(frozen=True)
class Kind:
    """One sort of records, and how much of them a repetition takes."""

    name: str
    least: int  # bytes of a record
    most: int
    records: tuple[int, int]  # in full, and quickly
    batch: int
    batches: tuple[int, int]
    as_files: bool  # whether a file for each makes sense


@dataclass
class Taking:
    """A way to take records by key; `prepare` is not measured and gets the same keys before."""

    run: Run
    prepare: Callable[[Keys], None] | None = None
    share: float = 1.0  # of the work that it does, at its speed
    kind: str = "rival"  # or "ours", "floor"


class Store:
    """The payloads in a file, packed and mapped, and in a dataset; blocks for batches."""

    def __init__(self, site: Site, kind: Kind) -> None:
        self.kind = kind
        self.folder = site.folder / f"payloads-{kind.most}"
        self.payloads = Payloads(site.size(*kind.records), kind.least, kind.most)
        self.batches = site.size(*kind.batches)
        self.floor = compile_floor()
        write(self.folder, self.payloads)
        self.base, self.packed = self._map(self.folder / "packed.bin")
        self.dataset = self._open(self.folder / "dataset")
        self.blocks = [self._block() for _ in range(ROTATE)]
        self._random = np.random.default_rng(11)

    def _map(self, path: Path) -> tuple[int, npt.NDArray[np.uint8]]:
        """Map the packed payloads by huge pages."""
        size = path.stat().st_size
        base = self.floor.floor_reserve(size, 0)
        if self.floor.floor_map(base, os.fsencode(path), size) != 0:
            raise OSError(f"{path} could not be mapped")
        return base, memory_at(base, size)

    def _open(self, path: Path) -> modyn.Dataset:
        """Open the dataset, and touch all payloads, so that they are verified."""
        dataset = modyn.Dataset.open(path)
        dataset.view.warm()
        for first in range(0, self.payloads.count, self.kind.batch):
            dataset.fetch(np.arange(first, min(first + self.kind.batch, self.payloads.count)))
        return dataset

    def _block(self) -> Ragged:
        room = self.kind.batch * self.kind.most
        address = self.floor.floor_reserve(room, 1)
        return memory_at(address, room), np.zeros(self.kind.batch + 1, np.int64)

    def draw(self) -> Keys:
        """Return the keys of a repetition."""
        size = self.batches * self.kind.batch
        return self._random.integers(self.payloads.count, size=size, dtype=np.uint64)

    def parts(self, keys: Keys) -> Iterator[tuple[Ragged, Keys]]:
        """Cut keys into batches, each with the block whose turn it is."""
        for number, first in enumerate(range(0, len(keys), self.kind.batch)):
            yield self.blocks[number % ROTATE], keys[first : first + self.kind.batch]

    def mapped(self) -> dict[str, float]:
        """Return how this process maps the payloads, in MiB: packed and in the dataset."""
        states = [mapping_state(self.folder, name) for name in ("packed.bin", ".seg")]
        return {key: round(sum(state[key] for state in states), 1) for key in states[0]}

    def close(self) -> None:
        """Remove what was written; the mapping of the floor stays until the process ends."""
        self.dataset.close()
        shutil.rmtree(self.folder)


def write(folder: Path, payloads: Payloads) -> None:
    """Write the payloads one after the other to packed.bin, and to a dataset."""
    folder.mkdir()
    with (folder / "packed.bin").open("wb") as file:
        file.writelines(payloads)
    packed: Any = np.memmap(folder / "packed.bin", np.uint8, "r")
    starts, first = payloads.starts.astype(np.int64), 0
    schema = {"payload": "bytes"}
    with modyn.Dataset.create(folder / "dataset", schema=schema, labels=False) as dataset:
        while first < payloads.count:
            last = int(np.searchsorted(starts, starts[first] + APPEND, "right")) - 1
            values = packed[starts[first] : starts[last]]
            ragged = modyn.dataset.Ragged(values, starts[first : last + 1] - starts[first])
            dataset.append({"payload": ragged}, timestamps=np.arange(first, last))
            first = last
    del packed, values, ragged
    forget(folder / "packed.bin", *folder.glob("dataset/*.seg"))


def forget(*files: Path) -> None:
    """Have the page cache forget these files, so that they come back in huge pages."""
    for file in files:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def memory_at(address: int, size: int) -> npt.NDArray[np.uint8]:
    """Show memory that somebody else keeps as an array."""
    array: Any = np.frombuffer((ctypes.c_char * size).from_address(address), np.uint8)
    return array
