"""Values of every type, and readers of the core over files of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from modyn import _core

ALL = 1 << 40
# What a header field may be made to say.
EDGES = [
    0,
    1,
    2**31 - 1,
    2**31,
    2**31 + 1,
    2**32 - 1,
    2**32,
    2**32 + 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
]


def rows(column: Any) -> list[Any]:
    if isinstance(column, tuple):
        values, offsets = column
        return [values[a:b].tobytes() for a, b in pairwise(offsets.tolist())]
    listed: list[Any] = column.tolist()
    return listed


def read_all(reader: _core.Reader, size_max: int = ALL) -> tuple[list[list[Any]], Any, Any]:
    """Columns of the whole file, labels and timestamps, as lists."""
    fields: list[list[Any]] = []
    labels: list[int] = []
    timestamps: list[int] = []
    ended, has = False, (None, None)
    while not ended:
        columns, some, times, ended = reader.read(size_max)
        fields = fields or [[] for _ in columns]
        for field, column in zip(fields, columns, strict=True):
            field += rows(column)
        labels += [] if some is None else some.tolist()
        timestamps += [] if times is None else times.tolist()
        has = (some, times)
    return (
        fields,
        None if has[0] is None else labels,
        None if has[1] is None else timestamps,
    )


DTYPES = ["bool", "int8", "uint16", "int32", "uint64", "float16", "float32", "float64", "complex64"]
