"""A dataset's metadata in Postgres: all of it, once, whatever dies on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import psycopg
import pytest
from typer.testing import CliRunner

import modyn
from modyn import cli
from modyn.errors import ConfigError, DatabaseError
from modyn.metadata.database import Database
from modyn.metadata.filling import batch, work
from modyn.metadata.publish import publish, publish_columns
from modyn.metadata.published import Published
from modyn.metadata.state import read
from tests.python.postgres_server import (
    kill_server,
    new_database,
    sql,
    terminate_backends,
)
from tests.python.publishing import check, child, create, end, go, grow, said

LAYOUTS = ["rows", "blocks"]
LEAF = 256
KNOWN = "SELECT 1 FROM pg_class WHERE relname = 'leaves'"
KILLS = 400 if os.environ.get("MODYN_LONG") else 20


@pytest.fixture(params=LAYOUTS)
def layout(request):
    return request.param


@pytest.fixture
def dataset(tmp_path):
    with create(tmp_path / "clicks") as made:
        yield made


@pytest.fixture
def own_url(own_server):
    with new_database(own_server) as url:
        yield url


def erase(dataset, keys):
    dataset.erase(np.unique(keys), reason="test")


# What is published --------------------------------------------------------------------------------


def test_a_dataset_is_published_as_it_is(dataset, database_url, layout):
    grow(dataset, 1000)

    report = dataset.publish(database_url, layout=layout, leaf_samples=LEAF)

    assert (report.samples, report.total, report.erased) == (1000, 1000, 0)
    assert report.layout == layout
    check(database_url, dataset, count=1000)


def test_nothing_new_is_nothing_to_do(dataset, database_url, layout):
    grow(dataset, 300)
    dataset.publish(database_url, layout=layout, leaf_samples=LEAF)

    report = dataset.publish(database_url)

    assert (report.samples, report.total) == (0, 300)
    check(database_url, dataset, count=300)


def test_an_empty_dataset_is_known_and_grows(dataset, database_url, layout):
    assert dataset.publish(database_url, layout=layout).total == 0
    check(database_url, dataset, count=0)

    grow(dataset, 5)
    dataset.publish(database_url)

    check(database_url, dataset, count=5)


def test_a_dataset_without_labels(tmp_path, database_url, layout):
    with create(tmp_path / "plain", labels=False) as dataset:
        grow(dataset, 700)
        dataset.publish(database_url, layout=layout, leaf_samples=LEAF)
        grow(dataset, 50)
        dataset.publish(database_url)

        assert check(database_url, dataset, count=750).labels is None


def test_leaves_of_the_default_size_hold_several_blocks(dataset, database_url, layout):
    grow(dataset, 40_000)
    dataset.publish(database_url, layout=layout)
    erase(dataset, [3, 20_000, 39_999])
    grow(dataset, 20_000)

    dataset.publish(database_url)

    check(database_url, dataset, count=60_000)


def test_it_is_published_in_random_steps(dataset, database_url, layout, rand):
    for _ in range(25):
        grow(dataset, int(rand.numpy.integers(1, 400)), late=bool(rand.numpy.integers(2)))
        if rand.numpy.integers(3) == 0:
            erase(dataset, rand.numpy.integers(0, len(dataset), 20))
        connections = int(rand.numpy.integers(1, 4))
        before = said(database_url, dataset.uuid).row["count"] if _ else 0

        report = dataset.publish(
            database_url, layout=layout, leaf_samples=LEAF, connections=connections
        )

        assert report.samples == len(dataset) - before
        check(database_url, dataset, count=len(dataset))


def test_any_handle_publishes_all_that_is_committed(dataset, database_url, layout):
    grow(dataset, 10)
    old = modyn.Dataset.open(dataset.path)
    grow(dataset, 10)

    old.publish(database_url, layout=layout)

    check(database_url, dataset, count=20)


def test_several_datasets_share_a_database(tmp_path, database_url):
    made = [create(tmp_path / f"d{i}") for i in range(4)]
    for i, dataset in enumerate(made):
        grow(dataset, 100 * i + 10)
        dataset.publish(database_url, layout=LAYOUTS[i % 2], leaf_samples=64)

    for i, dataset in enumerate(made):
        check(database_url, dataset, count=100 * i + 10)
        dataset.close()


def test_arrays_are_published_without_a_dataset(database_url, layout):
    times, labels = np.arange(3000), np.arange(3000) % 5
    uuid = "ab" * 16
    publish_columns(
        times[:1000], labels[:1000], database_url, uuid=uuid, layout=layout, leaf_samples=LEAF
    )

    report = publish_columns(times, labels, database_url, uuid=uuid)

    found = said(database_url, uuid)
    assert report.samples == 2000
    assert found.timestamps.tolist() == times.tolist()
    assert found.labels.tolist() == labels.tolist()


def test_progress_is_told(dataset, database_url, layout):
    grow(dataset, 1000)
    told = []

    dataset.publish(
        database_url,
        layout=layout,
        leaf_samples=LEAF,
        progress=lambda done, total: told.append((done, total)),
    )

    assert told[-1] == (1000, 1000)
    assert told == sorted(told)


# Time ---------------------------------------------------------------------------------------------


def test_late_samples_are_noticed_wherever_they_come(tmp_path, database_url, layout):
    for i, late in enumerate([1, 255, 256, 300, 511, 512, 899]):
        with create(tmp_path / f"late{i}") as dataset:
            times = np.arange(900)
            times[late] = times[late - 1] - 1
            for part in (times[:300], times[300:600], times[600:]):
                count = len(part)
                dataset.append(
                    {"x": np.zeros(count, np.int8)}, labels=np.zeros(count), timestamps=part
                )
                dataset.publish(database_url, layout=layout, leaf_samples=LEAF)
                check(database_url, dataset, count=len(dataset))
            with Database(database_url) as database:
                published = Published(database, dataset.uuid)

            assert not published.ascending
            assert published.is_ascending(late)
            assert not published.is_ascending(late + 1)


def test_what_was_late_and_is_erased_is_late_no_more(dataset, database_url, layout):
    grow(dataset, 600)
    dataset.append({"x": [0]}, labels=[0], timestamps=[-5])
    dataset.append({"x": [0]}, labels=[0], timestamps=[9999])
    dataset.publish(database_url, layout=layout, leaf_samples=LEAF)
    assert not check(database_url, dataset).row["ascending"]

    erase(dataset, [600])
    dataset.publish(database_url)

    assert check(database_url, dataset).row["ascending"]


# Erasures -----------------------------------------------------------------------------------------


def test_what_is_erased_before_is_never_sent(dataset, database_url, layout):
    grow(dataset, 1000)
    gone = [0, 5, 255, 256, *range(512, 768), 999]
    erase(dataset, gone)

    report = dataset.publish(database_url, layout=layout, leaf_samples=LEAF)

    assert report.erased == len(gone)
    check(database_url, dataset, count=1000)


def test_what_is_erased_afterwards_goes(dataset, database_url, layout):
    grow(dataset, 1000)
    dataset.publish(database_url, layout=layout, leaf_samples=LEAF)
    erase(dataset, [0, 5, 255, 256, *range(512, 768), 999])
    erase(dataset, [6, 7])

    report = dataset.publish(database_url)

    assert (report.samples, report.erasures) == (0, 2)
    check(database_url, dataset, count=1000)


def test_compaction_changes_nothing(dataset, database_url, layout):
    grow(dataset, 1000)
    dataset.publish(database_url, layout=layout, leaf_samples=LEAF)
    erase(dataset, [1, 2, 700])
    dataset.publish(database_url)
    dataset.compact()
    grow(dataset, 10)

    dataset.publish(database_url)

    check(database_url, dataset, count=1010)


def test_an_old_view_never_brings_an_erased_sample_back(dataset, database_url, layout):
    grow(dataset, 300)
    dataset.publish(database_url, layout=layout, leaf_samples=LEAF)
    grow(dataset, 100)
    with Database(database_url) as database, database.bulk() as connection:
        state = database.run(lambda cursor: read(cursor, dataset.uuid))
        old, (job,) = dataset.view, work(state, 400)
        erase(dataset, [350])
        grow(dataset, 1)
        dataset.publish(database_url)
        late = batch(state, old, job, 0, None)

        with pytest.raises(DatabaseError):
            connection.batch(
                late.id + "-again", before=late.before, copies=late.copies, after=late.after
            )

    check(database_url, dataset, count=401)


# Exactly once -------------------------------------------------------------------------------------


def test_a_killed_process_leaves_a_prefix_and_the_next_goes_on(dataset, database_url, layout, rand):
    grow(dataset, 2000)
    publish(dataset, database_url, layout=layout, leaf_samples=LEAF)
    began = time.perf_counter()
    grow(dataset, 3000)
    publish(dataset, database_url)
    usual = time.perf_counter() - began

    for _ in range(KILLS):
        grow(dataset, int(rand.numpy.integers(1, 3000)), late=bool(rand.numpy.integers(2)))
        if rand.numpy.integers(3) == 0:
            erase(dataset, rand.numpy.integers(0, len(dataset), 40))
        process = child(dataset, database_url, layout, leaf_samples=LEAF)
        try:
            go(process)
            time.sleep(float(rand.numpy.uniform(0, 1.2 * usual)))
        finally:
            process.kill()
            process.communicate()
        found = said(database_url, dataset.uuid)
        assert (np.diff(found.keys) > 0).all()
        if rand.numpy.integers(2):
            publish(dataset, database_url)
            check(database_url, dataset, count=len(dataset))

    publish(dataset, database_url)
    check(database_url, dataset, count=len(dataset))


def test_two_processes_publish_at_once(dataset, database_url, layout, rand):
    for _ in range(3):
        grow(dataset, int(rand.numpy.integers(1, 3000)))
        if _:
            erase(dataset, rand.numpy.integers(0, len(dataset), 40))
        both = [child(dataset, database_url, layout, leaf_samples=LEAF) for _ in range(2)]
        for process in both:
            go(process)

        ended = [end(process) for process in both]

        assert [code for code, _ in ended] == [0, 0], ended
        check(database_url, dataset, count=len(dataset))


@contextmanager
def meanwhile(work):
    """Run something again and again in a thread until the body has ended."""
    stop, failed = threading.Event(), []

    def repeat():
        try:
            while not stop.is_set():
                work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()
    if failed:
        raise failed[0]


def test_backends_that_are_terminated_cost_nothing(dataset, database_url, layout):
    grow(dataset, 6000)
    dataset.publish(database_url, layout=layout, leaf_samples=LEAF)

    def terminate():
        time.sleep(random.uniform(0.05, 0.3))
        terminate_backends(database_url)

    with meanwhile(terminate):
        for _ in range(4):
            grow(dataset, 5000)
            erase(dataset, np.random.default_rng(_).integers(0, len(dataset), 40))
            dataset.publish(database_url)
            dataset.refresh()

    check(database_url, dataset, count=26_000)


def test_a_reader_sees_whole_prefixes(dataset, database_url, layout):
    grow(dataset, 100)
    dataset.publish(database_url, layout=layout, leaf_samples=LEAF)
    counts = []

    def look():
        found = said(database_url, dataset.uuid)
        assert found.keys.tolist() == list(range(found.row["count"]))
        counts.append(found.row["count"])

    with meanwhile(look):
        for _ in range(5):
            grow(dataset, 2000)
            dataset.publish(database_url, connections=3)

    assert counts == sorted(counts)
    check(database_url, dataset, count=10_100)


def test_a_server_that_is_killed_loses_nothing(dataset, own_server, own_url, layout):
    grow(dataset, 3000)
    dataset.publish(own_url, layout=layout, leaf_samples=LEAF)

    for _ in range(3):
        grow(dataset, 4000)
        with Database(own_url) as database, ThreadPoolExecutor(1) as pool:
            database.check()  # a server that is not there at the first contact is an error
            publishing = pool.submit(dataset.publish, database)
            time.sleep(random.uniform(0, 0.4))
            kill_server(own_server)
            own_server.start(child=True)  # by this thread, which lives on: the server dies with it

            publishing.result(timeout=120)

        check(own_url, dataset, count=len(dataset))


def test_an_interrupted_process_ends_and_leaves_a_prefix(dataset, database_url, layout, rand):
    for _ in range(4):
        grow(dataset, 3000)
        process = child(dataset, database_url, layout, leaf_samples=LEAF)
        try:
            go(process)
            time.sleep(float(rand.numpy.uniform(0, 0.3)))
            process.send_signal(signal.SIGINT)
        finally:
            code, errors = end(process)

        assert code in (0, 1, -signal.SIGINT)
        # At its very end an interpreter dies of the signal without a word.
        assert not errors or "KeyboardInterrupt" in errors
        if sql(database_url, KNOWN) and sql(database_url, "SELECT 1 FROM modyn.datasets"):
            said(database_url, dataset.uuid)

    publish(dataset, database_url, layout=layout, leaf_samples=LEAF)
    check(database_url, dataset, count=len(dataset))


# On the command line ------------------------------------------------------------------------------


def command(*words):
    return CliRunner().invoke(cli.app, ["dataset", "publish", *map(str, words)], prog_name="modyn")


def test_the_command_publishes(dataset, database_url, layout):
    grow(dataset, 1234)

    first = command(dataset.path, database_url, "--layout", layout)
    grow(dataset, 1)
    second = command(dataset.path, database_url, "--json")

    assert first.exit_code == 0, first.output
    assert "1,234 samples published" in first.output
    report = json.loads(second.output)
    assert (report["samples"], report["total"], report["layout"]) == (1, 1235, layout)
    check(database_url, dataset, count=1235)


def test_the_command_says_what_is_wrong(dataset, database_url):
    grow(dataset, 10)
    dataset.publish(database_url, layout="rows")

    layout = command(dataset.path, database_url, "--layout", "blocks")
    word = command(dataset.path, database_url, "--layout", "columns")
    secret = command(dataset.path, "postgresql://u:hunter2@localhost/x")
    nowhere = command(dataset.path, "postgresql://u@127.0.0.1:1/x")

    assert (layout.exit_code, word.exit_code, secret.exit_code) == (2, 2, 2)
    assert nowhere.exit_code == 1
    assert "layout='rows'" in layout.output
    assert "hunter2" not in secret.output
    for result in (layout, word, secret, nowhere):
        assert "Traceback" not in result.output


# Unlogged tables ----------------------------------------------------------------------------------


def test_unlogged_leaves_that_a_crash_has_emptied_are_filled_again(
    dataset, own_server, own_url, layout
):
    grow(dataset, 1000)
    erase(dataset, range(256, 512))
    dataset.publish(own_url, layout=layout, leaf_samples=LEAF, unlogged=True)
    grow(dataset, 10)
    dataset.publish(own_url)
    check(own_url, dataset, count=1010)
    kill_server(own_server)
    own_server.start(child=True)
    missing = "754 samples are missing.*modyn dataset publish"
    with Database(own_url) as database, pytest.raises(DatabaseError, match=missing):
        Published(database, dataset.uuid, path=dataset.path)
    erase(dataset, [3])
    grow(dataset, 500)

    report = dataset.publish(own_url)

    assert (report.samples, report.refilled) == (500, 1010 - 256)
    check(own_url, dataset, count=1510)
    with Database(own_url) as database:
        assert Published(database, dataset.uuid).count == 1510


def test_an_emptied_leaf_is_never_added_to(dataset, own_server, own_url, layout):
    grow(dataset, 300)
    dataset.publish(own_url, layout=layout, leaf_samples=LEAF, unlogged=True)
    with Database(own_url) as database:
        state = database.run(lambda cursor: read(cursor, dataset.uuid))
    grow(dataset, 10)
    (job,) = work(state, 310)
    kill_server(own_server)
    own_server.start(child=True)
    parts = batch(state, dataset.view, job, 0, None)

    with (
        Database(own_url) as database,
        database.bulk() as connection,
        pytest.raises(DatabaseError),
    ):
        connection.batch(parts.id, before=parts.before, copies=parts.copies, after=parts.after)

    dataset.publish(own_url)
    check(own_url, dataset, count=310)


# What is refused ----------------------------------------------------------------------------------


def test_another_layout_is_refused(dataset, database_url):
    grow(dataset, 10)
    dataset.publish(database_url)

    for wrong in ({"layout": "blocks"}, {"unlogged": True}, {"leaf_samples": 64}):
        with pytest.raises(ConfigError, match=r"which stays: leave .* out"):
            dataset.publish(database_url, **wrong)


def test_an_old_copy_and_another_dataset_are_refused(tmp_path, dataset, database_url):
    import shutil

    grow(dataset, 10)
    old = tmp_path / "old"
    shutil.copytree(dataset.path, old)
    grow(dataset, 10)
    dataset.publish(database_url)

    with pytest.raises(ConfigError, match="old copy"):
        modyn.Dataset.open(old).publish(database_url)
    sql(database_url, "UPDATE modyn.datasets SET fields = '{}'")
    with pytest.raises(ConfigError, match="another one"):
        dataset.publish(database_url)


def test_a_copy_that_lacks_erasures_is_refused(tmp_path, dataset, database_url):
    import shutil

    grow(dataset, 10)
    old = tmp_path / "old"
    shutil.copytree(dataset.path, old)
    erase(dataset, [3])
    dataset.publish(database_url)

    with pytest.raises(ConfigError, match="old copy"):
        modyn.Dataset.open(old).publish(database_url)


@pytest.mark.parametrize(
    "wrong",
    [{"layout": "columns"}, {"leaf_samples": 3}, {"leaf_samples": 0}, {"connections": 0}],
)
def test_settings_that_make_no_sense_are_refused(dataset, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        dataset.publish("host=/nowhere", **wrong)


def test_who_may_not_is_told_so(dataset, database_url):
    grow(dataset, 10)
    with Database(database_url) as database:
        database.check()
    sql(database_url, "DROP ROLE IF EXISTS guest")
    sql(database_url, "CREATE ROLE guest LOGIN")
    try:
        sql(database_url, "GRANT USAGE ON SCHEMA modyn TO guest")
        sql(database_url, "GRANT SELECT ON ALL TABLES IN SCHEMA modyn TO guest")
        theirs = psycopg.conninfo.make_conninfo(database_url, user="guest")

        with pytest.raises(DatabaseError, match="permission denied"):
            dataset.publish(theirs)
    finally:
        sql(database_url, "DROP OWNED BY guest")
        sql(database_url, "DROP ROLE guest")


def test_what_is_not_published_is_said_with_what_to_do(dataset, database_url):
    todo = r"dataset.publish\(url\)"
    with Database(database_url) as database, pytest.raises(ConfigError, match=todo):
        Published(database, dataset.uuid)


def test_rows_that_somebody_deleted_are_no_endless_loop(dataset, database_url):
    grow(dataset, 10)
    dataset.publish(database_url)
    sql(database_url, "DELETE FROM modyn.leaves")

    with pytest.raises(DatabaseError, match="were deleted"):
        dataset.publish(database_url)
