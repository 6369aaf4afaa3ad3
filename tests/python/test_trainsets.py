"""Training sets in Postgres: one transaction each, nothing twice, nothing of another trigger's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modyn.errors import CorruptError, FencedError
from modyn.metadata.database import Database
from modyn.metadata.fence import Fence
from modyn.metadata.trainsets import BLOCK_SAMPLES, Kept, Trainsets, read
from modyn.postgres import Connection
from modyn.trainset import TrainingSet
from tests.python.postgres_server import sql

UUID = "0123456789abcdef0123456789abcdef"
TABLES = "SELECT count(*) FROM pg_class WHERE relname LIKE 'trainset%' AND relkind IN ('r', 'p')"
LAYOUTS = ("rows", "blocks")


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with Database(database_url) as database:
        database.check()
        sql(database_url, "INSERT INTO modyn.pipelines (name, token) VALUES ('a', 7), ('b', 1)")
        yield database


@pytest.fixture
def connection(database: Database) -> Iterator[Connection]:
    with database.bulk() as connection:
        yield connection


def writer(connection: Any, token: int = 7, pipeline: int = 1, **settings: Any) -> Trainsets:
    return Trainsets(connection, fence=Fence(pipeline, token), **settings)


def chosen(folder: Path, count: int, *, weighted: bool = True, seed: int = 0) -> TrainingSet:
    rng = np.random.default_rng(seed)
    keys = np.sort(rng.choice(10 * count + 1, count, replace=False))
    weights = rng.random(count) if weighted else None
    return TrainingSet.write(folder, keys, weights, dataset_uuid=UUID)


@pytest.fixture
def found(database: Database, connection: Connection) -> Callable[..., Kept | None]:
    return lambda trigger, pipeline=1: read(database, connection, pipeline, trigger)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("count", [0, 1, BLOCK_SAMPLES - 1, BLOCK_SAMPLES, 2 * BLOCK_SAMPLES + 1])
def test_what_is_written_is_read_back_under_its_digest(
    connection, found, tmp_path, layout, weighted, count
):
    one = chosen(tmp_path, count, weighted=weighted)

    new = writer(connection, layout=layout, hash_partition_modulus=3).write(17, one)
    (tmp_path / "elsewhere").mkdir()
    kept = found(17).write(tmp_path / "elsewhere")

    assert new
    assert kept == one
    assert np.array_equal(kept.keys, one.keys)
    assert (kept.weights is None) == (one.weights is None)
    assert kept.dataset_uuid == UUID
    assert found(16) is None
    assert found(17, pipeline=2) is None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_set_that_is_there_is_not_written_again(connection, database_url, tmp_path, layout):
    one = chosen(tmp_path, 100)
    trainsets = writer(connection, layout=layout)
    before = sql(database_url, "SELECT relfilenode FROM pg_class ORDER BY oid")

    assert trainsets.write(3, one)
    written = sql(database_url, "SELECT oid, relfilenode FROM pg_class ORDER BY oid")
    assert not trainsets.write(3, one)
    assert not writer(connection, layout=layout).write(3, one)

    assert sql(database_url, "SELECT oid, relfilenode FROM pg_class ORDER BY oid") == written
    assert len(before) < len(written)


@pytest.mark.parametrize("layouts", [("rows", "rows"), ("rows", "blocks"), ("blocks", "rows")])
def test_another_set_takes_the_place_and_the_first_may_come_back(
    connection, found, database_url, tmp_path, layouts
):
    first, second = chosen(tmp_path, 200), chosen(tmp_path, 90, weighted=False)
    other = chosen(tmp_path, 50, seed=2)
    one, two = (writer(connection, layout=layout, hash_partition_modulus=2) for layout in layouts)
    one.write(1, other)

    assert one.write(2, first)
    tables = sql(database_url, TABLES)
    assert two.write(2, second)
    assert found(2).digest == second.digest
    assert one.write(2, first)

    assert found(2).write(tmp_path) == first
    assert found(1).write(tmp_path) == other
    assert sql(database_url, TABLES) == tables
    ids = [row[0] for row in sql(database_url, "SELECT id FROM modyn.batches ORDER BY id")]
    assert ids == sorted(
        [f"trainset/1/1/{other.digest}", f"trainset/1/2/{first.digest}", "trainsets/1"]
    )


@pytest.mark.parametrize("layout", LAYOUTS)
def test_who_lost_the_lease_writes_nothing(connection, database_url, tmp_path, layout):
    stale = writer(connection, token=6, layout=layout)

    with pytest.raises(FencedError):
        stale.write(0, chosen(tmp_path, 10))

    assert sql(database_url, "SELECT count(*) FROM modyn.trainsets") == [(0,)]
    assert sql(database_url, "SELECT count(*) FROM modyn.batches") == [(0,)]
    assert sql(database_url, TABLES) == [(3,)]


def test_rows_lie_in_partitions_of_pipeline_trigger_and_hash(connection, database_url, tmp_path):
    one = chosen(tmp_path, 1000)
    writer(connection, hash_partition_modulus=4).write(17, one)
    writer(connection, token=1, pipeline=2, hash_partition_modulus=1).write(17, one)

    tree = sql(
        database_url,
        "SELECT relname, level FROM pg_partition_tree('modyn.trainset_rows') "
        'JOIN pg_class ON oid = relid ORDER BY relname COLLATE "C"',
    )

    assert tree == [
        ("trainset_rows", 0),
        ("trainsets_p1", 1),
        ("trainsets_p1_t17", 2),
        *((f"trainsets_p1_t17_h{i}", 3) for i in range(4)),
        ("trainsets_p2", 1),
        ("trainsets_p2_t17", 2),
    ]
    counted = "SELECT count(*), min(trigger) FROM modyn.trainset_rows WHERE pipeline = %s"
    assert sql(database_url, counted, 1) == sql(database_url, counted, 2) == [(1000, 17)]
    leaves = sql(database_url, "SELECT count(*) FROM modyn.trainsets_p1_t17_h1")
    assert 150 < leaves[0][0] < 350


@pytest.mark.parametrize("layout", LAYOUTS)
def test_leaves_are_logged_unless_that_is_asked_for(
    connection, found, database_url, tmp_path, layout
):
    one = chosen(tmp_path, 10)
    writer(connection, layout=layout, hash_partition_modulus=2).write(0, one)
    writer(connection, layout=layout, hash_partition_modulus=2, unlogged=True).write(1, one)

    kinds = sql(
        database_url,
        "SELECT DISTINCT relname ~ '_t1', relpersistence FROM pg_class "
        "WHERE relname LIKE 'trainset%\\_p1\\_t%' AND relkind = 'r' ORDER BY 1",
    )

    assert kinds == [(False, "p"), (True, "u")]
    assert found(1).write(tmp_path) == one


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("harm", ["lost", "doubled", "changed"])
def test_a_table_that_was_changed_is_noticed(
    connection, found, database_url, tmp_path, layout, harm
):
    writer(connection, layout=layout, hash_partition_modulus=1).write(5, chosen(tmp_path, 10))
    table = "modyn.trainsets_p1_t5" if layout == "rows" else "modyn.trainset_blocks_p1_t5"
    statements = {
        ("rows", "lost"): f"DELETE FROM {table} WHERE key = (SELECT max(key) FROM {table})",
        ("rows", "doubled"): f"INSERT INTO {table} SELECT * FROM {table} LIMIT 1",
        ("rows", "changed"): f"UPDATE {table} SET weight = weight + 1 WHERE key > 40",
        ("blocks", "lost"): f"TRUNCATE {table}",
        ("blocks", "doubled"): f"INSERT INTO {table} SELECT * FROM {table}",
        ("blocks", "changed"): f"UPDATE {table} SET keys = set_byte(keys, 1, 1)",
    }
    sql(database_url, statements[layout, harm])

    with pytest.raises(CorruptError, match=r"modyn\.trainset"):
        found(5).write(tmp_path)


def test_a_modulus_below_one_is_refused(connection):
    with pytest.raises(ValueError, match="hash_partition_modulus must be at least 1, got 0"):
        writer(connection, hash_partition_modulus=0)
