"""A folder that is followed: what comes is taken, whatever happens meanwhile."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modyn.dataset import Dataset
from modyn.formats import CSV, Files, Npy
from modyn.ingest import IngestReport
from modyn.ingest.watch import Watch

ROWS = CSV(timestamp="t")
DEADLINE = 60
"""Seconds after which a test gives up; none is meant to take long."""


class Home:
    def __init__(self, path: Path) -> None:
        self.folder = path / "in"
        self.folder.mkdir()
        self.dataset = Dataset.create(path / "dataset", schema={"x": "int64"}, labels=False)
        self.reports: list[IngestReport] = []

    def watch(self, **more: Any) -> Watch:
        settings: dict[str, Any] = {"format": ROWS, "on_report": self.reports.append, **more}
        return self.dataset.watch(self.folder, **settings)

    def rows(self, name: str, *numbers: int) -> Path:
        path = self.folder / name
        path.write_text("t,x\n" + "".join(f"0,{n}\n" for n in numbers))
        return path

    def values(self) -> list[int]:
        keys = np.arange(len(self.dataset))
        return list(np.asarray(self.dataset.fetch(keys)["x"]).tolist())

    def skipped(self) -> list[tuple[str, str]]:
        return [one for report in self.reports for one in report.skipped]


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.005)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    here = Home(tmp_path)
    yield here
    here.dataset.close()


@pytest.fixture(params=[None, 0.02], ids=["events", "polling"])
def poll(request: pytest.FixtureRequest) -> float | None:
    return request.param  # type: ignore[no-any-return]


def test_what_is_there_and_what_comes_is_taken(home: Home, poll: float | None) -> None:
    home.rows("a.csv", 1)

    with home.watch(poll=poll):
        wait_for(lambda: len(home.dataset) == 1)
        home.rows("b.csv", 2)
        wait_for(lambda: len(home.dataset) == 2)
        (home.folder / "deep" / "er").mkdir(parents=True)
        home.rows("deep/er/c.csv", 3)
        wait_for(lambda: len(home.dataset) == 3)
        with open(home.folder / "a.csv", "a") as file:
            file.write("0,4\n")
        wait_for(lambda: len(home.dataset) == 4)

    assert home.values() == [1, 2, 3, 4]


def test_without_the_library_the_folder_is_looked_at(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "watchdog.observers", None)

    with home.watch():
        home.rows("a.csv", 1)
        wait_for(lambda: len(home.dataset) == 1)


def test_an_event_that_is_lost_loses_no_file(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Watch, "_hear", lambda self, whole: None)

    with home.watch():
        time.sleep(0.1)
        home.rows("a.csv", 1)
        wait_for(lambda: len(home.dataset) == 1)


def test_an_unfinished_line_waits(home: Home, poll: float | None) -> None:
    with home.watch(poll=poll), open(home.folder / "a.csv", "w") as file:
        for piece in ["t,x\n0", ",1", "\n", "0,2\n0,", "345"]:
            file.write(piece)
            file.flush()
            time.sleep(0.05)
        wait_for(lambda: len(home.dataset) == 2)
        file.write("6\n")
        file.flush()
        wait_for(lambda: len(home.dataset) == 3)

    assert home.values() == [1, 2, 3456]
    assert home.skipped() == []


def test_a_whole_file_waits_until_it_is_left_alone(home: Home, poll: float | None) -> None:
    path = home.folder / "a.npy"
    np.save(home.folder.parent / "a.npy", np.arange(1000))
    content = (home.folder.parent / "a.npy").read_bytes()

    with home.watch(format=Npy(), timestamps="mtime", poll=poll, settle=0.3):
        with open(path, "wb", buffering=0) as file:
            for first in range(0, len(content), 1000):
                file.write(content[first : first + 1000])
                time.sleep(0.02)
        wait_for(lambda: len(home.dataset) == 1000)

    assert home.values() == list(range(1000))
    assert home.skipped() == []


def test_a_file_that_was_moved_here_need_not_settle(home: Home) -> None:
    np.save(home.folder.parent / "a.npy", np.arange(10))

    with home.watch(format=Npy(), timestamps="mtime", settle=3600):
        wait_for(lambda: home.dataset is not None)
        time.sleep(0.3)
        os.rename(home.folder.parent / "a.npy", home.folder / "a.npy")
        wait_for(lambda: len(home.dataset) == 10)


def test_a_bad_file_is_reported_once_per_change(home: Home, poll: float | None) -> None:
    bad = home.folder / "bad.csv"
    bad.write_text("t,x\n0,none\n")

    with home.watch(poll=poll):
        wait_for(lambda: len(home.skipped()) == 1)
        for n in range(5):
            home.rows(f"{n}.csv", n)
            wait_for(lambda n=n: len(home.dataset) == n + 1)  # type: ignore[misc]
        assert len(home.skipped()) == 1
        bad.write_text("t,x\n0,nothing\n")
        wait_for(lambda: len(home.skipped()) == 2)
        home.rows("bad.csv", 5)
        wait_for(lambda: len(home.dataset) == 6)

    assert home.values() == [0, 1, 2, 3, 4, 5]


def test_a_folder_may_come_later_and_go(home: Home, poll: float | None) -> None:
    home.folder.rmdir()

    with home.watch(poll=poll):
        wait_for(lambda: [reason for _, reason in home.skipped()] == ["no such file or directory"])
        home.folder.mkdir()
        home.rows("a.csv", 1)
        wait_for(lambda: len(home.dataset) == 1)
        os.rename(home.folder, home.folder.parent / "elsewhere")
        wait_for(lambda: len(home.skipped()) == 2)
        home.folder.mkdir()
        home.rows("b.csv", 2)
        wait_for(lambda: len(home.dataset) == 2)


def test_an_error_of_the_dataset_ends_it_and_is_raised(home: Home) -> None:
    def broken(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    home.dataset._commit = broken  # type: ignore[method-assign]
    watch = home.watch(poll=0.01)
    home.rows("a.csv", 1)

    with pytest.raises(OSError, match="No space"):
        watch.wait(DEADLINE)
    watch.stop()


def test_reports_come_to_who_iterates(home: Home) -> None:
    watch = home.watch(poll=0.01, on_report=None)
    seen = []
    home.rows("a.csv", 1)

    for report in watch:
        seen.append(report.samples)
        if sum(seen) == 3:
            watch.stop()
        else:
            home.rows("b.csv", 2, 3)

    assert sum(seen) == 3


@pytest.mark.parametrize("seed", range(5))
def test_a_stop_under_load_loses_nothing(home: Home, seed: int, poll: float | None) -> None:
    count, writers = 60, 3
    ended = threading.Barrier(writers + 1)

    def write(writer: int) -> None:
        path = home.folder / f"grows{writer}.csv"
        with open(path, "w", buffering=1) as file:
            file.write("t,x\n")
            for n in range(count):
                number = writer * 10_000 + n
                file.write(f"0,{number}\n")
                home.rows(f"{number}.csv", number + 5000)
        ended.wait(DEADLINE)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(writers)]
    for thread in threads:
        thread.start()
    for stop in range(4):
        with home.watch(poll=poll):
            time.sleep(0.01 * (seed + stop))
    ended.wait(DEADLINE)
    for thread in threads:
        thread.join(DEADLINE)
    with home.watch(poll=poll):
        wait_for(lambda: len(home.dataset) >= 2 * writers * count)

    expected = [
        w * 10_000 + n + more for w in range(writers) for n in range(count) for more in (0, 5000)
    ]
    assert sorted(home.values()) == sorted(expected)


def test_single_files_are_followed(home: Home, tmp_path: Path) -> None:
    images = Dataset.create(tmp_path / "images", schema={"x": "bytes"}, labels=False)
    format = Files(extension=".png")

    with images, images.watch(home.folder, format=format, timestamps="mtime", settle=0) as watch:
        for n in range(50):
            building = tmp_path / "building"  # without settling, a file must come whole
            building.write_bytes(b"%d" % n)
            building.rename(home.folder / f"{n}.png")
        (home.folder / "notes.txt").write_text("no image")
        wait_for(lambda: len(images) == 50)
        assert watch.wait(0) is False
        assert sorted(images.fetch(range(50))["x"]) == sorted(b"%d" % n for n in range(50))


@pytest.mark.parametrize(("name", "value"), [("settle", -1), ("poll", 0)])
def test_settings_that_make_no_sense(home: Home, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        home.watch(**{name: value})
