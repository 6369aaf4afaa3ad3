"""Contenders of the benchmarks fetch what was stored, and what is said of them adds up."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import warnings
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

import modyn
from benchmarks.loader import WORKLOADS
from benchmarks.loading import indexing, pipelines, ways
from benchmarks.loading.cache import SMALL
from benchmarks.loading.data import RECORD, check, keys_of, rows_of, truth
from benchmarks.loading.gathering import one_thread, race, two_threads
from benchmarks.loading.ground import Ground
from benchmarks.loading.race import Way
from benchmarks.loading.rivals import RIVALS, missing
from benchmarks.loading.selecting import weighted_loader
from benchmarks.loading.site import Site
from benchmarks.loading.stores import STORES
from benchmarks.measure import Bar, Outcome
from benchmarks.page import ORDER, page
from benchmarks.section import Chart, Curves, Mark, Section, Table, Verdict, print_section

pytest.importorskip("torch")
ROOT = Path(__file__).parents[2]
RECORDS, BATCH = 3000, 64


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    site = Site(tmp_path_factory.mktemp("benchmarks"), quick=True, records=RECORDS)
    ground = Ground(site.dataset, BATCH)
    yield ground
    ground.close()


@pytest.fixture
def keys(rand):
    return np.random.default_rng(rand.seed).integers(RECORDS, size=5 * BATCH, dtype=np.uint64)


def run(way: Way, keys):
    """Fetch as a race does, twice, and compare with the truth; return the keys of the end."""
    for _ in range(2):
        way.prepare(keys)
        got, fields = way.run(keys)
        check("way", got, fields)
    assert len(got) == BATCH
    return got


@pytest.mark.parametrize("number", range(9))
def test_each_way_on_one_thread_fetches_the_truth(ground, keys, number):
    everybody = list(one_thread(ground).items())
    assert len(everybody) == 9

    name, way = everybody[number]
    got = run(way, keys)

    assert name == "modyn Loader, shuffled" or np.array_equal(got, keys[-BATCH:])


@pytest.mark.parametrize("number", range(7))
def test_each_way_on_two_threads_fetches_the_truth(ground, keys, number):
    everybody = list(two_threads(ground).items())
    assert len(everybody) == 7

    run(everybody[number][1], keys)


def test_a_cache_of_small_pages_holds_the_same_records(tmp_path, keys):
    site = Site(tmp_path, quick=True, records=RECORDS)

    ground = Ground(site.dataset, BATCH, pages=SMALL)

    run(ways.fetch(ground), keys)
    run(ways.floor(ground), keys)
    ground.close()


@pytest.mark.parametrize("name", STORES)
def test_each_store_returns_the_records_it_was_given(ground, keys, name, tmp_path):
    if missing(name):
        pytest.skip(missing(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        store = STORES[name](tmp_path, ground.memmap, 700)

        run(store.way(BATCH), keys)

        store.close()
        del store
        gc.collect()


@pytest.mark.filterwarnings("ignore")  # Lance, where a test has imported it, objects to forks
@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataloader_fetches_the_truth(ground, keys, workers):
    got = run(pipelines.dataloader(ground, workers), keys)

    assert np.array_equal(got, keys[-BATCH:])


def test_a_thread_that_reads_ahead_fetches_the_truth(ground, keys):
    assert np.array_equal(run(pipelines.thread_ahead(ground), keys), keys[-BATCH:])


def test_a_weighted_loader_delivers_the_weights_of_its_samples(ground, keys, tmp_path):
    run(weighted_loader(ground, str(tmp_path)), np.unique(keys)[: 2 * BATCH])


@pytest.mark.parametrize("name", ["floor", "searchsorted", "pandas", "KeyIndex"])
def test_each_index_finds_the_records_of_ids(ground, keys, name):
    ids = indexing.Ids(ground)
    if name == "floor":
        way = indexing.floor_index(ground, ids)
    elif name == "searchsorted":
        way = indexing.found(ground, ids, indexing.sorted_search(ids)[0])
    elif name == "pandas":
        pytest.importorskip("pandas")
        way = indexing.found(ground, ids, indexing.pandas_index(ids)[0])
    elif not hasattr(modyn, "KeyIndex"):
        pytest.skip("modyn.KeyIndex is not there yet")
    else:
        way = indexing.ours(ground, ids, indexing.key_index(ids)[0])

    got = run(way, keys)
    way.close()

    assert np.array_equal(got, keys[-BATCH:])


def test_a_label_leads_to_its_key(rand):
    keys = np.random.default_rng(rand.seed).integers(1 << 32, size=500, dtype=np.uint64)

    assert np.array_equal(keys_of(truth(keys)["label"]), keys)
    assert np.array_equal(rows_of(keys)["cat"], truth(keys)["cat"])
    assert rows_of(keys).dtype == RECORD


def a_race(ground, **more):
    line = Outcome("W0", 0.5, "floor", "modyn fetch", case="small")
    line.bars = [Bar("modyn fetch", "other", 1e-9, always=True)]
    everybody = {"floor": ways.floor(ground), "modyn fetch": ways.fetch(ground), **more}
    return race(ground, line, 8 * BATCH, 0), everybody


def test_a_race_counts_checks_and_shares(ground):
    runner, everybody = a_race(ground, other=Way(ways.take(ground).run, share=1 / 4))

    line = runner.run(everybody, 3)

    assert line.checked == 4 * 3
    assert line.shares == {"other": 0.25}
    assert [len(seconds) for seconds in line.wall.values()] == [3, 3, 3]
    assert line.as_json()["bars"][0]["met"]


def test_a_race_finds_a_wrong_batch(ground):
    def wrong(keys):
        got, fields = ways.take(ground).run(keys)
        return got, {**fields, "label": fields["label"] + 1}

    runner, everybody = a_race(ground, other=Way(wrong))

    with pytest.raises(AssertionError, match="other: the batch is not what was stored"):
        runner.run(everybody, 1)


def test_a_rival_that_fails_is_named_and_left_out(ground):
    def fail(keys):
        raise RuntimeError("no such thing")

    runner, everybody = a_race(ground, other=Way(fail))

    line = runner.run(everybody, 2)

    assert line.facts["failed"] == {"other": "RuntimeError: no such thing"}
    assert list(line.wall) == ["floor", "modyn fetch"]
    assert line.bars == []


def test_ours_may_not_fail(ground):
    def fail(keys):
        raise RuntimeError("no such thing")

    runner, everybody = a_race(ground, other=Way(fail, kind="ours"))

    with pytest.raises(RuntimeError, match="no such thing"):
        runner.run(everybody, 1)


def a_section(line):
    section = Section("W1", "A title < another", "What it is about.", [line])
    section.tables = [Table("Sizes", ["who", "bytes", "share"], [["we", 12345, 0.125]])]
    section.verdicts = [Verdict("opening", "50 ms", "1 ms", True)]
    section.skipped = ["FFCV is left out"]
    return section


def test_a_page_says_all_that_a_section_has(ground, tmp_path, capsys):
    runner, everybody = a_race(ground, other=ways.take(ground))
    section = a_section(runner.run(everybody, 2))
    charts = Section("W2", "Charts", "About.")
    charts.charts = [
        Chart("Times", "ms", [("", [Mark("a", 0.001, 0.0005, 0.002), Mark("b", 9.0)])])
    ]
    charts.curves = [Curves("Memory", "epochs", "MiB", {"a": [(0.0, 1.0), (9.0, 2.0)]})]
    document = {
        "command": "python -m benchmarks.loader",
        "date": "2000-01-01",
        "machine": "a machine",
        "quick": True,
        "sections": [json.loads(json.dumps(s.as_json())) for s in (section, charts)],
    }

    words = page([document], tmp_path)
    print_section(section)

    for text in (words, capsys.readouterr().out):
        for said in ("opening", "FFCV is left out", "12,345", "0.125", "modyn fetch", "other"):
            assert said in text
    assert "![Charts](performance/W2.svg)" in words
    assert "2 of 3" in words or "3 of 3" in words
    for name in ("W1", "W2", "W2-2"):
        drawn = ElementTree.parse(tmp_path / "performance" / f"{name}.svg")
        assert drawn.getroot().tag.endswith("svg")


def test_every_workload_has_its_place_on_the_page():
    assert set(WORKLOADS) <= set(ORDER)


def test_rivals_that_are_not_here_are_named_with_how_to_get_them(monkeypatch):
    monkeypatch.setattr("benchmarks.loading.rivals.find_spec", lambda name: None)

    for name, (_, pip) in RIVALS.items():
        assert missing(name) == f"{name} is left out: not installed (pip install {pip})"


def test_the_versions_of_rivals_are_pinned():
    lines = (ROOT / "benchmarks" / "rivals.txt").read_text().splitlines()
    pinned = {line.split("==")[0] for line in lines if line and not line.startswith("#")}

    for name, (_, pip) in RIVALS.items():
        assert pip in pinned or name in ("torch DataLoader", "FFCV"), name


def test_the_command_runs_workloads_and_writes_one_document(tmp_path):
    command = [sys.executable, "-m", "benchmarks.loader", "--json", "--quick", "--records", "20000"]
    done = subprocess.run(
        [*command, "--folder", str(tmp_path), "W3", "W14"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
        check=True,
    )

    document = json.loads(done.stdout)

    assert [section["id"] for section in document["sections"]] == ["W3", "W14"]
    assert document["not_there"] == []
    assert "modyn Loader" in document["sections"][0]["lines"][0]["rate"]
