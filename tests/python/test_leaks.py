"""No call of a dataset keeps memory, references, descriptors or threads, failed calls included.

Each call is made many times after a warm-up, in rounds; the least that a round left behind
counts, since caches of the interpreter grow now and then.  Memory of the C core is what malloc
says is in use; where the interpreter counts references (a debug build), those are compared, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import modyn

LONG = bool(os.environ.get("MODYN_LONG"))
WARM_UP, ROUNDS, CALLS = (3000, 12, 1000) if LONG else (50, 12, 200)
# Blocks of a round.  The interpreter's own caches still grow a little after a short warm-up; a leak
# of one block in each call is ten times as many, in every round.
ALLOWED = 10 if LONG else CALLS / 10
ALLOWED_BYTES = 64 * CALLS
# Of references, blocks, descriptors, threads twice, bytes.
LIMITS = np.array([ALLOWED, ALLOWED, 0, 0, 0, ALLOWED_BYTES])

SCHEMA = {"x": "int16[2]", "s": "bytes"}


class Mallinfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in "arena ord small hblks hblkhd usmall fsmall uordblks free keep".split()
    ]


def bytes_in_use() -> int:
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo2"):
        return 0
    libc.mallinfo2.restype = Mallinfo
    info = libc.mallinfo2()
    return int(info.uordblks + info.hblkhd)


def state() -> np.ndarray:
    gc.collect()
    references = getattr(sys, "gettotalrefcount", lambda: 0)()
    return np.array(
        [
            references,
            sys.getallocatedblocks(),
            len(os.listdir("/proc/self/fd")),
            threading.active_count(),
            len(os.listdir("/proc/self/task")),
            bytes_in_use(),
        ]
    )


def left_behind(call: Callable[[], object]) -> np.ndarray:
    """What a round of calls leaves: references, blocks, descriptors, threads, bytes."""
    for _ in range(WARM_UP):
        call()
    least = None
    for _ in range(ROUNDS):
        before = state()
        for _ in range(CALLS):
            call()
        grown = state() - before
        least = grown if least is None else np.minimum(least, grown)
        if (least <= LIMITS).all():
            break
    assert least is not None
    return least


def samples(count: int) -> tuple[dict[str, object], list[int], list[int]]:
    fields = {"x": np.zeros((count, 2), np.int16), "s": [b"payload" * 9] * count}
    return fields, [1] * count, list(range(count))


class Calls:
    """Every method of a dataset, where it works and where it fails."""

    def __init__(self, home: Path) -> None:
        self.home, self.number = home, 0
        self.writer = modyn.Dataset.create(home / "d", schema=SCHEMA)
        fields, labels, times = samples(100)
        self.writer.append(fields, labels=labels, timestamps=times)
        self.writer.erase([3, 5], reason="to see")
        self.reader = modyn.Dataset.open(home / "d")
        self.closed = modyn.Dataset.open(home / "d")
        self.closed.close()
        self.keys = np.array([7, 9, 9, 1], np.uint64)
        (home / "good.csv").write_text("time,label,v\n1,2,3\n")
        (home / "bad.csv").write_text("time,label,v\n1,2,three\n")
        self.rows = modyn.Dataset.create(home / "rows", schema={"v": "float32"})
        damaged = modyn.Dataset.create(home / "damaged", schema=SCHEMA)
        damaged.append(fields, labels=labels, timestamps=times)
        damaged.close()
        with (home / "damaged" / "000000.seg").open("r+b") as file:
            file.write(b"\xff" * 64)

    def append(self) -> None:
        fields, labels, times = samples(2)
        self.writer.append(fields, labels=labels, timestamps=times)

    def append_of_wrong_shape(self) -> None:
        with pytest.raises(ValueError, match="x"):
            self.writer.append({"x": [[1, 2, 3]], "s": [b""]}, labels=[1], timestamps=[1])

    def append_without_labels(self) -> None:
        with pytest.raises(ValueError, match="labels"):
            self.writer.append({"x": [[1, 2]], "s": [b""]}, timestamps=[1])

    def append_to_a_reader(self) -> None:
        fields, labels, times = samples(2)
        with pytest.raises((ValueError, OSError)):
            self.reader.append(fields, labels=labels, timestamps=times)

    def fetch(self) -> None:
        self.reader.fetch(self.keys, threads=2)

    def fetch_of_no_key(self) -> None:
        with pytest.raises(KeyError):
            self.reader.fetch([10**9])

    def fetch_of_an_erased_key(self) -> None:
        with pytest.raises(KeyError):
            self.reader.fetch([3])

    def fetch_of_damaged_bytes(self) -> None:
        dataset = modyn.Dataset.open(self.home / "damaged")
        with pytest.raises(modyn.errors.CorruptError):
            dataset.fetch([0])
        dataset.close()

    def fetch_after_close(self) -> None:
        with pytest.raises(modyn.errors.ClosedError):
            self.closed.fetch([0])

    def columns(self) -> None:
        assert self.reader.labels is not None
        assert self.reader.timestamps is not None

    def erased(self) -> None:
        assert self.reader.erased.sum() == 2

    def erase_and_compact(self) -> None:
        self.number += 1
        if self.number % 50 == 0:
            self.writer.erase([10 + self.number // 50], reason="to see")
            self.writer.compact()

    def erase_of_no_key(self) -> None:
        with pytest.raises(KeyError):
            self.writer.erase([10**9], reason="to see")

    def erase_without_reason(self) -> None:
        with pytest.raises(ValueError, match="reason"):
            self.writer.erase([1], reason=" ")

    def audit(self) -> None:
        assert self.reader.audit()

    def refresh(self) -> None:
        self.reader.refresh()

    def open_and_close(self) -> None:
        modyn.Dataset.open(self.home / "d").close()

    def open_for_writing(self) -> None:
        modyn.Dataset.open(self.home / "damaged", mode="w").close()

    def open_of_nothing(self) -> None:
        with pytest.raises(FileNotFoundError):
            modyn.Dataset.open(self.home / "nothing")

    def open_of_a_busy_one(self) -> None:
        with pytest.raises(modyn.errors.BusyError):
            modyn.Dataset.open(self.home / "d", mode="w")

    def create_where_one_is(self) -> None:
        with pytest.raises(FileExistsError):
            modyn.Dataset.create(self.home / "d", schema=SCHEMA)

    def create_of_nonsense(self) -> None:
        with pytest.raises(ValueError, match="float31"):
            modyn.Dataset.create(self.home / "n", schema={"x": "float31"})

    def ingest_of_a_bad_file(self) -> None:
        form = modyn.formats.CSV(timestamp="time", label="label")
        with contextlib.suppress(ValueError):
            self.rows.ingest(self.home / "bad.csv", format=form)

    def ingest_of_a_known_file(self) -> None:
        form = modyn.formats.CSV(timestamp="time", label="label")
        self.rows.ingest(self.home / "good.csv", format=form)


NAMES = [name for name in vars(Calls) if not name.startswith("_")]


@pytest.mark.parametrize("name", NAMES)
def test_a_call_leaves_nothing_behind(tmp_path, name):
    found = left_behind(getattr(Calls(tmp_path), name))

    references, blocks, descriptors, threads, tasks, memory = found.tolist()
    assert (descriptors, threads, tasks) == (0, 0, 0)
    assert references <= ALLOWED
    assert blocks <= ALLOWED
    assert memory <= ALLOWED_BYTES


def test_the_probe_sees_a_leak():
    kept: list[object] = []

    assert left_behind(lambda: kept.append(object()))[1] > ALLOWED
    assert left_behind(lambda: kept.append(os.dup(1)))[2] == CALLS
    for number in kept:
        if isinstance(number, int):
            os.close(number)
