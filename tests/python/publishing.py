"""What is published of a dataset, read by plain SQL, and held against the dataset's own columns."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

import modyn

ROOT = Path(__file__).parents[2]

CHILD = """
import sys
import modyn
from modyn.metadata.publish import publish
path, url, layout, leaf_samples, connections = sys.argv[1:]
dataset = modyn.Dataset.open(path)
print("ready", flush=True)
sys.stdin.readline()
print(dataset.publish(url, layout=layout, leaf_samples=int(leaf_samples),
                      connections=int(connections)), flush=True)
"""


@dataclass(frozen=True, kw_only=True)
class Content:
    """Living samples by key, as they are in the database, and what it says about them."""

    keys: npt.NDArray[np.int64]
    timestamps: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64] | None
    row: dict[str, Any]


def create(path: Path, *, labels: bool = True) -> modyn.Dataset:
    return modyn.Dataset.create(path, schema={"x": "int8"}, labels=labels)


def grow(dataset: modyn.Dataset, count: int, *, late: bool = False, seed: int = 0) -> None:
    """Append samples a second apart, some of them late."""
    first = len(dataset)
    numbers = np.arange(first, first + count)
    rng = np.random.default_rng([seed, first])
    times = 1_000 + numbers - (rng.integers(0, 300, count) if late else 0)
    classes = numbers * 7 % 11 - 3 if dataset.view.has_labels else None
    dataset.append({"x": np.zeros(count, np.int8)}, labels=classes, timestamps=times)


def said(url: str, uuid: str) -> Content:
    """Read everything as of one moment."""
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
        row = cursor.execute("SELECT * FROM modyn.datasets WHERE uuid = %s", [uuid]).fetchone()
        assert row is not None
        read = _rows if row["layout"] == "rows" else _blocks
        keys, times, labels = read(connection, row["id"])
        check_leaves(connection, row, keys, times)
    keep = keys < row["count"]
    return Content(
        keys=keys[keep],
        timestamps=times[keep],
        labels=labels[keep] if row["has_labels"] else None,
        row=row,
    )


def _rows(connection: psycopg.Connection, dataset: int) -> tuple[Any, Any, Any]:
    found = connection.execute(
        'SELECT key, "timestamp", coalesce(label, 0) FROM modyn.samples WHERE dataset = %s '
        "ORDER BY key",
        [dataset],
    ).fetchall()
    return tuple(np.array(found, np.int64).reshape(-1, 3).T)


def _blocks(connection: psycopg.Connection, dataset: int) -> tuple[Any, Any, Any]:
    found = connection.execute(
        'SELECT "first", count, timestamps, labels, erased, min_timestamp, max_timestamp '
        'FROM modyn.sample_blocks WHERE dataset = %s ORDER BY "first"',
        [dataset],
    ).fetchall()
    parts = []
    for first, count, times, labels, erased, low, high in found:
        bits = np.frombuffer(erased or bytes(count // 8 + 1), np.uint8)
        gone = np.unpackbits(bits, count=count, bitorder="little").astype(bool)
        here = np.frombuffer(times, "<i8")
        classes = np.frombuffer(labels or times, "<i8")
        assert len(here) == len(classes) == count
        assert (erased is None) == (not gone.any())
        assert not here[gone].any()
        assert labels is None or not classes[gone].any()
        bounds = (here[~gone].min(), here[~gone].max()) if not gone.all() else (2**63 - 1, -(2**63))
        assert (low, high) == bounds
        columns = (np.arange(first, first + count), here, classes)
        parts.append([column[~gone] for column in columns])
    if not parts:
        return (np.empty(0, np.int64),) * 3
    return tuple(np.concatenate(column) for column in zip(*parts, strict=True))


def check_leaves(
    connection: psycopg.Connection, row: dict[str, Any], keys: Any, times: Any
) -> None:
    """Hold what modyn.leaves says against what the leaves hold."""
    leaves = connection.execute(
        'SELECT leaf, "first", count, erased, min_timestamp, max_timestamp, last_timestamp '
        "FROM modyn.leaves WHERE dataset = %s ORDER BY leaf",
        [row["id"]],
    ).fetchall()
    assert len(set(keys.tolist())) == len(keys)  # nothing is there twice
    # Frozen rows are seen by transactions that began before they were committed.
    known = np.isin(keys // row["leaf_samples"], [leaf for leaf, *_ in leaves])
    keys, times = keys[known], times[known]
    assert len(keys) == sum(count - erased for _, _, count, erased, *_ in leaves)
    for leaf, first, count, erased, low, high, last in leaves:
        here = times[(keys >= first) & (keys < first + count)]
        assert first == leaf * row["leaf_samples"]
        assert len(here) == count - erased
        assert [low, high, last] == (
            [here.min(), here.max(), here[-1]] if len(here) else [None] * 3
        )


def check(url: str, dataset: modyn.Dataset, *, count: int | None = None) -> Content:
    """Hold what is published against the dataset; all of it, or a prefix."""
    dataset.refresh()
    found = said(url, dataset.uuid)
    row = found.row
    published = row["count"]
    if count is not None:
        assert published == count
    assert published <= len(dataset)
    living = np.flatnonzero(~dataset.erased[:published])
    assert found.keys.tolist() == living.tolist()
    times = dataset.timestamps[living]
    assert found.timestamps.tolist() == times.tolist()
    if dataset.labels is not None:
        assert found.labels is not None
        assert found.labels.tolist() == dataset.labels[living].tolist()
    assert row["erased"] == published - len(living)
    assert row["ascending"] == bool((times[1:] >= times[:-1]).all())
    assert row["last_timestamp"] == (times[-1] if len(times) else None)
    assert json.loads(row["fields"]) == dataset.schema
    return found


def child(
    dataset: modyn.Dataset, url: str, layout: str, *, leaf_samples: int, connections: int = 2
) -> subprocess.Popen[str]:
    """Start a process that publishes a dataset as soon as it is told to."""
    arguments = [dataset.path, url, layout, str(leaf_samples), str(connections)]
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, *arguments],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if line != "ready\n":
            raise RuntimeError(process.communicate(timeout=60)[1])
    except BaseException:
        process.kill()
        process.communicate()
        raise
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for a process, or kill it; return how it ended and what it said of errors."""
    try:
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    return process.returncode, errors
