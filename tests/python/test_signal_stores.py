"""Signals of trainings, where they lie: the same promises from files and from Postgres."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modyn
from modyn.errors import CorruptError, FencedError
from modyn.metadata import signals as in_postgres
from modyn.metadata.fence import Fence
from modyn.metadata.signals import PostgresSignals
from modyn.pipelines import backend, forget, replay, signals
from modyn.policies import Selected, Selection
from modyn.signals import SIGNALS, Recording, Rows, SignalStore
from tests.python.signal_rows import (
    ONE,
    UUID,
    expected_of,
    place,
    record,
    rows_of,
    shown,
    store,
)
from tests.python.streams import drifting, pipeline, training

__all__ = ["place", "store"]  # fixtures

ROOT = Path(__file__).parents[2]


# What both promise --------------------------------------------------------------------------------


def test_chunks_come_back_as_columns(store, rand):
    chunks = rows_of(rand.numpy, 300, epochs=3)

    record(store, ONE, chunks)

    found = store.read(3)
    assert shown(found) == expected_of(chunks)
    assert found.trigger == 3
    assert found.names == SIGNALS
    assert {name: str(column.dtype) for name, column in found.columns.items()} == {
        **{"loss": "float32", "gradient_norm": "float32"},
        **{"prediction": "int32", "forgetting": "int32"},
    }
    assert shown(store.read(3, ["loss"])) == expected_of(chunks, ("loss",))
    with pytest.raises(KeyError, match="no signals of trigger 2"):
        store.read(2)


@pytest.mark.parametrize("names", [("loss",), ("prediction", "forgetting")])
def test_only_what_is_asked_for_is_kept(store, rand, names):
    chunks = [
        replace_columns(rows, {name: rows.columns[name] for name in names})
        for rows in rows_of(rand.numpy, 50)
    ]

    record(store, replace(ONE, names=names), chunks)

    assert shown(store.read(3)) == expected_of(chunks, names)
    with pytest.raises(ValueError, match="gradient_norm is not recorded; training"):
        store.read(3, ["gradient_norm"])


def replace_columns(rows: Rows, columns: dict[str, Any]) -> Rows:
    return Rows(rows.keys, rows.epoch, columns)


def test_an_output_is_kept_as_a_number(store, rand):
    chunks = rows_of(rand.numpy, 50)
    chunks = [
        replace_columns(rows, {**rows.columns, "prediction": -rows.columns["loss"]})
        for rows in chunks
    ]

    record(store, replace(ONE, classes=False), chunks)

    assert shown(store.read(3)) == expected_of(chunks)


def test_a_training_without_rows_has_signals_without_rows(store):
    record(store, ONE, [])

    assert len(store.read(3)) == 0
    assert store.ready(3, "ab")


def test_whether_a_training_is_recorded_is_known_by_its_model(store, rand):
    record(store, ONE, rows_of(rand.numpy, 10))

    assert store.ready(3, "ab")
    assert not store.ready(3, "ac")
    assert not store.ready(2, "ab")


def test_nothing_is_seen_of_a_training_that_is_not_over(store, rand):
    writer = store.begin(ONE)
    for rows in rows_of(rand.numpy, 300):
        writer.put(rows)

    assert not store.ready(3, "ab")
    with pytest.raises(KeyError):
        store.read(3)
    writer.abort()
    assert not store.ready(3, "ab")


@pytest.mark.parametrize("model", ["ab", "cd"])
def test_what_an_interrupted_training_left_goes(store, rand, model):
    left = store.begin(ONE)
    for rows in rows_of(rand.numpy, 100):
        left.put(rows)
    left.abort()
    chunks = rows_of(rand.numpy, 80)

    record(store, replace(ONE, model=model), chunks)

    assert shown(store.read(3)) == expected_of(chunks)


def test_a_training_that_is_done_again_replaces_its_signals(store, rand):
    other = rows_of(rand.numpy, 20)
    record(store, replace(ONE, trigger=4), other)
    record(store, ONE, rows_of(rand.numpy, 100))
    chunks = rows_of(rand.numpy, 80)

    record(store, replace(ONE, model="cd"), chunks)

    assert store.ready(3, "cd")
    assert not store.ready(3, "ab")
    assert shown(store.read(3)) == expected_of(chunks)
    assert shown(store.read(4)) == expected_of(other)


def test_rows_of_erased_samples_go_and_others_stay(store, rand):
    chunks = {trigger: rows_of(rand.numpy, 300, below=1000) for trigger in (3, 4)}
    for trigger, some in chunks.items():
        record(store, replace(ONE, trigger=trigger), some)
    erased = rand.numpy.random(1000) < 0.1

    assert store.erase(np.zeros(1000, dtype=bool)) == 0
    removed = store.erase(erased)
    assert store.erase(erased) == 0

    expected = {
        trigger: [without(rows, erased) for rows in some] for trigger, some in chunks.items()
    }
    assert removed == sum(
        len(a) - len(b)
        for trigger in chunks
        for a, b in zip(chunks[trigger], expected[trigger], strict=True)
    )
    for trigger, some in expected.items():
        assert shown(store.read(trigger)) == expected_of(some)


def without(rows: Rows, erased: Any) -> Rows:
    keep = ~erased[rows.keys]
    columns = {name: column[keep] for name, column in rows.columns.items()}
    return Rows(rows.keys[keep], rows.epoch[keep], columns)


# In Postgres --------------------------------------------------------------------------------------


def test_rows_lie_in_partitions_of_pipeline_trigger_and_hash(place, rand):
    chunks = rows_of(rand.numpy, 1000)
    record(place.store(hash_partition_modulus=4), replace(ONE, trigger=17), chunks)
    record(place.store(token=1, pipeline=2, hash_partition_modulus=1), ONE, chunks)

    tree = place.sql(
        "SELECT relname, level FROM pg_partition_tree('modyn.signals') "
        'JOIN pg_class ON oid = relid ORDER BY relname COLLATE "C"'
    )

    assert tree == [
        ("signals", 0),
        ("signals_p1", 1),
        ("signals_p1_t17", 2),
        *((f"signals_p1_t17_h{i}", 3) for i in range(4)),
        ("signals_p2", 1),
        ("signals_p2_t3", 2),
        ("signals_p2_t3_h0", 3),
    ]
    assert 300 < place.sql("SELECT count(*) FROM modyn.signals_p1_t17_h1")[0][0] < 700
    found = place.sql(
        "SELECT key, epoch, forgetting FROM modyn.signals "
        "WHERE pipeline = 1 AND trigger = 17 ORDER BY key, epoch"
    )
    columns = place.store().read(17)
    assert found == list(
        zip(columns.keys.tolist(), columns.epoch.tolist(), columns.forgetting.tolist(), strict=True)
    )
    assert place.sql("SELECT pipeline, trigger, row_count FROM modyn.signal_sets ORDER BY 1") == [
        (1, 17, 2000),
        (2, 3, 2000),
    ]


def test_sql_sees_nothing_before_the_commit_and_nothing_is_left_behind(place, rand):
    store = place.store()
    record(store, ONE, rows_of(rand.numpy, 10))
    left = store.begin(replace(ONE, trigger=4))
    left.put(rows_of(rand.numpy, 100)[0])
    left.abort()

    before = place.sql("SELECT count(*) FROM modyn.signals WHERE trigger = 4")
    record(store, replace(ONE, trigger=4), rows_of(rand.numpy, 7))

    assert before == [(0,)]
    assert place.sql("SELECT count(*) FROM modyn.signals WHERE trigger = 4") == [(14,)]
    ids = place.sql('SELECT id FROM modyn.batches ORDER BY id COLLATE "C"')
    assert ids == [("signals/1",), ("signals/1/3/end",), ("signals/1/4/end",)]


def test_leaves_are_logged_unless_that_is_asked_for(place, rand):
    record(place.store(hash_partition_modulus=2), ONE, rows_of(rand.numpy, 10))
    some = rows_of(rand.numpy, 10)
    store = place.store(hash_partition_modulus=2, unlogged=True)
    record(store, replace(ONE, trigger=4), some)

    kinds = place.sql(
        "SELECT DISTINCT relname ~ '_t4', relpersistence FROM pg_class "
        "WHERE relname LIKE 'signals\\_p1\\_t%' AND relkind = 'r' ORDER BY 1"
    )

    assert kinds == [(False, "p"), (True, "u")]
    assert shown(store.read(4)) == expected_of(some)


def test_who_lost_the_lease_writes_nothing(place, rand):
    writer = place.store().begin(ONE)
    writer.put(rows_of(rand.numpy, 10)[0])
    place.sql("UPDATE modyn.pipelines SET token = 8")

    with pytest.raises(FencedError):
        writer.put(rows_of(rand.numpy, 10)[0])
    with pytest.raises(FencedError):
        writer.commit()
    writer.abort()
    with pytest.raises(FencedError):
        place.store().begin(ONE)

    assert place.sql("SELECT count(*) FROM modyn.signal_sets") == [(0,)]
    assert place.sql("SELECT count(*) FROM modyn.signals") == [(0,)]
    record(place.store(token=8), ONE, some := rows_of(rand.numpy, 10))
    assert shown(place.store(token=8).read(3)) == expected_of(some)


@pytest.mark.parametrize(
    "harm",
    [
        "DELETE FROM modyn.signals WHERE key = (SELECT max(key) FROM modyn.signals)",
        "INSERT INTO modyn.signals SELECT * FROM modyn.signals LIMIT 1",
        "TRUNCATE modyn.signals_p1_t3",
    ],
)
def test_rows_that_were_lost_or_doubled_are_noticed(place, rand, harm):
    record(place.store(), ONE, rows_of(rand.numpy, 100))
    place.sql(harm)

    with pytest.raises(CorruptError, match=r"modyn\.signals_p1_t3: \d+ rows, and 200"):
        place.store().read(3)


def test_a_row_in_place_of_another_is_noticed(place, rand):
    record(place.store(), ONE, rows_of(rand.numpy, 100))
    place.sql("DELETE FROM modyn.signals WHERE key = (SELECT max(key) FROM modyn.signals)")
    place.sql(
        "INSERT INTO modyn.signals SELECT * FROM modyn.signals "
        "WHERE key = (SELECT min(key) FROM modyn.signals)"
    )

    with pytest.raises(CorruptError, match="a row is there twice"):
        place.store().read(3)


def test_publishing_erasures_removes_rows_of_all_pipelines(place, rand):
    some = rows_of(rand.numpy, 300, below=1000)
    record(place.store(), ONE, some)
    record(place.store(token=1, pipeline=2), ONE, some)
    other = PostgresSignals(place.database, Fence(2, 1), UUID[::-1])
    record(other, replace(ONE, trigger=9), some)
    erased = rand.numpy.random(1000) < 0.3
    keys = np.flatnonzero(erased).astype(np.uint64)

    removed = in_postgres.erase(place.database, UUID, keys)

    living = [without(rows, erased) for rows in some]
    assert removed == 2 * sum(len(a) - len(b) for a, b in zip(some, living, strict=True))
    assert shown(place.store().read(3)) == expected_of(living)
    assert shown(place.store(token=1, pipeline=2).read(3)) == expected_of(living)
    assert shown(other.read(9)) == expected_of(some)  # of another dataset
    assert in_postgres.erase(place.database, UUID, keys) == 0


def test_what_is_committed_while_others_are_erased_is_looked_at_by_its_run(
    place, rand, monkeypatch
):
    some, late = rows_of(rand.numpy, 300, below=1000), rows_of(rand.numpy, 300, below=1000)
    ours, other = place.store(), place.store(token=1, pipeline=2)
    record(ours, ONE, some)
    erased = rand.numpy.random(1000) < 0.3
    erase = in_postgres.erase

    def erase_and_lose_a_race(*arguments: Any) -> int:
        removed = erase(*arguments)
        record(other, ONE, late)
        return removed

    with monkeypatch.context() as patched:
        patched.setattr(in_postgres, "erase", erase_and_lose_a_race)
        ours.erase(erased)
    other.erase(erased)

    assert shown(ours.read(3)) == expected_of([without(rows, erased) for rows in some])
    assert shown(other.read(3)) == expected_of([without(rows, erased) for rows in late])


def test_a_modulus_below_one_is_refused(place):
    with pytest.raises(ValueError, match="hash_partition_modulus must be at least 1, got 0"):
        place.store(hash_partition_modulus=0)


# Whole runs ---------------------------------------------------------------------------------------


def test_a_run_records_the_same_in_both(place, tmp_path, monkeypatch):
    monkeypatch.setattr(signals, "CHUNK", 100)
    stream = drifting(tmp_path / "stream")
    files = pipeline(stream, training=training()).replay(tmp_path / "files")
    store = place.store()
    with monkeypatch.context() as patched:
        patched.setattr(replay, "backend_of", with_signals(store))
        tables = pipeline(stream, training=training()).replay(tmp_path / "tables")

    assert tables.digest() == files.digest()
    assert not (tmp_path / "tables" / "signals").exists()
    for trigger in range(4):
        assert shown(store.read(trigger)) == shown(files.signals(trigger))


def with_signals(store: SignalStore) -> Callable[[Any, Path], backend.Embedded]:
    """A backend with everything in the run directory but the signals."""

    def make(pipeline: Any, directory: Path) -> backend.Embedded:
        found = backend.Embedded(pipeline, directory)
        found.signals = store
        return found

    return make


def test_rows_of_samples_erased_while_they_are_trained_on_go(place, tmp_path, monkeypatch):
    stream = drifting(tmp_path / "stream")
    store = place.store()
    begin = PostgresSignals.begin

    def erasing(self: PostgresSignals, recording: Recording) -> Any:
        if recording.trigger == 1:
            with modyn.Dataset.open(stream.path, mode="w") as writer:
                writer.erase([3, 160, 161], reason="asked for")
        return begin(self, recording)

    monkeypatch.setattr(PostgresSignals, "begin", erasing)
    monkeypatch.setattr(replay, "backend_of", with_signals(store))
    settings = training(drop_last_batch=False)
    pipeline(stream, training=settings, evaluation=None).replay(tmp_path / "run")

    assert place.sql("SELECT count(*) FROM modyn.signals WHERE key IN (3, 160, 161)") == [(0,)]
    assert place.sql("SELECT count(*) FROM modyn.signals WHERE trigger = 0") == [(298,)]
    for trigger in range(4):
        assert len(store.read(trigger)) > 0


def test_a_run_in_postgres_decides_by_signals_as_one_in_files(database_url, tmp_path):
    stream = drifting(tmp_path / "stream")
    stream.publish(database_url)
    given = {"training": training(), "selection": Hardest()}
    files = pipeline(stream, **given).replay(tmp_path / "files")

    tables = pipeline(stream, **given, metadata=database_url).replay(tmp_path / "tables")

    assert tables.digest() == files.digest()
    assert not (tmp_path / "tables" / "signals").exists()
    for trigger in (None, 0, 1, 2, 3):
        assert shown(tables.signals(trigger)) == shown(files.signals(trigger))


def test_signals_of_a_pipeline_that_was_forgotten_are_asked_for_in_vain(place, tmp_path):
    stream = drifting(tmp_path / "stream")
    stream.publish(place.url)
    run = pipeline(stream, training=training(), metadata=place.url).replay(tmp_path / "run")
    forget.forget(place.database, run.name)
    known = place.sql("SELECT name FROM modyn.pipelines ORDER BY 1")

    with pytest.raises(KeyError, match="there is no pipeline"):
        run.signals()

    assert place.sql("SELECT name FROM modyn.pipelines ORDER BY 1") == known


class Hardest(Selection):
    """The samples with the highest last loss, new ones first."""

    tail_triggers = None

    def select(self, candidates: Any, context: Any) -> Selected:
        keys = np.sort(candidates.keys)
        loss = np.nan_to_num(context.signals(names=["loss"]).of(keys).loss, nan=np.inf)
        return Selected(keys[np.argsort(-loss, kind="stable")[:180]])


@pytest.mark.parametrize("where", ["files", "postgres"])
def test_a_run_killed_anywhere_has_each_row_once(request, tmp_path, where):
    url = "" if where == "files" else request.getfixturevalue("place").url
    drifting(tmp_path / "stream", count=330).close()
    command = [sys.executable, "-m", "tests.python.signals_driver", str(tmp_path), url]

    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=550,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) >= 6
    assert all(line.endswith(" as if nothing had happened") for line in lines), done.stdout
