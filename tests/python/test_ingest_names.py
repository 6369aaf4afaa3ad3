"""Which files are meant: names, folders, patterns, and files that are renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from modyn.dataset import Dataset
from modyn.ingest.names import expand
from modyn.ingest.sources import Entry
from tests.python.ingest_home import Home


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    here = Home(tmp_path)
    yield here
    here.dataset.close()


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
