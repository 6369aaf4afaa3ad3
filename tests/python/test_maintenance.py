"""verify, repair, export, and the commands over them: what they find, keep and say."""

from __future__ import annotations

import base64
import csv
import itertools
import json
import random
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

import modyn
from modyn import cli, formats
from modyn.errors import BusyError, CorruptError
from tests.reference.format import Reference, crc32c

SCHEMA = {"x": "float32[2]", "flag": "bool", "word": "bytes"}


def fill(dataset, first, count):
    keys = np.arange(first, first + count)
    words = [bytes([k % 251]) * (k % 7) for k in keys.tolist()]
    dataset.append(
        {
            "x": np.stack([keys, keys / 3], 1).astype(np.float32),
            "flag": keys % 2 == 0,
            "word": words,
        },
        labels=keys % 5,
        timestamps=1_700_000_000 + keys * 60,
    )


@pytest.fixture
def home(tmp_path):
    """A dataset of two segments: some samples erased and compacted, others only erased."""
    path = tmp_path / "words"
    with modyn.Dataset.create(path, schema=SCHEMA, segment_records=8192) as dataset:
        for first in range(0, 12_000, 4000):
            fill(dataset, first, 4000)
        dataset.erase(np.arange(100, 110), reason="user 4711 left")
        dataset.compact()
        dataset.erase([7000, 9000, 9001], reason="wrong [labels]")
    return path


GONE = {*range(100, 110), 7000, 9000, 9001}


def poke(file, at, data):
    with open(file, "r+b") as stream:
        stream.seek(at, 0 if at >= 0 else 2)
        stream.write(data)


def command(*words, **more):
    return CliRunner().invoke(cli.app, [str(word) for word in words], prog_name="modyn", **more)


# verify ------------------------------------------------------------------------------------------


def test_a_whole_dataset_is_ok(home):
    report = modyn.verify(home)

    assert report.ok
    assert report.findings == report.strays == ()
    assert (report.samples, report.erased, report.commits) == (12_000, 13, 6)
    assert report == modyn.verify(home, threads=5) == modyn.Dataset.open(home).verify()


def test_every_damaged_file_is_named_with_its_place(home):
    poke(home / "000001.seg", 500, b"x" * 40)
    poke(home / "000000-2.col", 70_000, b"x")
    poke(home / "000001.col", 50, b"!")
    (home / "notes").write_text("mine")

    report = modyn.verify(home)

    assert not report.ok
    lines = [str(finding) for finding in report.findings]
    assert lines[0] == "000000-2.col: timestamps block 0, keys 0 to 4095: the checksum is wrong"
    assert lines[1] == "000001.col: the header is damaged (checksum)"
    assert all(line.startswith("000001.seg: records block") for line in lines[2:])
    assert {f.kind for f in report.findings[2:]} == {"records"}
    assert [stray.file for stray in report.strays] == ["notes"]


def test_a_damaged_erased_sample_is_still_found(home):
    size = sum(8 + 1 + 4 + k % 7 for k in range(8192, 9000))
    poke(home / "000001.seg", size, b"????")

    (finding,) = modyn.verify(home).findings

    assert (finding.file, finding.keys) == ("000001.seg", range(9000, 9001))


def test_verify_finds_what_does_not_open(home):
    poke(home / "manifest", -3 * 128 + 20, b"??")
    with pytest.raises(CorruptError):
        modyn.Dataset.open(home)

    (finding,) = modyn.verify(home).findings

    assert (finding.what, finding.file, finding.numbers) == ("commit", "manifest", range(4, 5))


def test_verify_of_nothing_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="manifest"):
        modyn.verify(tmp_path)


def test_verify_and_a_writer_do_not_disturb_each_other(home):
    with modyn.Dataset.open(home, mode="w") as dataset:
        for round_ in range(20):
            fill(dataset, 12_000 + 10 * round_, 10)
            assert modyn.verify(home).ok
        dataset.compact()
        assert modyn.verify(home).ok


def test_any_flipped_bit_is_found_or_means_nothing(home, tmp_path):
    """What verify calls whole shows the samples that were written."""
    chance = random.Random(20)
    with modyn.Dataset.open(home) as dataset:
        keys = dataset.keys()
        before = dataset.fetch(keys)
        words = list(before["word"])
    found = 0
    for _ in range(150):
        copy = tmp_path / "copy"
        shutil.copytree(home, copy)
        file = chance.choice([f for f in sorted(copy.iterdir()) if f.name != "lock"])
        at = chance.randrange(file.stat().st_size)
        byte = file.read_bytes()[at]
        poke(file, at, bytes([byte ^ (1 << chance.randrange(8))]))
        report = modyn.verify(copy)
        found += not report.ok
        if report.ok:
            with modyn.Dataset.open(copy) as dataset:
                again = dataset.fetch(keys)
                assert np.array_equal(again["x"], before["x"])
                assert list(again["word"]) == words
                assert np.array_equal(dataset.keys(), keys)
        elif file.name != "events":  # it says which files there are
            assert {f.file for f in report.findings} <= {file.name, file.stem + ".seg"}
        shutil.rmtree(copy)
    assert found > 10


def agrees_with_the_reference(path):
    """Whether verify and the reader in plain Python say the same; and what they say."""
    try:
        Reference(path)
    except Exception:
        whole = False
    else:
        whole = True
    return modyn.verify(path).ok == whole, whole


def test_verify_says_what_a_reader_made_from_the_format_says(tmp_path):
    home = tmp_path / "d"
    with modyn.Dataset.create(home, schema=SCHEMA) as dataset:
        fill(dataset, 0, 30)
        dataset.erase([3, 4], reason="a")
        dataset.compact()
        fill(dataset, 30, 10)
        dataset.erase([31], reason="b")
    chance = random.Random(4)
    col, seg = 65_536, 40 * 13
    ranges = [
        *[("manifest", 0, 528), ("manifest", 1024, 1040), ("manifest", 1536, 4096)],
        *[("events", 0, 4096), ("000000-2.seg", 0, seg), ("000000-2.col", 0, 4096)],
        *[("000000-2.col", col * k, col * k + 330) for k in (1, 2, 3, 4)],
    ]
    damaged = 0
    for name, first, end in ranges * 12:
        content = (home / name).read_bytes()
        at = chance.randrange(first, min(end, len(content)))
        poke(home / name, at, bytes([content[at] ^ (1 << chance.randrange(8))]))
        agree, whole = agrees_with_the_reference(home)
        assert agree, (name, at, whole, modyn.verify(home).findings)
        damaged += not whole
        (home / name).write_bytes(content)
    assert damaged > 80
    assert agrees_with_the_reference(home) == (True, True)


def test_compressed_payloads_are_verified(tmp_path):
    path = tmp_path / "d"
    with modyn.Dataset.create(path, schema={"w": "bytes"}, labels=False, compression="zstd") as d:
        d.append({"w": [b"a" * 5000, b"", b"xyz" * 999]}, timestamps=[1, 2, 3])
    assert modyn.verify(path).ok
    poke(path / "000000.seg", 20, b"?")

    (finding,) = modyn.verify(path).findings

    assert (finding.kind, finding.keys) == ("records", range(0, 1))


# repair ------------------------------------------------------------------------------------------


def test_a_commit_in_the_middle_is_given_up_for_its_successor(home):
    poke(home / "manifest", -3 * 128 + 20, b"??")
    old = (home / "manifest").read_bytes()

    report = modyn.repair(home)

    assert report.left is not None
    assert report.left.ok
    assert (home / "manifest.before-repair-1").read_bytes() == old
    with modyn.Dataset.open(home, mode="w") as dataset:
        assert len(dataset) == 12_000
        assert set(np.flatnonzero(dataset.erased).tolist()) == GONE
        fill(dataset, 12_000, 5)
    assert modyn.verify(home).ok


def test_erased_samples_stay_erased_when_the_last_commit_is_lost(home):
    poke(home / "manifest", -128 + 20, b"??")  # it erased 7000, 9000 and 9001

    report = modyn.repair(home)

    assert [step.what for step in report.steps] == ["lost", "events", "manifest"]
    with modyn.Dataset.open(home) as dataset:
        assert set(np.flatnonzero(dataset.erased).tolist()) == GONE


def test_a_lost_compaction_is_taken_on(home):
    with modyn.Dataset.open(home, mode="w") as dataset:
        dataset.compact()
    words = modyn.Dataset.open(home).fetch([5, 8500])["word"]
    poke(home / "manifest", -128 + 20, b"??")

    report = modyn.repair(home)

    assert [step.what for step in report.steps] == ["lost", "events", "manifest"]
    assert modyn.verify(home).ok
    assert list(modyn.Dataset.open(home).fetch([5, 8500])["word"]) == list(words)


def test_damaged_events_are_never_dropped(home):
    poke(home / "events", 120, b"?")
    before = {file.name: file.read_bytes() for file in home.iterdir()}

    with pytest.raises(CorruptError, match="erased samples would come back"):
        modyn.repair(home, erase_damaged=True, cut_sources=True)

    assert {f.name: f.read_bytes() for f in home.iterdir() if f.name != "lock"} == {
        name: content for name, content in before.items() if name != "lock"
    }


def test_a_dry_run_changes_nothing_and_says_the_same(home):
    poke(home / "manifest", -2 * 128 + 20, b"??")
    poke(home / "000001.col", 50, b"!")
    before = {file.name: file.read_bytes() for file in home.iterdir()}

    planned = modyn.repair(home, dry_run=True)

    assert {file.name: file.read_bytes() for file in home.iterdir()} == before
    assert planned.left is None
    assert modyn.repair(home).steps == planned.steps
    assert modyn.repair(home).steps == ()


def test_damaged_samples_can_be_erased_so_that_the_rest_reads(home):
    poke(home / "000001.seg", 500, b"x" * 40)
    poke(home / "000000-2.col", 70_000, b"x")

    kept = modyn.repair(home)
    assert kept.left is not None
    assert {finding.what for finding in kept.left.findings} == {"block"}
    assert kept.erased == 0

    report = modyn.repair(home, erase_damaged=True, who="admin")

    assert report.left is not None
    assert report.left.ok
    with modyn.Dataset.open(home) as dataset:
        living = dataset.keys()
        words = dataset.fetch(living)["word"]
        assert list(words) == [bytes([k % 251]) * (k % 7) for k in living.tolist()]
        assert np.array_equal(dataset.timestamps[living], 1_700_000_000 + living * 60)
        assert dataset.audit()[-2].who == "admin" or dataset.audit()[-3].who == "admin"
        assert any(event.why.startswith("damaged") for event in dataset.audit())
    assert report.erased == 12_000 - len(living) - len(GONE)


def test_missing_segments_can_be_erased(home):
    for name in ("000000-2.seg", "000000-2.col"):
        (home / name).unlink()

    report = modyn.repair(home, erase_damaged=True)

    assert report.left is not None
    assert report.left.ok
    with modyn.Dataset.open(home) as dataset:
        assert dataset.keys()[0] == 8192
        assert len(dataset.fetch(dataset.keys())["x"]) == 12_000 - 8192 - 2


def test_damaged_sources_are_cut_only_if_that_is_said(tmp_path):
    home = tmp_path / "d"
    with modyn.Dataset.create(home, schema={"x": "int8"}, labels=False) as dataset:
        for n in range(3):
            file = tmp_path / f"{n}.csv"
            file.write_text(f"at,x\n{n},{n}\n")
            dataset.ingest(file, format=formats.CSV(timestamp="at"))
    poke(home / "sources", -40, b"?")

    first = modyn.repair(home)
    assert [step.what for step in first.steps] == ["left"]
    second = modyn.repair(home, cut_sources=True)

    assert [step.what for step in second.steps] == ["sources", "manifest"]
    assert "twice" in second.steps[0].text
    with modyn.Dataset.open(home, mode="w") as dataset:
        assert len(dataset) == 3
        dataset.ingest(tmp_path / "*.csv", format=formats.CSV(timestamp="at"))
        assert len(dataset) == 4  # the last one came in twice, as it says
    assert modyn.verify(home).ok


def test_a_writer_and_a_repair_exclude_each_other(home):
    with modyn.Dataset.open(home, mode="w"), pytest.raises(BusyError):
        modyn.repair(home)


# export ------------------------------------------------------------------------------------------


def samples(dataset):
    keys = dataset.keys()
    fields = dataset.fetch(keys)
    words = list(fields["word"])
    return keys, dataset.labels[keys], dataset.timestamps[keys], fields["x"], fields["flag"], words


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


# The commands ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        *("dataset", "audit"),
        *(f"dataset {name}" for name in ("info", "verify", "repair", "compact", "erase", "export")),
    ],
)
def test_every_command_has_help(words):
    result = command(*words.split(), "--help")

    assert result.exit_code == 0
    assert "Usage: modyn" in result.output


def test_info_says_what_is_there(home):
    text = command("dataset", "info", home).stdout
    found = json.loads(command("dataset", "info", home, "--json").stdout)

    assert "11,987 living of 12,000" in text
    assert "3 of them not compacted yet" in text
    assert found["living"] == 11_987
    assert found["erased_not_compacted"] == 3
    assert found["commits"] == 6
    assert found["segments"] == 2
    assert found["classes"] == 5
    assert sum(found["labels"].values()) == 11_987
    assert found["time"]["from"] == "2023-11-14 22:13:20"
    assert found["schema"] == SCHEMA
    blocks = sum(file.stat().st_blocks for file in home.iterdir())
    assert found["bytes_on_disk"]["total"] == 512 * blocks


def test_verify_ends_with_1_where_something_is_wrong(home):
    assert command("dataset", "verify", home).exit_code == 0
    poke(home / "000001.seg", 500, b"x" * 40)

    result = command("dataset", "verify", home)
    found = json.loads(command("dataset", "verify", home, "--json").stdout)

    assert result.exit_code == 1
    assert "000001.seg" in result.stdout
    assert "records block" in result.stdout
    assert found["ok"] is False
    assert found["findings"][0]["file"] == "000001.seg"


def test_repair_says_what_it_does_and_what_is_left(home):
    poke(home / "manifest", -3 * 128 + 20, b"??")
    poke(home / "000001.seg", 500, b"x" * 40)

    dry = command("dataset", "repair", "--dry-run", home)
    done = command("dataset", "repair", home)
    last = command("dataset", "repair", "--erase-damaged", home)

    assert (dry.exit_code, done.exit_code, last.exit_code) == (1, 1, 0)
    assert "nothing was changed" in dry.stdout
    assert "manifest.before-repair-1" in done.stdout
    assert "--erase-damaged" in done.stdout
    assert "nothing is damaged" in last.stdout


def test_erase_asks_unless_told_not_to(home):
    args = ("dataset", "erase", home, "--reason", "left", "--keys", "1,2,5-9,7000")

    refused = command(*args, input="n\n")
    assert refused.exit_code == 1
    assert "erase 7 samples?" in refused.stdout
    assert len(modyn.Dataset.open(home).keys()) == 11_987

    done = command(*args, "--yes")
    assert done.exit_code == 0
    assert "7 samples erased" in done.stdout
    assert len(modyn.Dataset.open(home).keys()) == 11_980
    assert "0 samples erased" in command(*args, "--yes").stdout


def test_erase_takes_times_labels_and_files_of_keys(home, tmp_path):
    (tmp_path / "keys").write_text("11 12\n20-22, 30\n")
    args = ("dataset", "erase", home, "--reason", "left", "--yes")

    by_file = command(*args, "--keys-file", tmp_path / "keys")
    by_time = command(*args, "--until", "2023-11-14T22:15:20", "--label", "1")
    by_zone = command(*args, "--until", "2023-11-14T23:15:20+01:00")
    by_number = command(*args, "--since", 1_700_000_000 + 11_999 * 60)

    assert "6 samples erased" in by_file.stdout
    assert "1 samples erased" in by_time.stdout
    assert "1 samples erased" in by_zone.stdout
    assert "1 samples erased" in by_number.stdout


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--keys", "1-x"], "neither a key"),
        (["--keys", "9-5"], "ends before it begins"),
        (["--keys", "12000"], "no sample has key 12000"),
        (["--since", "yesterday"], "neither a number nor an ISO date"),
        ([], "say which samples"),
    ],
)
def test_erase_refuses_what_makes_no_sense(home, words, says):
    result = command("dataset", "erase", home, "--reason", "left", "--yes", *words)

    assert result.exit_code == 2
    assert says in result.stderr


def test_audit_says_whose_bytes_are_still_there(home):
    before = command("audit", home)
    compacted = command("dataset", "compact", home)
    after = command("audit", home)
    found = json.loads(command("audit", home, "--json").stdout)

    assert before.exit_code == after.exit_code == 0
    assert "user 4711 left" in before.stdout
    assert "wrong [labels]" in before.stdout
    assert "keys 7000, 9000-9001" in before.stdout
    assert "3 erased samples are gone" in compacted.stdout
    assert "no byte of an erased sample" in after.stdout
    assert found["erased_not_compacted"] == 0
    assert [event["action"] for event in found["events"]][:3] == ["erase", "compact", "erase"]


def test_audit_ends_with_1_where_the_journal_was_changed(home):
    poke(home / "events", 150, b"?")

    result = command("audit", home)

    assert result.exit_code == 1
    assert "events" in result.stderr


def test_export_takes_its_format_from_the_name(home, tmp_path):
    result = command("dataset", "export", home, "--out", tmp_path / "a.jsonl", "--keys", "0-2")
    wrong = command("dataset", "export", home, "--out", tmp_path / "a.xls")

    assert "3 samples" in result.stdout
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [line["key"] for line in lines] == [0, 1, 2]
    assert base64.b64decode(lines[2]["word"]) == b"\2\2"
    assert wrong.exit_code == 2
    assert "say the format" in wrong.stderr


@pytest.mark.parametrize("words", ["dataset info", "dataset verify", "dataset repair", "audit"])
def test_what_is_no_dataset_is_wrong_input(tmp_path, words):
    result = command(*words.split(), tmp_path / "nowhere")

    assert result.exit_code == 2
    assert "nowhere" in result.stderr
    assert "Errno" not in result.stderr


def test_a_whole_record_that_cannot_follow_is_a_finding(tmp_path):
    """It opens for nobody, so that verify must not call it a torn tail."""
    home = tmp_path / "d"
    with modyn.Dataset.create(home, schema={"x": "int8"}, labels=False) as dataset:
        dataset.append({"x": [1, 2]}, timestamps=[0, 0])
    manifest = (home / "manifest").read_bytes()
    uuid, last = manifest[16:32], manifest[-128:]
    record = last[:8] + (2).to_bytes(8, "little") + (1).to_bytes(8, "little") + last[24:120]
    record += last[124:]  # the chain is right, the count is not
    record += crc32c(record, crc32c(uuid)).to_bytes(4, "little")
    (home / "manifest").write_bytes(manifest + record)

    with pytest.raises(CorruptError, match="commit 2"):
        modyn.Dataset.open(home)
    assert not modyn.verify(home).ok
    modyn.repair(home)
    assert modyn.verify(home).ok
    assert modyn.Dataset.open(home).fetch([0, 1])["x"].tolist() == [1, 2]
