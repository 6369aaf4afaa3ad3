"""From files to samples of a dataset."""

from __future__ import annotations

import glob
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.formats import CSV, Column
from modyn.inputs import Field, Ragged

if TYPE_CHECKING:
    from modyn.dataset import Dataset

__all__ = ["IngestReport", "ingest"]

Files = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
Columns = tuple[npt.NDArray[Any] | tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]], ...]

BATCH_BYTES = 256 << 20
"""Samples of a file up to this size become one batch: all of them, or none."""


@dataclass(frozen=True)
class IngestReport:
    """What an ingest has added.

    Parameters
    ----------
    files : tuple of str
        Files whose samples are in the dataset now, in this order.
    samples : int
        How many samples they held.
    keys : range
        Their keys, in the order of the files and of their rows.
    skipped : tuple of (str, str)
        With on_error="skip", the files that were not taken, and why.
    """

    files: tuple[str, ...]
    samples: int
    keys: range
    skipped: tuple[tuple[str, str], ...] = ()


def ingest(
    dataset: Dataset,
    files: Files,
    *,
    format: CSV,
    mode: Literal["copy"] = "copy",
    on_error: Literal["stop", "skip"] = "stop",
    batch_bytes: int = BATCH_BYTES,
) -> IngestReport:
    """Append the samples of files; `Dataset.ingest` says it all."""
    if mode != "copy":
        raise ValueError(f"mode must be 'copy', got {mode!r}")
    if on_error not in ("stop", "skip"):
        raise ValueError(f"on_error must be 'stop' or 'skip', got {on_error!r}")
    if not isinstance(format, CSV):
        raise TypeError(f"format must be a modyn.formats.CSV, got {format!r}")
    _check_labels(dataset, format)
    elements = bind_elements(format, schema_fields(dataset))
    paths = expand(files)
    progress = _Progress(dataset, len(dataset))
    for path in paths:
        try:
            reader = open_csv(path, dataset.view.schema, format, elements)
            _ingest_file(progress, path, reader, batch_bytes)
        except (ValueError, OSError) as error:
            if on_error == "skip" and progress.is_at_fault(error):
                progress.skipped.append((path, str(error)))
                continue
            error.add_note(progress.note())
            raise
    return progress.report()


def schema_fields(dataset: Dataset) -> list[Field]:
    """Return the fields of a dataset in the order of its schema."""
    return [Field.parse(line) for line in dataset.view.schema.splitlines()]


def expand(files: Files) -> list[str]:
    """Return the paths that are meant; a pattern gives its matches sorted by name.

    Raises
    ------
    FileNotFoundError
        Nothing matches a pattern, or there are no files at all.
    """
    given = [files] if isinstance(files, (str, os.PathLike)) else list(files)
    paths: list[str] = []
    for item in (os.fspath(path) for path in given):
        if not glob.has_magic(item) or os.path.exists(item):
            paths.append(item)
            continue
        matches = sorted(glob.glob(item, recursive=True))
        if not matches:
            raise FileNotFoundError(f"no file matches {item!r}")
        paths.extend(matches)
    if not paths:
        raise FileNotFoundError("there are no files to ingest")
    return paths


def bind_elements(format: CSV, fields: Sequence[Field]) -> tuple[Column, ...]:
    """Return the column of every element of every field, in schema order."""
    if format.columns is None:
        return _by_name(fields) if format.header else _in_order(format, fields)
    names = [field.name for field in fields]
    for name in format.columns:
        if name not in names:
            raise ValueError(f"columns names field {name!r}; the schema has {names}")
    elements: list[Column] = []
    for field in fields:
        given = format.columns.get(field.name)
        if given is None:
            raise ValueError(f"columns has no entry for field {field.name!r}")
        columns = (given,) if isinstance(given, (str, int)) else tuple(given)
        if len(columns) != _size(field):
            raise ValueError(
                f"field {field.name!r} is {field.type}: {_size(field)} columns are needed, "
                f"got {len(columns)}"
            )
        elements.extend(columns)
    return tuple(elements)


def open_csv(path: str, schema: str, format: CSV, elements: tuple[Column, ...]) -> _core.Reader:
    """Return a reader of one file."""
    quote = -1 if format.quote is None else ord(format.quote)
    return _core.read_csv(
        path,
        schema,
        format.header,
        ord(format.separator),
        quote,
        elements,
        format.label,
        format.timestamp,
        1,
        False,
    )


def _size(field: Field) -> int:
    return math.prod(field.shape)


def _by_name(fields: Sequence[Field]) -> tuple[Column, ...]:
    names: list[Column] = []
    for field in fields:
        if _size(field) == 1:
            names.append(field.name)
        else:
            names.extend(f"{field.name}_{i}" for i in range(_size(field)))
    return tuple(names)


def _in_order(format: CSV, fields: Sequence[Field]) -> tuple[Column, ...]:
    count = sum(_size(field) for field in fields)
    free = (i for i in range(count + 2) if i not in (format.label, format.timestamp))
    return tuple(next(free) for _ in range(count))


def _check_labels(dataset: Dataset, format: CSV) -> None:
    if dataset.view.has_labels and format.label is None:
        raise ValueError(f"{dataset.path} has labels; give the label column of the files")
    if not dataset.view.has_labels and format.label is not None:
        raise ValueError(f"{dataset.path} has no labels, but label is {format.label!r}")


class _Progress:
    """What has been appended so far."""

    def __init__(self, dataset: Dataset, first: int) -> None:
        self.dataset = dataset
        self.fields = schema_fields(dataset)
        self.files: list[str] = []
        self.skipped: list[tuple[str, str]] = []
        self.keys = range(first, first)
        self.samples = 0
        self.partial = 0  # samples of the file that is being appended
        self.appending = False

    def append(
        self,
        columns: Columns,
        labels: npt.NDArray[np.int64] | None,
        timestamps: npt.NDArray[np.int64] | None,
    ) -> None:
        if timestamps is None or len(timestamps) == 0:  # every CSV format has a timestamp column
            return
        fields = {
            field.name: Ragged(*column) if isinstance(column, tuple) else column
            for field, column in zip(self.fields, columns, strict=True)
        }
        self.appending = True
        keys = self.dataset.append(fields, labels=labels, timestamps=timestamps)
        self.appending = False
        start = self.keys.start if self.samples else int(keys[0])
        self.keys = range(start, int(keys[-1]) + 1)
        self.samples += len(keys)
        self.partial += len(keys)

    def is_at_fault(self, error: Exception) -> bool:
        """Whether the file is wrong, rather than the dataset or the disk under it."""
        return not self.appending and self.partial == 0

    def note(self) -> str:
        if not self.samples:
            return "no sample of these files was added"
        text = f"{self.samples} samples were added before"
        if self.partial:
            text += f", {self.partial} of them of this file"
        return f"{text}; their keys are {self.keys.start} to {self.keys.stop - 1}"

    def report(self) -> IngestReport:
        return IngestReport(tuple(self.files), self.samples, self.keys, tuple(self.skipped))


def _ingest_file(progress: _Progress, path: str, reader: _core.Reader, batch_bytes: int) -> None:
    progress.partial = 0
    columns, labels, timestamps, ended = reader.read(batch_bytes)
    if not ended:
        # Too large for one batch: nothing is kept before all of it is known to be sound.
        del columns, labels, timestamps
        reader.check()
        reader.seek(0)
        while not ended:
            columns, labels, timestamps, ended = reader.read(batch_bytes)
            progress.append(columns, labels, timestamps)
    else:
        progress.append(columns, labels, timestamps)
    progress.files.append(path)
    progress.partial = 0
