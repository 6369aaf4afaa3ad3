"""Files that the page cache has to forget, and what was read from the disk since."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import time
from pathlib import Path

LOOKS = 16  # places of a file that are looked at: is it really gone?
TRIES, PAUSE_S = 20, 0.05
MADV_DONTNEED = 4

_libc = ctypes.CDLL(None, use_errno=True)
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


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
        if (there := _places_in_memory(fd)) == 0:
            return
        time.sleep(PAUSE_S)
    raise AssertionError(f"{file} is still in the page cache: {there} of {LOOKS} places")


def _places_in_memory(fd: int) -> int:
    """Return at how many of some places the file is in memory."""
    size, there, room = os.fstat(fd).st_size, 0, bytearray(1)
    for look in range(LOOKS):
        try:
            there += os.preadv(fd, [room], look * (size - 1) // LOOKS, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return 0  # this file system cannot tell
            if error.errno != errno.EAGAIN:
                raise
    return there


def bytes_read() -> int:
    """Return how many bytes were read from disks on behalf of this process."""
    found = re.search(r"^read_bytes: (\d+)", Path("/proc/self/io").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0
