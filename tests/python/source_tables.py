"""Leaf tables as publish makes them, and the source over them, for tests of sources."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from modyn.metadata.source import Part, Source
from modyn.postgres import Connection, Copy, Statement
from modyn.sampling import Candidates, balanced, uniform
from tests.python.postgres_server import sql

BLOCK = 1000  # samples in a row of blocks, here
LAYOUTS = pytest.mark.parametrize("layout", ["rows", "blocks"])


@dataclass
class Samples:
    """A stream: the columns of position i, and which are erased."""

    keys: npt.NDArray[np.uint64]
    timestamps: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64] | None
    erased: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))

    def __post_init__(self) -> None:
        if len(self.erased) == 0:
            self.erased = np.zeros(len(self.keys), dtype=bool)

    def __len__(self) -> int:
        return len(self.keys)

    def living(self, first: int, last: int) -> npt.NDArray[np.int64]:
        """Positions of those that are there."""
        return first + np.flatnonzero(~self.erased[first:last])


def made(rng: np.random.Generator, count: int, *, permuted: bool = False) -> Samples:
    keys = np.arange(count, dtype=np.uint64)
    return Samples(
        keys=rng.permutation(keys) if permuted else keys,
        timestamps=rng.integers(-1000, 1000, count).cumsum(),
        labels=rng.integers(-2, 5, count),
    )


def row_columns(samples: Samples, at: npt.NDArray[np.int64], own_keys: bool) -> tuple[Any, ...]:
    columns: list[Any] = [at.astype(np.int64)]
    if own_keys:
        columns.append(samples.keys[at].astype(np.int64))
    columns.append(samples.timestamps[at])
    if samples.labels is not None:
        columns.append(samples.labels[at])
    return tuple(np.ascontiguousarray(column) for column in columns)


def block_columns(samples: Samples, first: int, last: int, own_keys: bool) -> tuple[Any, ...]:
    firsts = np.arange(first, last, BLOCK)
    cuts = [slice(f, min(f + BLOCK, last)) for f in firsts]

    def blobs(column: npt.NDArray[Any]) -> list[bytes]:
        return [np.where(samples.erased[cut], 0, column[cut]).tobytes() for cut in cuts]

    def bounds(pick: Any, none: int) -> npt.NDArray[np.int64]:
        live = [samples.timestamps[cut][~samples.erased[cut]] for cut in cuts]
        return np.array([pick(times) if len(times) else none for times in live], dtype=np.int64)

    bits = [np.packbits(samples.erased[cut], bitorder="little").tobytes() for cut in cuts]
    columns: list[Any] = [
        firsts.astype(np.int64),
        np.array([cut.stop - cut.start for cut in cuts], dtype=np.int32),
        bounds(np.min, 2**62),
        bounds(np.max, -(2**62)),
        blobs(samples.keys) if own_keys else [None] * len(cuts),
        blobs(samples.timestamps),
        [None] * len(cuts) if samples.labels is None else blobs(samples.labels),
        [b if any(b) else None for b in bits],
    ]
    return tuple(columns)


def fill(
    connection: Connection,
    samples: Samples,
    table: str,
    first: int,
    last: int,
    layout: str,
    own: bool,
) -> None:
    if layout == "rows":
        name = '"position"' if own else "key"
        names = [name, *["key"] * own, '"timestamp"', *["label"] * (samples.labels is not None)]
        create = f"CREATE TABLE {table} ({', '.join(f'{n} int8' for n in names)})"
        columns = row_columns(samples, samples.living(first, last), own)
    else:
        kinds = {
            '"first"': "int8",
            "count": "int4",
            "min_timestamp": "int8",
            "max_timestamp": "int8",
            "keys": "bytea",
            "timestamps": "bytea",
            "labels": "bytea",
            "erased": "bytea",
        }
        names = list(kinds)
        create = f"CREATE TABLE {table} ({', '.join(f'{n} {kinds[n]}' for n in names)})"
        columns = block_columns(samples, first, last, own)
    copy = f"COPY {table} ({', '.join(names)}) FROM STDIN (FORMAT binary)"
    copies = (Copy(copy, columns, len(columns[0])),) if len(columns[0]) else ()
    connection.batch(None, before=(Statement(create),), copies=copies)


def publish(
    url: str,
    samples: Samples,
    leaf: int,
    *,
    layout: str = "rows",
    own_keys: bool = False,
    **more: Any,
) -> Source:
    """Make the tables public.leaf_<n>, of so many positions each, and the source over them."""
    parts = []
    with Connection(url) as connection:
        for n, first in enumerate(range(0, len(samples), leaf)):
            last = min(first + leaf, len(samples))
            fill(connection, samples, f"public.leaf_{n}", first, last, layout, own_keys)
            erased = int(samples.erased[first:last].sum())
            parts.append(Part(f"public.leaf_{n}", first, last - first, erased))
    return Source(
        url,
        parts,
        layout="rows" if layout == "rows" else "blocks",
        position="position" if own_keys else "key",
        has_labels=samples.labels is not None,
        **{"retry_seconds": 20.0, **more},
    )


def backends_busy(url: str) -> int:
    """Sessions of this database that run a COPY."""
    found = sql(
        url,
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND state = 'active' AND query LIKE 'COPY%%'",
    )
    return int(found[0][0])


def embedded(samples: Samples, first: int, last: int) -> Candidates:
    at = samples.living(first, last)
    labels = None if samples.labels is None else samples.labels[at]
    return Candidates.from_arrays(samples.keys[at], samples.timestamps[at], labels)


def assert_equal(got: Candidates, want: Candidates, seed: int = 5) -> None:
    assert len(got) == len(want)
    assert got.keys.tolist() == want.keys.tolist()
    assert got.timestamps.tolist() == want.timestamps.tolist()
    if want.labels is None:
        assert got.labels is None
    else:
        assert got.labels is not None
        assert got.labels.tolist() == want.labels.tolist()
    for count in (0, 1, len(want) // 3, len(want)):
        one, other = uniform(got, count, seed=seed), uniform(want, count, seed=seed)
        assert one.tolist() == other.tolist()
        if want.labels is not None:
            one, other = balanced(got, count, seed=seed), balanced(want, count, seed=seed)
            assert one.tolist() == other.tolist()
