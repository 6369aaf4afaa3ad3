"""verify and repair: what they find, and what they keep."""

from __future__ import annotations

import random
import shutil

import numpy as np
import pytest

import modyn
from modyn import formats
from modyn.errors import BusyError, CorruptError
from tests.python.kept_samples import GONE, SCHEMA, fill, home, poke
from tests.reference.format import Reference

__all__ = ["home"]  # fixtures


# verify -------------------------------------------------------------------------------------------


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


# repair -------------------------------------------------------------------------------------------


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
