"""What is taken of which file: each rule of docs/ingest.md, one by one."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modyn import _core
from modyn.dataset import Dataset
from modyn.formats import (
    CSV,
    JSONL,
    FileNameTime,
    Files,
    FixedRecord,
    FolderLabels,
    LabelFile,
    Npy,
    Tar,
)
from modyn.ingest import IngestReport
from modyn.ingest.driver import Intake
from modyn.ingest.names import expand
from modyn.ingest.sources import Entry, Sources

ROWS = CSV(timestamp="t")
RECORDS = FixedRecord(record_size=8)


class Home:
    """A folder with files, and a dataset that takes them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.dataset = Dataset.create(path / "dataset", schema={"x": "int64"}, labels=False)

    def write(self, name: str, content: bytes | str) -> Path:
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def rows(self, name: str, *numbers: int) -> Path:
        return self.write(name, "t,x\n" + "".join(f"0,{n}\n" for n in numbers))

    def add(self, path: Path, content: str | bytes) -> None:
        with open(path, "ab") as file:
            file.write(content if isinstance(content, bytes) else content.encode())

    def take(self, *paths: Any, **more: Any) -> IngestReport:
        return self.dataset.ingest(
            list(paths) or self.path / "*.csv", **{"format": ROWS, "on_error": "skip", **more}
        )

    def follow(self, *paths: Path, **more: Any) -> IngestReport:
        """Take as a watch does."""
        intake = Intake(self.dataset, more.pop("format", ROWS), growing=True, **more)
        return intake.take([str(path) for path in paths])

    def values(self) -> list[int]:
        keys = np.arange(len(self.dataset))
        return list(np.asarray(self.dataset.fetch(keys)["x"]).tolist())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    here = Home(tmp_path)
    yield here
    here.dataset.close()


def reason(report: IngestReport) -> str:
    ((_, text),) = report.skipped
    return text


# Known files ------------------------------------------------------------------------------------


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


# Files that grow --------------------------------------------------------------------------------


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


# Names ------------------------------------------------------------------------------------------


def test_a_renamed_file_is_not_read_again(home: Home) -> None:
    path = home.rows("a.csv", 1)
    home.take()
    path.rename(home.path / "b.csv")

    report = home.take()

    assert report.renamed == ((str(home.path / "b.csv"), str(path)),)
    assert (report.samples, report.known) == (0, 1)
    assert home.take().renamed == ()


def test_a_renamed_file_goes_on_under_its_new_name(home: Home) -> None:
    path = home.rows("a.csv", 1)
    home.take()
    other = path.rename(home.path / "b.csv")
    home.add(other, "0,2\n")

    home.take()

    assert home.values() == [1, 2]


def test_a_log_that_is_rotated_loses_nothing(home: Home) -> None:
    path = home.rows("log.csv", 1)
    for n in range(2, 6):
        home.take()
        home.add(path, f"0,{n}0\n")
        path.rename(home.path / f"log.{n}.csv")
        home.rows("log.csv", n)
    home.take()

    assert sorted(home.values()) == [1, 2, 3, 4, 5, 20, 30, 40, 50]


def test_names_that_are_exchanged_are_known(home: Home) -> None:
    a, b = home.rows("a.csv", 1), home.rows("b.csv", 2)
    home.take()
    a.rename(home.path / "c")
    b.rename(a)
    (home.path / "c").rename(b)

    report = home.take()

    assert (report.known, len(report.renamed), report.skipped) == (2, 2, ())
    home.add(a, "0,3\n")
    assert home.take().samples == 1


def test_a_copy_is_another_file(home: Home) -> None:
    path = home.rows("a.csv", 1)
    home.take()
    shutil.copy2(path, home.path / "b.csv")

    home.take()

    assert home.values() == [1, 1]


def test_a_link_is_the_same_file(home: Home) -> None:
    path = home.rows("a.csv", 1)
    os.link(path, home.path / "b.csv")
    os.symlink(path, home.path / "c.csv")

    assert home.take().samples == 1
    home.add(path, "0,2\n")
    assert home.take().samples == 1
    assert home.values() == [1, 2]


def test_a_file_that_was_replaced_by_its_longer_self_goes_on(home: Home) -> None:
    path = home.rows("a.csv", 1)
    home.take()
    home.rows("new", 1, 2)
    (home.path / "new").rename(path)

    home.take()

    assert home.values() == [1, 2]


def test_the_inode_of_another_file_makes_no_file_known(home: Home) -> None:
    path = home.rows("a.csv", 1)
    home.take()
    os.rename(path, home.path / "b.csv")
    home.rows("b.csv", 2)

    report = home.take()

    assert (report.samples, report.renamed) == (1, ())
    assert home.values() == [1, 2]


HOSTILE = [
    b"with 'quotes'.csv",
    b'with "quotes".csv',
    b"with\nline.csv",
    b"; DROP TABLE files; --.csv",
    b"bad utf-8 \xff\xfe.csv",
    "\N{SNOWMAN}.csv".encode(),
    b"%s%n{0}\\.csv",
    b"[a-z]*.csv",
    b"\x01\x7f.csv",
    b"n" * 251 + b".csv",
]


def test_names_may_be_anything(home: Home) -> None:
    for n, name in enumerate(HOSTILE):
        home.rows(os.fsdecode(name), n)

    report = home.take(home.path)
    assert sorted(home.values()) == list(range(len(HOSTILE)))
    assert {os.fsencode(path) for path in report.files} == {
        os.fsencode(home.path) + b"/" + name for name in HOSTILE
    }

    home.dataset.close()
    home.dataset = Dataset.open(home.path / "dataset", mode="w")
    assert home.take(home.path).known == len(HOSTILE)
    assert Entry.decode(home.dataset._core.sources()[0]).paths == list(report.files)


@pytest.mark.parametrize(
    "name", [".a.csv", "a.csv~", "a.tmp", "a.part", "a.partial", "a.crdownload", ".a.csv.swp"]
)
def test_half_written_names_are_left_out_unless_they_are_named(home: Home, name: str) -> None:
    path = home.rows(name, 1)
    home.rows("b.csv", 2)

    assert [os.path.basename(p) for p in expand(home.path, without=home.dataset.path)] == ["b.csv"]
    assert str(path) not in expand(str(home.path / "*.*"))
    assert expand(path) == [str(path)]


def test_a_folder_gives_all_files_below_it_and_no_dataset(home: Home) -> None:
    home.rows("z.csv", 1)
    home.rows("deep/er/a.csv", 2)
    os.symlink(home.path, home.path / "ring")

    report = home.take(home.path)

    assert report.files == (str(home.path / "deep/er/a.csv"), str(home.path / "z.csv"))


def test_a_file_that_is_given_twice_is_taken_once(home: Home) -> None:
    path = home.rows("a.csv", 1)

    assert home.take(path, path, os.path.relpath(path)).samples == 1


# What is wrong ----------------------------------------------------------------------------------


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


# Batches ----------------------------------------------------------------------------------------


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


# Timestamps and labels --------------------------------------------------------------------------


def test_timestamps_of_the_files_time(home: Home) -> None:
    path = home.write("a.csv", "x\n1\n2\n")
    os.utime(path, ns=(0, -1_500_000_000))

    home.take(path, format=CSV(), timestamps="mtime")

    assert home.dataset.timestamps.tolist() == [-2, -2]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (FileNameTime(r"(\d{4}-\d\d-\d\d)", "%Y-%m-%d"), 1_718_409_600),
        (FileNameTime(r"day(?P<time>\d+)-(\d+)"), 77),
        (lambda path, count: len(os.path.basename(path)) + count, 27),
        (lambda path, count: np.full(count, 5), 5),
    ],
)
def test_timestamps_of_the_name_or_a_function(home: Home, rule: Any, expected: int) -> None:
    path = home.write("2024-06-15.day77-8.csv", "x\n1\n2\n3\n4\n5\n")

    home.take(path, format=CSV(), timestamps=rule)

    assert home.dataset.timestamps.tolist() == [expected] * 5


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (FileNameTime(r"(\d{8})", "%Y%m%d"), "no time in its name"),
        (FileNameTime(r"(a)"), "no time in its name"),
        (lambda path, count: [1], "gave 1 for 2 samples"),
        (lambda path, count: 1.5, "gives timestamps"),
    ],
)
def test_a_name_without_a_time_is_rejected(home: Home, rule: Any, message: str) -> None:
    path = home.write("a.csv", "x\n1\n2\n")

    assert message in reason(home.take(path, format=CSV(), timestamps=rule))


def test_timestamps_come_from_one_place(home: Home) -> None:
    path = home.rows("a.csv", 1)

    with pytest.raises(ValueError, match="which"):
        home.take(path, timestamps="mtime")
    with pytest.raises(ValueError, match="where do the timestamps come from"):
        home.take(path, format=CSV())
    with pytest.raises(TypeError, match="timestamps must be"):
        home.take(path, format=CSV(), timestamps=7)


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Home]:
    here = Home(tmp_path)
    here.dataset.close()
    here.dataset = Dataset.create(tmp_path / "images", schema={"x": "bytes"})
    yield here
    here.dataset.close()


def test_folders_are_classes_and_keep_their_numbers(images: Home) -> None:
    for folder, content in [("dog", b"d"), ("cat", b"c")]:
        images.write(f"in/{folder}/1.png", content)
    format, take = Files(extension=".png"), images.take
    more: dict[str, Any] = {"labels": FolderLabels(), "timestamps": "mtime", "format": format}

    first = take(images.path / "in", **more)
    images.write("in/ant/1.png", b"a")
    images.write("in/dog/2.png", b"dd")
    images.write("in/dog/notes.txt", b"no image")
    second = take(images.path / "in", **more)

    assert first.classes == {"cat": 0, "dog": 1}
    assert second.classes == {"cat": 0, "dog": 1, "ant": 2}
    assert images.dataset.labels is not None
    assert images.dataset.labels.tolist() == [0, 1, 2, 1]
    assert list(images.dataset.fetch([0, 1, 2, 3])["x"]) == [b"c", b"d", b"a", b"dd"]


def test_a_file_outside_of_the_classes_is_rejected(images: Home) -> None:
    for folder in ("ant", "cat"):
        images.write(f"in/{folder}/1.png", b"x")
    labels = FolderLabels(classes={"cat": 7})

    report = images.take(
        images.path / "in", format=Files(extension=".png"), labels=labels, timestamps="mtime"
    )

    assert "its folder 'ant' is none of the classes ['cat']" in reason(report)
    assert images.dataset.labels is not None
    assert images.dataset.labels.tolist() == [7]


def test_labels_of_a_csv_file(images: Home) -> None:
    for n in range(4):
        images.write(f"in/{n}.png", b"%d" % n)
    labels = images.write("labels.csv", "name,label\nin/0.png,5\n1.png,6\n2.png,7\n")

    report = images.take(
        images.path / "in",
        format=Files(extension=".png"),
        labels=LabelFile(path=str(labels)),
        timestamps="mtime",
    )

    assert "3.png: " in reason(report)
    assert "has no label for it" in reason(report)
    assert images.dataset.labels is not None
    assert images.dataset.labels.tolist() == [5, 6, 7]


def test_labels_of_files_beside(images: Home) -> None:
    for n in range(3):
        images.write(f"in/{n}.png", b"%d" % n)
        if n != 1:
            images.write(f"in/{n}.cls", b"%d\n" % (n + 5))

    report = images.take(
        images.path / "in", format=Files(extension=".png", label=".cls"), timestamps="mtime"
    )

    assert "1.cls" in reason(report)
    assert images.dataset.labels is not None
    assert images.dataset.labels.tolist() == [5, 7]


def test_single_files_are_known_by_what_they_hold(images: Home) -> None:
    more: dict[str, Any] = {
        "format": Files(extension=".png"),
        "labels": FolderLabels(),
        "timestamps": "mtime",
    }
    paths = [images.write(f"in/{n}.png", b"%d" % n * (3000 * n + 1)) for n in range(4)]
    images.take(images.path / "in", **more)
    os.utime(paths[0], ns=(0, 0))
    paths[1].rename(images.path / "in" / "new.png")
    images.write("in/2.png", b"other" * 10)

    report = images.take(images.path / "in", **more)

    assert (report.samples, report.known, len(report.renamed)) == (0, 3, 1)
    assert "2.png: has shrunk" in reason(report)


@given(st.lists(st.binary(max_size=9), max_size=20), st.integers(1, 6))
def test_the_checks_in_memory_are_those_of_the_files(contents: list[bytes], limit: int) -> None:
    offsets = np.cumsum([0, *map(len, contents)])
    head, tail = _core.content_checks(np.frombuffer(b"".join(contents), np.uint8), offsets, limit)

    with tempfile.NamedTemporaryFile(buffering=0) as file:
        for content, first, last in zip(contents, head, tail, strict=True):
            file.truncate(0)
            file.seek(0)
            file.write(content)
            part = min(limit, len(content))
            assert first == _core.file_check(file.name, 0, part)
            assert last == _core.file_check(file.name, len(content) - part, part)


@pytest.mark.parametrize("offsets", [[], [0, 3], [1, 0], [-1, 1]])
def test_offsets_that_leave_the_values_are_refused(offsets: list[int]) -> None:
    with pytest.raises(ValueError, match="offsets do not ascend within the values"):
        _core.content_checks(np.zeros(2, np.uint8), np.array(offsets, np.int64), 9)


# The journal ------------------------------------------------------------------------------------


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
