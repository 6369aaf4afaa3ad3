"""Samples into files that others read: npz, CSV, JSON lines, Parquet.

Samples are fetched in pieces of at most 64 MiB, so that memory does not grow with the dataset.
The file is written under a temporary name, synced and renamed: it is there as a whole or not.
"""

from __future__ import annotations

import base64
import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from modyn.inputs import Field, Ragged, as_keys

if TYPE_CHECKING:
    from modyn.dataset import Dataset

__all__ = ["FORMATS", "export"]

PIECE_BYTES = 64 << 20
PIECE_ROWS = 65_536
KEY, LABEL, TIMESTAMP = "key", "label", "timestamp"

Keys = npt.NDArray[np.uint64]
Columns = dict[str, npt.NDArray[Any] | Ragged]


def export(
    dataset: Dataset,
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
    >>> from pathlib import Path
    >>> from modyn import Dataset
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
    if format not in FORMATS:
        raise ValueError(f"format must be one of {sorted(FORMATS)}, got {format!r}")
    source = _Source(dataset, keys)
    source.check(format)
    target = os.path.abspath(os.fspath(path))
    if os.path.isdir(target):
        raise IsADirectoryError(f"{target} is a directory; name the file")
    with _replacing(target) as file:
        FORMATS[format](source, file)
    return source.count


class _Source:
    """The samples to be written: their keys, and their columns in pieces."""

    def __init__(self, dataset: Dataset, keys: npt.ArrayLike | None) -> None:
        self.dataset = dataset
        self.view = dataset.view
        self.fields = tuple(Field.parse(line) for line in self.view.schema.splitlines())
        self.living = ~self.view.erased(0, self.view.count) if self.view.erased_count else None
        self.keys = None if keys is None else as_keys(keys)
        if self.keys is not None:
            self._check_keys(self.keys)
        self.count = (
            len(self.keys) if self.keys is not None else self.view.count - self.view.erased_count
        )

    def _check_keys(self, keys: Keys) -> None:
        if len(keys) and int(keys.max()) >= self.view.count:
            raise KeyError(f"no sample has key {int(keys.max())}: there are {self.view.count}")
        gone = keys[~self.living[keys]] if self.living is not None else keys[:0]
        if len(gone):
            raise KeyError(f"sample {int(gone[0])} was erased")

    @property
    def names(self) -> list[str]:
        """The columns in their order."""
        label = [LABEL] if self.view.has_labels else []
        return [KEY, *label, TIMESTAMP, *(field.name for field in self.fields)]

    def check(self, format: str) -> None:
        """Refuse what the format cannot hold, before anything is written."""
        for field in self.fields:
            if field.name in (KEY, LABEL, TIMESTAMP):
                raise ValueError(
                    f"a field is called {field.name!r}, as the column of the {field.name}s would be"
                )
            if format != "npz" and field.dtype is not None and field.dtype.kind == "c":
                raise ValueError(f"field {field.name!r} is {field.type}: only npz can hold it")

    def pieces(self) -> Iterator[Keys]:
        """Yield the keys in parts whose samples are small together."""
        at = 0
        total = self.view.count if self.keys is None else len(self.keys)
        while at < total:
            end = min(total, at + PIECE_ROWS)
            part = np.arange(at, end, dtype=np.uint64) if self.keys is None else self.keys[at:end]
            if self.keys is None and self.living is not None:
                part = part[self.living[at:end]]
            at = end
            yield from self._cut(part)

    def _cut(self, keys: Keys) -> Iterator[Keys]:
        sizes = np.zeros(len(keys), np.int64)
        for index, field in enumerate(self.fields):
            if field.dtype is None:
                sizes += np.diff(self.offsets(keys, index))
            else:
                sizes += field.dtype.itemsize * int(np.prod(field.shape, dtype=np.int64))
        ends = np.cumsum(sizes)
        first = 0
        while first < len(keys):
            before = ends[first] - sizes[first]
            last = max(first + 1, int(np.searchsorted(ends, before + PIECE_BYTES, "right")))
            yield keys[first:last]
            first = last

    def offsets(self, keys: Keys, index: int) -> npt.NDArray[np.int64]:
        """Return where the payloads of a bytes field would begin and end."""
        out = np.empty(len(keys) + 1, np.int64)
        self.view.offsets(keys, index, out)
        return out

    def column(self, name: str, keys: Keys) -> npt.NDArray[Any] | Ragged:
        """Return one column of some samples."""
        if name == KEY:
            return keys
        if name in (LABEL, TIMESTAMP):
            out = np.empty(len(keys), np.int64)
            labels, times = (out, None) if name == LABEL else (None, out)
            self.view.fetch(keys, (), labels, times, 1)
            return out
        return self.dataset.fetch(keys, fields=[name])[name]

    def columns(self) -> Iterator[Columns]:
        """Yield all columns, piece by piece."""
        for keys in self.pieces():
            yield {name: self.column(name, keys) for name in self.names}


# npz ---------------------------------------------------------------------------------------------


def _write_npz(source: _Source, file: IO[bytes]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in (KEY, LABEL, TIMESTAMP):
            if name in source.names:
                dtype = np.dtype(np.uint64 if name == KEY else np.int64)
                _write_array(archive, source, name, dtype, ())
        for index, field in enumerate(source.fields):
            if field.dtype is not None:
                _write_array(archive, source, field.name, field.dtype, field.shape)
            else:
                _write_bytes(archive, source, field.name, index)


@contextmanager
def _member(
    archive: zipfile.ZipFile, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> Iterator[IO[bytes]]:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header,
        {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape},
    )
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
        member.write(header.getvalue())
        yield member


def _write_array(
    archive: zipfile.ZipFile,
    source: _Source,
    name: str,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
) -> None:
    with _member(archive, name, dtype, (source.count, *shape)) as member:
        for keys in source.pieces():
            values = source.column(name, keys)
            member.write(np.ascontiguousarray(values).tobytes())


def _write_bytes(archive: zipfile.ZipFile, source: _Source, name: str, index: int) -> None:
    """Write payloads back to back, and where they begin and end: an npz has no arrays of bytes."""
    total = sum(int(source.offsets(keys, index)[-1]) for keys in source.pieces())
    with _member(archive, name, np.dtype(np.uint8), (total,)) as member:
        for keys in source.pieces():
            values = source.column(name, keys)
            assert isinstance(values, Ragged)  # noqa: S101
            member.write(values.values.tobytes())
    with _member(archive, f"{name}.offsets", np.dtype(np.int64), (source.count + 1,)) as member:
        at = np.int64(0)
        member.write(at.tobytes())
        for keys in source.pieces():
            ends = source.offsets(keys, index)[1:] + at
            member.write(ends.tobytes())
            at = ends[-1] if len(ends) else at


# Text --------------------------------------------------------------------------------------------


def _write_csv(source: _Source, file: IO[bytes]) -> None:
    """Write a header, then rows; a field of several elements has a column for each of them."""
    shapes: dict[str, tuple[int, ...]] = {field.name: field.shape for field in source.fields}
    heads = []
    for name in source.names:
        elements = int(np.prod(shapes.get(name, ()), dtype=np.int64))
        heads += [name] if elements == 1 else [f"{name}_{i}" for i in range(elements)]
    if len(set(heads)) < len(heads):
        raise ValueError(f"two columns would have one name: {sorted(heads)}")
    file.write(",".join(heads).encode() + b"\n")
    for columns in source.columns():
        cells = [cell for column in columns.values() for cell in _cells(column)]
        file.writelines(b",".join(row) + b"\n" for row in zip(*cells, strict=True))


def _cells(column: npt.NDArray[Any] | Ragged) -> Iterator[list[bytes]]:
    """Yield a list of cells for each column of the file."""
    if isinstance(column, Ragged):
        yield [b'"' + bytes(value).replace(b'"', b'""') + b'"' for value in column]
        return
    for element in column.reshape(len(column), -1).T if len(column) else ():
        if element.dtype.kind == "f":
            # The shortest text that reads back as the same number.
            yield [str(value).encode() for value in element]
        elif element.dtype.kind == "b":
            yield [b"1" if value else b"0" for value in element.tolist()]
        else:
            yield [str(value).encode() for value in element.tolist()]


def _write_jsonl(source: _Source, file: IO[bytes]) -> None:
    """Write an object per line; bytes in base64, NaN as null."""
    for columns in source.columns():
        values = [_json_values(name, column) for name, column in columns.items()]
        for row in zip(*values, strict=True):
            line = dict(zip(columns, row, strict=True))
            file.write(json.dumps(line, separators=(",", ":"), allow_nan=False).encode() + b"\n")


def _json_values(name: str, column: npt.NDArray[Any] | Ragged) -> list[Any]:
    if isinstance(column, Ragged):
        return [base64.b64encode(bytes(value)).decode() for value in column]
    if column.dtype.kind != "f":
        return list(column.tolist())
    if np.isinf(column).any():
        raise ValueError(f"field {name!r} has infinite numbers, which JSON cannot hold")
    # The shortest decimal of a float32 is not that of the same number as a float64.
    short = column.astype(np.float64)
    if column.dtype.itemsize < 8:
        flat = [float(str(value)) for value in column.reshape(-1)]
        short = np.array(flat, np.float64).reshape(column.shape)
    return [_nulls(value) for value in short.tolist()]


def _nulls(value: Any) -> Any:
    if isinstance(value, list):
        return [_nulls(part) for part in value]
    return None if value != value else value


# Parquet -----------------------------------------------------------------------------------------


def _write_parquet(source: _Source, file: IO[bytes]) -> None:
    try:
        import pyarrow
        import pyarrow.parquet as parquet
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "Parquet needs pyarrow: pip install pyarrow", name="pyarrow"
        ) from None
    types: dict[str, Any] = {KEY: pyarrow.uint64(), LABEL: pyarrow.int64()}
    types[TIMESTAMP] = pyarrow.int64()
    for field in source.fields:
        if field.dtype is None:
            types[field.name] = pyarrow.large_binary()
            continue
        kind = pyarrow.from_numpy_dtype(field.dtype)
        for extent in reversed(field.shape):
            kind = pyarrow.list_(kind, extent)
        types[field.name] = kind
    schema = pyarrow.schema([(name, types[name]) for name in source.names])
    with parquet.ParquetWriter(file, schema) as writer:
        for columns in source.columns():
            arrays = [_arrow(pyarrow, types[name], column) for name, column in columns.items()]
            writer.write_table(pyarrow.Table.from_arrays(arrays, schema=schema))


def _arrow(pyarrow: Any, kind: Any, column: npt.NDArray[Any] | Ragged) -> Any:
    if isinstance(column, Ragged):
        buffers = [None, pyarrow.py_buffer(column.offsets), pyarrow.py_buffer(column.values)]
        return pyarrow.Array.from_buffers(kind, len(column), buffers)
    array = pyarrow.array(np.ascontiguousarray(column).reshape(-1))
    for extent in reversed(column.shape[1:]):
        array = pyarrow.FixedSizeListArray.from_arrays(array, extent)
    return array


# Files -------------------------------------------------------------------------------------------


@contextmanager
def _replacing(target: str) -> Iterator[IO[bytes]]:
    """Yield a file that takes the place of `target` when all went well."""
    folder = os.path.dirname(target)
    temporary = f"{target}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


FORMATS: Mapping[str, Callable[[_Source, IO[bytes]], None]] = {
    "npz": _write_npz,
    "csv": _write_csv,
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
}
