"""Tables of Arrow as samples: from Parquet, Feather and Arrow IPC files, pandas and Hugging Face.

One conversion serves all of them: a chunk of a table, column by column, into the arrays that the
core takes. Types must cast safely, as those of arrays do in `Dataset.append`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from modyn.formats import Arrow, Parquet
from modyn.ingest.batch import Column, Columns
from modyn.inputs import Field, as_column, as_int64, as_timestamps

__all__ = ["ArrowReader", "import_pyarrow", "narrowed", "table_columns"]

_Read = tuple[Columns, npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None, bool]


def import_pyarrow(what: str) -> Any:
    """Return the module, or say how to get it."""
    try:
        import pyarrow
        import pyarrow.ipc
    except ImportError as error:
        raise ImportError(
            f"{what} needs pyarrow: pip install 'modyn[arrow]'", name="pyarrow"
        ) from error
    return pyarrow


class ArrowReader:
    """Samples of one file, a row group or record batch at a time; positions count these."""

    def __init__(
        self, path: str, format: Parquet, fields: Sequence[Field], unit: str, times: bool
    ) -> None:
        pyarrow = import_pyarrow(type(format).__name__)
        self._path = path
        self._names = Names.of(format, fields)
        self._fields = fields
        self._unit = unit
        self._timestamp = format.timestamp if times else None
        self._label = format.label
        self.position = 0
        self._batch: Callable[[int], Any]
        try:
            self._open(pyarrow, format)
        except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, EOFError) as error:
            raise ValueError(f"{path}: {error}") from error
        self._invalid = pyarrow.ArrowException

    def _open(self, pyarrow: Any, format: Parquet) -> None:
        if not isinstance(format, Arrow):
            from pyarrow import parquet

            file = parquet.ParquetFile(self._path, memory_map=False)
            self.count = file.num_row_groups
            columns = self._names.needed(self._label, self._timestamp)
            _check_columns(self._path, file.schema_arrow.names, columns)
            self._batch = lambda i: file.read_row_group(i, columns=columns)
            return
        ipc: Any = pyarrow.ipc

        with open(self._path, "rb") as begin:
            magic = begin.read(6)
        if magic != b"ARROW1":
            raise ValueError(f"{self._path}: not an Arrow IPC or Feather (version 2) file")
        reader = ipc.open_file(pyarrow.OSFile(self._path))
        self.count = reader.num_record_batches
        _check_columns(
            self._path, reader.schema.names, self._names.needed(self._label, self._timestamp)
        )
        table_of: Any = pyarrow.Table.from_batches
        self._batch = lambda i: table_of([reader.get_batch(i)])

    def seek(self, position: int, /) -> None:
        if position > self.count:
            raise ValueError(f"{self._path}: has {self.count} parts, and not {position}")
        self.position = position

    def read(self, size_max: int, /) -> _Read:
        """Return at least one part, and more until there are `size_max` bytes."""
        pyarrow = import_pyarrow("a table of Arrow")
        tables, size = [], 0
        first = self.position
        try:
            while self.position < self.count and (size == 0 or size < size_max):
                table = self._batch(self.position)
                tables.append(table)
                size += max(table.nbytes, 1)
                self.position += 1
            table = pyarrow.concat_tables(tables) if tables else None
        except self._invalid as error:
            raise ValueError(f"{self._path}: part {self.position}: {error}") from error
        ended = self.position == self.count
        if table is None:
            return *nothing(self._fields, self._label, self._timestamp), ended
        where = f"{self._path}: from part {first} on"
        if first == 0:
            where = self._path
        names = self._names
        converted = table_columns(
            table, self._fields, names, self._label, self._timestamp, self._unit, where
        )
        return *converted, ended


class Names(dict[str, str]):
    """The column of every field."""

    @classmethod
    def of(cls, format: Any, fields: Sequence[Field]) -> Names:
        names = cls((field.name, field.name) for field in fields)
        for field, column in (format.columns or {}).items():
            if field not in names:
                raise ValueError(f"columns names field {field!r}; the schema has {list(names)}")
            names[field] = column
        return names

    def needed(self, *more: str | None) -> list[str]:
        return list(dict.fromkeys([*self.values(), *(name for name in more if name is not None)]))


def _check_columns(where: str, present: Sequence[str], needed: Sequence[str]) -> None:
    for name in needed:
        if name not in present:
            raise ValueError(f"{where}: there is no column {name!r}; it has {list(present)}")


def nothing(
    fields: Sequence[Field], label: str | None, timestamp: str | None
) -> tuple[Columns, npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None]:
    """Return no samples."""
    none = np.empty(0, np.int64)
    columns: list[Column] = []
    for field in fields:
        if field.dtype is None:
            columns.append((np.empty(0, np.uint8), np.zeros(1, np.int64)))
        else:
            columns.append(np.empty((0, *field.shape), field.dtype))
    return columns, none if label is not None else None, none if timestamp is not None else None


def table_columns(
    table: Any,
    fields: Sequence[Field],
    names: Mapping[str, str],
    label: str | None,
    timestamp: str | None,
    unit: str,
    where: str,
) -> tuple[Columns, npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None]:
    """Return the columns of a pyarrow table as the core takes them, labels and timestamps.

    Raises
    ------
    ValueError
        A value is missing or does not fit: the message names row and column.
    """
    _check_columns(where, table.column_names, [*names.values()])
    columns: list[Column] = []
    for field in fields:
        name = names[field.name]
        try:
            columns.append(_column(table, name, field))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: column {name!r}: {error}") from error
    return (
        columns,
        _integers(table, label, "labels", unit, where),
        _integers(table, timestamp, "timestamps", unit, where),
    )


def _integers(
    table: Any, name: str | None, role: str, unit: str, where: str
) -> npt.NDArray[np.int64] | None:
    if name is None:
        return None
    _check_columns(where, table.column_names, [name])
    try:
        array = _one(table, name)
        _refuse_nulls(array)
        values = array.to_numpy(zero_copy_only=False)
        return as_timestamps(values, unit) if role == "timestamps" else as_int64(role, values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: column {name!r}: {error}") from error


def _one(table: Any, name: str) -> Any:
    """Return a column as one array, without dictionaries."""
    import pyarrow

    column = table.column(name)
    if pyarrow.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if isinstance(column.type, pyarrow.BaseExtensionType):
        column = pyarrow.chunked_array(
            [chunk.storage for chunk in column.chunks], column.type.storage_type
        )
    joined = column.combine_chunks()
    if isinstance(joined, pyarrow.ChunkedArray):
        return (
            pyarrow.concat_arrays(joined.chunks)
            if joined.chunks
            else pyarrow.array([], column.type)
        )
    return joined


def _refuse_nulls(array: Any) -> None:
    if array.null_count:
        row = int(np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))[0])
        raise ValueError(f"row {row}: a value is missing")


def _column(table: Any, name: str, field: Field) -> Column:
    import pyarrow

    array = _one(table, name)
    if field.dtype is None:
        return _payloads(array, pyarrow)
    if not (pyarrow.types.is_floating(array.type) and not field.shape and field.dtype.kind == "f"):
        _refuse_nulls(array)
    depth = 0
    while (
        pyarrow.types.is_list(array.type)
        or pyarrow.types.is_large_list(array.type)
        or (pyarrow.types.is_fixed_size_list(array.type))
    ):
        array, depth = _flat(array, field, depth), depth + 1
    values = array.to_numpy(zero_copy_only=False)
    if field.shape:
        count = table.num_rows
        if values.size != count * math.prod(field.shape):
            raise ValueError(f"{values.size} values for {count} rows of {field.type}")
        values = values.reshape(count, *field.shape)
    column, _ = as_column(field, narrowed(values, field), table.num_rows)
    return column


def narrowed(values: Any, field: Field) -> Any:
    """Return floats as those of the schema, rounded; many libraries have but one type of them."""
    dtype = field.dtype
    if dtype is None or dtype.kind != "f" or not isinstance(values, np.ndarray):
        return values
    if values.dtype.kind == "O":
        values = values.astype(np.float64)
    if values.dtype.kind != "f" or values.dtype == dtype:
        return values
    with np.errstate(over="ignore"):
        cast = values.astype(dtype)
    lost = np.flatnonzero(
        (np.isinf(cast) & np.isfinite(values)).reshape(len(values), -1).any(axis=1)
    )
    if len(lost):
        raise ValueError(f"row {lost[0]}: {values[lost[0]]} is no {dtype}")
    return cast


def _flat(array: Any, field: Field, depth: int) -> Any:
    """Return the elements of lists, all of which must have the length that the schema says."""
    wanted = field.shape[depth] if depth < len(field.shape) else None
    # A list may also hold all elements of what has several dimensions.
    rest = math.prod(field.shape[depth:]) if wanted is not None else None
    lengths = np.asarray(array.value_lengths().to_numpy(zero_copy_only=False))
    if wanted is None:
        raise ValueError(f"a list, where the schema has {field.type}")
    wrong = np.flatnonzero((lengths != wanted) & (lengths != rest))
    if len(wrong) or len(np.unique(lengths)) > 1:
        row = int(wrong[0]) if len(wrong) else 0
        raise ValueError(
            f"row {row}: {int(lengths[row])} values, where the schema has {field.type}"
        )
    inner = array.flatten()
    if inner.null_count and field.dtype is not None and field.dtype.kind != "f":
        _refuse_nulls(inner)
    return inner


def _payloads(array: Any, pyarrow: Any) -> Column:
    """Return bytes or strings with their offsets."""
    types = pyarrow.types
    if types.is_struct(array.type) and array.type.get_field_index("bytes") >= 0:
        _refuse_nulls(array)
        array = array.field("bytes")  # as Hugging Face keeps images and sounds
    text = types.is_string(array.type) or types.is_large_string(array.type)
    binary = types.is_binary(array.type) or types.is_large_binary(array.type)
    if not (text or binary or types.is_fixed_size_binary(array.type)):
        raise ValueError(f"is {array.type}, where the schema has bytes")
    _refuse_nulls(array)
    array = array.cast(pyarrow.large_binary())
    if len(array) == 0:
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    _, offsets_buffer, data = array.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[array.offset : array.offset + len(array) + 1]
    values = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    values = values[offsets[0] : offsets[-1]]
    return values, np.ascontiguousarray(offsets - offsets[0])
