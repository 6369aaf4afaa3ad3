"""How the files of each format are opened, and which rules hold for them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.binary import open_files, open_fixed, open_npy, open_tar
from modyn.formats import CSV, JSONL, Arrow, Files, FixedRecord, Npy, Parquet, Tar
from modyn.ingest.arrow import ArrowReader, import_pyarrow
from modyn.ingest.batch import Columns
from modyn.ingest.bind import bind_elements
from modyn.ingest.plan import Rules
from modyn.inputs import Field

__all__ = ["Reader", "Target", "opener", "rules_of"]

_Read = tuple[Columns, npt.NDArray[np.int64] | None, npt.NDArray[np.int64] | None, bool]


class Reader(Protocol):
    """Samples of one file, from a position on; `_core.Reader` is one."""

    @property
    def position(self) -> int: ...
    def read(self, size_max: int, /) -> _Read: ...
    def seek(self, position: int, /) -> None: ...


@dataclass(frozen=True)
class Target:
    """What readers need to know besides the file."""

    schema: str
    has_labels: bool
    unit: str
    own_times: bool  # timestamps come from the file
    threads: int
    growing: bool

    @property
    def fields(self) -> list[Field]:
        return [Field.parse(line) for line in self.schema.splitlines()]


Open = Callable[[str], Reader]


def _open_csv(format: CSV, target: Target) -> Open:
    elements = bind_elements(format, target.fields)

    def open_file(path: str) -> Reader:
        return _core.read_csv(
            path,
            target.schema,
            format.header,
            ord(format.separator),
            -1 if format.quote is None else ord(format.quote),
            elements,
            format.label,
            format.timestamp if target.own_times else None,
            target.threads,
            target.growing,
        )

    return open_file


def _open_jsonl(format: JSONL, target: Target) -> Open:
    names = [field.name for field in target.fields]
    keys = format.keys(names)

    def open_file(path: str) -> Reader:
        return _core.read_jsonl(
            path,
            target.schema,
            keys,
            tuple(name in format.base64 for name in names),
            format.label,
            format.timestamp if target.own_times else None,
            target.threads,
            target.growing,
        )

    return open_file


def _open_fixed(format: FixedRecord, target: Target) -> Open:
    return lambda path: open_fixed(
        path, target.schema, format, threads=target.threads, growing=target.growing
    )


def _open_npy(format: Npy, target: Target) -> Open:
    return lambda path: open_npy(path, target.schema, format, threads=target.threads)


def _open_tar(format: Tar, target: Target) -> Open:
    return lambda path: open_tar(
        path,
        target.schema,
        format,
        timestamp_unit=target.unit,
        threads=target.threads,
        growing=target.growing,
    )


def _open_single(format: Files, target: Target) -> Open:
    return lambda path: open_files([path], target.schema, format, timestamp_unit=target.unit)


def _open_arrow(format: Parquet, target: Target) -> Open:
    import_pyarrow(type(format).__name__)
    return lambda path: ArrowReader(path, format, target.fields, target.unit, target.own_times)


@dataclass(frozen=True)
class _Kind:
    open: Callable[[Any, Target], Open]
    append_only: bool = False
    lines: bool = False


KINDS: dict[type, _Kind] = {
    CSV: _Kind(_open_csv, append_only=True, lines=True),
    JSONL: _Kind(_open_jsonl, append_only=True, lines=True),
    FixedRecord: _Kind(_open_fixed, append_only=True),
    Npy: _Kind(_open_npy),
    Tar: _Kind(_open_tar, append_only=True),
    Files: _Kind(_open_single),
    Parquet: _Kind(_open_arrow),
    Arrow: _Kind(_open_arrow),
}


def opener(format: object, target: Target) -> Open:
    """Return the function that opens a file of this format.

    Raises
    ------
    TypeError
        The format is none.
    ValueError
        The format does not fit the dataset.
    """
    return KINDS[type(format)].open(format, target)


def rules_of(format: object, growing: bool) -> Rules:
    """Return what holds for files of this format."""
    kind = KINDS.get(type(format))
    if kind is None:
        raise TypeError(f"format must be one of modyn.formats, got {format!r}")
    return Rules(type(format).__name__, kind.append_only, kind.lines, growing)


def digest_of(format: object) -> str:
    """Return the name of a format with its settings, for the sources journal."""
    settings = hashlib.blake2b(repr(format).encode(), digest_size=8).hexdigest()
    return f"{type(format).__name__}:{settings}"
