"""What is sent of a range of samples: columns of a COPY, and facts about the range."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from modyn.metadata.tables import BLOCK

Int64 = npt.NDArray[np.int64]

CHUNK = 1 << 20
"""Samples that are looked at together."""

NEVER = (2**63 - 1, -(2**63))
"""First and last moment of a block whose samples are all erased: no interval meets it."""


class Columns(Protocol):
    """Timestamps and labels by key; a dataset's view is one.  What is erased reads as 0."""

    @property
    def count(self) -> int: ...

    @property
    def has_labels(self) -> bool: ...

    def columns(self, first: int, count: int, /) -> tuple[Int64, Int64 | None]: ...

    def erased(self, first: int, count: int, /) -> npt.NDArray[np.bool_]: ...


@dataclass(frozen=True, kw_only=True)
class ArrayColumns:
    """Columns in memory, of which nothing is erased."""

    timestamps: Int64
    labels: Int64 | None = None

    @property
    def count(self) -> int:
        return len(self.timestamps)

    @property
    def has_labels(self) -> bool:
        return self.labels is not None

    def columns(self, first: int, count: int, /) -> tuple[Int64, Int64 | None]:
        part = slice(first, first + count)
        return self.timestamps[part], None if self.labels is None else self.labels[part]

    def erased(self, first: int, count: int, /) -> npt.NDArray[np.bool_]:
        return np.zeros(count, np.bool_)


@dataclass(frozen=True, kw_only=True)
class Facts:
    """About a range of samples; times are of those that are not erased, None if all are."""

    count: int
    erased: int
    min_timestamp: int | None
    max_timestamp: int | None
    last_timestamp: int | None


@dataclass(frozen=True, kw_only=True)
class Sent:
    """A COPY: the columns by name, and how many rows they have."""

    names: tuple[str, ...]
    arrays: tuple[Any, ...]
    rows: int


def chunks(first: int, last: int, size: int = CHUNK) -> Iterator[tuple[int, int]]:
    """Cut a range into its parts between multiples of `size`: (first, last) of each."""
    while first < last:
        end = min((first // size + 1) * size, last)
        yield first, end
        first = end


def facts(view: Columns, first: int, last: int) -> Facts:
    """Return what there is to say about keys first .. last-1."""
    erased, low, high, newest = 0, None, None, None
    for start, end in chunks(first, last):
        times, gone = living(view, start, end)
        erased += gone
        if len(times) == 0:
            continue
        least, most, newest = int(times.min()), int(times.max()), int(times[-1])
        low = least if low is None else min(low, least)
        high = most if high is None else max(high, most)
    return Facts(
        count=last - first,
        erased=erased,
        min_timestamp=low,
        max_timestamp=high,
        last_timestamp=newest,
    )


def living(view: Columns, first: int, last: int) -> tuple[Int64, int]:
    """Return the timestamps of samples that are not erased, and how many are."""
    times, _ = view.columns(first, last - first)
    gone = view.erased(first, last - first)
    count = int(np.count_nonzero(gone))
    return (times[~gone] if count else times), count


def first_late(view: Columns, first: int, newest: int | None) -> int | None:
    """Return the first key from `first` on whose timestamp is below that of an earlier sample.

    `newest` is the greatest timestamp before `first`, up to where timestamps ascend.
    """
    for start, end in chunks(first, view.count):
        times, gone = living(view, start, end)
        if len(times) == 0:
            continue
        before = np.empty_like(times)
        before[0] = times[0] if newest is None else newest
        before[1:] = times[:-1]
        late = times < before
        if late.any():
            keys = np.arange(start, end)
            if gone:
                keys = keys[~view.erased(start, end - start)]
            return int(keys[late.argmax()])
        newest = int(times[-1])
    return None


def rows(view: Columns, first: int, last: int) -> Sent:
    """Return keys first .. last-1 as rows, without those that are erased."""
    times, labels = view.columns(first, last - first)
    keys = np.arange(first, last, dtype=np.uint64)
    gone = view.erased(first, last - first)
    columns = [keys, times] if labels is None else [keys, times, labels]
    if gone.any():
        columns = [column[~gone] for column in columns]
    names = ("key", '"timestamp"', "label")[: len(columns)]
    return Sent(names=names, arrays=tuple(columns), rows=len(columns[0]))


def blocks(view: Columns, first: int, last: int, size: int = BLOCK) -> Sent:
    """Return keys first .. last-1 as blocks, cut at multiples of `size`."""
    times, labels = view.columns(first, last - first)
    gone = view.erased(first, last - first)
    return pack(
        first,
        list(chunks(first, last, size)),
        {"timestamps": times} if labels is None else {"timestamps": times, "labels": labels},
        gone if gone.any() else None,
    )


def pack(
    first: int,
    ranges: list[tuple[int, int]],
    columns: dict[str, npt.NDArray[Any]],
    gone: npt.NDArray[np.bool_] | None,
) -> Sent:
    """Return blocks of columns whose sample 0 is at position `first`."""
    facts: dict[str, Any] = {
        '"first"': np.array([start for start, _ in ranges], np.int64),
        "count": np.array([end - start for start, end in ranges], np.int32),
    }
    parts = [slice(start - first, end - first) for start, end in ranges]
    bounds = [_bounds(columns["timestamps"][part], gone, part) for part in parts]
    facts["min_timestamp"] = np.array([low for low, _ in bounds], np.int64)
    facts["max_timestamp"] = np.array([high for _, high in bounds], np.int64)
    for name, column in columns.items():
        facts[name] = [_little(column[part]) for part in parts]
    if gone is not None:
        facts["erased"] = [bitmap(gone[part]) for part in parts]
    return Sent(names=tuple(facts), arrays=tuple(facts.values()), rows=len(parts))


def _bounds(times: Int64, gone: npt.NDArray[np.bool_] | None, part: slice) -> tuple[int, int]:
    here = times if gone is None else times[~gone[part]]
    return (int(here.min()), int(here.max())) if len(here) else NEVER


def _little(column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return the column as it is stored, which is a view of it on a little-endian machine."""
    return np.ascontiguousarray(column.astype(column.dtype.newbyteorder("<"), copy=False))


def bitmap(gone: npt.NDArray[np.bool_]) -> bytes | None:
    """Return which samples of a block are erased; None for none."""
    return np.packbits(gone, bitorder="little").tobytes() if gone.any() else None
