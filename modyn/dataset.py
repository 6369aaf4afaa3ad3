"""A growing collection of samples in a directory, and the samples by key."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.binary import LinkPlan
from modyn.erasure import Compaction, Erasure, Event, check_reason, whoami
from modyn.export import export
from modyn.ingest import IngestReport, ingest
from modyn.ingest.batch import Column, Piece
from modyn.ingest.driver import Intake
from modyn.ingest.labels import Labels
from modyn.ingest.names import Files
from modyn.ingest.sources import Sources
from modyn.ingest.tables import append_from
from modyn.ingest.times import Times
from modyn.ingest.watch import Watch
from modyn.inputs import Field, Ragged, as_column, as_int64, as_keys, as_timestamps
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
        text = _schema_text(schema)
        shift = _segment_shift(segment_records)
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
        self._check_names(fields)
        columns = tuple(as_column(field, fields[field.name], count) for field in self._fields)
        first = self._core.append(count, columns, classes, times)
        self._current = None
        return np.arange(first, first + count, dtype=np.uint64)

    def ingest(
        self,
        files: Files,
        *,
        format: object,
        mode: Literal["copy", "link"] = "copy",
        on_error: Literal["stop", "skip"] = "stop",
        threads: int | None = None,
        timestamps: Times | None = None,
        labels: Labels | None = None,
    ) -> IngestReport:
        r"""Append what is new in files and return what was added; it is durable then.

        Every sample of every file is taken once. A file that is known is not read
        again; one that has grown is read from where it ended; one that was renamed
        is known. docs/ingest.md has the rules.

        Small files share a commit. A file with more than 64 MiB of samples is
        taken in several; after a crash, or a bad line in the middle, the next
        ingest goes on behind the last of them.

        Parameters
        ----------
        files : path, or sequence of paths
            Files, folders and patterns such as `incoming/*.csv`. A folder means
            all files in it and below it. Names that begin with `.` or end like
            those of half-written files (`~`, `.tmp`, `.part`, ...) are left out
            of folders and patterns.
        format : one of modyn.formats
            How the files look, and what in them is what.
        mode : {"copy", "link"}
            With "copy" the files are not needed afterwards. With "link" samples
            stay in their files, which are `FixedRecord`, and are read from there,
            apart from those that do not fill segments. Such a file has to stay as
            it is, where it is: once its size or time of change is another, or it
            is gone, reading its samples is an error that says so. docs/ingest.md
            says what can be linked.
        on_error : {"stop", "skip"}
            Whether a bad file ends the work or is left out and reported. An error
            of the dataset or of its disk always ends it.
        threads : int, optional
            How many threads parse; the result is the same for any number.
        timestamps : "mtime", FileNameTime or function, optional
            Where timestamps come from if not from the files themselves: a
            function is called with the path and the count of samples, and gives
            one integer for all of them, or one for each.
        labels : FolderLabels or LabelFile, optional
            Where the labels of files come from that are one sample each, if not
            from files beside them.

        Raises
        ------
        FileNotFoundError
            A file is missing, or nothing matches a pattern.
        ValueError
            A file is wrong: the message names it, the line, the column and the
            value; a note says what was added before.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from modyn.formats import CSV
        >>> home = Path(tempfile.mkdtemp())
        >>> june = home / "june.csv"
        >>> _ = june.write_text("day,temp,rain\n151,19.5,0\n152,17,1\n")
        >>> days = Dataset.create(home / "days", schema={"temp": "float32"})
        >>> format = CSV(timestamp="day", label="rain")
        >>> days.ingest(home / "*.csv", format=format).samples
        2
        >>> _ = june.write_text(june.read_text() + "153,18,0\n")
        >>> days.ingest(home / "*.csv", format=format).samples
        1
        >>> days.fetch([2])["temp"]
        array([18.], dtype=float32)
        """
        return ingest(
            self,
            files,
            format=format,
            mode=mode,
            on_error=on_error,
            threads=threads,
            timestamps=timestamps,
            labels=labels,
        )

    def append_from(
        self,
        rows: Any,
        *,
        columns: Mapping[str, str] | None = None,
        label: str | None = None,
        timestamp: str | None = None,
        timestamps: Any = None,
    ) -> npt.NDArray[np.uint64]:
        """Add the rows of a table that another library holds, and return their keys.

        Unlike files, rows have no name by which they are known: what is given
        twice is added twice.

        Parameters
        ----------
        rows : pandas.DataFrame, Hugging Face dataset, pyarrow table
            Also a pyarrow RecordBatch or RecordBatchReader, and an iterable
            Hugging Face dataset, of which only a part is in memory at a time.
        columns : mapping of field name to column, optional
            For fields whose column has another name.
        label : str, optional
            The column of the label. Needed if the dataset has labels.
        timestamp : str, optional
            The column of the timestamp.
        timestamps : int or int64, shape (n,), unit of the dataset, optional
            Instead of a column: one for all rows, or one for each.

        Raises
        ------
        ValueError
            A column is missing, or a value is missing or does not fit: the message
            names row and column. Missing values are NaN in float fields. Up to
            64 MiB at a time are added; a note says what was.
        ImportError
            pyarrow is needed; the message says which extra of modyn has it.

        Examples
        --------
        >>> import tempfile
        >>> import pandas
        >>> days = Dataset.create(tempfile.mkdtemp() + "/days", schema={"temp": "float32"})
        >>> table = pandas.DataFrame({"temp": [19.5, None], "rain": [0, 1], "day": [151, 152]})
        >>> days.append_from(table, label="rain", timestamp="day")
        array([0, 1], dtype=uint64)
        >>> days.fetch([0, 1])["temp"]
        array([19.5,  nan], dtype=float32)
        """
        return append_from(
            self,
            rows,
            columns=columns,
            label=label,
            timestamp=timestamp,
            timestamps=timestamps,
        )

    def watch(
        self,
        folder: str | os.PathLike[str],
        *,
        format: object,
        timestamps: Times | None = None,
        labels: Labels | None = None,
        threads: int | None = None,
        settle: float = 0.3,
        poll: float | None = None,
        on_report: Callable[[IngestReport], None] | None = None,
    ) -> Watch:
        r"""Take what comes into a folder as it comes, until the watch that is returned is stopped.

        Files are taken as `ingest` takes them, and by the same rules. An unfinished
        line or record at the end of a file waits until it is finished; a file of a
        format that does not grow waits until it is whole: closed by its writer,
        moved here, or left alone for `settle` seconds. A file that is wrong, or a folder
        that cannot be read, is reported once and tried again when it has changed.

        A thread does the work. The package watchdog (`pip install 'modyn[watch]'`)
        lets it know at once; without it, and on file systems that do not tell (network
        shares), the folder is looked at again and again.

        Parameters
        ----------
        folder : path
            Looked into with all folders below. It need not exist yet.
        format, timestamps, labels, threads
            As for `ingest`.
        settle : float
            Seconds.
        poll : float, optional
            Seconds from one look to the next, instead of events.
        on_report : function, optional
            Called with an IngestReport, in the thread of the watch, whenever
            something was added or rejected. Without it, iterate over the watch.

        Examples
        --------
        >>> import tempfile
        >>> from pathlib import Path
        >>> from modyn.formats import CSV
        >>> home = Path(tempfile.mkdtemp())
        >>> days = Dataset.create(home / "days", schema={"temp": "float32"}, labels=False)
        >>> with days.watch(home / "in", format=CSV(timestamp="day"), poll=0.01) as watch:
        ...     (home / "in").mkdir()
        ...     _ = (home / "in" / "june.csv").write_text("day,temp\n151,19.5\n")
        ...     for report in watch:
        ...         if report.samples:
        ...             break
        >>> print(report)
        1 sample of 1 file added
        """
        intake = Intake(
            self, format, timestamps=timestamps, labels=labels, threads=threads, growing=True
        )
        return Watch(
            intake,
            os.path.abspath(os.fspath(folder)),
            without=self._path,
            settle=settle,
            poll=poll,
            on_report=on_report,
        )

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

    def erase(
        self,
        keys: npt.ArrayLike | None = None,
        *,
        labels: npt.ArrayLike | None = None,
        since: Any = None,
        until: Any = None,
        file: str | os.PathLike[str] | None = None,
        reason: str,
        who: str | None = None,
    ) -> int:
        """Erase samples, durably, and return how many were not erased before.

        Every handle that is opened or refreshed after this refuses them: in `fetch`,
        in loaders, training sets and streams. Their bytes stay in the files
        until `compact`. What was erased, when, why and by whom is written to a
        journal that cannot be changed unnoticed; `audit` reads it.

        Conditions that are given together must all hold.

        Parameters
        ----------
        keys : uint64, shape (n,), optional
            In any order; repeats are allowed.
        labels : int64, optional
            One label, or several: samples that have one of them.
        since, until : int or datetime64, optional
            Samples with since <= timestamp < until, in the unit of the dataset.
        file : path, optional
            Samples that were ingested from this file.
        reason : str
            Why, for the journal.
        who : str, optional
            Who wants it, for the journal; by default user and host.

        Raises
        ------
        KeyError
            There never was a sample with a key. Nothing was erased.
        ValueError
            Nothing is said about which samples, the dataset has no labels, or
            nothing was ingested from the file.

        Examples
        --------
        >>> import tempfile
        >>> words = Dataset.create(tempfile.mkdtemp() + "/w", schema={"x": "int8"}, labels=False)
        >>> _ = words.append({"x": [1, 2, 3]}, timestamps=[10, 20, 30])
        >>> words.erase([1], reason="user 4711 left")
        1
        >>> words.keys()
        array([0, 2], dtype=uint64)
        >>> words.fetch([0, 1])
        Traceback (most recent call last):
        KeyError: 'sample 1 of ... was erased'
        """
        wanted = Erasure(keys=keys, labels=labels, since=since, until=until, file=file)
        found = wanted.find(self)
        erased = self._core.erase(found, who or whoami(), check_reason(reason))
        self._current = None
        return erased

    def compact(self) -> Compaction:
        """Remove the bytes of erased samples from the files of the dataset.

        Keys and content of all other samples stay as they are, and readers in
        any process go on reading meanwhile. Segments are written anew one by
        one, each all or nothing; a compaction that was interrupted goes on
        when it is called again.

        A reader that holds a view from before keeps it, except for samples
        that it had not read yet and whose bytes are gone now: they are refused
        with a KeyError.

        Samples that are linked (`mode="link"`) are in files of yours, which modyn
        does not write: what was erased of them remains there. The answer says in
        which files, and how much.
        """
        segments, samples = self._core.compact()
        self._current = None
        remaining: dict[str, int] = {}
        for path, _, _, erased in self.view.links():
            if erased:
                remaining[path] = remaining.get(path, 0) + erased
        return Compaction(segments=segments, samples=samples, linked=tuple(remaining.items()))

    def audit(self) -> list[Event]:
        """Return what was erased, compacted and linked, when, why and by whom, oldest first.

        The whole journal is read and its chain of digests verified up to the
        digest that the manifest holds.

        Raises
        ------
        CorruptError
            The journal was changed or is damaged.
        """
        return [Event.decode(*entry) for entry in self._core.events()]

    def verify(self, *, threads: int = 2) -> VerifyReport:
        """Hold all bytes of the dataset against their checksums, and list all that is wrong.

        It reads what is committed by now, whatever this handle shows. For a
        dataset that does not open there is `modyn.verify`, and `modyn.repair`.
        """
        return verify(self._path, threads=threads)

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        format: Literal["npz", "csv", "jsonl", "parquet"],
        keys: npt.ArrayLike | None = None,
    ) -> int:
        """Write samples to a file and return how many; those that are erased are left out.

        Columns are `key`, `label` if there are labels, `timestamp`, and the
        fields. The file is there as a whole or not at all, and memory does not
        grow with it.

        Parameters
        ----------
        path : path
            The file; one that is there is replaced.
        format : {"npz", "csv", "jsonl", "parquet"}
            npz: an array each; of a bytes field its payloads back to back, and
            `<field>.offsets`. csv: a column each, `x_0`, `x_1`, ... for a field of
            several elements. jsonl: bytes in base64, NaN as null. parquet: with pyarrow.
        keys : uint64, shape (n,), optional
            Which samples, in this order; all by default, in the order of keys.

        Raises
        ------
        KeyError
            There is no sample with a key, or it was erased.
        ValueError
            The format cannot hold a field.
        CorruptError
            A sample is damaged.

        Examples
        --------
        >>> import tempfile
        >>> home = tempfile.mkdtemp()
        >>> words = Dataset.create(home + "/words", schema={"x": "int8[2]"}, labels=False)
        >>> _ = words.append({"x": [[1, 2], [3, 4]]}, timestamps=[10, 20])
        >>> words.export(home + "/words.csv", format="csv")
        2
        >>> print(Path(home, "words.csv").read_text())
        key,timestamp,x_0,x_1
        0,10,1,2
        1,20,3,4
        <BLANKLINE>
        """
        return export(self, path, format, keys)

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

    def _check_names(self, fields: Mapping[str, Any]) -> None:
        names = [field.name for field in self._fields]
        for name in fields:
            if name not in names:
                raise ValueError(f"field {name!r} is not in the schema; it has {names}")
        for name in names:
            if name not in fields:
                raise ValueError(f"field {name!r} is missing; got {list(fields)}")

    def fetch(
        self,
        keys: npt.ArrayLike,
        *,
        fields: Sequence[str] | None = None,
        out: Mapping[str, npt.NDArray[Any] | Ragged] | None = None,
        threads: int = 1,
    ) -> dict[str, npt.NDArray[Any] | Ragged]:
        """Return the samples of `keys`, one array per field, in the order asked for.

        Parameters
        ----------
        keys : uint64, shape (n,)
            In any order; repeats are allowed.
        fields : sequence of str, optional
            Fields to read; all by default.
        out : mapping of field name to array or Ragged, optional
            Arrays to fill instead of new ones: C-contiguous, of the dtype of
            the field and shape (n, *shape of the field). For a bytes field a
            Ragged: n + 1 offsets, and values with room for the payloads, or
            more; the answer is a Ragged over the part that was filled.
        threads : int
            How many threads copy; the result is the same for any number.

        Raises
        ------
        KeyError
            There is no sample with a key.
        CorruptError
            Stored bytes that were asked for are damaged.
        """
        numbers = as_keys(keys)
        view = self.view
        result: dict[str, npt.NDArray[Any] | Ragged] = {}
        targets = []
        for field in self._select(fields, out):
            place = self._place(view, field, numbers, out)
            result[field.name] = place
            values, offsets = (
                (place.values, place.offsets) if isinstance(place, Ragged) else (place, None)
            )
            targets.append((self._fields.index(field), values, offsets))
        view.fetch(numbers, tuple(targets), None, None, threads)
        return result

    def views(self, keys: npt.ArrayLike, field: str) -> list[npt.NDArray[np.uint8]]:
        """Return the payloads of a bytes field where they are, without a copy.

        Worth it for payloads of many kilobytes, which are decoded or looked at once: a copy
        costs more than the look. An array stays what it is as long as somebody holds it,
        whatever becomes of the dataset and its handles, and keeps the mapped files alive;
        also when its sample is erased later, which no view made after that shows.

        Parameters
        ----------
        keys : uint64, shape (n,)
            In any order; repeats are allowed.
        field : str
            A field of bytes, of a dataset that is not compressed.

        Returns
        -------
        list of uint8 arrays, read-only, one per key

        Raises
        ------
        KeyError
            There is no sample with a key.
        CorruptError
            Stored bytes that were asked for are damaged.
        ValueError
            The field is not bytes, or payloads are compressed.

        Examples
        --------
        >>> import tempfile
        >>> dataset = Dataset.create(tempfile.mkdtemp(), schema={"x": "bytes"}, labels=False)
        >>> keys = dataset.append({"x": [b"one", b"three"]}, timestamps=[1, 2])
        >>> [bytes(view) for view in dataset.views([1, 0], "x")]
        [b'three', b'one']
        """
        numbers = as_keys(keys)
        (chosen,) = self._select([field], None)
        if chosen.dtype is not None:
            raise ValueError(f"field {field!r} is {chosen.dtype}, not bytes: fetch copies it")
        return self.view.payloads(numbers, self._fields.index(chosen))

    def _select(
        self, names: Sequence[str] | None, out: Mapping[str, npt.NDArray[Any] | Ragged] | None
    ) -> list[Field]:
        by_name = {field.name: field for field in self._fields}
        chosen = list(by_name) if names is None else list(dict.fromkeys(names))
        for name in [*chosen, *(out or ())]:
            if name not in by_name:
                raise ValueError(f"field {name!r} is not in the schema; it has {list(by_name)}")
        for name in out or ():
            if name not in chosen:
                raise ValueError(f"out has field {name!r}, which is not among those to be read")
        return [by_name[name] for name in chosen]

    @staticmethod
    def _place(
        view: _core.View,
        field: Field,
        keys: npt.NDArray[np.uint64],
        out: Mapping[str, npt.NDArray[Any] | Ragged] | None,
    ) -> npt.NDArray[Any] | Ragged:
        """Return where the values of one field go."""
        given = None if out is None else out.get(field.name)
        if field.dtype is None:
            names = [line.split(":")[0] for line in view.schema.splitlines()]
            return _place_payloads(view, names.index(field.name), field.name, keys, given)
        shape = (len(keys), *field.shape)
        if given is None:
            return np.empty(shape, field.dtype)
        if not isinstance(given, np.ndarray):
            raise TypeError(f"out[{field.name!r}] must be a NumPy array, got {type(given)}")
        if given.dtype != field.dtype or given.shape != shape:
            raise ValueError(
                f"out[{field.name!r}] must be {field.dtype}{list(shape)}, "
                f"got {given.dtype}{list(given.shape)}"
            )
        if not given.flags.c_contiguous or not given.flags.writeable:
            raise ValueError(f"out[{field.name!r}] must be C-contiguous and writable")
        return given

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


def _place_payloads(
    view: _core.View, index: int, name: str, keys: npt.NDArray[np.uint64], given: object
) -> Ragged:
    """Return where the payloads of a bytes field go: their offsets are there already."""
    count = len(keys) + 1
    if given is None:
        offsets = np.empty(count, np.int64)
        view.offsets(keys, index, offsets)
        return Ragged(np.empty(offsets[-1], np.uint8), offsets)
    if not isinstance(given, Ragged):
        raise TypeError(f"out[{name!r}] must be a Ragged for a bytes field, got {type(given)}")
    _check_room(f"out[{name!r}].values", given.values, np.uint8, None)
    _check_room(f"out[{name!r}].offsets", given.offsets, np.int64, count)
    view.offsets(keys, index, given.offsets)
    needed = int(given.offsets[-1])
    if needed > len(given.values):
        raise ValueError(
            f"out[{name!r}].values has room for {len(given.values)} bytes, "
            f"the payloads of these keys are {needed}"
        )
    return Ragged(given.values[:needed], given.offsets)


def _check_room(what: str, array: object, dtype: type[np.generic], count: int | None) -> None:
    """Refuse an array that cannot be filled in place."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{what} must be a NumPy array, got {type(array)}")
    length = "n" if count is None else str(count)
    if array.dtype != dtype or array.ndim != 1 or count not in (None, len(array)):
        raise ValueError(
            f"{what} must be {np.dtype(dtype)}[{length}], got {array.dtype}{list(array.shape)}"
        )
    if not array.flags.c_contiguous or not array.flags.writeable:
        raise ValueError(f"{what} must be C-contiguous and writable")


def _nothing(field: Field) -> Column:
    """Return a column without samples."""
    if field.dtype is None:
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    return np.empty((0, *field.shape), field.dtype)


def _reopen(path: str) -> Dataset:
    """Open what was pickled as a path."""
    return Dataset.open(path)


def _schema_text(schema: Mapping[str, str]) -> str:
    for name, kind in schema.items():
        if not isinstance(name, str) or not isinstance(kind, str):
            raise TypeError(f"schema: field {name!r} and its type {kind!r} must be str")
        if "\n" in name + kind or "\0" in name + kind:
            raise ValueError(f"schema: field {name!r}: {kind!r} holds a line end or NUL")
    return "".join(f"{name}: {kind}\n" for name, kind in schema.items())


def _segment_shift(records: int | None) -> int:
    if records is None:
        return 0
    shift = records.bit_length() - 1
    if not 13 <= shift <= 30 or records != 1 << shift:
        raise ValueError(
            f"segment_records must be a power of two from 8192 to 2**30, got {records}"
        )
    return shift
