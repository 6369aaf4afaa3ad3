"""What is taken of which file: each rule of docs/ingest.md, one by one."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modyn.dataset import Dataset
from modyn.formats import (
    JSONL,
    FixedRecord,
    Npy,
    Tar,
)
from modyn.ingest.driver import Intake
from modyn.ingest.sources import Entry, Sources
from tests.python.ingest_home import ROWS, Home, reason

RECORDS = FixedRecord(record_size=8)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    here = Home(tmp_path)
    yield here
    here.dataset.close()


# Known files --------------------------------------------------------------------------------------


def test_a_known_file_is_not_read_again(home: Home) -> None:
    path = home.rows("a.csv", 1, 2)

    first = home.take(path)
    again = home.take(path)

    assert (first.files, first.samples, first.known) == ((str(path),), 2, 0)
    assert (again.files, again.samples, again.known) == ((), 0, 1)
    assert str(again) == "0 samples of 0 files added, 1 file known before"


def test_what_is_known_outlives_the_process(home: Home) -> None:
    path = home.rows("a.csv", 1)
    home.take(path)
    home.dataset.close()

    home.dataset = Dataset.open(home.path / "dataset", mode="w")

    assert home.take(path).known == 1
    assert home.values() == [1]


def test_a_file_that_was_only_touched_is_known(home: Home) -> None:
    path = home.rows("a.csv", 1)
    home.take(path)
    os.utime(path, ns=(0, 12345))

    report = home.take(path)

    assert (report.known, report.skipped, home.values()) == (1, (), [1])
    assert home.dataset._sources().record(0).mtime == 12345


def test_a_file_that_was_rewritten_is_rejected_and_its_samples_stay(home: Home) -> None:
    path = home.rows("a.csv", 1)
    home.take(path)
    home.rows("a.csv", 2)
    os.utime(path, ns=(0, 0))

    report = home.take(path)

    assert "has changed since it was ingested; its samples stay; give the new" in reason(report)
    assert home.values() == [1]


def test_a_file_that_has_shrunk_is_rejected(home: Home) -> None:
    path = home.rows("a.csv", 1, 2)
    home.take(path)
    home.rows("a.csv", 1)

    assert "has shrunk from 12 bytes to 8" in reason(home.take(path))


@pytest.mark.parametrize("ns", [0, -(10**18), 4 * 10**18])
def test_files_of_any_time_are_taken(home: Home, ns: int) -> None:
    home.take(home.rows("a.csv", 1))
    path = home.rows("b.csv", 2)
    os.utime(path, ns=(ns, ns))

    home.take()

    assert home.values() == [1, 2]


# Files that grow ----------------------------------------------------------------------------------


def test_a_file_that_has_grown_goes_on_where_it_ended(home: Home) -> None:
    path = home.rows("a.csv", 1)
    home.take(path)
    home.add(path, "0,2\n0,3\n")

    report = home.take(path)

    assert (report.samples, report.keys, report.known) == (2, range(1, 3), 0)
    assert home.values() == [1, 2, 3]


def test_fixed_records_go_on_where_they_ended(home: Home) -> None:
    path = home.write("a.bin", np.arange(3).tobytes())
    home.take(path, format=RECORDS, timestamps="mtime")
    home.add(path, np.arange(3, 5).tobytes())

    home.take(path, format=RECORDS, timestamps="mtime")

    assert home.values() == [0, 1, 2, 3, 4]


def tar(path: Path, mode: Any, *numbers: int) -> None:
    with tarfile.open(path, mode) as archive:
        for n in numbers:
            for ending, content in [("x", b"%d" % n), ("cls", b"7")]:
                member = tarfile.TarInfo(f"{n:04}.{ending}")
                member.size, member.mtime = len(content), n
                archive.addfile(member, io.BytesIO(content))


def test_archives_go_on_where_they_ended(home: Home) -> None:
    path = home.path / "a.tar"
    format = Tar(fields={"x": "x"}, modification_time=True)
    tar(path, "w", 1, 2)

    counts = []
    for more in [(3,), (4, 5), ()]:
        counts.append(home.take(path, format=format).samples)
        tar(path, "a", *more)
    home.take(path, format=format)

    assert counts == [2, 1, 2]
    assert home.values() == [1, 2, 3, 4, 5]
    assert home.dataset.timestamps.tolist() == [1, 2, 3, 4, 5]


def test_an_archive_that_is_being_written_is_followed(home: Home) -> None:
    tar(home.path / "whole.tar", "w", *range(20))
    content = (home.path / "whole.tar").read_bytes()
    path = home.path / "a.tar"

    for end in range(0, len(content) + 1, 256):
        path.write_bytes(content[:end]) if end == 0 else home.add(path, content[end - 256 : end])
        report = home.follow(path, format=Tar(fields={"x": "x"}, modification_time=True))
        assert report.skipped == ()

    assert home.values() == list(range(20))


def test_lines_of_json_go_on_where_they_ended(home: Home) -> None:
    path = home.write("a.jsonl", '{"t": 0, "x": 1}\n')
    format = JSONL(timestamp="t")
    home.take(path, format=format)
    home.add(path, '{"t": 0, "x": 2}')
    home.take(path, format=format)
    home.add(path, '\n{"t": 0, "x": 3}\n')
    home.take(path, format=format)

    assert home.values() == [1, 2, 3]


def test_a_whole_file_that_has_grown_is_rejected(home: Home) -> None:
    path = home.path / "a.npy"
    np.save(path, np.arange(3))
    home.take(path, format=Npy(), timestamps="mtime")
    np.save(path, np.arange(4))

    report = home.take(path, format=Npy(), timestamps="mtime")

    assert "has changed since it was ingested" in reason(report)
    assert home.values() == [0, 1, 2]


def test_a_last_line_without_its_end_is_a_sample(home: Home) -> None:
    path = home.write("a.csv", "t,x\n0,1\n0,2")

    home.take(path)
    home.add(path, "\n0,3")
    home.take(path)
    home.add(path, "\r\n0,4\n")
    home.take(path)

    assert home.values() == [1, 2, 3, 4]


def test_a_last_line_that_was_taken_and_went_on_is_rejected(home: Home) -> None:
    path = home.write("a.csv", "t,x\n0,1\n0,2")
    home.take(path)
    home.add(path, "34\n0,5\n")

    report = home.take(path)

    assert "its last line had no end when it was ingested, at byte 11" in reason(report)
    assert home.values() == [1, 2]


def test_half_a_line_end_waits(home: Home) -> None:
    path = home.write("a.csv", "t,x\n0,1")
    home.take(path)
    home.add(path, "\r")
    assert home.take(path).skipped == ()

    home.add(path, "\n0,2\n")
    home.take(path)

    assert home.values() == [1, 2]


def test_an_unfinished_line_waits_while_somebody_follows(home: Home) -> None:
    path = home.write("a.csv", "")

    counts = []
    for more in ["t,", "x", "\n", "0,1", "2\n0,", "3", "\n"]:
        counts.append(home.follow(path).samples)
        home.add(path, more)
    home.follow(path)

    assert counts == [0] * 5 + [1, 0]
    assert home.values() == [12, 3]


def test_an_unfinished_record_waits_while_somebody_follows(home: Home) -> None:
    path = home.write("a.bin", np.arange(2).tobytes() + b"\x02\0\0")
    home.follow(path, format=RECORDS, timestamps="mtime")
    assert home.values() == [0, 1]

    home.add(path, b"\0" * 5)
    home.follow(path, format=RECORDS, timestamps="mtime")

    assert home.values() == [0, 1, 2]


def test_a_line_that_waited_is_taken_when_nobody_follows(home: Home) -> None:
    path = home.write("a.csv", "t,x\n0,1\n0,2")
    home.follow(path)
    assert home.values() == [1]

    home.take(path)

    assert home.values() == [1, 2]


# What is wrong ------------------------------------------------------------------------------------


def test_a_rejected_file_may_be_put_right(home: Home) -> None:
    good, bad = home.rows("a.csv", 1), home.write("b.csv", "t,x\n0,none\n")
    last = home.rows("c.csv", 3)

    report = home.take()
    assert (report.files, report.samples) == ((str(good), str(last)), 2)
    assert "line 2, column 'x': 'none'" in reason(report)
    home.rows("b.csv", 2)

    assert home.take(bad).samples == 1
    assert home.values() == [1, 3, 2]


def test_stop_keeps_what_came_before(home: Home) -> None:
    home.rows("a.csv", 1)
    home.write("b.csv", "t,x\n0,none\n")
    home.rows("c.csv", 3)

    with pytest.raises(ValueError, match="'none'") as caught:
        home.take(on_error="stop")

    assert "1 samples were added before; their keys are 0 to 0" in caught.value.__notes__
    assert home.values() == [1]


def test_stop_keeps_what_came_before_a_file_that_is_missing(home: Home) -> None:
    first, last = home.rows("a.csv", 1), home.rows("c.csv", 3)

    with pytest.raises(FileNotFoundError):
        home.take(first, home.path / "b.csv", last, on_error="stop")

    assert home.values() == [1]


def test_what_is_no_file_is_rejected(home: Home) -> None:
    os.mkfifo(home.path / "pipe")

    assert "not a regular file" in reason(home.take(home.path / "pipe"))


def test_a_file_is_not_gone_on_with_as_another_kind(home: Home) -> None:
    path = home.rows("a.csv", 1)
    home.take(path)

    report = home.take(path, format=RECORDS, timestamps="mtime")

    assert "was ingested as CSV, and so it cannot be ingested as FixedRecord" in reason(report)


def test_a_whole_file_that_changes_while_it_is_read_is_rejected(home: Home) -> None:
    path = home.path / "a.npy"
    np.save(path, np.arange(3))

    def meanwhile(_: str, count: int) -> int:
        os.utime(path, ns=(0, 0))
        return count

    report = home.take(path, format=Npy(), timestamps=meanwhile)

    assert "has changed while it was read" in reason(report)
    assert home.take(path, format=Npy(), timestamps="mtime").samples == 3


def test_an_error_of_the_dataset_stops_whatever_is_said(home: Home) -> None:
    home.rows("a.csv", 1)
    commit = home.dataset._commit

    def broken(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    home.dataset._commit = broken  # type: ignore[method-assign]
    with pytest.raises(OSError, match="No space"):
        home.take(on_error="skip")
    home.dataset._commit = commit  # type: ignore[method-assign]

    assert home.take().samples == 1


# Batches ------------------------------------------------------------------------------------------


def test_small_files_share_a_commit(home: Home) -> None:
    for n in range(20):
        home.rows(f"{n:02}.csv", n)

    home.take()

    assert len(home.dataset._core.sources()) == 1
    assert home.values() == list(range(20))


@pytest.mark.parametrize("commits", range(5))
def test_a_crash_in_a_large_file_costs_nothing(home: Home, commits: int) -> None:
    path = home.rows("a.csv", *range(60_000))
    commit = home.dataset._commit
    left = commits

    def until_killed(*what: Any) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        commit(*what)

    home.dataset._commit = until_killed  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        Intake(home.dataset, ROWS, batch_bytes=100_000).take([str(path)])
    home.dataset.close()
    home.dataset = Dataset.open(home.path / "dataset", mode="w")
    before = len(home.dataset)

    report = home.take(path)

    assert (before > 0) == (commits > 0)
    assert report.samples == 60_000 - before
    assert home.values() == list(range(60_000))


def test_a_bad_line_in_a_large_file_keeps_what_came_before(home: Home) -> None:
    text = "t,x\n" + "".join(f"0,{n}\n" for n in range(60_000))
    path = home.write("a.csv", text + "0,none\n0,1\n")
    intake = Intake(home.dataset, ROWS, batch_bytes=100_000)

    report = intake.take([str(path)])
    assert "'none'" in reason(report)
    assert 0 < report.samples <= 60_000

    home.write("a.csv", text + "0,60000\n0,60001\n")
    intake.take([str(path)])
    assert home.values() == list(range(60_002))


# The journal --------------------------------------------------------------------------------------


def test_an_entry_is_read_as_it_was_written(home: Home) -> None:
    entry = Entry("CSV:0", 7)
    row = dict.fromkeys(entry.columns, 3)
    entry.add("/a/b", **row)
    entry.add("/a/\udcff\n", **{**row, "size": 2**63})
    entry.gone, entry.classes = ["/old"], {"cat": 1}

    assert Entry.decode(entry.encode()) == entry
    assert entry.encode().isascii()


def test_an_entry_of_a_later_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 2; this modyn knows 1"):
        Sources([b'{"version":2}'])


def test_the_samples_of_a_file_can_be_erased(home: Home) -> None:
    path = home.rows("a.csv", 1)
    home.rows("b.csv", 2)
    home.take()
    home.add(path, "0,3\n")
    path.rename(home.path / "c.csv")
    home.take()

    assert home.dataset.erase(file=home.path / "c.csv", reason="wrong sensor") == 2
    assert home.dataset.keys().tolist() == [1]
    with pytest.raises(ValueError, match="nothing was ingested from"):
        home.dataset.erase(file=home.path / "d.csv", reason="wrong sensor")
