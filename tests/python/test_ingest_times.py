"""Where timestamps and labels of files come from."""

from __future__ import annotations

import os
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
    FileNameTime,
    Files,
    FolderLabels,
    LabelFile,
)
from tests.python.ingest_home import Home, reason


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    here = Home(tmp_path)
    yield here
    here.dataset.close()


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
