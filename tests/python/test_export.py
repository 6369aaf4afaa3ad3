"""export: every format, read again by what users read it with."""

from __future__ import annotations

import base64
import csv
import itertools
import json

import numpy as np
import pytest

import modyn
from modyn import formats
from tests.python.kept_samples import GONE, SCHEMA, home, samples

__all__ = ["home"]  # fixtures


def same(one, other):
    return all(
        list(a) == list(b) if isinstance(a, list) else np.array_equal(a, b)
        for a, b in zip(one[1:], other[1:], strict=True)
    )


@pytest.mark.parametrize(
    ("kind", "reader"),
    [
        ("csv", formats.CSV(timestamp="timestamp", label="label")),
        ("parquet", formats.Parquet(timestamp="timestamp", label="label")),
    ],
)
def test_what_is_exported_comes_back_the_same(home, tmp_path, kind, reader):
    if kind == "parquet":
        pytest.importorskip("pyarrow")
    file = tmp_path / f"all.{kind}"
    with modyn.Dataset.open(home) as dataset:
        assert dataset.export(file, format=kind) == 12_000 - len(GONE)
        wanted = samples(dataset)

    with modyn.Dataset.create(tmp_path / "again", schema=SCHEMA) as dataset:
        dataset.ingest(file, format=reader)
        assert same(samples(dataset), wanted)
    assert list(tmp_path.glob("*.tmp")) == []


def test_lines_of_json_hold_the_same(home, tmp_path):
    with modyn.Dataset.open(home) as dataset:
        dataset.export(tmp_path / "all.jsonl", format="jsonl")
        keys, labels, times, x, flag, words = samples(dataset)

    rows = [json.loads(line) for line in (tmp_path / "all.jsonl").read_text().splitlines()]
    assert [row["key"] for row in rows] == keys.tolist()
    assert [row["label"] for row in rows] == labels.tolist()
    assert [row["timestamp"] for row in rows] == times.tolist()
    assert np.array_equal(np.array([row["x"] for row in rows], np.float32), x)
    assert [row["flag"] for row in rows] == flag.tolist()
    assert [base64.b64decode(row["word"]) for row in rows] == words


def test_npz_holds_the_same(home, tmp_path):
    with modyn.Dataset.open(home) as dataset:
        dataset.export(tmp_path / "all.npz", format="npz")
        keys, labels, times, x, flag, words = samples(dataset)

    with np.load(tmp_path / "all.npz") as arrays:
        assert np.array_equal(arrays["key"], keys)
        assert np.array_equal(arrays["label"], labels)
        assert np.array_equal(arrays["timestamp"], times)
        assert np.array_equal(arrays["x"], x)
        assert np.array_equal(arrays["flag"], flag)
        ends = arrays["word.offsets"]
        data = arrays["word"].tobytes()
        assert [data[a:b] for a, b in itertools.pairwise(ends)] == words


def test_only_the_samples_asked_for_are_exported(home, tmp_path):
    with modyn.Dataset.open(home) as dataset:
        assert dataset.export(tmp_path / "few.csv", format="csv", keys=[7, 5]) == 2
        with pytest.raises(KeyError, match="sample 7000 was erased"):
            dataset.export(tmp_path / "few.csv", format="csv", keys=[1, 7000])
        with pytest.raises(KeyError, match="no sample has key 12000"):
            dataset.export(tmp_path / "few.csv", format="csv", keys=[12_000])
    with open(tmp_path / "few.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["key"] for row in rows] == ["7", "5"]


@pytest.mark.parametrize("kind", ["npz", "csv", "jsonl", "parquet"])
def test_an_empty_dataset_is_a_file_without_samples(tmp_path, kind):
    with modyn.Dataset.create(tmp_path / "d", schema=SCHEMA) as dataset:
        assert dataset.export(tmp_path / f"e.{kind}", format=kind) == 0
    assert (tmp_path / f"e.{kind}").exists()


def test_an_export_that_fails_leaves_what_was_there(home, tmp_path):
    (tmp_path / "all.jsonl").write_text("before")
    with modyn.Dataset.create(tmp_path / "d", schema={"x": "float64"}, labels=False) as dataset:
        dataset.append({"x": [np.inf]}, timestamps=[0])
        with pytest.raises(ValueError, match="'x' has infinite numbers"):
            dataset.export(tmp_path / "all.jsonl", format="jsonl")
    assert (tmp_path / "all.jsonl").read_text() == "before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["all.jsonl", "d", "words"]


def test_strange_bytes_and_numbers_survive_text(tmp_path):
    words = [b"", b'"', b'a"b,c\n\r\n', bytes(range(1, 256)), "é".encode()]
    numbers = np.array([[0.1, -0.0], [np.nan, 1e-45], [3e38, 1], [2, 3], [4, 5]], np.float32)
    with modyn.Dataset.create(tmp_path / "a", schema=SCHEMA, labels=False) as dataset:
        dataset.append(
            {"x": numbers, "flag": [True, False] * 2 + [True], "word": words},
            timestamps=[-(2**62), 0, 1, 2, 2**62],
        )
        dataset.export(tmp_path / "a.csv", format="csv")
        dataset.export(tmp_path / "a.jsonl", format="jsonl")
    with modyn.Dataset.create(tmp_path / "b", schema=SCHEMA, labels=False) as dataset:
        dataset.ingest(tmp_path / "a.csv", format=formats.CSV(timestamp="timestamp"))
        fields = dataset.fetch(np.arange(5))
        assert np.array_equal(fields["x"], numbers, equal_nan=True)
        assert np.signbit(fields["x"][0, 1])
        assert list(fields["word"]) == words
        assert dataset.timestamps.tolist() == [-(2**62), 0, 1, 2, 2**62]
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert rows[1]["x"][0] is None
    assert np.float32(rows[1]["x"][1]) == numbers[1, 1]
    assert [base64.b64decode(row["word"]) for row in rows] == words


def test_pieces_are_small_however_large_the_samples(home, tmp_path, monkeypatch):
    monkeypatch.setattr("modyn.export.PIECE_BYTES", 100)
    with modyn.Dataset.open(home) as dataset:
        keys = np.arange(1, 60)
        dataset.export(tmp_path / "a.npz", format="npz", keys=keys)
        wanted = dataset.fetch(keys)["x"]
    with np.load(tmp_path / "a.npz") as arrays:
        assert np.array_equal(arrays["x"], wanted)
