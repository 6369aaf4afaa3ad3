"""CSV files into a dataset: what is added, and what a bad file leaves behind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modyn.dataset import Dataset
from modyn.formats import CSV
from modyn.ingest.driver import BATCH_BYTES, Intake
from modyn.ingest.names import expand
from tests.python.csv_reading import open_csv, read_column

WEATHER = CSV(timestamp="day", label="rain", columns={"dense": ["temp", "wind"], "city": "city"})
GOOD = "day,city,temp,wind,rain\n1,Oslo,1.5,2,0\n2,,,3,1\n"


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    schema = {"city": "bytes", "dense": "float32[2]"}
    return Dataset.create(tmp_path / "weather", schema=schema)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text, newline="")
        return path

    return write_file


def test_cells_arrive_in_their_fields(dataset: Dataset, write: Any) -> None:
    report = dataset.ingest(write("a.csv", GOOD), format=WEATHER)

    assert report.samples == 2
    assert report.keys == range(2)
    fields = dataset.fetch([0, 1])
    assert list(fields["city"]) == [b"Oslo", b""]
    np.testing.assert_array_equal(fields["dense"], [[1.5, 2.0], [np.nan, 3.0]])
    assert dataset.labels is not None
    assert dataset.labels.tolist() == [0, 1]
    assert dataset.timestamps.tolist() == [1, 2]


def test_files_are_taken_in_the_order_given(dataset: Dataset, write: Any, tmp_path: Path) -> None:
    paths = [write(f"{i}.csv", f"day,city,temp,wind,rain\n{i},x,0,0,0\n") for i in (2, 0, 1)]

    first = dataset.ingest(paths, format=WEATHER)
    for i in (5, 4, 3):
        write(f"{i}.csv", f"day,city,temp,wind,rain\n{i},x,0,0,0\n")
    second = dataset.ingest(str(tmp_path / "[0-9].csv"), format=WEATHER)

    assert dataset.timestamps.tolist() == [2, 0, 1, 3, 4, 5]
    assert first.files == tuple(map(str, paths))
    assert first.keys == range(3)
    assert second.files == tuple(str(tmp_path / f"{i}.csv") for i in (3, 4, 5))
    assert second.keys == range(3, 6)


def test_a_bad_row_at_the_end_commits_nothing(dataset: Dataset, write: Any) -> None:
    rows = "".join(f"{i},c{i},{i}.25,1,0\n" for i in range(20_000))
    path = write("a.csv", "day,city,temp,wind,rain\n" + rows + "7,x,0,0,99999999999999999999\n")

    with pytest.raises(ValueError, match=r"line 20002, column 'rain': '9+' does not") as caught:
        dataset.ingest(path, format=WEATHER)

    assert "no sample of these files was added" in caught.value.__notes__
    assert len(dataset) == 0
    assert len(Dataset.open(dataset.path)) == 0


@pytest.mark.parametrize("batch_bytes", [1000, 100_000, BATCH_BYTES])
def test_batches_do_not_change_what_is_read(dataset: Dataset, write: Any, batch_bytes: int) -> None:
    rows = "".join(f"{i},c{i},{i}.25,1,{i % 3}\n" for i in range(5000))
    path = write("a.csv", "day,city,temp,wind,rain\n" + rows)

    report = Intake(dataset, WEATHER, batch_bytes=batch_bytes).take([str(path)])

    assert report.keys == range(5000)
    assert dataset.timestamps.tolist() == list(range(5000))
    fields = dataset.fetch(np.arange(5000))
    assert list(fields["city"]) == [f"c{i}".encode() for i in range(5000)]
    assert fields["dense"][:, 0].tolist() == [i + 0.25 for i in range(5000)]


def test_a_bad_file_stops_and_says_what_was_added_before(dataset: Dataset, write: Any) -> None:
    files = [write("a.csv", GOOD), write("b.csv", "day,city,temp\n"), write("c.csv", GOOD)]

    with pytest.raises(ValueError, match=r"b\.csv: the header has no column 'wind'") as caught:
        dataset.ingest(files, format=WEATHER)

    note = "2 samples were added before; their keys are 0 to 1"
    assert caught.value.__notes__ == [note]
    assert len(dataset) == 2


def test_bad_files_can_be_left_out(dataset: Dataset, write: Any, tmp_path: Path) -> None:
    missing = tmp_path / "missing.csv"
    files = [write("b.csv", ""), missing, write("c.csv", GOOD)]

    report = dataset.ingest(files, format=WEATHER, on_error="skip")

    assert report.files == (str(files[2]),)
    assert [path for path, _ in report.skipped] == [str(files[0]), str(missing)]
    assert "the file is empty" in report.skipped[0][1]
    assert report.keys == range(2)


def test_a_header_alone_adds_nothing(dataset: Dataset, write: Any) -> None:
    report = dataset.ingest(write("a.csv", GOOD.splitlines()[0]), format=WEATHER)

    assert report.samples == 0
    assert report.keys == range(0)
    assert len(dataset) == 0


def test_missing_files_are_errors(dataset: Dataset, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.csv"):
        dataset.ingest(tmp_path / "nothing.csv", format=WEATHER)
    with pytest.raises(FileNotFoundError, match=r"no file matches '.*/\*\.csv'"):
        dataset.ingest(str(tmp_path / "*.csv"), format=WEATHER)
    with pytest.raises(FileNotFoundError, match="no files"):
        dataset.ingest([], format=WEATHER)


def test_a_file_whose_name_looks_like_a_pattern_is_itself(write: Any) -> None:
    path = write("a[0].csv", GOOD)

    assert expand(path) == [str(path)]


def test_without_a_header_columns_are_taken_in_order(tmp_path: Path, write: Any) -> None:
    schema = {"x": "int16[3]", "y": "float64"}
    plain = Dataset.create(tmp_path / "plain", schema=schema, labels=False)

    plain.ingest(
        write("a.csv", "1;2;77;3;.5\n"), format=CSV(timestamp=2, header=False, separator=";")
    )

    assert plain.fetch([0])["x"].tolist() == [[1, 2, 3]]
    assert plain.fetch([0])["y"].tolist() == [0.5]
    assert plain.timestamps.tolist() == [77]


def test_with_a_header_fields_find_their_columns(tmp_path: Path, write: Any) -> None:
    schema = {"x": "int16[2,2]", "y": "bool"}
    named = Dataset.create(tmp_path / "named", schema=schema, labels=False)

    named.ingest(write("a.csv", "x_3,y,x_2,t,x_1,x_0\n4,true,3,0,2,1\n"), format=CSV(timestamp="t"))

    assert named.fetch([0])["x"].tolist() == [[[1, 2], [3, 4]]]
    assert named.fetch([0])["y"].tolist() == [True]


@pytest.mark.parametrize(
    ("format", "message"),
    [
        (CSV(timestamp="day", columns=WEATHER.columns), "has labels; give the label column"),
        (CSV(timestamp="day", label="rain", columns={"city": 0}), "no entry for field 'dense'"),
        (
            CSV(timestamp="day", label="rain", columns={"city": 0, "dense": [1]}),
            "2 columns are needed, got 1",
        ),
        (
            CSV(timestamp="day", label="rain", columns={"town": 0}),
            r"names field 'town'; the schema has \['city', 'dense'\]",
        ),
    ],
)
def test_a_format_that_does_not_fit_the_dataset(
    dataset: Dataset, write: Any, format: CSV, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        dataset.ingest(write("a.csv", GOOD), format=format)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"timestamp": "t", "separator": ",,"}, "separator must be one byte"),
        ({"timestamp": "t", "separator": "é"}, "separator must be one byte"),
        ({"timestamp": "t", "quote": "\n"}, "quote must be one byte"),
        ({"timestamp": "t", "quote": ","}, "must differ"),
        ({"timestamp": "t", "header": False}, "given by name, 't', but header is False"),
        ({"timestamp": -1}, "index from 0, got -1"),
        ({"timestamp": "t", "columns": {"x": ["a", -2]}}, "field 'x' must be an index from 0"),
    ],
)
def test_a_format_that_makes_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CSV(**settings)


def test_other_modes_and_formats_are_refused(dataset: Dataset, write: Any) -> None:
    path = write("a.csv", GOOD)
    wrong: Any = "move"

    with pytest.raises(ValueError, match="mode must be 'copy' or 'link', got 'move'"):
        dataset.ingest(path, format=WEATHER, mode=wrong)
    with pytest.raises(ValueError, match="on_error must be"):
        dataset.ingest(path, format=WEATHER, on_error=wrong)
    with pytest.raises(TypeError, match=r"format must be one of modyn\.formats"):
        dataset.ingest(path, format=wrong)


def test_arrays_outlive_their_reader(tmp_path: Path) -> None:
    values = read_column(tmp_path / "a.csv", "int64", [b"%d" % i for i in range(10_000)])

    assert values.tolist() == list(range(10_000))
    assert not values.flags.writeable


def test_a_reader_is_for_one_thread_at_a_time(tmp_path: Path) -> None:
    import threading

    path = tmp_path / "a.csv"
    path.write_bytes(b"1,2\n" * 3_000_000)
    reader = open_csv(path, "x: int64\n", (1,), header=False, quote=-1, timestamp=0)
    start = threading.Barrier(2)
    refused = []

    def check() -> None:
        start.wait(10)
        try:
            reader.check()
        except RuntimeError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=check) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert not any(thread.is_alive() for thread in threads)
    assert refused in ([], ["a Reader is for one thread at a time"])


@pytest.mark.parametrize("threads", [1, 3])
def test_an_interrupt_is_heard_within_a_file_and_leaves_the_reader_fit(
    tmp_path: Path, threads: int
) -> None:
    import signal

    class InterruptError(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise InterruptError

    path = tmp_path / "a.csv"
    path.write_bytes(b"1,2\n" * 2_000_000)
    reader = open_csv(
        path, "x: int64\n", (1,), header=False, quote=-1, timestamp=0, threads=threads
    )
    before = signal.signal(signal.SIGALRM, interrupt)
    positions = []
    try:
        for _ in range(50):
            reader.seek(0)
            signal.setitimer(signal.ITIMER_REAL, 0.002)
            with contextlib.suppress(InterruptError):
                reader.check()
            signal.setitimer(signal.ITIMER_REAL, 0)
            positions.append(reader.position)
            if 0 < positions[-1] < 8_000_000:
                break
    finally:
        signal.signal(signal.SIGALRM, before)

    assert 0 < positions[-1] < 8_000_000
    reader.seek(0)
    assert len(reader.read(BATCH_BYTES)[0][0]) == 2_000_000


def test_a_reader_refuses_to_work_in_a_child(tmp_path: Path) -> None:
    import os

    path = tmp_path / "a.csv"
    path.write_bytes(b"1,2\n" * 2_000_000)
    reader = open_csv(path, "x: int64\n", (1,), header=False, timestamp=0, threads=3)
    reader.read(1)

    child = os.fork()
    if child == 0:
        try:
            reader.read(1)
        except ValueError as error:
            del reader
            os._exit(7 if "opened before a fork" in str(error) else 1)
        os._exit(2)

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert len(reader.read(BATCH_BYTES)[0][0]) == 1_999_999
