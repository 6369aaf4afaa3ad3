"""What the file system knows of files, and by which bytes they are known again."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from modyn import _core

__all__ = [
    "CHECKED",
    "Facts",
    "Rejected",
    "check",
    "checks_in_memory",
    "is_at",
    "look",
    "read_bytes",
]

Rejected = tuple[int, str, Exception]
"""The place of a file among those that were given, its path, and what is wrong with it."""

CHECKED = 4096
"""How many of the first and of the last bytes that were taken make the check of a file."""


@dataclass
class Facts:
    """What `stat` says of files; one value per path, and why there is none for others."""

    paths: list[str] = field(default_factory=list)
    device: list[int] = field(default_factory=list)
    inode: list[int] = field(default_factory=list)
    size: list[int] = field(default_factory=list)
    mtime: list[int] = field(default_factory=list)
    order: list[int] = field(default_factory=list)  # the place among those asked for
    errors: list[Rejected] = field(default_factory=list)

    @property
    def columns(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """All that makes a file the same as before."""
        return self.device, self.inode, self.size, self.mtime

    def at(self, place: int) -> tuple[int, int, int, int]:
        """Return all of one file, to be compared."""
        return (
            self.device[place],
            self.inode[place],
            self.size[place],
            self.mtime[place],
        )


def look(paths: Sequence[str]) -> Facts:
    """Return the facts of files; links are followed."""
    facts = Facts()
    for order, path in enumerate(paths):
        try:
            found = os.stat(path)
        except (OSError, ValueError) as error:
            facts.errors.append((order, path, error))
            continue
        if not stat.S_ISREG(found.st_mode):
            facts.errors.append((order, path, ValueError(f"{path}: not a regular file")))
            continue
        facts.paths.append(path)
        facts.device.append(found.st_dev)
        facts.inode.append(found.st_ino)
        facts.size.append(found.st_size)
        facts.mtime.append(found.st_mtime_ns)
        facts.order.append(order)
    return facts


def is_at(path: str, device: int, inode: int) -> bool:
    """Whether this file is found under a path."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return False
    return (found.st_dev, found.st_ino) == (device, inode)


def check(path: str, end: int) -> tuple[int, int]:
    """Return the CRC-32C of the first and of the last bytes before `end`."""
    count = min(end, CHECKED)
    head = _core.file_check(path, 0, count)
    return head, head if end <= CHECKED else _core.file_check(path, end - count, count)


def checks_in_memory(
    values: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]
) -> tuple[list[int], list[int]]:
    """Return what `check` gives for whole files that were read, one after the other."""
    return _core.content_checks(values, offsets, CHECKED)


def read_bytes(path: str, first: int, count: int) -> bytes:
    """Return up to `count` bytes of a file from a place on."""
    with open(path, "rb", buffering=0) as file:
        file.seek(first)
        return file.read(count)
