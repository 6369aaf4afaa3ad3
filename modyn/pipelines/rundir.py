"""The directory of a run, and the lock that keeps it to one process.

    pipeline.yaml     as submitted
    ledger.sqlite     what was done
    trainsets/        training sets by digest
    models/           models by content key
    signals/          what models said of samples while they were trained, by trigger
    stream.npy        keys in stream order, if that is not the order of keys
    lock              held while a process works here; says which

The lock is the kernel's (flock), so it ends with its process, however that ends.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modyn.errors import BusyError, ConfigError
from modyn.pipelines import durable

CONFIG, LOCK, TRAINSETS, MODELS = "pipeline.yaml", "lock", "trainsets", "models"
SIGNALS = "signals"
LEDGER, REPORT, STREAM = "ledger.sqlite", "report.html", "stream.npy"


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Make the directory if needed and hold its lock.

    Raises
    ------
    BusyError
        When another process works there; names it.
    ConfigError
        When the directory holds something else than a run.
    """
    durable.make_directory(directory)
    _check_is_run(directory)
    fd = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    try:
        _take(fd, directory)
        yield
    finally:
        os.close(fd)


def prepare(directory: Path, config: bytes) -> None:
    """Put the configuration and the folder of training sets in place; only with the lock.

    What a killed process was about to write there is removed.
    """
    durable.make_directory(directory / TRAINSETS)
    for left in (directory / TRAINSETS).glob("*.tmp"):
        left.unlink()
    path = directory / CONFIG
    if not path.exists() or path.read_bytes() != config:
        durable.replace(path, config)


def _check_is_run(directory: Path) -> None:
    """Refuse to work in a directory that has other content and no ledger."""
    ours = {CONFIG, LOCK, TRAINSETS, MODELS, SIGNALS, LEDGER, REPORT, STREAM}
    names = {path.name for path in directory.iterdir()}
    foreign = sorted(name for name in names - ours if not name.startswith(".tmp-"))
    if LEDGER not in names and foreign:
        raise ConfigError(f"{directory} is no run and not empty: it holds {foreign[0]!r}")


def _take(fd: int, directory: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 200, 0).decode("utf-8", "replace").strip() or "another process"
        raise BusyError(f"{directory}: {holder} is running this pipeline") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
