"""In which pages the page cache holds a dataset: worth up to a factor of two.

A file that was read in on behalf of a mapping with MADV_HUGEPAGE lies in pages of 2 MiB and
is mapped by them.  One that was read in by single faults or small reads lies in pages of
4 KiB, and so does one that was just written.
"""

from __future__ import annotations

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.machine import compile_floor

HUGE, SMALL = "huge pages", "4 KiB pages"

READERS = 16  # that wait for the disk side by side


def forget(path: Path) -> None:
    """Let the page cache forget the records of a dataset that nobody maps."""
    for file in path.glob("*.seg"):
        with file.open("rb") as opened:
            os.fsync(opened.fileno())  # what is dirty is not forgotten
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read_in_huge(path: Path) -> None:
    """Read the files of a folder in anew, in pages as large as the file system has."""
    floor = compile_floor()
    for file in path.rglob("*"):
        if size := file.is_file() and file.stat().st_size:
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
                os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            place = floor.floor_reserve(size, 0)
            floor.floor_map(place, os.fsencode(file), size)
            floor.floor_release(place, size)


def read_small(floor: ctypes.CDLL, path: Path) -> None:
    """Read the records in, a page of 4 KiB at a time."""

    def read(first: int) -> None:
        for file in sorted(path.glob("*.seg")):
            size = file.stat().st_size
            if floor.floor_read_small(os.fsencode(file), size, first, READERS) != 0:
                raise OSError(f"{file} could not be read")

    with ThreadPoolExecutor(READERS) as pool:
        list(pool.map(read, range(READERS)))
