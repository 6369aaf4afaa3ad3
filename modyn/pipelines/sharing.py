"""One store of models for many runs: what was trained anywhere is not trained again.

    DIR/<content key>/      the folder of a model, as in the store of a run (models)
        .locks/<key>        held while a process trains that model, or looks for it

The files of a model are hard links, in the shared store and in that of each run that has it, so a
run keeps its models whatever becomes of the others; on another file system they are copies.  What
comes from the shared store is held against its checksums first, and damaged models are trained
anew.  A lock is the kernel's (flock), one per key, so it ends with its process.  Who waits for one
does so in short sleeps, so that a signal ends the wait, and so does the loss of a lease.

A shared store that may be read only is looked into without a lock, since a model that is there
under its key is whole.  What it has not is trained for the run alone, and one warning says so.

A model that a callable makes is known to a run by its name alone, which says too little elsewhere:
such models are not shared.  (An import path is taken at its word.)
"""

import errno
import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from modyn.errors import RunCorruptError
from modyn.pipelines import durable
from modyn.pipelines.models import FOUND, ModelStore

__all__ = ["Sharing", "link_file"]

LOCKS = ".locks"
POLL_SECONDS = 0.05
READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}

log = logging.getLogger(__name__)


class Sharing:
    """The models of a run, and those of others.

    Parameters
    ----------
    store : ModelStore
        Of the run.
    directory : Path or None
        The shared store; None for a run on its own.
    check : callable
        Raises if the run may not go on; asked while another process is waited for.
    """

    def __init__(
        self, store: ModelStore, directory: Path | None, check: Callable[[], None]
    ) -> None:
        self._store = store
        self._shared = None if directory is None else ModelStore(directory)
        self._check = check
        self._is_known = False  # that the shared store may be read only

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Have the right to train a model, and say whether that is needed no more.

        True means that the run's store has the model.  Where it has not, no other process trains
        the model meanwhile, unless the shared store may be read only; once it is stored the others
        find it.
        """
        if self._shared is None:
            yield key in self._store
            return
        with self._locked(self._shared.directory, key) as locked:
            if key not in self._store:
                self._take_over(self._shared, key, locked)
            yield key in self._store
            if locked and key in self._store and key not in self._shared:
                with self._read_only():
                    _link(self._store, key, self._shared)

    def _take_over(self, shared: ModelStore, key: str, locked: bool) -> None:
        """Link a model of the shared store, if it is there whole; one that is damaged goes."""
        try:
            with self._read_only():  # or not even that
                shared.check(key)
                _link(shared, key, self._store, found=True)
        except KeyError:
            pass
        except FileNotFoundError:
            if locked:
                raise
        except RunCorruptError:
            if locked:
                with self._read_only():
                    shutil.rmtree(shared.directory / key)

    @contextmanager
    def _locked(self, directory: Path, key: str) -> Iterator[bool]:
        """Hold the lock of a key; without one, and False, where none can be had."""
        fds: list[int] = []
        with self._read_only():
            durable.make_directory(directory / LOCKS)
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            fds.append(os.open(directory / LOCKS / key, flags, 0o644))
        if not fds:
            yield False
            return
        (fd,) = fds
        try:
            while not _took(fd):
                self._check()
                time.sleep(POLL_SECONDS)
            yield True
        finally:
            os.close(fd)

    @contextmanager
    def _read_only(self) -> Iterator[None]:
        """Leave the block undone where the shared store may be read only; warn once."""
        try:
            yield
        except OSError as error:
            if error.errno not in READ_ONLY:
                raise
            if not self._is_known:
                log.warning(
                    "%s; models are looked for in that store, and those that it has not are "
                    "trained and kept for this run alone",
                    error,
                )
            self._is_known = True


def _took(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _link(source: ModelStore, key: str, store: ModelStore, *, found: bool = False) -> None:
    """Put the files of a model into another store: whole, under its key, or not at all.

    With `found` there is a note beside them that they were not made there.
    """
    durable.make_directory(store.directory)
    building = store.directory / f".tmp-{key}"
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir()
    for path in sorted((source.directory / key).iterdir()):
        if path.name != FOUND:
            link_file(path, building / path.name)
    if found:
        durable.write(building / FOUND, b"")
    durable.sync_directory(building)
    building.rename(store.directory / key)
    durable.sync_directory(store.directory)


def link_file(path: Path, other: Path) -> None:
    """Have a file under another name, too, or a copy of it where that cannot be."""
    try:
        os.link(path, other)
    except OSError:  # another file system, or one without links
        durable.write(other, path.read_bytes())
