"""Files that the page cache has to forget, and what was read from the disk since."""

from __future__ import annotations

import ctypes
import errno
import os
import re
from pathlib import Path

LOOKS = 16  # places of a file that are looked at: is it really gone?
MADV_DONTNEED = 4
POPULATE_READ = 22

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
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            _check_gone(file, fd)
        finally:
            os.close(fd)


def _check_gone(file: Path, fd: int) -> None:
    """Refuse to measure on a file that is still in memory."""
    size, there, room = os.fstat(fd).st_size, 0, bytearray(1)
    for look in range(LOOKS):
        try:
            there += os.preadv(fd, [room], look * (size - 1) // LOOKS, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return  # this file system cannot tell
            if error.errno != errno.EAGAIN:
                raise
    if there > LOOKS // 4:
        raise AssertionError(f"{file} is still in the page cache: {there} of {LOOKS} places")


def bytes_read() -> int:
    """Return how many bytes were read from disks on behalf of this process."""
    found = re.search(r"^read_bytes: (\d+)", Path("/proc/self/io").read_text(), re.MULTILINE)
    return int(found[1]) if found else 0
