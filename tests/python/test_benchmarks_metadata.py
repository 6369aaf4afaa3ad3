"""What the benchmarks of Postgres do arrives, and what is said of it adds up; never how fast."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("psycopg", reason="psycopg is not installed")
pytest.importorskip("modyn.postgres", reason="modyn was built without libpq")

from benchmarks import metadata
from benchmarks.measure import Outcome
from benchmarks.page import page
from benchmarks.postgres import committing, filling, growing, reading, rivals, whole, words
from benchmarks.postgres.ground import Ground
from benchmarks.postgres.samples import BLOCK, LAYOUTS, Samples, make_samples
from benchmarks.postgres.server import Server, prepare_schema
from benchmarks.postgres.site import Site
from benchmarks.postgres.turns import Turns, Way

ROOT = Path(__file__).parents[2]
COUNT = 3 * BLOCK + 1000
FILLING = [
    ("rows", name)
    for name in (
        *("libpq", "modyn", "libpq, 2 connections", "modyn, 2 connections", "psql \\copy"),
        *("psycopg, packed", "psycopg, write_row", "asyncpg", "ADBC", "SQLAlchemy"),
    )
] + [
    ("blocks", name)
    for name in (
        *("libpq", "modyn", "libpq, 2 connections", "modyn, 2 connections", "psql \\copy"),
        *("psycopg, write_row", "asyncpg"),
    )
]
READING = [
    ("rows", name)
    for name in (
        *("libpq", "modyn read", "modyn Source", "psql \\copy", "psycopg, unpacked"),
        *("psycopg, rows", "asyncpg", "ADBC"),
    )
] + [("blocks", name) for name in ("libpq", "modyn read", "modyn Source", "psql \\copy")]


@pytest.fixture
def site(server, tmp_path):
    assert server.pid is not None
    return Site(Server(server.url, server.pid), tmp_path, quick=True, times=1, samples=COUNT)


@pytest.fixture
def database(site):
    with site.database("benchmark") as url:
        prepare_schema(url)
        yield url


def take_turn(ways, name, count):
    """Do as a way does in its turn, once."""
    there, lines = filling.present({name: ways[name]})
    if lines:
        pytest.skip(lines[0])
    way = there[name]
    share = max(1, round(way.share * count))
    try:
        way.prepare(share)
        way.check(share, way.run(share))
    finally:
        way.close()


@pytest.mark.parametrize(("layout", "name"), FILLING)
def test_each_way_to_fill_a_leaf_brings_all_samples(site, database, layout, name):
    with closing(Ground(database, LAYOUTS[layout], make_samples(COUNT))) as ground:
        ways = filling.everybody(ground, site, rivals_too=True)

        assert list(ways) == [each for kind, each in FILLING if kind == layout]
        take_turn(ways, name, COUNT)

        ground.clear()


@pytest.mark.parametrize(("layout", "name"), READING)
def test_each_way_to_read_a_leaf_gets_all_samples(database, layout, name):
    with closing(reading.Ground(database, LAYOUTS[layout], make_samples(COUNT))) as ground:
        ways = reading.everybody(ground)

        assert list(ways) == [each for kind, each in READING if kind == layout]
        take_turn(ways, name, COUNT)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_way_to_read_a_range_gets_the_range(database, layout):
    ground = reading.Ground(database, LAYOUTS[layout], make_samples(COUNT), BLOCK, 2 * BLOCK)

    for name in reading.everybody(ground):
        take_turn(reading.everybody(ground), name, BLOCK)

    ground.close()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_samples_that_swap_their_labels_are_noticed(site, database, layout):
    samples = make_samples(COUNT)
    ground = Ground(database, LAYOUTS[layout], samples)
    way = filling.floor(ground)
    way.run(COUNT)
    labels = samples.labels.copy()
    at = int(np.flatnonzero(labels != labels[0])[0])
    labels[[0, at]] = labels[[at, 0]]
    ground.samples = Samples(samples.keys, samples.timestamps, labels)

    with pytest.raises(AssertionError, match=r"leaf 1: .* arrived, expected"):
        way.check(COUNT, None)

    way.close()
    ground.close()


def test_columns_that_are_not_the_truth_are_noticed(database):
    ground = reading.Ground(database, LAYOUTS["rows"], make_samples(100))
    wanted = ground.wanted

    with pytest.raises(AssertionError, match="other columns"):
        ground.check_columns(100, (wanted.keys, wanted.timestamps, wanted.labels + 1))

    ground.close()


def test_the_floor_says_what_the_server_said(database):
    floor = filling.Floor(database)

    with pytest.raises(RuntimeError, match="nowhere"):
        floor.drain("COPY nowhere TO STDOUT (FORMAT binary)")

    floor.close()


def test_a_rival_that_fails_is_left_out_and_ours_may_not(site):
    def fail(count):
        raise RuntimeError("no such thing")

    fine = Way(lambda count: None, lambda count, left: None, kind="floor")
    line = Outcome("line", 0.9, "floor", "floor")

    turns = Turns(site, line, 100, lambda: None)
    turns.run({"floor": fine, "rival": Way(fail, fine.check)}, 1)

    assert line.facts["failed"] == {"rival": "RuntimeError: no such thing"}
    assert list(line.wall) == ["floor"]
    with pytest.raises(RuntimeError, match="no such thing"):
        Turns(site, line, 100, lambda: None).run({"ours": Way(fail, fine.check, kind="ours")}, 1)


def test_processor_time_is_of_client_and_server(site):
    import psycopg

    watch = site.watch()
    with psycopg.connect(site.server.url) as connection:
        connection.execute("SELECT sum(n) FROM generate_series(1, 2000000) AS n")
        _, busy = watch.stop()

    assert busy > 0


def small_sections(site):
    """Measure everything, as small as it can be."""
    for name in metadata.WORKLOADS:
        yield metadata.measure(name, site)


def test_every_workload_runs_and_the_page_says_all_of_it(site, tmp_path):
    document = {
        "benchmark": "metadata",
        "command": "python -m benchmarks.metadata",
        "date": "2000-01-01",
        "machine": "a machine",
        "server": site.server.settings(),
        "quick": True,
        "sections": [json.loads(json.dumps(s.as_json())) for s in small_sections(site)],
    }

    text = page([document], tmp_path, "metadata")

    assert document["server"]["server_version"] in text
    assert [s["id"] for s in document["sections"]] == list(metadata.WORKLOADS)
    for section in document["sections"]:
        assert f"## {section['id']}: {section['title']}" in text
        assert section["lines"] or section["tables"]
    for said in (words.TITLE, "**Rows or blocks.**", "**How many conn", "**What an index"):
        assert said in text
    for path in (tmp_path / "postgres-figures").iterdir():
        assert ElementTree.parse(path).getroot().tag.endswith("svg")


def test_every_workload_has_its_place_on_the_page():
    assert set(metadata.WORKLOADS) <= set(words.ORDER)


def test_rivals_that_are_not_here_are_named_with_how_to_get_them(monkeypatch):
    monkeypatch.setattr("benchmarks.postgres.rivals.find_spec", lambda name: None)

    for name, (_, pip) in rivals.RIVALS.items():
        expected = f"{name} is left out: not installed (pip install '{pip}')"
        assert rivals.missing(name) == expected


def test_the_versions_of_rivals_are_pinned():
    lines = (ROOT / "benchmarks" / "rivals.txt").read_text().splitlines()
    pinned = {line.split("==")[0] for line in lines if line and not line.startswith("#")}

    assert {pip.split("[")[0] for _, pip in rivals.RIVALS.values()} <= pinned


def test_transitions_are_read_back(site, database):
    for way in (committing.sqlite(site.folder), committing.postgres(database)):
        way.prepare(3)
        way.check(3, way.run(3))
        way.prepare(2)
        with pytest.raises(AssertionError, match="other transitions"):
            way.check(2, None)
        way.close()


def test_random_keys_are_all_different():
    keys = growing.scattered(np.arange(100_000, dtype=np.uint64))

    assert len(np.unique(keys)) == len(keys)
    assert keys.max() < 2**63


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_chosen_by_way_of_postgres_is_what_is_chosen_without(site, tmp_path, layout):
    whole.make_dataset(tmp_path / "samples", 5000)
    (tmp_path / "chosen").mkdir()
    _, truth = whole.embedded(tmp_path / "samples", 500, tmp_path / "chosen")

    with site.database("whole") as url:
        found, kept = whole.through_postgres(
            whole.Stages(), tmp_path / "samples", url, layout, 500, tmp_path / "chosen"
        )

    whole.compare(found, kept, truth)
    assert len(truth.keys) == 500


def test_the_command_starts_a_server_and_writes_one_document(server, tmp_path):
    command = [sys.executable, "-m", "benchmarks.metadata", "--quick", "--samples", "20"]
    given = [
        "--repetitions",
        "1",
        "--json",
        str(tmp_path / "it.json"),
        "--set",
        "wal_level=replica",
    ]

    subprocess.run([*command, *given, "M6"], cwd=ROOT, timeout=300, check=True)

    document = json.loads((tmp_path / "it.json").read_text())
    assert document["benchmark"] == "metadata"
    assert document["not_there"] == []
    assert document["server"]["fsync"] == "on"
    assert document["server"]["wal_level"] == "replica"
    assert [section["id"] for section in document["sections"]] == ["M6"]
