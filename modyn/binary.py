"""From formats of binary files to their readers."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np

from modyn import _core
from modyn.formats import Files, FixedRecord, Npy, Tar
from modyn.inputs import Field

__all__ = ["LinkPlan", "link_plan", "open_files", "open_fixed", "open_npy", "open_tar"]

UNIT_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}

T = TypeVar("T")

Number = tuple[int, int, bool, bool]
"""Offset in the record, size, whether it is signed, and whether it is big-endian."""


def open_fixed(
    path: str, schema: str, format: FixedRecord, *, threads: int = 1, growing: bool = False
) -> _core.Reader:
    """Return a reader of a file of fixed records."""
    fields = _fields(schema)
    offsets, record_size = _places(format, fields)
    label = (0, format.label_size) if format.label_size is not None else format.label
    return _core.read_fixed(
        path,
        schema,
        format.first_record,
        record_size,
        tuple(
            (offset, _order(format, field.name) == "big")
            for field, offset in zip(fields, offsets, strict=True)
        ),
        _number(format, label),
        _number(format, format.timestamp),
        threads,
        growing,
    )


class LinkPlan(NamedTuple):
    """How a file of fixed records is linked, in the order of `_core.Dataset.link`."""

    first_record: int
    record_size: int
    fields_at: int
    label: Number | None
    timestamp: Number | None


def link_plan(schema: str, format: FixedRecord) -> LinkPlan:
    """Return how files of this format are linked: their records must be those of a dataset.

    Raises
    ------
    ValueError
        The fields do not lie back to back in the order of the schema, or a
        number is big-endian: the records have to be copied.
    """
    fields = _fields(schema)
    for field in fields:
        if field.dtype is None:
            raise ValueError(
                f"field {field.name!r} is bytes, and such records cannot be linked; use mode='copy'"
            )
    offsets, record_size = _places(format, fields)
    end = offsets[0]
    for field, offset in zip(fields, offsets, strict=True):
        if offset != end:
            raise ValueError(
                f"field {field.name!r} begins at byte {offset} of a record, and not at {end}, "
                "behind the field before it: such records cannot be linked; use mode='copy'"
            )
        wide = field.dtype is not None and field.dtype.itemsize > 1
        if wide and _order(format, field.name) == "big":
            raise ValueError(
                f"field {field.name!r} is big-endian, and such records cannot be linked; "
                "use mode='copy'"
            )
        end += _size(field)
    label = (0, format.label_size) if format.label_size is not None else format.label
    return LinkPlan(
        format.first_record,
        record_size,
        offsets[0],
        _number(format, label),
        _number(format, format.timestamp),
    )


def open_npy(
    path: str, schema: str, format: Npy, *, threads: int = 1, growing: bool = False
) -> _core.Reader:
    """Return a reader of an .npy or .npz file."""
    names = [field.name for field in _fields(schema)]
    arrays = dict(format.arrays or {})
    _check_names("arrays", arrays, names)
    own = tuple(arrays.get(name, name) for name in names)
    return _core.read_npy(path, schema, own, format.label, format.timestamp, threads, growing)


def open_tar(
    path: str,
    schema: str,
    format: Tar,
    *,
    timestamp_unit: str,
    threads: int = 1,
    growing: bool = False,
) -> _core.Reader:
    """Return a reader of a tar shard."""
    names = [field.name for field in _fields(schema)]
    extensions = _one_each("fields", format.fields, names)
    unit = UNIT_NS[timestamp_unit] if format.modification_time else 0
    return _core.read_tar(
        path, schema, tuple(extensions), format.label, format.timestamp, unit, threads, growing
    )


def open_files(
    paths: Sequence[str | os.PathLike[str]],
    schema: str,
    format: Files,
    *,
    timestamp_unit: str,
    threads: int = 1,
) -> _core.Reader:
    """Return a reader of single files, one sample for each path, in this order."""
    names = [field.name for field in _fields(schema)]
    if isinstance(format.extension, str):
        if len(names) > 1:
            raise ValueError(f"extension must name each of the fields {names}")
        endings = [format.extension]
    else:
        endings = _one_each("extension", format.extension, names)
    if format.label is not None:
        endings.append(format.label)
    unit = UNIT_NS[timestamp_unit] if format.modification_time else 0
    blob = _siblings(paths, endings)
    return _core.read_files(schema, blob, len(paths), format.label is not None, unit, threads)


def _siblings(paths: Sequence[str | os.PathLike[str]], endings: list[str]) -> bytes:
    """Return of every path the files of its sample, each ended by a zero byte."""
    first, *others = endings
    names = [os.fspath(path) for path in paths]
    parts: list[str] = []
    for name in names:
        if not name.endswith(first) or name.endswith("/" + first) or name == first:
            raise ValueError(f"{name}: does not end in {first!r}")
        parts.append(name)
        if others:
            stem = name[: -len(first)]
            parts += [stem + other for other in others]
    blob = os.fsencode("".join(part + "\0" for part in parts))
    if blob.count(0) != len(parts):
        raise ValueError(f"a path with a zero byte: {next(n for n in names if chr(0) in n)!r}")
    return blob


def _fields(schema: str) -> list[Field]:
    return [Field.parse(line) for line in schema.splitlines()]


def _check_names(what: str, given: dict[str, T], names: list[str]) -> None:
    for name in given:
        if name not in names:
            raise ValueError(f"{what} names field {name!r}; the schema has {names}")


def _one_each(what: str, given: object, names: list[str]) -> list[str]:
    entries = dict(given)  # type: ignore[call-overload]
    _check_names(what, entries, names)
    for name in names:
        if name not in entries:
            raise ValueError(f"{what} has no entry for field {name!r}")
    return [entries[name] for name in names]


def _size(field: Field) -> int:
    if field.dtype is None:
        raise ValueError(
            f"field {field.name!r} is bytes, which has no fixed size; uint8[n] in the schema has"
        )
    return field.dtype.itemsize * math.prod(field.shape)


def _places(format: FixedRecord, fields: Sequence[Field]) -> tuple[list[int], int]:
    """Return the offset of every field, and the size of a record."""
    names = [field.name for field in fields]
    if format.fields is not None and format.record_size is not None:
        _check_names("fields", dict(format.fields), names)
        for name in names:
            if name not in format.fields:
                raise ValueError(f"fields has no entry for field {name!r}")
        return [format.fields[name] for name in names], format.record_size
    offsets = []
    end = format.label_size or 0
    for field in fields:
        offsets.append(end)
        end += _size(field)
    if format.record_size not in (None, end):
        raise ValueError(
            f"record_size is {format.record_size}, but label and fields take {end} bytes; "
            "give fields by their place if records hold more"
        )
    return offsets, end


def _order(format: FixedRecord, name: str | None) -> str:
    if isinstance(format.byteorder, str):
        return format.byteorder
    return "little" if name is None else format.byteorder.get(name, "little")


def _number(format: FixedRecord, place: tuple[int, int | str] | None) -> Number | None:
    if place is None:
        return None
    offset, kind = place
    big = _order(format, None) == "big"
    if isinstance(kind, int):
        return offset, kind, False, big
    dtype = np.dtype(kind)
    if kind[0] in "<>":
        big = kind[0] == ">"
    return offset, dtype.itemsize, dtype.kind == "i", big
