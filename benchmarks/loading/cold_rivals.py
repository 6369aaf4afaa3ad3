"""How fast records come from the disk at best, and how else they come: the rivals of W6."""

from __future__ import annotations

import ctypes
import importlib
import mmap
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.loading.cold import DEPTH, Bytes, Cold, Way
from benchmarks.loading.data import RECORD, Keys
from benchmarks.loading.rivals import missing
from benchmarks.loading.site import Site
from benchmarks.machine import compile_source

READERS = 32


class Floor(Way):
    """The sectors of the records and nothing else: cold_floor.c."""

    kind = "floor"

    def __init__(self, cold: Cold) -> None:
        super().__init__(cold)
        self._c = compile_source("cold_floor.c")
        pointer, number = ctypes.c_void_p, ctypes.c_uint64
        self._c.floor_cold_read.argtypes = [
            *[ctypes.c_char_p, pointer, pointer, number, number, ctypes.c_uint, pointer]
        ]
        self._out = np.ones(cold.batch * cold.most, np.uint8)

    def batch(self, keys: Keys) -> Bytes:
        starts, sizes = self.cold.pieces(keys)
        pieces = starts.ctypes.data, sizes.ctypes.data, len(keys), self.cold.most
        path = os.fsencode(self.cold.packed)
        result = self._c.floor_cold_read(path, *pieces, DEPTH, self._out.ctypes.data)
        if result != 0:
            raise OSError(-result, "the floor could not read", str(self.cold.packed))
        return self._out[: int(sizes.sum())]


class Memmap(Way):
    """np.memmap, and np.take or slices of it."""

    def __init__(self, cold: Cold, *, random: bool) -> None:
        super().__init__(cold)
        self._random = random
        self._out = np.ones(cold.batch * cold.most, np.uint8)

    def open(self, keys: Keys) -> None:
        self._mapped: Any = np.memmap(self.cold.packed, np.uint8, "r")
        if self._random:
            self._mapped._mmap.madvise(mmap.MADV_RANDOM)

    def batch(self, keys: Keys) -> Bytes:
        if self.cold.most == RECORD.itemsize:
            rows, out = self._mapped.view("V160"), self._out.view("V160")
            taken = np.take(rows, keys.view(np.int64), out=out[: len(keys)], mode="clip")
            return taken.view(np.uint8)
        starts, sizes = self.cold.pieces(keys)
        end = 0
        for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
            self._out[end : end + size] = self._mapped[start : start + size]
            end += size
        return self._out[:end]

    def close(self) -> None:
        del self._mapped


class Preads(Way):
    """pread by a pool of threads, each a run of the keys."""

    def __init__(self, cold: Cold) -> None:
        super().__init__(cold)
        self._pool = ThreadPoolExecutor(READERS)
        self._out = np.ones(cold.batch * cold.most, np.uint8)

    def open(self, keys: Keys) -> None:
        self._fd = os.open(self.cold.packed, os.O_RDONLY)
        os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_RANDOM)

    def batch(self, keys: Keys) -> Bytes:
        starts, sizes = self.cold.pieces(keys)
        ends = np.concatenate([[0], np.cumsum(sizes.astype(np.int64))]).tolist()
        room, fd, places = memoryview(self._out), self._fd, starts.tolist()

        def read(first: int) -> None:
            for at in range(first, min(first + step, len(places))):
                os.preadv(fd, [room[ends[at] : ends[at + 1]]], places[at])

        step = -(-len(places) // READERS)
        list(self._pool.map(read, range(0, len(places), step)))
        return self._out[: ends[-1]]

    def close(self) -> None:
        os.close(self._fd)


class Lance(Way):
    """Lance: one column, take of sorted positions; whoever trains does not mind the order."""

    def __init__(self, cold: Cold, folder: Path) -> None:
        super().__init__(cold)
        self._path = folder / f"cold-{cold.most}.lance"
        lance, arrow = importlib.import_module("lance"), importlib.import_module("pyarrow")
        self._open = lance.dataset
        packed = np.memmap(cold.packed, np.uint8, "r")
        schema = arrow.schema([("payload", self._type(arrow))])

        def batches() -> Any:
            step = max(1, (1 << 26) // cold.most)
            for first in range(0, cold.count, step):
                last = min(first + step, cold.count)
                yield arrow.record_batch([self._column(arrow, packed, first, last)], schema=schema)

        reader = arrow.RecordBatchReader.from_batches(schema, batches())
        lance.write_dataset(reader, str(self._path), data_storage_version="2.1")

    def _type(self, arrow: Any) -> Any:
        return arrow.binary(160) if self.cold.most == RECORD.itemsize else arrow.large_binary()

    def _column(self, arrow: Any, packed: Bytes, first: int, last: int) -> Any:
        starts = self.cold.starts[first : last + 1].astype(np.int64)
        values = arrow.py_buffer(packed[starts[0] : starts[-1]])
        buffers = [None, arrow.py_buffer(starts - starts[0]), values]
        if self.cold.most == RECORD.itemsize:
            del buffers[1]
        return arrow.Array.from_buffers(self._type(arrow), last - first, buffers)

    def files(self) -> list[Path]:
        return sorted(self._path.glob("data/*"))

    def open(self, keys: Keys) -> None:
        self._dataset = self._open(str(self._path))

    def run(self, keys: Keys) -> tuple[Keys, Any]:
        for part in self.cold.parts(keys):
            part = np.sort(part)
            got = self._dataset.take(part.tolist(), columns=["payload"]).column(0)
        return part, got

    def plain(self, got: Any) -> Bytes:
        return np.frombuffer(b"".join(got.to_pylist()), np.uint8)


def rivals(site: Site, cold: Cold) -> tuple[dict[str, Way], list[str]]:
    """Return the rivals that are here, and a line for each of those that are not."""
    found: dict[str, Way] = {
        "np.memmap": Memmap(cold, random=False),
        "np.memmap, random": Memmap(cold, random=True),
        f"pread, {READERS} threads": Preads(cold),
    }
    absent = missing("Lance")
    if absent is not None:
        return found, [absent]
    found["Lance take"] = Lance(cold, site.folder)
    return found, []
