"""Columns as rows of a binary COPY: csrc/metadata/encode.c against its plain twin."""

from __future__ import annotations

import numpy as np
import pytest

from tests.reference import copy_in

_postgres = pytest.importorskip("modyn._postgres", reason="modyn was built without libpq")

TYPES = {
    "q": np.int64,
    "Q": np.uint64,
    "i": np.int32,
    "d": np.float64,
    "f": np.float32,
    "?": np.bool_,
}
LARGE = 16 * 1024  # bytes above that are a piece of their own


def numbers(rand, code, rows):
    raw = rand.numpy.integers(0, 256, size=(rows, 8), dtype=np.uint8)
    if code == "?":
        return raw[:, 0] > 127
    values = np.ascontiguousarray(raw).view(TYPES[code])[:, 0].copy()
    if code in "df":
        values[np.isnan(values)] = 0
    return values >> np.uint64(1) if code == "Q" else values


def check(codes, columns, nulls, rows):
    """The bytes of the core are those of the twin."""
    given = tuple(
        (code, tuple(column) if code == "y" else column, null)
        for code, column, null in zip(codes, columns, nulls, strict=True)
    )
    plain = [
        [
            None if null is not None and null[i] else column[i] if code == "y" else column[i].item()
            for i in range(rows)
        ]
        for code, column, null in zip(codes, columns, nulls, strict=True)
    ]

    assert bytes(_postgres.encode(given, rows)) == copy_in.encode(codes, plain)


@pytest.mark.parametrize("rows", [0, 1, 2, 1000, 20000])
@pytest.mark.parametrize("codes", ["q", "qqq", "Q", "i", "d", "f", "?", "qid?fQ", "???????"])
def test_numbers_match_the_twin(rand, codes, rows):
    columns = [numbers(rand, code, rows) for code in codes]

    check(codes, columns, [None] * len(codes), rows)


@pytest.mark.parametrize("rows", [1, 3, 5000])
def test_nulls_match_the_twin(rand, rows):
    codes = "qid?"
    columns = [numbers(rand, code, rows) for code in codes]
    nulls = [rand.numpy.integers(0, 2, rows, dtype=np.uint8) for _ in codes]

    check(codes, columns, [*nulls[:3], None], rows)


@pytest.mark.parametrize("sizes", [[0], [1, 2, 3], [LARGE - 1, LARGE, LARGE + 1], [300_000, 0, 7]])
@pytest.mark.parametrize("codes", ["y", "yq", "qy", "yy", "qyiy"])
def test_bytes_match_the_twin(rand, codes, sizes):
    rows = len(sizes)
    columns = [
        [rand.numpy.bytes(size) for size in sizes] if code == "y" else numbers(rand, code, rows)
        for code in codes
    ]

    check(codes, columns, [None] * len(codes), rows)


def test_many_small_bytes_match_the_twin(rand):
    values = [rand.numpy.bytes(int(size)) for size in rand.integers(0, 300, 3000)]

    check("yq", [values, np.arange(3000)], [None, None], 3000)


def test_no_buffer_is_null():
    stream = bytes(_postgres.encode((("y", (None, b""), None),), 2))

    assert stream == copy_in.encode("y", [[None, b""]])


@pytest.mark.parametrize("row", [0, 1, 9999, 19999])
@pytest.mark.parametrize("with_bytes", [False, True])
def test_a_number_that_postgres_cannot_hold_is_named(row, with_bytes):
    values = np.arange(20000, dtype=np.uint64)
    values[row] = 2**63 + 5
    columns = [("i", np.zeros(20000, np.int32), None), ("Q", values, None)]
    if with_bytes:
        columns.append(("y", (b"",) * 20000, None))

    with pytest.raises(ValueError, match=rf"column 1, row {row}: 9223372036854775813 is too large"):
        _postgres.encode(tuple(columns), 20000)


def test_the_largest_number_fits():
    values = np.array([2**63 - 1, 0], np.uint64)

    check("Q", [values], [None], 2)


def test_negative_numbers_of_a_signed_column_are_no_reason_to_refuse():
    check("q", [np.array([-1, -(2**63)])], [None], 2)


def test_a_row_without_columns_is_refused():
    with pytest.raises(ValueError, match="0 columns"):
        _postgres.encode((), 1)


def test_a_column_of_another_length_is_refused():
    with pytest.raises(ValueError, match="expected 3 values, got 16 bytes"):
        _postgres.encode((("q", np.zeros(2, np.int64), None),), 3)
    with pytest.raises(ValueError, match="expected a tuple of 3 buffers"):
        _postgres.encode((("y", (b"",), None),), 3)
    with pytest.raises(ValueError, match="nulls: expected 3 values"):
        _postgres.encode((("q", np.zeros(3, np.int64), b"\0"),), 3)


def test_an_unknown_type_is_refused():
    with pytest.raises(ValueError, match="no column has the type x"):
        _postgres.encode((("x", b"", None),), 0)
