"""What contenders stand on: one mapping of the records for all of them, and outputs in turns."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import modyn
from benchmarks.loading.cache import HUGE, forget, read_small
from benchmarks.loading.data import RECORD, SCHEMA, Fields, Keys
from benchmarks.machine import compile_floor, mapping_state

ROTATE_BYTES = 32 << 20  # of outputs that take turns, so that no near cache holds them
ROTATE_LEAST = 6
Addresses = tuple[int, ...]


class Ground:
    """A dataset, a mapping of its records beside, and memory for batches.

    The mapping is in the best state there is for the pages that the cache has, and is what
    the floor and every rival that reads a mapping reads.
    """

    def __init__(self, path: Path, batch: int, *, pages: str = HUGE) -> None:
        self.path, self.batch = path, batch
        self.floor = compile_floor()
        forget(path)
        if pages != HUGE:
            read_small(self.floor, path)
        self.dataset = modyn.Dataset.open(path)
        self.dataset.view.warm()
        self.records = len(self.dataset)
        self.base = self._map(sorted(path.glob("*.seg")))
        self.memmap = self._array(self.base, self.records * RECORD.itemsize).view("V160")
        self.rotate = 0
        self.use_batches_of(batch)

    def use_batches_of(self, batch: int) -> None:
        """Have outputs for batches of that size, written to before."""
        self.batch = batch
        size = batch * RECORD.itemsize
        count = max(ROTATE_LEAST, ROTATE_BYTES // size)
        if self.rotate:
            self.floor.floor_release(self._memory, self.rotate)
        self.rotate = count * size
        self._memory = self.floor.floor_reserve(self.rotate, 1)
        memory = [self._array(self._memory + at * size, size) for at in range(count)]
        self.rows = [part.view("V160") for part in memory]
        self.outputs = [_split(part, batch) for part in memory]
        self.addresses: list[Addresses] = [
            tuple(out[name].ctypes.data for name in SCHEMA) for out in self.outputs
        ]

    def _map(self, segments: list[Path]) -> int:
        """Map the records of all segments one after the other."""
        total = self.records * RECORD.itemsize
        sizes = [file.stat().st_size for file in segments]
        at = base = int(self.floor.floor_reserve(sum(sizes), 0))
        for file, size in zip(segments, sizes, strict=True):
            left = base + total - at
            if self.floor.floor_map(at, os.fsencode(file), min(size, left)) != 0:
                raise OSError(f"{file} could not be mapped")
            at += size
        self._mapped = sum(sizes)
        return base

    @staticmethod
    def _array(address: int, size: int) -> npt.NDArray[np.uint8]:
        return np.frombuffer((ctypes.c_char * size).from_address(address), dtype=np.uint8)

    def batches(self, keys: Keys) -> Iterator[tuple[int, Keys]]:
        """Yield whole batches, each with the number of its output."""
        rotate = len(self.outputs)
        for number in range(len(keys) // self.batch):
            first = number * self.batch
            yield number % rotate, keys[first : first + self.batch]

    def mapped(self) -> dict[str, float]:
        """Return how this process maps the records, in MiB: floor and dataset."""
        return mapping_state(self.path, ".seg")

    def close(self) -> None:
        """Unmap everything; no array of this ground may be used any more."""
        self.dataset.close()
        self.floor.floor_release(self.base, self._mapped)
        self.floor.floor_release(self._memory, self.rotate)


def _split(memory: npt.NDArray[np.uint8], batch: int) -> Fields:
    ends = np.cumsum([batch * RECORD[name].itemsize for name in SCHEMA])
    label, dense, cat = np.split(memory, ends[:-1])
    return {
        "label": label.view(np.int32),
        "dense": dense.view(np.float32).reshape(-1, 13),
        "cat": cat.view(np.int32).reshape(-1, 26),
    }


def split_rows(rows: npt.NDArray[Any]) -> Fields:
    """Show rows of 160 bytes as the three fields, interleaved as they are."""
    records = rows.view(RECORD)
    return {name: records[name] for name in SCHEMA}
