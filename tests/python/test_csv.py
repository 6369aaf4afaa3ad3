"""CSV files: against Python's csv module and the twin."""

from __future__ import annotations

import csv
import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from modyn import _core
from modyn.ingest.driver import BATCH_BYTES
from tests.python.csv_reading import open_csv, read_column
from tests.reference import csv_rows

FLOATS = ["float16", "float32", "float64"]
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]


# Each example works on a file of its own content, so one directory serves them all.
relaxed = settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
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


# Rows and cells -----------------------------------------------------------------------------------


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


# Numbers ------------------------------------------------------------------------------------------


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
