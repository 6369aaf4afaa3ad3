"""Signals of trainings that never were, and places to keep them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modyn.metadata.database import Database
from modyn.metadata.fence import Fence
from modyn.metadata.signals import PostgresSignals
from modyn.pipelines.signal_files import SignalFiles
from modyn.signals import SIGNALS, Recording, Rows, Signals, SignalStore
from tests.python.postgres_server import sql
from tests.python.streams import tuples

UUID = "0123456789abcdef0123456789abcdef"
ONE = Recording(trigger=3, model="ab", names=SIGNALS, classes=True)


def rows_of(rng: Any, count: int, *, epochs: int = 2, below: int = 10_000) -> list[Rows]:
    """Presentations of some samples, an epoch per chunk, each in another order."""
    keys = rng.choice(below, count, replace=False).astype(np.uint64)
    chunks = []
    for epoch in range(epochs):
        columns = {
            "loss": rng.exponential(size=count).astype(np.float32),
            "gradient_norm": rng.exponential(size=count).astype(np.float32),
            "prediction": rng.integers(0, 5, count).astype(np.int32),
            "forgetting": rng.integers(0, 2**31, count).astype(np.int32),
        }
        columns["loss"][0] = np.nan
        columns["gradient_norm"][0] = np.inf
        chunks.append(Rows(rng.permutation(keys), np.full(count, epoch, np.int32), columns))
    return chunks


def expected_of(chunks: list[Rows], names: tuple[str, ...] = SIGNALS) -> str:
    """The rows as text, ascending by key and epoch."""
    found = []
    for rows in chunks:
        columns = [rows.columns[name].tolist() for name in names]
        found += list(zip(rows.keys.tolist(), rows.epoch.tolist(), *columns, strict=True))
    return repr(sorted(found, key=lambda row: row[:2]))


def shown(found: Signals) -> str:
    return repr(tuples(found))


def record(store: SignalStore, recording: Recording, chunks: list[Rows]) -> None:
    writer = store.begin(recording)
    for rows in chunks:
        writer.put(rows)
    writer.commit()


@dataclass
class Place:
    """A database with two pipelines, and the store of the first."""

    url: str
    database: Database

    def store(self, token: int = 7, pipeline: int = 1, **settings: Any) -> PostgresSignals:
        given = {"hash_partition_modulus": 3, "retry_seconds": 30.0, **settings}
        return PostgresSignals(self.database, Fence(pipeline, token), UUID, **given)

    def sql(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        return sql(self.url, statement, *parameters)


@contextmanager
def made(url: str) -> Iterator[Place]:
    with Database(url) as database:
        database.check()
        sql(url, "INSERT INTO modyn.pipelines (name, token) VALUES ('a', 7), ('b', 1)")
        yield Place(url, database)


@pytest.fixture
def place(database_url: str) -> Iterator[Place]:
    with made(database_url) as found:
        yield found


@pytest.fixture(params=["files", "postgres"])
def store(request: Any, tmp_path: Path) -> SignalStore:
    if request.param == "files":
        return SignalFiles(tmp_path / "signals")
    found: Place = request.getfixturevalue("place")
    return found.store()
