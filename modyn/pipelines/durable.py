"""Files that survive a power cut: written, synced, and then given their name."""

import os
from pathlib import Path


def write(path: Path, content: "bytes | memoryview") -> None:
    """Write a new file and sync it; the directory is the caller's to sync."""
    with open(path, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, content: "bytes | memoryview") -> None:
    """Put a whole file in place of what may be there; a crash leaves the old or the new one."""
    building = path.with_name(f".tmp-{path.name}")
    building.unlink(missing_ok=True)
    write(building, content)
    building.replace(path)
    sync_directory(path.parent)


def make_directory(path: Path) -> None:
    """Make a directory and those above it, so that their names are durable."""
    if path.is_dir():
        return
    if path.parent != path:
        make_directory(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
