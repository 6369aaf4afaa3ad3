"""The directory of a run, and the lock that keeps it to one process.

    pipeline.yaml     as submitted
    ledger.sqlite     what was done
    metadata          or, in place of it, the URL of the database that says what was done
    lease             which lease of the pipeline in that database a process had here last
    trainsets/        training sets by digest
    models/           models by content key
    signals/          what models said of samples while they were trained, by trigger
    irreducible/      what the models of holdouts say of the newest training set, for RHO-LOSS
    answers/          what models said of samples when trigger policies asked; may go at any time
    stream.npy        keys in stream order, if that is not the order of keys
    lock              held while a process works here; says which

The lock is the kernel's (flock), so it ends with its process, however that ends.
"""

import fcntl
import os
import shlex
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from modyn.errors import BusyError, ConfigError
from modyn.pipelines import durable

CONFIG, LOCK, TRAINSETS, MODELS = "pipeline.yaml", "lock", "trainsets", "models"
SIGNALS, IRREDUCIBLE, ANSWERS = "signals", "irreducible", "answers"
LEDGER, REPORT, STREAM = "ledger.sqlite", "report.html", "stream.npy"
METADATA, LEASE = "metadata", "lease"


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


def prepare(directory: Path, config: bytes, url: str | None = None) -> None:
    """Put the configuration and the folder of training sets in place; only with the lock.

    What a killed process was about to write there is removed.  The URL, if any, is that of the
    database that holds the metadata.
    """
    durable.make_directory(directory / TRAINSETS)
    for left in (directory / TRAINSETS).glob("*.tmp"):
        left.unlink()
    if url is not None:
        (directory / LEDGER).unlink(missing_ok=True)  # an empty one, see check_place
        _put(directory / METADATA, f"{url}\n".encode())
    _put(directory / CONFIG, config)


def _put(path: Path, content: bytes) -> None:
    if not path.exists() or path.read_bytes() != content:
        durable.replace(path, content)


def is_run(directory: Path) -> bool:
    """Return whether a directory says where the ledger of a run is."""
    if (directory / LEDGER).exists():
        return True
    # Others have files of that name, too.
    return all((directory / name).is_file() for name in (METADATA, CONFIG))


def metadata_url(directory: Path) -> str | None:
    """Return the URL of the database that a run's metadata is in; None if it is in files."""
    path = directory / METADATA
    return path.read_text(encoding="utf-8").strip() if path.is_file() else None


def check_place(directory: Path, url: str | None) -> None:
    """Hold the place of a run's metadata against where it was so far; only with the lock.

    Parameters
    ----------
    directory : Path
        The run directory.
    url : str or None
        The database, without a password; None for the directory itself.

    Raises
    ------
    ConfigError
        When the run has its metadata in another place; says what to do.
    """
    path, embedded = directory / METADATA, directory / LEDGER
    here = metadata_url(directory)
    if here is None and embedded.exists() and embedded.stat().st_size and url is not None:
        raise ConfigError(
            f"{directory} holds a run with a ledger of its own, which does not move to {url}: "
            "go on without metadata, or choose another output directory"
        )
    if here is not None and url is None:
        raise ConfigError(
            f"{directory} holds a run with its metadata in {here}: go on with --metadata "
            f"{shlex.quote(here)} (or metadata: in pipeline.yaml), or choose another output "
            "directory"
        )
    if here is not None and here != url:
        raise ConfigError(
            f"{directory} holds a run with its metadata in {here}, not in {url}: go on with that "
            f"one, or choose another output directory; if the database has moved, write its URL "
            f"to {path}"
        )


def _check_is_run(directory: Path) -> None:
    """Refuse to work in a directory that has other content and no ledger."""
    ours = {CONFIG, LOCK, TRAINSETS, MODELS, SIGNALS, LEDGER, METADATA, LEASE, REPORT, STREAM}
    ours |= {IRREDUCIBLE, ANSWERS}
    names = {path.name for path in directory.iterdir()}
    foreign = sorted(name for name in names - ours if not name.startswith(".tmp-"))
    if not is_run(directory) and foreign:
        raise ConfigError(f"{directory} is no run and not empty: it holds {foreign[0]!r}")


def _take(fd: int, directory: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 200, 0).decode("utf-8", "replace").strip() or "another process"
        raise BusyError(f"{directory}: {holder} is running this pipeline") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"pid {os.getpid()} on {socket.gethostname()}\n".encode(), 0)
