"""Which column of a file is which element of which field."""

from __future__ import annotations

import math
from collections.abc import Sequence

from modyn.formats import CSV, Column
from modyn.inputs import Field

__all__ = ["bind_elements"]


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
