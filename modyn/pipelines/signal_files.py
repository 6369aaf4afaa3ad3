"""Signals of trainings in the run directory: one file per trigger, written once and read whole.

    offset  size  field (integers are little-endian)
         0     8  magic, "MDNSIG" and two zero bytes
         8     4  version, u32: 1
        12     4  size of the description, u32
        16     -  description, JSON
         -     -  chunks: rows, u64, not 0; then each column: rows values
         -     8  0, u64: no more chunks
         -     8  rows of all chunks, u64
         -    32  BLAKE2b-256 of all bytes before it

Columns are key (u64), epoch (i32), and those that the description names, in its order: f32, or i32
for `forgetting` and for a `prediction` that is a class.  Rows are in the order of the training.

A file is built under a temporary name while a training runs, synced, and renamed when it is over:
under its name it is whole.  Memory is that of one chunk, to write and to erase; of one trigger's
columns, to read.
"""

import json
import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from modyn.errors import RunCorruptError
from modyn.pipelines import durable
from modyn.pipelines.ledger import canonical
from modyn.signals import Recording, Rows, Signals, check_names, of_keys, sorted_signals

MAGIC, VERSION = b"MDNSIG\0\0", 1
HEAD = struct.Struct("<8sII")
COUNT = struct.Struct("<Q")
SEAL_SIZE = 32
DESCRIPTION_MAX = 65_536


class SignalFiles:
    """The `signals` folder of a run; one writer, which holds the run's lock.

    Parameters
    ----------
    directory : path
        Made when the first training is recorded.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = Path(directory)

    def clean(self) -> None:
        """Remove what a killed process was about to write; only with the run's lock."""
        for left in self.directory.glob(".tmp-*"):
            left.unlink()

    def triggers(self) -> list[int]:
        """Return the triggers that have a file, ascending."""
        return sorted(int(path.stem) for path in self.directory.glob("[0-9]*.sig"))

    def ready(self, trigger: int, model: str) -> bool:
        """Return whether there is a file, and it is of the training that made this model."""
        try:
            with open(self._path(trigger), "rb") as file:
                return _Reader(file).recording.model == model
        except FileNotFoundError:
            return False

    def begin(self, recording: Recording, /) -> "SignalFile":
        """Begin the file of a training."""
        durable.make_directory(self.directory)
        return SignalFile(self._path(recording.trigger), recording)

    def read(self, trigger: int, names: Sequence[str] | None = None, /) -> Signals:
        """Return the signals of a trigger; all of its file is verified first.

        Raises
        ------
        KeyError, ValueError, CorruptError
            As `SignalStore.read`.
        """
        try:
            with open(self._path(trigger), "rb") as file:
                return _Reader(file).all(names)
        except FileNotFoundError:
            raise KeyError(f"no signals of trigger {trigger} in {self.directory}") from None

    def erase(self, erased: npt.NDArray[np.bool_], /) -> int:
        """Write the files that may hold rows of erased samples anew, without these rows."""
        count, removed = int(np.count_nonzero(erased)), 0
        for trigger in self.triggers():
            with open(self._path(trigger), "rb") as file:
                reader = _Reader(file)
                if reader.recording.erased == count:
                    continue
                writer = self.begin(replace(reader.recording, erased=count))
                try:
                    for rows in reader.chunks():
                        living = ~of_keys(erased, rows.keys)
                        writer.put(_masked(rows, living))
                        removed += len(rows) - int(np.count_nonzero(living))
                except BaseException:
                    writer.abort()
                    raise
                writer.commit()
        return removed

    def _path(self, trigger: int) -> Path:
        return self.directory / f"{trigger}.sig"


class SignalFile:
    """A file that is being written."""

    def __init__(self, path: Path, recording: Recording) -> None:
        self._path = path
        self._building = path.with_name(f".tmp-{path.name}")
        self._dtypes = recording.dtypes
        self._rows = 0
        self._hash = blake2b(digest_size=SEAL_SIZE)
        self._file = open(self._building, "wb")  # noqa: SIM115 - closed by commit or abort
        text = canonical(asdict(recording)).encode()
        self._write(HEAD.pack(MAGIC, VERSION, len(text)) + text)

    def put(self, rows: Rows, /) -> None:
        """Append a chunk."""
        if len(rows) == 0:
            return
        own = {"key": rows.keys, "epoch": rows.epoch}
        self._write(COUNT.pack(len(rows)))
        for name, dtype in self._dtypes.items():
            column = own[name] if name in own else rows.columns[name]
            self._write(np.ascontiguousarray(column, dtype=dtype).data)
        self._rows += len(rows)

    def commit(self) -> None:
        """Seal the file, and give it its name, durably."""
        self._write(COUNT.pack(0) + COUNT.pack(self._rows))
        self._file.write(self._hash.digest())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._building.replace(self._path)
        durable.sync_directory(self._path.parent)

    def abort(self) -> None:
        """Remove what was written."""
        with suppress(OSError):  # of a disk that is full, which has been said
            self._file.close()
        self._building.unlink(missing_ok=True)

    def cancel(self) -> None:
        """Do nothing: a disk is not waited for."""

    def _write(self, content: "bytes | memoryview") -> None:
        self._hash.update(content)
        self._file.write(content)


class _Reader:
    """A file that is read; the description is checked at once, the rest by `all` or `chunks`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._hash = blake2b(digest_size=SEAL_SIZE)
        self.recording = self._describe()
        self._dtypes = self.recording.dtypes
        self._width = sum(dtype.itemsize for dtype in self._dtypes.values())

    def all(self, names: Sequence[str] | None) -> Signals:
        """Return all rows, with these columns."""
        names = self.recording.names if names is None else tuple(names)
        check_names(names, self.recording.names)
        wanted = ("key", "epoch", *names)
        room = (self._size - self._file.tell()) // self._width
        columns = {name: np.empty(room, self._dtypes[name]) for name in wanted}
        count = 0
        for rows in self.chunks():
            found = {"key": rows.keys, "epoch": rows.epoch, **rows.columns}
            for name, column in columns.items():
                column[count : count + len(rows)] = found[name]
            count += len(rows)
        own = [columns.pop(name)[:count] for name in ("key", "epoch")]
        whole = Rows(own[0], own[1], {name: columns[name][:count] for name in names})
        return sorted_signals(whole, self.recording.trigger)

    def chunks(self) -> Iterator[Rows]:
        """Yield the chunks; that all of them are as they were written is known at the end."""
        total = 0
        while (count := self._count()) > 0:
            if count > (self._size - self._file.tell()) // self._width:
                raise self._corrupt(f"a chunk of {count} rows is longer than the file")
            columns = {
                name: np.frombuffer(self._take(count * dtype.itemsize), dtype)
                for name, dtype in self._dtypes.items()
            }
            total += count
            yield Rows(columns.pop("key"), columns.pop("epoch"), columns)
        if self._count() != total:
            raise self._corrupt("the number of rows is not that of its chunks")
        seal = self._file.read(SEAL_SIZE + 1)
        if seal != self._hash.digest():
            raise self._corrupt("the bytes do not match the checksum")

    def _describe(self) -> Recording:
        magic, version, size = HEAD.unpack(self._take(HEAD.size))
        if magic != MAGIC:
            raise self._corrupt("not a file of signals")
        if version != VERSION:
            raise self._corrupt(f"signals of version {version}; this modyn reads {VERSION}")
        if size > DESCRIPTION_MAX:
            raise self._corrupt(f"a description of {size} bytes")
        return self._recording(self._take(size))

    def _recording(self, text: bytes) -> Recording:
        try:
            values = json.loads(text)
            recording = Recording(**{**values, "names": tuple(values["names"])})
            recording.dtypes  # noqa: B018 - knows which names there are
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise self._corrupt(f"damaged description ({error!r:.100})") from None
        return recording

    def _count(self) -> int:
        return int(COUNT.unpack(self._take(COUNT.size))[0])

    def _take(self, size: int) -> bytes:
        content = self._file.read(size)
        if len(content) != size:
            raise self._corrupt("the file is too short")
        self._hash.update(content)
        return content

    def _corrupt(self, what: str) -> RunCorruptError:
        return RunCorruptError(f"{self._file.name}: {what}")


def _masked(rows: Rows, keep: npt.NDArray[np.bool_]) -> Rows:
    columns: dict[str, Any] = {name: column[keep] for name, column in rows.columns.items()}
    return Rows(rows.keys[keep], rows.epoch[keep], columns)
