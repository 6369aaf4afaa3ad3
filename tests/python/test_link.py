"""Linked files are read from where they lie: right bytes, or an error that names the file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from modyn import Loader
from modyn._core import CorruptError
from modyn.cli import app
from modyn.dataset import Dataset
from modyn.formats import CSV, FileNameTime, FixedRecord
from tests.conftest import Rand
from tests.reference.format import Reference

ROWS = 8192
SCHEMA = {"x": "int32[2]", "y": "float32"}
DTYPE = np.dtype([("time", "<i8"), ("label", ">u2"), ("x", "<i4", 2), ("y", "<f4"), ("rest", "u1")])
FORMAT = FixedRecord(
    record_size=23,
    fields={"x": 10, "y": 18},
    timestamp=(0, "int64"),
    label=(8, ">u2"),
    first_record=5,
)


def write(path: Path, rand: Rand, count: int) -> np.ndarray[Any, np.dtype[Any]]:
    """Make a file of FORMAT and return its records."""
    records = np.frombuffer(rand.numpy.bytes(count * DTYPE.itemsize), DTYPE).copy()
    records["y"] = rand.integers(-100, 100, count)
    path.write_bytes(b"intro" + records.tobytes())
    os.utime(path, ns=(10**18, 10**18))
    return records


def make(tmp_path: Path, **options: Any) -> Dataset:
    return Dataset.create(tmp_path / "d", schema=SCHEMA, segment_records=ROWS, **options)


def check(dataset: Dataset, records: np.ndarray[Any, np.dtype[Any]], first: int = 0) -> None:
    keys = np.arange(first, first + len(records))[::-1]
    fields = dataset.fetch(keys, threads=2)
    assert np.array_equal(fields["x"], records["x"][::-1])
    assert np.array_equal(fields["y"], records["y"][::-1])
    assert dataset.labels is not None
    assert np.array_equal(dataset.labels[first : first + len(records)], records["label"])
    assert np.array_equal(dataset.timestamps[first : first + len(records)], records["time"])


@pytest.mark.parametrize(
    ("before", "rows", "linked"),
    [(0, 2 * ROWS + 77, 2 * ROWS), (100, 3 * ROWS, 2 * ROWS), (5, ROWS, 0), (0, 0, 0)],
)
def test_linked_samples_are_those_of_the_file(
    tmp_path: Path, rand: Rand, before: int, rows: int, linked: int
) -> None:
    dataset = make(tmp_path)
    if before:
        dataset.append(
            {"x": np.zeros((before, 2), np.int32), "y": np.zeros(before, np.float32)},
            labels=np.zeros(before, np.int64),
            timestamps=np.zeros(before, np.int64),
        )
    records = write(tmp_path / "f.bin", rand, rows)

    report = dataset.ingest(tmp_path / "f.bin", format=FORMAT, mode="link", threads=2)

    assert (report.samples, report.linked, len(dataset)) == (rows, linked, before + rows)
    if rows:
        assert report.keys == range(before, before + rows)
    check(dataset, records, before)
    check(Dataset.open(tmp_path / "d"), records, before)
    segments = sorted(path.name for path in (tmp_path / "d").glob("*.seg"))
    assert len(segments) == (before + rows - linked + ROWS - 1) // ROWS


def test_a_reader_made_from_the_page_agrees(tmp_path: Path, rand: Rand) -> None:
    dataset = make(tmp_path)
    records = write(tmp_path / "f.bin", rand, 2 * ROWS + 3)
    dataset.ingest(tmp_path / "f.bin", format=FORMAT, mode="link")
    dataset.erase([5, ROWS + 7], reason="x")
    dataset.compact()

    reference = Reference(tmp_path / "d")

    assert sorted(reference.links) == [0, 1]
    for key in (0, 4, 6, ROWS, 2 * ROWS + 2):
        sample = reference.samples[key]
        assert sample["timestamp"] == records["time"][key]
        assert sample["x"].tolist() == records["x"][key].tolist()
    assert reference.samples[5]["timestamp"] == reference.samples[5]["label"] == 0


def test_a_linked_file_is_taken_once(tmp_path: Path, rand: Rand) -> None:
    dataset = make(tmp_path)
    write(tmp_path / "f.bin", rand, ROWS + 1)

    first = dataset.ingest(tmp_path / "f.bin", format=FORMAT, mode="link")
    again = dataset.ingest(tmp_path / "f.bin", format=FORMAT, mode="link")

    assert (first.samples, again.samples, again.known) == (ROWS + 1, 0, 1)
    assert len(dataset) == ROWS + 1
    assert [event.action for event in dataset.audit()] == ["link"]
    assert dataset.audit()[0].file == str(tmp_path / "f.bin")
    assert dataset.audit()[0].segments == (0,)


@pytest.mark.parametrize("given", ["mtime", "name", "one", "each"])
def test_timestamps_can_come_from_elsewhere(tmp_path: Path, rand: Rand, given: str) -> None:
    dataset = Dataset.create(
        tmp_path / "d", schema=SCHEMA, labels=False, segment_records=ROWS, timestamp_unit="s"
    )
    write(tmp_path / "day-77.bin", rand, ROWS + 9)
    format = FixedRecord(record_size=23, fields={"x": 10, "y": 18}, first_record=5)
    times: Any = {
        "mtime": "mtime",
        "name": FileNameTime(r"day-(\d+)"),
        "one": lambda path, count: 4,
        "each": lambda path, count: np.arange(count) * 3,
    }[given]

    dataset.ingest(tmp_path / "day-77.bin", format=format, mode="link", timestamps=times)

    right = {"mtime": 10**9, "name": 77, "one": 4, "each": np.arange(ROWS + 9) * 3}[given]
    assert np.array_equal(dataset.timestamps, np.broadcast_to(right, ROWS + 9))


@pytest.mark.parametrize(
    ("schema", "format", "says"),
    [
        ({"x": "bytes"}, FixedRecord(record_size=8, fields={"x": 0}), "'x' is bytes"),
        (
            {"x": "int32"},
            FixedRecord(record_size=8, fields={"x": 0}, byteorder="big"),
            "'x' is big-endian",
        ),
        (
            {"x": "int32", "y": "int8"},
            FixedRecord(record_size=8, fields={"x": 0, "y": 5}),
            "field 'y' begins at byte 5 of a record, and not at 4",
        ),
        ({"x": "int32"}, CSV(timestamp="t"), "FixedRecord"),
    ],
)
def test_what_cannot_be_linked_says_why(
    tmp_path: Path, schema: dict[str, str], format: Any, says: str
) -> None:
    dataset = Dataset.create(tmp_path / "d", schema=schema, labels=False)
    (tmp_path / "f").write_bytes(bytes(80))

    with pytest.raises(ValueError, match=says) as error:
        dataset.ingest(tmp_path / "f", format=format, mode="link", timestamps="mtime")

    assert "use mode='copy'" in str(error.value)
    assert len(dataset) == 0


def test_a_bad_file_is_left_out_and_the_others_are_linked(tmp_path: Path, rand: Rand) -> None:
    dataset = make(tmp_path)
    good = write(tmp_path / "b.bin", rand, ROWS)
    (tmp_path / "a.bin").write_bytes(bytes(5 + 23 + 7))

    report = dataset.ingest(tmp_path / "*.bin", format=FORMAT, mode="link", on_error="skip")

    assert [path for path, _ in report.skipped] == [str(tmp_path / "a.bin")]
    assert "record 1 has 7 bytes of 23" in report.skipped[0][1]
    check(dataset, good)
    with pytest.raises(ValueError, match=r"a\.bin: ends in the middle of a record"):
        dataset.ingest(tmp_path / "*.bin", format=FORMAT, mode="link")


def test_erased_samples_remain_in_the_users_file_and_the_compaction_says_so(
    tmp_path: Path, rand: Rand
) -> None:
    dataset = make(tmp_path)
    records = write(tmp_path / "f.bin", rand, 2 * ROWS + 10)
    before = (tmp_path / "f.bin").read_bytes()
    dataset.ingest(tmp_path / "f.bin", format=FORMAT, mode="link")
    gone = [0, 3, ROWS, 2 * ROWS + 1]

    assert dataset.erase(gone, reason="x") == 4
    done = dataset.compact()

    assert (done.samples, done.linked_samples) == (1, 3)
    assert done.files == (str(tmp_path / "f.bin"),)
    assert (tmp_path / "f.bin").read_bytes() == before
    left = np.setdiff1d(np.arange(len(records)), gone)
    assert np.array_equal(dataset.fetch(left)["x"], records["x"][left])
    assert dataset.timestamps[0] == 0
    assert dataset.compact().linked_samples == 3
    for key in gone:
        with pytest.raises(KeyError, match="was erased"):
            dataset.fetch([key])
    for path in (tmp_path / "d").iterdir():
        assert records[3].tobytes()[:8] not in path.read_bytes()


def cut(path: Path) -> None:
    os.truncate(path, 1000)


def change(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"!")


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("damage", "error", "says"),
    [
        (cut, CorruptError, "has 1000 bytes, and had 376929 when it was linked"),
        (change, CorruptError, "was changed at .*; when it was linked, .* 2001-09-09 01:46:40"),
        (remove, FileNotFoundError, "No such file"),
    ],
)
@pytest.mark.parametrize("mapped", [False, True])
def test_a_changed_file_is_an_error_that_names_it(
    tmp_path: Path, rand: Rand, damage: Any, error: type[Exception], says: str, mapped: bool
) -> None:
    dataset = make(tmp_path)
    records = write(tmp_path / "f.bin", rand, 2 * ROWS + 4)
    dataset.ingest(tmp_path / "f.bin", format=FORMAT, mode="link")
    if mapped:
        check(dataset, records)
    keys = np.arange(2 * ROWS, dtype=np.uint64)

    damage(tmp_path / "f.bin")

    with pytest.raises(error, match=says) as caught:
        dataset.fetch(keys)
    assert str(tmp_path / "f.bin") in str(caught.value)
    with pytest.raises(error, match=says):
        list(Loader(dataset, keys, batch_size=1000, shuffle="global", seed=1, threads=4))
    assert dataset.fetch([2 * ROWS + 3])["y"][0] == records["y"][2 * ROWS + 3]
    assert np.array_equal(dataset.timestamps, records["time"])


def test_the_command_line_links_and_says_what_remains(tmp_path: Path, rand: Rand) -> None:
    make(tmp_path).close()
    write(tmp_path / "f.bin", rand, ROWS + 2)
    options = ["record_size=23", "fields={x: 10, y: 18}", "first_record=5"]
    options += ["label=[8, '>u2']", "timestamp=[0, int64]"]
    given = [part for option in options for part in ("-o", option)]
    run = CliRunner()

    where = [str(tmp_path / "d"), str(tmp_path / "f.bin")]
    taken = run.invoke(app, ["ingest", *where, "--format=fixed", "--link", *given])
    erased = run.invoke(
        app, ["dataset", "erase", str(tmp_path / "d"), "--keys=5", "--reason=x", "--yes"]
    )
    compacted = run.invoke(app, ["dataset", "compact", str(tmp_path / "d")])

    assert taken.exit_code == 0, taken.output
    assert erased.exit_code == 0, erased.output
    said = f"1 erased samples are still in your own file {tmp_path / 'f.bin'}"
    assert said in compacted.output.replace("\n", "")


FOREIGN = """
import faulthandler, mmap, os, signal, sys
import numpy as np
from modyn.dataset import Dataset

dataset = Dataset.open(sys.argv[1])
keys = np.arange(8192, dtype=np.uint64)
if "late" in sys.argv:
    dataset.fetch(keys)
if "faulthandler" in sys.argv:
    faulthandler.enable()
if "python" in sys.argv:
    signal.signal(signal.SIGBUS, lambda *_: None)
dataset.fetch(keys)
os.truncate(sys.argv[2], 1000)
for _ in range(2):
    try:
        dataset.fetch(keys)
    except Exception as error:
        print(type(error).__name__)
if "die" in sys.argv:
    name = sys.argv[1] + "/mine"
    with open(name, "w+b") as file:
        file.truncate(4096)
        mine = mmap.mmap(file.fileno(), 4096)
        file.truncate(0)
    mine[100]
"""


@pytest.mark.parametrize("handler", ["none", "faulthandler", "python"])
@pytest.mark.parametrize("when", ["early", "late"])
def test_other_handlers_of_the_signal_are_respected(
    tmp_path: Path, rand: Rand, handler: str, when: str
) -> None:
    dataset = make(tmp_path)
    write(tmp_path / "f.bin", rand, ROWS)
    dataset.ingest(tmp_path / "f.bin", format=FORMAT, mode="link")
    die = "live" if handler == "python" else "die"
    command = [sys.executable, "-c", FOREIGN, str(tmp_path / "d"), str(tmp_path / "f.bin")]

    done = subprocess.run(
        [*command, handler, when, die], capture_output=True, text=True, timeout=60, check=False
    )

    assert done.stdout == "CorruptError\nCorruptError\n", done.stderr
    if die == "die":
        assert done.returncode == -signal.SIGBUS
        assert ("Fatal Python error: Bus error" in done.stderr) == (handler == "faulthandler")
    else:
        assert done.returncode == 0


def test_verify_reads_linked_files_and_erase_knows_them(tmp_path: Path, rand: Rand) -> None:
    dataset = make(tmp_path)
    write(tmp_path / "f.bin", rand, 2 * ROWS + 9)
    dataset.ingest(tmp_path / "f.bin", format=FORMAT, mode="link")

    assert dataset.verify().ok
    with (tmp_path / "f.bin").open("r+b") as file:
        file.seek(5 + 23 * ROWS + 10)
        file.write(b"??")
    os.utime(tmp_path / "f.bin", ns=(10**18, 10**18))

    findings = dataset.verify().findings
    assert len(findings) == 1
    assert str(tmp_path / "f.bin") in str(findings[0])
    assert dataset.erase(file=tmp_path / "f.bin", reason="x") == 2 * ROWS + 9
