"""The stream of a run in Postgres is the stream of the same run without a server."""

from __future__ import annotations

from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import psycopg
import pytest

import modyn
from modyn.errors import ConfigError, FencedError
from modyn.metadata.database import Database
from modyn.metadata.published import Published
from modyn.metadata.stream import stream_of
from modyn.pipelines.stream import stream_of as embedded_stream_of
from modyn.sampling import Candidates
from tests.python.postgres_server import sql
from tests.python.streams import drifting, pipeline

BOUNDS = [(None, None), (0, None), (None, 47), (-20, 47), (-139, -60), (5, 6)]
LEAF = 128


@pytest.fixture(params=["rows", "blocks"])
def layout(request):
    return request.param


@pytest.fixture
def database(database_url):
    with Database(database_url) as database:
        yield database


def published(database, dataset, layout):
    dataset.publish(database, layout=layout, leaf_samples=LEAF)
    return Published(database, dataset.uuid)


def keys_of(stream):
    return list(range(stream.count)) if stream.order is None else stream.order.tolist()


def expected(dataset, order, start, stop, count):
    made = pipeline(dataset, order=order, start_replay_at=start, stop_replay_at=stop)
    return embedded_stream_of(made, count)


def content(database, pipeline_id, layout):
    """The stream as it is in the tables: positions, keys, timestamps and labels, by position."""
    with psycopg.connect(database.conninfo) as connection:
        if layout == "rows":
            rows = connection.execute(
                'SELECT "position", key, "timestamp", label FROM modyn.stream_rows '
                'WHERE pipeline = %s ORDER BY "position"',
                [pipeline_id],
            ).fetchall()
            return np.array(rows, np.int64).reshape(-1, 4)
        parts = []
        for first, count, keys, times, labels, erased in connection.execute(
            'SELECT "first", count, keys, timestamps, labels, erased FROM modyn.stream_blocks '
            'WHERE pipeline = %s ORDER BY "first"',
            [pipeline_id],
        ):
            bits = np.frombuffer(erased or bytes(count // 8 + 1), np.uint8)
            gone = np.unpackbits(bits, count=count, bitorder="little").astype(bool)
            columns = [np.frombuffer(blob, "<i8") for blob in (keys, times, labels)]
            assert not columns[1][gone].any()
            assert not columns[2][gone].any()
            table = np.stack([np.arange(first, first + count), *columns], axis=1)
            parts.append(table[~gone])
        return np.concatenate(parts)


def check(database, dataset, pipeline_id, layout, keys):
    """Hold a stream that was written against the dataset."""
    keys = np.asarray(keys)
    places = np.flatnonzero(~dataset.erased[keys])
    living = keys[places]
    found = content(database, pipeline_id, layout)
    assert found[:, 0].tolist() == places.tolist()
    assert found[:, 1].tolist() == living.tolist()
    assert found[:, 2].tolist() == dataset.timestamps[living].tolist()
    assert found[:, 3].tolist() == dataset.labels[living].tolist()
    check_leaves(database, pipeline_id, found, len(keys))


def check_source(source, dataset, keys):
    """Read a stream as runs do, and hold it against the dataset."""
    keys = np.asarray(keys, np.uint64)
    for first, last in ((0, len(keys)), (len(keys) // 3, 2 * len(keys) // 3)):
        living = keys[first:last][~dataset.erased[keys[first:last]]]
        found = Candidates.from_source(source, first=first, last=last)
        assert len(found) == len(living)
        assert found.keys.tolist() == living.tolist()
        assert found.timestamps.tolist() == dataset.timestamps[living].tolist()
        if dataset.labels is not None:
            assert found.labels.tolist() == dataset.labels[living].tolist()


def check_leaves(database, pipeline_id, found, count):
    leaves = database.fetch(
        'SELECT leaf, "first", count, erased, min_timestamp, max_timestamp '
        "FROM modyn.stream_leaves WHERE pipeline = %s ORDER BY leaf",
        [pipeline_id],
    )
    assert sum(row[2] for row in leaves) == count
    for leaf, first, samples, erased, low, high in leaves:
        here = found[(found[:, 0] >= first) & (found[:, 0] < first + samples), 2]
        assert first == leaf * LEAF
        assert erased == samples - len(here)
        assert [low, high] == ([here.min(), here.max()] if len(here) else [None, None])


@pytest.mark.parametrize("order", ["arrival", "time"])
@pytest.mark.parametrize("made", ["late", "time"])
def test_a_stream_has_the_keys_of_the_embedded_run(tmp_path, database, layout, order, made):
    dataset = drifting(tmp_path / made, order=made)
    samples = published(database, dataset, layout)
    for start, stop in BOUNDS:
        for count in (1, 150, 599, 600):
            number = database.pipeline_id(f"{start} {stop} {count}")
            try:
                embedded = expected(dataset, order, start, stop, count)
            except ConfigError:
                with pytest.raises(ConfigError, match="no samples to follow"):
                    stream_of(samples, number, order, start, stop, count)
                continue

            source, keys, ascending = stream_of(samples, number, order, start, stop, count)

            assert source.count == embedded.count
            assert ascending == embedded.ascending
            check_source(source, dataset, keys_of(embedded))
            if keys is None:
                assert keys_of(embedded) == list(range(count))
                continue
            assert keys.tolist() == keys_of(embedded)
            check(database, dataset, number, layout, keys)


def test_ascending_samples_are_the_stream_themselves(tmp_path, database, layout):
    dataset = drifting(tmp_path / "d")
    samples = published(database, dataset, layout)

    source, order, ascending = stream_of(samples, 1, "time", None, None, 600)

    assert (source.count, order, ascending) == (600, None, True)
    assert database.fetch("SELECT count(*) FROM modyn.streams") == [(0,)]


def test_a_stream_is_written_once(tmp_path, database, layout):
    dataset = drifting(tmp_path / "d", order="late")
    samples = published(database, dataset, layout)
    number = database.pipeline_id("p")
    first = stream_of(samples, number, "time", None, None, 600)
    written = database.fetch("SELECT number FROM modyn.streams")

    again = stream_of(samples, number, "time", None, None, 600)

    assert again.order.tolist() == first.order.tolist()
    assert database.fetch("SELECT number FROM modyn.streams") == written


def test_another_stream_takes_the_place_of_one_whose_run_never_began(tmp_path, database, layout):
    dataset = drifting(tmp_path / "d", order="late")
    samples = published(database, dataset, layout)
    number = database.pipeline_id("p")
    stream_of(samples, number, "time", None, None, 500)

    _, keys, _ = stream_of(samples, number, "time", -20, 200, 600)

    assert keys.tolist() == keys_of(expected(dataset, "time", -20, 200, 600))
    check(database, dataset, number, layout, keys)


@pytest.mark.parametrize(("order", "bounds"), [("time", (None, None)), ("arrival", (-50, 300))])
def test_erasing_keeps_positions(tmp_path, database, layout, rand, order, bounds):
    path = tmp_path / "d"
    samples = published(database, drifting(path, order="late"), layout)
    number = database.pipeline_id("p")
    _, before, _ = stream_of(samples, number, order, *bounds, 600)
    for _ in range(3):
        with modyn.Dataset.open(path, mode="w") as dataset:
            dataset.erase(rand.numpy.choice(600, 60), reason="test")
            dataset.publish(database)
    samples.refresh()

    source, keys, _ = stream_of(samples, number, order, *bounds, 600)

    assert source.count == len(before)
    assert keys.tolist() == before.tolist()
    check(database, modyn.Dataset.open(path), number, layout, keys)
    check_source(source, modyn.Dataset.open(path), keys)


def test_a_run_keeps_its_stream_when_erasing_leaves_the_rest_ascending(tmp_path, database, layout):
    path = tmp_path / "d"
    dataset = modyn.Dataset.create(path, schema={"x": "float32"})
    times = np.array([0, 1, 9, 2, 3, 4])
    dataset.append({"x": np.zeros(6, np.float32)}, labels=times % 2, timestamps=times)
    samples = published(database, dataset, layout)
    number = database.pipeline_id("p")
    _, before, _ = stream_of(samples, number, "time", None, None, 6)
    dataset.erase([2], reason="test")
    dataset.publish(database)
    samples.refresh()
    assert samples.ascending

    _, keys, _ = stream_of(samples, number, "time", None, None, 6)

    assert keys.tolist() == before.tolist() == [0, 1, 3, 4, 5, 2]


def test_what_was_erased_before_has_no_position(tmp_path, database, layout, rand):
    path = tmp_path / "d"
    before = drifting(path, order="late")
    published(database, before, layout)
    gone = np.unique(rand.numpy.choice(600, 60))
    with modyn.Dataset.open(path, mode="w") as dataset:
        dataset.erase(gone, reason="test")
        dataset.publish(database)
    number = database.pipeline_id("p")

    _, keys, _ = stream_of(Published(database, before.uuid), number, "time", None, None, 600)

    embedded = keys_of(expected(modyn.Dataset.open(path), "time", None, None, 600))
    assert keys.tolist() == [key for key in embedded if key not in set(gone.tolist())]
    check(database, modyn.Dataset.open(path), number, layout, keys)


def test_who_lost_the_lease_writes_no_stream(tmp_path, database, layout):
    dataset = drifting(tmp_path / "d", order="late")
    samples = published(database, dataset, layout)
    number = database.pipeline_id("p")
    fence = "SELECT 1 FROM modyn.pipelines WHERE id = $1 AND token = $2 FOR KEY SHARE"

    with pytest.raises(FencedError):
        stream_of(samples, number, "time", None, None, 600, fence=(fence, (str(number), "7"), 1))

    assert database.fetch("SELECT count(*) FROM modyn.streams") == [(0,)]


@pytest.mark.parametrize("replaced", [False, True])
def test_samples_erased_while_a_stream_is_written_are_not_in_it(
    tmp_path, database, layout, monkeypatch, replaced
):
    """The stream is planned, then samples are erased and published, then it is written."""
    path = tmp_path / "d"
    samples = published(database, drifting(path, order="late"), layout)
    number = database.pipeline_id("p")
    if replaced:
        stream_of(samples, number, "time", None, None, 500)
    gone = [7, 8, 300]
    planned = []

    @contextmanager
    def bulk(self, **settings):
        monkeypatch.undo()
        with modyn.Dataset.open(path, mode="w") as dataset:
            dataset.erase(gone, reason="test")
            with Database(str(database.url)) as other:
                dataset.publish(other)
        planned.append(True)
        with database.bulk(**settings) as connection:
            yield connection

    monkeypatch.setattr(Database, "bulk", bulk)

    _, keys, _ = stream_of(samples, number, "time", None, None, 600)

    assert planned
    assert not set(keys.tolist()) & set(gone)
    check(database, modyn.Dataset.open(path), number, layout, keys)


def test_a_stream_erasures_do_not_know_of_holds_them_back(tmp_path, database, layout):
    """A stream that comes between the erasing of streams and the end of it is erased, too."""
    path = tmp_path / "d"
    samples = published(database, drifting(path, order="late"), layout)
    number = database.pipeline_id("p")
    gone = [7, 8, 300]
    with modyn.Dataset.open(path, mode="w") as dataset:
        dataset.erase(gone, reason="test")

    from modyn.metadata import erasures, publisher

    def apply(*arguments):
        original = erasures._commit

        def commit(connection, **parts):
            if "copies" not in parts:  # the last one
                erasures._commit = original
                stream_of(samples, number, "time", None, None, 600)
            original(connection, **parts)

        erasures._commit = commit
        return applied(*arguments)

    applied, publisher.apply_erasures = publisher.apply_erasures, apply
    try:
        with modyn.Dataset.open(path) as dataset:
            dataset.publish(str(database.url))
    finally:
        publisher.apply_erasures = applied

    found = content(database, number, layout)
    assert not set(found[:, 1].tolist()) & set(gone)


def test_parts_are_cut_where_a_run_ends(tmp_path, database, layout):
    path = tmp_path / "d"
    drifting(path)
    with modyn.Dataset.open(path, mode="w") as dataset:
        dataset.erase([0, 129, 140, 200], reason="test")
        samples = published(database, dataset, layout)

    parts = [part[1:] for part in samples.parts(150)]

    assert parts == [(0, 128, 1), (128, 22, 2)]
    assert [part[1:] for part in samples.parts()][:2] == [(0, 128, 1), (128, 128, 3)]
    assert sum(part[2] for part in samples.parts()) == 600
    with modyn.Dataset.open(path) as dataset:
        for count in (150, 128, 1, 600):
            check_source(samples.source(count), dataset, np.arange(count))
    for wrong in (0, 601):
        with pytest.raises(ValueError, match="count"):
            samples.parts(wrong)


def test_a_source_stays_what_it_is_while_more_is_published(tmp_path, database, layout):
    path = tmp_path / "d"
    with modyn.Dataset.create(path, schema={"x": "int8"}) as dataset:
        for count in (100, 128, 300):  # within a leaf, a full one, several
            numbers = np.arange(count)
            dataset.append(
                {"x": np.zeros(count, np.int8)}, labels=numbers, timestamps=len(dataset) + numbers
            )
            dataset.erase([len(dataset) - 1], reason="test")
            source = published(database, dataset, layout).source()
            before = len(dataset)
            for _ in range(2):
                dataset.append({"x": [1] * 50}, labels=[2] * 50, timestamps=[5000] * 50)
                dataset.publish(database)

                check_source(source, dataset, np.arange(before))


def test_labels_are_not_needed(tmp_path, database, layout):
    with modyn.Dataset.create(tmp_path / "d", schema={"x": "int8"}, labels=False) as dataset:
        dataset.append({"x": np.zeros(300, np.int8)}, timestamps=np.arange(300)[::-1])
        samples = published(database, dataset, layout)

        number = database.pipeline_id("p")
        source, keys, _ = stream_of(samples, number, "time", None, None, 300)

        assert keys.tolist() == list(range(300))[::-1]
        check_source(source, dataset, keys)
        check_source(samples.source(), dataset, np.arange(300))


def test_a_stream_that_lost_rows_is_an_error(tmp_path, database):
    dataset = drifting(tmp_path / "d", order="late")
    samples = published(database, dataset, "rows")
    number = database.pipeline_id("p")
    stream_of(samples, number, "time", None, None, 600)
    sql(str(database.url), 'DELETE FROM modyn.stream_rows WHERE "position" = 77')

    with pytest.raises(modyn.errors.DatabaseError, match="position 77"):
        stream_of(samples, number, "time", None, None, 600)


def test_facts_of_a_published_dataset(tmp_path, database, layout):
    dataset = drifting(tmp_path / "d", order="late")

    samples = published(database, dataset, layout)

    facts = SimpleNamespace(layout=layout, count=600, erased=0, events=0, has_labels=True)
    for name, value in vars(facts).items():
        assert getattr(samples, name) == value
    assert samples.timestamp_unit == "s"
    assert not samples.ascending
    assert [leaf.count for leaf in samples.leaves] == [128, 128, 128, 128, 88]
