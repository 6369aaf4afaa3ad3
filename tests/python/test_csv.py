"""CSV files: against Python's csv module and the twin, and what a bad file leaves behind."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from modyn import _core
from modyn.dataset import Dataset
from modyn.formats import CSV
from modyn.ingest.driver import BATCH_BYTES, Intake
from modyn.ingest.names import expand
from tests.reference import csv_rows

FLOATS = ["float16", "float32", "float64"]
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]

# Each example works on a file of its own content, so one directory serves them all.
relaxed = settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def open_csv(
    path: Path,
    schema: str,
    elements: tuple[str | int, ...],
    *,
    timestamp: str | int | None,
    header: bool = True,
    quote: int = ord('"'),
    threads: int = 1,
    growing: bool = False,
    piece_size: int = 0,
    separator: str = ",",
) -> _core.Reader:
    return _core.read_csv(
        path,
        schema,
        header,
        ord(separator),
        quote,
        elements,
        None,
        timestamp,
        threads,
        growing,
        piece_size,
    )


def read_all(reader: _core.Reader, size_max: int = BATCH_BYTES) -> list[list[Any]]:
    """Columns of the whole file, each as a list; bytes fields as bytes."""
    columns: list[list[Any]] = []
    ended = False
    while not ended:
        blocks, _, timestamps, ended = reader.read(size_max)
        columns = columns or [[] for _ in blocks] + [[]]
        for column, block in zip(columns, [*blocks, timestamps], strict=True):
            if isinstance(block, tuple):
                values, offsets = block
                ends = offsets.tolist()
                column += [values[a:b].tobytes() for a, b in pairwise(ends)]
            else:
                column += block.tolist()
    return columns


def read_cells(
    path: Path,
    count: int,
    *,
    size_max: int = BATCH_BYTES,
    threads: int = 1,
    piece_size: int = 0,
) -> list[list[bytes]]:
    """Rows of a file without a header, all cells as bytes; column 0 must be a number."""
    schema = "".join(f"c{i}: bytes\n" for i in range(count))
    reader = open_csv(
        path,
        schema,
        tuple(range(count)),
        header=False,
        timestamp=0,
        threads=threads,
        piece_size=piece_size,
    )
    return [list(row) for row in zip(*read_all(reader, size_max)[:-1], strict=True)]


def read_column(path: Path, dtype: str, cells: list[bytes]) -> Any:
    """Values of cells as one column of this type."""
    path.write_bytes(b"t,x\n" + b"".join(b"0,%s\n" % cell for cell in cells))
    reader = open_csv(path, f"x: {dtype}\n", ("x",), timestamp="t")
    return reader.read(BATCH_BYTES)[0][0]


# Rows and cells --------------------------------------------------------------------------------

CELLS = st.text(st.sampled_from(list('ab",;\n\r\t é0')), max_size=6)


@relaxed
@given(
    table=st.integers(1, 4).flatmap(
        lambda width: st.lists(st.lists(CELLS, min_size=width, max_size=width), min_size=1)
    ),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    end=st.sampled_from(["\n", "\r\n"]),
    size_max=st.sampled_from([1, 50, BATCH_BYTES]),
)
def test_what_pythons_csv_module_writes_is_read(
    tmp_path: Path, table: list[list[str]], quoting: Any, end: str, size_max: int
) -> None:
    # Up to Python 3.12 the module leaves a lone CR without quotes, as nothing else should.
    assume(quoting == csv.QUOTE_ALL or not any("\r" in cell for row in table for cell in row))
    table = [["7", *row] for row in table]
    text = io.StringIO()
    csv.writer(text, quoting=quoting, lineterminator=end).writerows(table)
    path = tmp_path / "a.csv"
    path.write_text(text.getvalue(), newline="")

    got = read_cells(path, len(table[0]), size_max=size_max)

    assert got == [[cell.encode() for cell in row] for row in table]
    assert got == csv_rows.rows(path.read_bytes())


def expected_cells(text: bytes) -> list[list[bytes]] | None:
    """What the twin reads; None for what has to be refused."""
    try:
        rows = csv_rows.rows(text)
        for row in rows:
            csv_rows.number("int64", row[0])
    except (ValueError, OverflowError):
        return None
    if not rows or any(len(row) != len(rows[0]) for row in rows):
        return None
    return rows


PARTS = [b"1", b"1,", b"\n1", b'"', b'""', b"\n", b"\r", b"\r\n", b",", b"x"]


@relaxed
@given(
    text=st.lists(st.sampled_from(PARTS)).map(lambda parts: b"1" + b"".join(parts)),
    threads=st.integers(1, 3),
    piece_size=st.sampled_from([0, 1, 2, 5]),
)
def test_any_text_is_read_as_the_twin_reads_it(
    tmp_path: Path, text: bytes, threads: int, piece_size: int
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(text)
    expected = expected_cells(text)

    if expected is None:
        with pytest.raises(ValueError, match=r"a\.csv"):
            read_cells(path, 1, threads=threads, piece_size=piece_size)
    else:
        got = read_cells(path, len(expected[0]), threads=threads, piece_size=piece_size)
        assert got == expected


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("piece_size", [1000, 1 << 16, 0])
def test_a_large_file_is_read_as_the_twin_reads_it(
    tmp_path: Path, rand: Any, threads: int, piece_size: int
) -> None:
    parts = [b"12", b"x,y", b'"a\nb"', b'"""",c', b"", b"\xc3\xa9" * 50, b'"' + b"z" * 999 + b'"']
    choice = rand.numpy.integers(0, len(parts), (1200, 3))
    table = [[parts[i] for i in row] for row in choice]
    # Two of the parts hold a separator: the rows are made equally long with empty cells.
    lines = [b"5," + b",".join(row) for row in table]
    wide = max(len(csv_rows.rows(line)[0]) for line in lines)
    lines = [line + b"," * (wide - len(csv_rows.rows(line)[0])) for line in lines]
    path = tmp_path / "a.csv"
    path.write_bytes(b"\r\n".join(lines))

    got = read_cells(path, wide, size_max=100_000, threads=threads, piece_size=piece_size)

    assert got == csv_rows.rows(path.read_bytes())


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_bad_row_is_reported_whoever_parsed_it(tmp_path: Path, threads: int) -> None:
    rows = [b'%d,"a\nb"\n' % i for i in range(5000)]
    rows[3000] = rows[4000] = b"x,y\n"
    path = tmp_path / "a.csv"
    path.write_bytes(b"t,c\n" + b"".join(rows))
    reader = open_csv(path, "c: bytes\n", ("c",), timestamp="t", threads=threads, piece_size=1000)

    with pytest.raises(ValueError, match=r"line 6002, column 't': 'x' is not an int64 timestamp"):
        reader.check()
    assert reader.position == len(b"t,c\n" + b"".join(rows[:3000]))


def test_neither_label_nor_timestamp_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes(b'a\tb\n1\tx,"y\n')
    reader = open_csv(
        path, "a: int8\nb: bytes\n", ("a", "b"), timestamp=None, separator="\t", quote=-1
    )

    (a, (values, _)), labels, timestamps, ended = reader.read(1000)

    assert (a.tolist(), values.tobytes()) == ([1], b'x,"y')
    assert labels is None
    assert timestamps is None
    assert ended


def test_a_growing_file_is_read_row_by_whole_row(tmp_path: Path) -> None:
    text = b't,c\n1,"x\n"\n\n2,y\r\n3,"z,""\n"\n'
    path = tmp_path / "a.csv"
    position, got = 0, []

    for size in range(len(text) + 1):
        path.write_bytes(text[:size])
        reader = open_csv(path, "c: bytes\n", ("c",), timestamp="t", growing=True)
        reader.seek(position)
        got += read_all(reader)[1]
        position = reader.position

    assert got == [1, 2, 3]
    assert position == len(text)


def test_a_position_that_is_no_row_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"t,c\n1,x\n2,y\n")
    reader = open_csv(path, "c: bytes\n", ("c",), timestamp="t")

    for position, message in [(5, "no row begins at byte 5"), (99, "99 is beyond the end")]:
        with pytest.raises(ValueError, match=message):
            reader.seek(position)
    reader.seek(8)

    assert read_all(reader) == [[b"y"], [2]]


# Numbers ---------------------------------------------------------------------------------------

DIGITS = st.text("0123456789", max_size=25)
DECIMALS = st.builds(
    lambda sign, whole, fraction, point, exponent: sign + whole + point + fraction + exponent,
    st.sampled_from(["", "-", "+"]),
    DIGITS,
    DIGITS,
    st.sampled_from(["", "."]),
    st.one_of(st.just(""), st.integers(-60, 60).map(lambda e: f"e{e}")),
)


def check_number(path: Path, dtype: str, cell: bytes) -> None:
    try:
        expected = csv_rows.number(dtype, cell)
    except ValueError:
        with pytest.raises(ValueError, match=f"is not an? {dtype}$"):
            read_column(path, dtype, [cell])
    except OverflowError:
        with pytest.raises(ValueError, match=f"does not fit an? {dtype}$"):
            read_column(path, dtype, [cell])
    else:
        got = read_column(path, dtype, [cell])
        assert got.dtype == dtype
        assert got.tobytes() == np.array([expected]).tobytes() or np.isnan([got[0], expected]).all()


@relaxed
@given(text=DECIMALS, dtype=st.sampled_from([*FLOATS, *INTEGERS, "bool"]))
def test_numbers_are_read_as_the_twin_reads_them(tmp_path: Path, text: str, dtype: str) -> None:
    check_number(tmp_path / "a.csv", dtype, text.encode())


@relaxed
@given(bits=st.integers(0, 0x7BFF), end=st.sampled_from(["", "0", "1", "-"]))
def test_ties_of_float16_are_read_as_the_twin_reads_them(
    tmp_path: Path, bits: int, end: str
) -> None:
    low, high = np.array([bits, bits + 1], np.uint16).view(np.float16).astype(float)
    middle = f"{(low + min(high, 65536.0)) / 2:.40f}"
    text = str(middle[:-1]) if end == "-" else middle + "0" * 20 + end

    check_number(tmp_path / "a.csv", "float16", text.encode())


@relaxed
@given(bits=st.integers(0, 0x7F7FFFFE), end=st.sampled_from(["", "0001"]))
def test_ties_of_float32_are_read_as_the_twin_reads_them(
    tmp_path: Path, bits: int, end: str
) -> None:
    low, high = np.array([bits, bits + 1], np.uint32).view(np.float32).astype(float)
    mantissa, exponent = f"{(low + high) / 2:.120e}".split("e")

    check_number(tmp_path / "a.csv", "float32", f"{mantissa}{end}e{exponent}".encode())


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS])
def test_every_bit_pattern_survives_being_printed(tmp_path: Path, rand: Any, dtype: str) -> None:
    size = np.dtype(dtype).itemsize
    values = np.frombuffer(rand.numpy.bytes(5000 * size), dtype)
    if dtype in FLOATS:
        values = values[np.isfinite(values)]
    cells = [str(value).encode() for value in values]

    got = read_column(tmp_path / "a.csv", dtype, cells)

    assert got.tobytes() == values.tobytes()


@pytest.mark.parametrize("text", ["nan", "NaN", "-nan", "inf", "-Inf", "+infinity", ""])
@pytest.mark.parametrize("dtype", FLOATS)
def test_special_numbers(tmp_path: Path, text: str, dtype: str) -> None:
    check_number(tmp_path / "a.csv", dtype, text.encode())


def test_the_decimal_point_does_not_follow_the_locale(tmp_path: Path) -> None:
    import locale

    before = locale.setlocale(locale.LC_NUMERIC)
    names = ["de_DE.UTF-8", "fr_FR.UTF-8", "C.UTF-8"]
    try:
        for name in names:
            try:
                locale.setlocale(locale.LC_NUMERIC, name)
            except locale.Error:
                continue
            got = read_column(tmp_path / "a.csv", "float64", [b"0.12345678901234567890"])
            assert got.tolist() == [0.12345678901234567890]
    finally:
        locale.setlocale(locale.LC_NUMERIC, before)


# Into a dataset --------------------------------------------------------------------------------

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
