"""Files that the page cache has to forget, and what was read from the disk since."""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import time
from pathlib import Path

import numpy as np

SHARE_MOST = 0.001  # of a file that may stay
TRIES, PAUSE_S = 20, 0.05
MADV_DONTNEED = 4

_libc = ctypes.CDLL(None, use_errno=True)
_pointer, _size, _int = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
_libc.madvise.argtypes = [_pointer, _size, _int]
_libc.mmap.argtypes = [_pointer, _size, _int, _int, _int, ctypes.c_int64]
_libc.mmap.restype = _pointer
_libc.munmap.argtypes = [_pointer, _size]
_libc.mincore.argtypes = [_pointer, _size, _pointer]


def drop(*files: Path) -> None:
    """Have the page cache forget these files, also what this process has mapped of them."""
    names = {str(file.resolve()) for file in files}
    for line in Path("/proc/self/maps").read_text().splitlines():
        found = re.match(r"([0-9a-f]+)-([0-9a-f]+) (?:\S+ ){4} *(.*)", line)
        if found and found[3] in names:
            start, end = int(found[1], 16), int(found[2], 16)
            _libc.madvise(start, end - start, MADV_DONTNEED)
    for file in files:
        fd = os.open(file, os.O_RDONLY)
        try:
            os.fsync(fd)  # what is dirty is not forgotten
            _forget(file, fd)
        finally:
            os.close(fd)


def _forget(file: Path, fd: int) -> None:
    """Drop a file that nobody maps; what is still on its way from the disk stays, so ask again."""
    for _ in range(TRIES):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        if (there := share_in_memory(fd)) < SHARE_MOST:
            return
        time.sleep(PAUSE_S)
    raise AssertionError(f"{file} is still in the page cache: {there:.1%} of it")


def share_in_memory(fd: int) -> float:
    """Return which share of the pages of a file is in the page cache."""
    size = os.fstat(fd).st_size
    if size == 0:
        return 0.0
    pages = np.zeros(-(-size // mmap.PAGESIZE), np.uint8)
    at = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    if at == ctypes.c_void_p(-1).value:
        raise OSError(ctypes.get_errno(), "a file could not be mapped")
    failed = _libc.mincore(at, size, pages.ctypes.data) != 0
    _libc.munmap(at, size)
    if failed:
        raise OSError(ctypes.get_errno(), "the page cache could not be looked at")
    return float((pages & 1).mean())


def bytes_read() -> int:
    """Return how many bytes were read from disks on behalf of this process."""
    found = re.search(r"^read_bytes: (\d+)", Path("/proc/self/io").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0
