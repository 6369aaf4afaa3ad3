"""What is stored: keys, timestamps that ascend, labels of ten classes; and the tables for it.

The tables are leaves as modyn.metadata.publish makes them: created in the transaction that fills
them, with the dataset as a default and the keys that they hold as a check.  Every contender fills
the same ones, by the same statements where it can.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

Column = npt.NDArray[np.int64]
START_MS = 1_760_000_000_000
CLASSES = 10
BLOCK = 16_384  # samples in a row of the blocks layout
# A number that changes with every value of a row, and when two rows swap values.
MIXED = '(((key * 31) # ("timestamp" * 7) # label) & 1048575)'


@dataclass(frozen=True)
class Samples:
    """Columns of samples with keys that follow each other."""

    keys: npt.NDArray[np.uint64]
    timestamps: Column
    labels: Column

    def __len__(self) -> int:
        return len(self.keys)

    def part(self, first: int, last: int) -> Samples:
        return Samples(self.keys[first:last], self.timestamps[first:last], self.labels[first:last])

    def parts(self, count: int) -> list[Samples]:
        """Cut into that many parts of whole blocks."""
        ends = [len(self) * at // count // BLOCK * BLOCK for at in range(count)] + [len(self)]
        return [self.part(first, last) for first, last in pairwise(ends)]

    @property
    def first(self) -> int:
        return int(self.keys[0])

    def mixed(self) -> int:
        """Return the sum of MIXED."""
        keys = self.keys.view(np.int64)
        return int((((keys * 31) ^ (self.timestamps * 7) ^ self.labels) & 1048575).sum())


def make_samples(count: int, first: int = 0) -> Samples:
    rng = np.random.default_rng(first)
    return Samples(
        np.arange(first, first + count, dtype=np.uint64),
        START_MS + np.cumsum(rng.integers(0, 3, size=count)),
        rng.integers(0, CLASSES, size=count),
    )


def leaf_name(leaf: int) -> str:
    return f"public.leaf_{leaf}"


def kind_of(unlogged: bool) -> str:
    return "UNLOGGED TABLE" if unlogged else "TABLE"


def must(seen: Any, expected: Any, leaf: int) -> None:
    if seen != expected:
        raise AssertionError(f"leaf {leaf}: {seen} arrived, expected {expected}")


class Rows:
    """A row per sample."""

    name = "rows"
    blank = (
        "CREATE TABLE public.blank (dataset integer NOT NULL DEFAULT 1 CHECK (dataset = 1), "
        'key bigint NOT NULL, "timestamp" bigint NOT NULL, label bigint)',
    )
    columns_sql = 'key, "timestamp", label'

    def create(self, leaf: int, samples: Samples, *, unlogged: bool = False) -> str:
        return (
            f"CREATE {kind_of(unlogged)} {leaf_name(leaf)} (LIKE public.blank INCLUDING ALL, "
            f"CHECK (key >= {samples.first} AND key < {samples.first + len(samples)}))"
        )

    def copy_in(self, leaf: int, *, freeze: bool = True) -> str:
        options = "FORMAT binary, FREEZE" if freeze else "FORMAT binary"
        return f"COPY {leaf_name(leaf)} ({self.columns_sql}) FROM STDIN ({options})"

    def copy_out(self, leaf: int) -> str:
        return f"COPY {leaf_name(leaf)} ({self.columns_sql}) TO STDOUT (FORMAT binary)"

    def columns(self, samples: Samples) -> tuple[Any, ...]:
        return (samples.keys, samples.timestamps, samples.labels)

    def count(self, samples: Samples) -> int:
        return len(samples)

    def check(self, connection: Any, leaf: int, samples: Samples) -> None:
        query = f"SELECT count(*), min(key), max(key), sum({MIXED})::bigint FROM {leaf_name(leaf)}"  # noqa: S608
        seen = connection.execute(query).fetchone()
        last = samples.first + len(samples) - 1
        must(seen, (len(samples), samples.first, last, samples.mixed()), leaf)


class Blocks:
    """A row per 16,384 samples, its columns as bytes; the keys follow from the first."""

    name = "blocks"
    blank = (
        "CREATE TABLE public.blank (dataset integer NOT NULL DEFAULT 1 CHECK (dataset = 1), "
        '"first" bigint NOT NULL, count integer NOT NULL, min_timestamp bigint NOT NULL, '
        "max_timestamp bigint NOT NULL, keys bytea, timestamps bytea NOT NULL, labels bytea, "
        "erased bytea)",
        *(
            f"ALTER TABLE public.blank ALTER {name} SET STORAGE EXTERNAL"
            for name in ("keys", "timestamps", "labels", "erased")
        ),
    )
    columns_sql = '"first", count, min_timestamp, max_timestamp, timestamps, labels'

    def create(self, leaf: int, samples: Samples, *, unlogged: bool = False) -> str:
        return (
            f"CREATE {kind_of(unlogged)} {leaf_name(leaf)} (LIKE public.blank INCLUDING ALL, "
            f'CHECK ("first" >= {samples.first} AND "first" < {samples.first + len(samples)}))'
        )

    def copy_in(self, leaf: int, *, freeze: bool = True) -> str:
        options = "FORMAT binary, FREEZE" if freeze else "FORMAT binary"
        return f"COPY {leaf_name(leaf)} ({self.columns_sql}) FROM STDIN ({options})"

    def copy_out(self, leaf: int) -> str:
        return f"COPY {leaf_name(leaf)} ({self.columns_sql}) TO STDOUT (FORMAT binary)"

    def columns(self, samples: Samples) -> tuple[Any, ...]:
        starts = np.arange(0, len(samples), BLOCK)
        ends = np.minimum(starts + BLOCK, len(samples))
        ranges = list(zip(starts.tolist(), ends.tolist(), strict=True))
        return (
            samples.first + starts,
            (ends - starts).astype(np.int32),
            samples.timestamps[starts],
            samples.timestamps[ends - 1],
            [samples.timestamps[first:last] for first, last in ranges],
            [samples.labels[first:last] for first, last in ranges],
        )

    def count(self, samples: Samples) -> int:
        return -(-len(samples) // BLOCK)

    def check(self, connection: Any, leaf: int, samples: Samples) -> None:
        query = (
            "SELECT sum(count)::bigint, min(min_timestamp), max(max_timestamp), "  # noqa: S608
            "md5(string_agg(md5(timestamps) || md5(labels), '' ORDER BY \"first\")) "
            f"FROM {leaf_name(leaf)}"
        )
        seen = connection.execute(query).fetchone()
        times = samples.timestamps
        must(seen, (len(samples), int(times[0]), int(times[-1]), self.digest(samples)), leaf)

    def digest(self, samples: Samples) -> str:
        words = ""
        for first in range(0, len(samples), BLOCK):
            part = samples.part(first, first + BLOCK)
            words += "".join(
                hashlib.md5(column.tobytes(), usedforsecurity=False).hexdigest()
                for column in (part.timestamps, part.labels)
            )
        return hashlib.md5(words.encode(), usedforsecurity=False).hexdigest()


LAYOUTS: dict[str, Rows | Blocks] = {"rows": Rows(), "blocks": Blocks()}
