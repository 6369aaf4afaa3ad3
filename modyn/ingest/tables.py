"""Tables that other libraries hold, as samples: pandas, Hugging Face datasets, pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn.formats import Parquet
from modyn.ingest.arrow import Names, import_pyarrow, narrowed, table_columns
from modyn.ingest.batch import Batch, Column, Columns, Piece
from modyn.ingest.sources import Entry
from modyn.inputs import Field, as_column, as_int64, as_timestamps

if TYPE_CHECKING:
    from modyn.dataset import Dataset

__all__ = ["append_from"]

BATCH_BYTES = 64 << 20
ROWS = 4096
"""Rows that are asked for at a time."""

_Part = tuple[Columns, "npt.NDArray[np.int64] | None", "npt.NDArray[np.int64] | None"]


def append_from(
    dataset: Dataset,
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
    >>> from modyn import Dataset
    >>> days = Dataset.create(tempfile.mkdtemp() + "/days", schema={"temp": "float32"})
    >>> table = pandas.DataFrame({"temp": [19.5, None], "rain": [0, 1], "day": [151, 152]})
    >>> days.append_from(table, label="rain", timestamp="day")
    array([0, 1], dtype=uint64)
    >>> days.fetch([0, 1])["temp"]
    array([19.5,  nan], dtype=float32)
    """
    if (timestamp is None) == (timestamps is None):
        raise ValueError("give the column of the timestamp, or timestamps, and not both")
    if dataset.view.has_labels != (label is not None):
        has = (
            "labels; give their column" if dataset.view.has_labels else f"no labels, not {label!r}"
        )
        raise ValueError(f"{dataset.path} has {has}")
    parts = _Parts(dataset, columns, label, timestamp)
    times = _Times(timestamps, dataset.timestamp_unit)
    first = len(dataset)
    batch = Batch(Entry("", 0))
    try:
        for found, labels, own in parts.of(rows):
            count = len(found[0][1]) - 1 if isinstance(found[0], tuple) else len(found[0])
            piece = Piece(found, labels, times.next(count) if own is None else own)
            if batch.count and batch.nbytes + piece.nbytes > BATCH_BYTES:
                dataset._commit(batch.joined(), None)
                batch = Batch(Entry("", 0))
            batch.add(piece)
        times.end()
        if batch.count:
            dataset._commit(batch.joined(), None)
    except Exception as error:
        error.add_note(f"{len(dataset) - first} samples were added before")
        raise
    return np.arange(first, len(dataset), dtype=np.uint64)


class _Times:
    """Timestamps that are given apart from the rows: one for all, or one for each."""

    def __init__(self, given: Any, unit: str) -> None:
        self._same: int | None = int(given) if isinstance(given, int | np.integer) else None
        self._times = (
            None if given is None or self._same is not None else as_timestamps(given, unit)
        )
        self._first = 0

    def next(self, count: int) -> npt.NDArray[np.int64]:
        if self._times is None:
            return np.full(count, self._same, np.int64)
        times = self._times[self._first : self._first + count]
        if len(times) < count:
            raise ValueError(f"{len(self._times)} timestamps for more rows than that")
        self._first += count
        return times

    def end(self) -> None:
        if self._times is not None and self._first != len(self._times):
            raise ValueError(f"{len(self._times)} timestamps for {self._first} rows")


class _Parts:
    """Rows of a table, some at a time, as the core takes them."""

    def __init__(
        self,
        dataset: Dataset,
        columns: Mapping[str, str] | None,
        label: str | None,
        timestamp: str | None,
    ) -> None:
        self._fields = [Field.parse(line) for line in dataset.view.schema.splitlines()]
        self._names = Names.of(Parquet(columns=columns), self._fields)
        self._label = label
        self._timestamp = timestamp
        self._unit = dataset.timestamp_unit

    def of(self, rows: Any) -> Iterator[_Part]:
        """Yield the parts of whatever it is."""
        library = type(rows).__module__.split(".")[0]
        if library == "pandas" and hasattr(rows, "iloc") and hasattr(rows, "columns"):
            return self._of_frame(rows)
        if library == "datasets" and hasattr(rows, "with_format"):
            import_pyarrow("a Hugging Face dataset")
            return self._of_tables(rows.with_format("arrow").iter(batch_size=ROWS))
        if library == "pyarrow":
            if hasattr(rows, "to_batches"):
                rows = rows.to_batches(max_chunksize=ROWS)
            elif hasattr(rows, "column_names") and not hasattr(rows, "read_next_batch"):
                rows = [rows]
            return self._of_tables(iter(rows))
        raise TypeError(
            "rows must be a pandas.DataFrame, a Hugging Face dataset, or a table, record batch "
            f"or RecordBatchReader of pyarrow, got {type(rows)}"
        )

    def _of_tables(self, tables: Iterator[Any]) -> Iterator[_Part]:
        pyarrow = import_pyarrow("a table of Arrow")
        first = 0
        for table in tables:
            whole = pyarrow.table(table) if isinstance(table, pyarrow.RecordBatch) else table
            where = f"rows from {first} on" if first else "rows"
            yield table_columns(
                whole, self._fields, self._names, self._label, self._timestamp, self._unit, where
            )
            first += whole.num_rows

    def _of_frame(self, frame: Any) -> Iterator[_Part]:
        names = [str(name) for name in frame.columns]
        for name in self._names.needed(self._label, self._timestamp):
            if name not in names:
                raise ValueError(f"there is no column {name!r}; there are {names}")
        for first in range(0, len(frame), ROWS):
            part = frame.iloc[first : first + ROWS]
            label, time = self._label, self._timestamp
            yield (
                [_series(part[self._names[field.name]], field, first) for field in self._fields],
                None if label is None else as_int64("labels", _whole(part[label], first)),
                None if time is None else as_timestamps(_whole(part[time], first), self._unit),
            )


def _whole(series: Any, first: int) -> npt.NDArray[Any]:
    """Return the values of a column that misses none."""
    missing = np.flatnonzero(np.asarray(series.isna()))
    if len(missing):
        raise ValueError(
            f"column {series.name!r}, row {first + int(missing[0])}: a value is missing"
        )
    values: npt.NDArray[Any] = series.to_numpy()
    return values


def _series(series: Any, field: Field, first: int) -> Column:
    """Return a column of a frame as the core takes it."""
    if field.dtype is not None and field.dtype.kind == "f" and not field.shape:
        values = series.to_numpy(na_value=np.nan) if series.isna().any() else series.to_numpy()
    else:
        values = _whole(series, first)
    if field.dtype is None:
        values = [one.encode() if isinstance(one, str) else one for one in values]
    elif field.shape:
        nested = list(values)
        values = np.stack(nested) if isinstance(nested[0], np.ndarray) else nested
    try:
        data, offsets = as_column(field, narrowed(values, field), len(series))
    except (TypeError, ValueError) as error:
        raise ValueError(f"column {series.name!r}, rows from {first} on: {error}") from error
    return data if offsets is None else (data, offsets)
