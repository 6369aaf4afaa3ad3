"""A growing collection of samples in a directory, and the samples by key."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from modyn import _core, erasure, export, reading
from modyn.binary import LinkPlan
from modyn.ingest import files, tables, watch
from modyn.ingest.batch import Column, Piece
from modyn.ingest.sources import Sources
from modyn.inputs import (
    Field,
    Ragged,
    as_column,
    as_int64,
    as_timestamps,
    check_names,
    schema_text,
    segment_shift,
)
from modyn.maintenance import VerifyReport, verify

if TYPE_CHECKING:
    from modyn.metadata.database import Database
    from modyn.metadata.publish import PublishReport

__all__ = ["Dataset", "Ragged", "View"]

View = _core.View  # a dataset as of one moment
UNITS = ("s", "ms", "us", "ns")


class Dataset:
    """Samples under dense keys, in arrival order; made by `create` and `open`.

    One handle in one process may write, any number may read. Every method may
    be called from any thread; a call that writes waits for the one before.

    Examples
    --------
    >>> import tempfile
    >>> directory = tempfile.mkdtemp() + "/clicks"
    >>> clicks = Dataset.create(directory, schema={"dense": "float32[2]", "word": "bytes"})
    >>> clicks.append(
    ...     {"dense": np.ones((3, 2), np.float32), "word": [b"a", b"", b"ccc"]},
    ...     labels=[0, 1, 1],
    ...     timestamps=[10, 20, 30],
    ... )
    array([0, 1, 2], dtype=uint64)
    >>> clicks.close()
    >>> clicks = Dataset.open(directory)
    >>> fields = clicks.fetch([2, 0, 2])
    >>> fields["dense"].shape, list(fields["word"])
    ((3, 2), [b'ccc', b'a', b'ccc'])
    >>> clicks.labels, len(clicks), clicks.schema
    (array([0, 1, 1]), 3, {'dense': 'float32[2]', 'word': 'bytes'})
    """

    def __init__(self, core: _core.Dataset, *, writable: bool) -> None:
        self._core = core
        self._writable = writable
        self._current: _core.View | None = None
        self._taken: Sources | None = None
        self._ingesting = threading.Lock()
        view = core.view()
        self._path = view.path
        self._fields = tuple(Field.parse(line) for line in view.schema.splitlines())

    @classmethod
    def create(
        cls,
        path: str | os.PathLike[str],
        *,
        schema: Mapping[str, str],
        timestamp_unit: str = "s",
        labels: bool = True,
        segment_records: int | None = None,
        compression: Literal["zstd"] | None = None,
    ) -> Dataset:
        """Make an empty dataset and return it open for writing.

        Parameters
        ----------
        path : path
            The directory to make; missing parents are made, too.
        schema : mapping of field name to type
            A NumPy dtype name, with a shape in brackets if it is not a scalar
            (`float32[13]`, `uint8[28,28]`), or `bytes`.
        timestamp_unit : {"s", "ms", "us", "ns"}
            What the timestamps count.
        labels : bool
            Whether samples have labels.
        segment_records : int, optional
            Records per file, a power of two from 8192 to 2**30.
        compression : {"zstd"}, optional
            The payloads of each record are stored as one zstd frame, if that is
            smaller. Only for a schema with bytes fields; worth it for long ones (text,
            not JPEG). Needs libzstd (Debian: libzstd1) wherever the dataset is opened.

        Raises
        ------
        FileExistsError
            A dataset is there already; it was not touched.
        ValueError
            The schema, unit, segment_records or compression is wrong.
        OSError
            libzstd is needed and not installed, or the disk failed.
        """
        if timestamp_unit not in UNITS:
            raise ValueError(f"timestamp_unit must be one of {UNITS}, got {timestamp_unit!r}")
        if compression not in (None, "zstd"):
            raise ValueError(f"compression must be 'zstd' or None, got {compression!r}")
        where = os.path.abspath(os.fspath(path))
        text = schema_text(schema)
        shift = segment_shift(segment_records)
        Path(where).parent.mkdir(parents=True, exist_ok=True)
        unit = UNITS.index(timestamp_unit)
        core = _core.Dataset.create(where, text, unit, labels, shift, compression is not None)
        return cls(core, writable=True)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, mode: Literal["r", "w"] = "r") -> Dataset:
        """Return the dataset at `path`, open for reading or for writing.

        Raises
        ------
        FileNotFoundError
            There is no dataset.
        BusyError
            mode is "w" and somebody else writes; the message says who.
        CorruptError
            Its files are damaged or of an unknown version.
        """
        if mode not in ("r", "w"):
            raise ValueError(f"mode must be 'r' or 'w', got {mode!r}")
        where = os.path.abspath(os.fspath(path))
        return cls(_core.Dataset.open(where, mode == "w"), writable=mode == "w")

    def append(
        self,
        fields: Mapping[str, Any],
        *,
        labels: Any = None,
        timestamps: Any,
    ) -> npt.NDArray[np.uint64]:
        """Add samples, all or none, and return their keys; they are durable then.

        Parameters
        ----------
        fields : mapping of field name to array
            All fields of the schema: NumPy arrays, torch tensors on the CPU,
            anything with the buffer protocol or DLPack, or nested sequences;
            shape (n, *shape of the field). The dtype is that of the schema or
            casts to it safely. A bytes field is a sequence of bytes or a `Ragged`.
        labels : int64, shape (n,)
            Only, and always, for a dataset with labels.
        timestamps : int64, shape (n,), unit of the dataset
            In any order. datetime64 is converted to the unit, if exactly possible.

        Raises
        ------
        TypeError, ValueError
            An input has the wrong type, shape or value: the message names the
            field, the row and the value. Nothing was written.
        OSError
            The disk is full, or failed. Nothing of the batch is seen later.
        """
        times = as_timestamps(timestamps, self.timestamp_unit)
        count = len(times)
        has_labels = self.view.has_labels
        if has_labels and labels is None:
            raise ValueError(f"labels are missing; {self._path} has labels")
        if not has_labels and labels is not None:
            raise ValueError(f"labels were given; {self._path} has none")
        classes = None if labels is None else as_int64("labels", labels)
        if classes is not None and len(classes) != count:
            raise ValueError(f"{len(classes)} labels for {count} timestamps")
        check_names(self._fields, fields)
        columns = tuple(as_column(field, fields[field.name], count) for field in self._fields)
        first = self._core.append(count, columns, classes, times)
        self._current = None
        return np.arange(first, first + count, dtype=np.uint64)

    # What else is done with a dataset, each with its documentation where it is done.
    ingest = files.ingest
    append_from = tables.append_from
    watch = watch.watch
    fetch = reading.fetch
    views = reading.views
    erase = erasure.erase
    compact = erasure.compact
    audit = erasure.audit
    export = export.export

    def verify(self, *, threads: int = 2) -> VerifyReport:
        """Hold all bytes of the dataset against their checksums, and list all that is wrong.

        It reads what is committed by now, whatever this handle shows. For a
        dataset that does not open there is `modyn.verify`, and `modyn.repair`.
        """
        return verify(self._path, threads=threads)

    def publish(
        self,
        url: str | Database,
        *,
        layout: Literal["rows", "blocks"] | None = None,
        connections: int = 2,
        unlogged: bool | None = None,
        leaf_samples: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> PublishReport:
        """Send keys, timestamps and labels that are new to Postgres, and what was erased.

        All that is committed by now is published, whatever this handle shows. Every sample
        is sent once, also when this process, the connection or the server dies and the
        call is repeated; readers see keys 0, 1, 2, ... without a gap. What was erased is
        taken out of the database, too, here and in the streams of runs.

        Parameters
        ----------
        url : str
            Of the database, as libpq takes it, without a password: PGPASSWORD, PGPASSFILE,
            ~/.pgpass or a service file holds that.
        layout : {"rows", "blocks"}, optional
            "rows", the default, is a row per sample, which SQL can do everything with;
            "blocks" is a row per 16,384 samples, and 3 to 4 times as fast. A dataset keeps
            its layout.
        connections : int
            How many send side by side.
        unlogged : bool, optional
            Whether samples go into unlogged tables: faster, but a crash of the server
            empties them. Readers are told then, and the next call sends them again.
        leaf_samples : int, optional
            How many keys share a table, a power of two; 2**22 by default. It stays.
        progress : function, optional
            Called with how many samples are published and how many there are.

        Raises
        ------
        ConfigError
            What is published under this uuid is another dataset, a later state of it, or
            lies there in another way.
        DatabaseError
            The server refuses, or could not be reached for a minute. What was committed
            stays, and the next call goes on from there.
        """
        from modyn.metadata.publish import publish

        return publish(
            self,
            url,
            layout=layout,
            connections=connections,
            unlogged=unlogged,
            leaf_samples=leaf_samples,
            progress=progress,
        )

    @property
    def view(self) -> _core.View:
        """The samples as of now, for the loader, samplers and the orchestrator."""
        view = self._current
        if view is None:
            view = self._current = self._core.view()
        return view

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """Labels by key: read-only, over the mapped files; None without labels.

        Where samples are erased it is a copy, with 0 in their places.
        """
        view = self.view
        return view.columns(0, view.count)[1]

    @property
    def timestamps(self) -> npt.NDArray[np.int64]:
        """Timestamps by key: read-only, over the mapped files.

        Where samples are erased it is a copy, with 0 in their places.
        """
        view = self.view
        return view.columns(0, view.count)[0]

    def time_order(self, *, threads: int = 1) -> npt.NDArray[np.uint64] | None:
        """Return all keys by (timestamp, key); None when arrival order is time order.

        Erased samples are not among them. The first call sorts; the order is then kept
        in the file `time.order` of the dataset, and later calls map it, or merge what has
        been appended since into it. Where the file cannot be written the order is made in
        memory each time.

        Parameters
        ----------
        threads : int
            How many threads sort; the result is the same for any number.

        Returns
        -------
        uint64, shape (len(self),), or None
            Read-only, over the mapped file; a copy where samples are erased.

        Raises
        ------
        CorruptError
            Stored timestamps are damaged. (Damage of `time.order` itself is found,
            and the order made anew.)

        Examples
        --------
        >>> import tempfile
        >>> late = Dataset.create(tempfile.mkdtemp() + "/late", schema={"x": "int8"}, labels=False)
        >>> _ = late.append({"x": [0, 1, 2]}, timestamps=[10, 20, 30])
        >>> late.time_order() is None
        True
        >>> _ = late.append({"x": [3, 4]}, timestamps=[20, 5])
        >>> late.time_order()
        array([4, 0, 1, 3, 2], dtype=uint64)
        """
        view = self.view
        order = view.time_order(threads)
        if order is None or view.erased_count == 0:
            return order
        order = order[~view.erased(0, view.count)[order]]
        return order if (order[1:] < order[:-1]).any() else None

    @property
    def schema(self) -> dict[str, str]:
        """Types by field name."""
        return {field.name: field.type for field in self._fields}

    @property
    def timestamp_unit(self) -> str:
        """What the timestamps count: "s", "ms", "us" or "ns"."""
        return self.view.time_unit

    @property
    def path(self) -> str:
        """The directory, absolute."""
        return self._path

    @property
    def writable(self) -> bool:
        """Whether this handle is open for writing."""
        return self._writable

    @property
    def uuid(self) -> str:
        """32 hexadecimal digits that name the dataset wherever it is copied."""
        return self.view.uuid.hex()

    @property
    def erased(self) -> npt.NDArray[np.bool_]:
        """Whether a sample is erased, by key."""
        return self.view.erased(0, self.view.count)

    def keys(self) -> npt.NDArray[np.uint64]:
        """Return the keys of all samples that are not erased, ascending."""
        return np.flatnonzero(~self.erased).astype(np.uint64)

    def refresh(self) -> bool:
        """See what was committed since; return whether there was anything."""
        grown = self._core.refresh()
        if grown:
            self._current = None
        return grown

    def close(self) -> None:
        """End this handle; arrays and views that it gave stay valid."""
        self._core.close()
        self._current = None

    def _commit(self, piece: Piece | None, source: bytes | None) -> None:
        """Append what a reader gave, and write down where it is from, in one commit."""
        if piece is None:
            piece = Piece([_nothing(field) for field in self._fields], None, np.empty(0, np.int64))
            piece.labels = piece.timestamps if self.view.has_labels else None
        columns = tuple(c if isinstance(c, tuple) else (c, None) for c in piece.columns)
        self._core.append(piece.count, columns, piece.labels, piece.timestamps, source)
        self._current = None

    def _link(
        self,
        path: str,
        size: int,
        plan: LinkPlan,
        timestamps: npt.NDArray[np.int64] | int | None,
        threads: int,
        source: bytes,
    ) -> tuple[int, int, int]:
        """Link a file and write that down, in one commit; first key, samples, how many linked."""
        done = self._core.link(path, size, *plan, timestamps, threads, source)
        self._current = None
        return done

    def _sources(self) -> Sources:
        """Return what was taken from which file, as of the last commit."""
        if self._taken is None:
            self._taken = Sources(self._core.sources())
        return self._taken

    def _forget_sources(self) -> None:
        """Read anew what was taken, before the next ingest: a commit failed, or may have."""
        self._taken = None

    def __len__(self) -> int:
        return self.view.count

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        if self._writable:
            raise TypeError(f"{self._path} is open for writing and cannot be pickled")
        return _reopen, (self._path,)

    def __repr__(self) -> str:
        mode = "w" if self._writable else "r"
        return f"<Dataset {self._path!r}, mode {mode!r}, fields {self.schema}>"


def _nothing(field: Field) -> Column:
    """Return a column without samples."""
    if field.dtype is None:
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    return np.empty((0, *field.shape), field.dtype)


def _reopen(path: str) -> Dataset:
    """Open what was pickled as a path."""
    return Dataset.open(path)
