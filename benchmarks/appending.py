"""Appending batches against writing the same bytes.

The floor is one file with room for everything, into which each batch is written in
pieces of 1 MiB and synced (fallocate, write, fdatasync).  Ours takes arrays, one
per field, packs them into records, checks them, and commits: three syncs where the
floor has one.  `floor, begun early` is the best that is known for the floor: it tells
the disk to begin after each piece, as ours does.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from typing import Any

import numpy as np

import modyn
from benchmarks.machine import compile_source
from benchmarks.measure import Outcome, Seconds, Settings, Stopwatch, in_turns

SCHEMA = {"label": "int32", "dense": "float32[13]", "cat": "int32[26]"}
RECORD, COLUMNS = 160, 16
BATCH = 1 << 16
PIECE = 1 << 20


def load_floor() -> ctypes.CDLL:
    floor = compile_source("storage_floor.c")
    path, pointer, count = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_uint64
    floor.floor_create.argtypes = [path, count]
    floor.floor_write.argtypes = [ctypes.c_int, pointer, count, count, count, ctypes.c_int]
    floor.floor_read_folder.argtypes = [path, pointer, count]
    floor.floor_read_folder.restype = ctypes.c_int64
    return floor


def succeed(result: int) -> int:
    """Pass a result of the floor on, unless it is -errno."""
    if result < 0:
        raise OSError(-result, os.strerror(-result))
    return result


def batch_of(seed: int, size: int = BATCH) -> dict[str, Any]:
    """Return the arguments of one append."""
    random = np.random.default_rng(seed)
    return {
        "fields": {
            "label": random.integers(0, 2, size, dtype=np.int32),
            "dense": random.random((size, 13), dtype=np.float32),
            "cat": random.integers(0, 1 << 30, (size, 26), dtype=np.int32),
        },
        "labels": random.integers(0, 10, size),
        "timestamps": np.arange(size),
    }


def check_appended(path: os.PathLike[str], batch: dict[str, Any], count: int) -> None:
    """Read some samples of every batch back and compare them."""
    with modyn.Dataset.open(path) as dataset:
        rows = np.arange(0, BATCH, 997)
        for number in range(count):
            fields = dataset.fetch(rows + number * BATCH)
            for name in SCHEMA:
                assert np.array_equal(fields[name], batch["fields"][name][rows]), name
        assert np.array_equal(dataset.timestamps[-BATCH:], batch["timestamps"])
        assert dataset.labels is not None
        assert np.array_equal(dataset.labels[-BATCH:], batch["labels"])


class Appending:
    def __init__(self, settings: Settings) -> None:
        self.folder = settings.folder
        self.floor = load_floor()
        self.batches = settings.size(16, 4)  # 16 fill one segment
        self.batch = batch_of(1)
        self.bytes = np.random.default_rng(2).integers(
            0, 256, BATCH * (RECORD + COLUMNS), dtype=np.uint8
        )
        self.checked = 0

    def run_floor(self, repetition: int, *, early: bool = False) -> Seconds:
        path = self.folder / f"floor-{repetition}"
        size = self.bytes.nbytes
        address = self.bytes.ctypes.data
        watch = Stopwatch()
        fd = succeed(self.floor.floor_create(os.fsencode(path), self.batches * size))
        for number in range(self.batches):
            succeed(self.floor.floor_write(fd, address, size, number * size, PIECE, early))
        taken = watch.stop()
        os.close(fd)
        with path.open("rb") as file:
            file.seek(-size, os.SEEK_END)
            assert file.read() == self.bytes.tobytes()
        path.unlink()
        return taken

    def run_early(self, repetition: int) -> Seconds:
        return self.run_floor(repetition, early=True)

    def run_append(self, repetition: int) -> Seconds:
        path = self.folder / f"ours-{repetition}"
        dataset = modyn.Dataset.create(path, schema=SCHEMA)
        watch = Stopwatch()
        for _ in range(self.batches):
            dataset.append(**self.batch)
        taken = watch.stop()
        dataset.close()
        check_appended(path, self.batch, self.batches)
        self.checked += self.batches
        shutil.rmtree(path)
        return taken


def append_line(settings: Settings) -> Outcome:
    bench = Appending(settings)
    outcome = Outcome("append 64 Ki records of 160 bytes", 0.8, "floor", "append")
    outcome.work = bench.batches * bench.bytes.nbytes / 1e6
    in_turns(
        outcome,
        {
            "floor": bench.run_floor,
            "floor, begun early": bench.run_early,
            "append": bench.run_append,
        },
        settings.repetitions,
        memory=bench.batches * bench.bytes.nbytes,
    )
    outcome.checked = bench.checked
    outcome.facts["batches_per_repetition"] = bench.batches
    return outcome
