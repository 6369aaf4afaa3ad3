"""The parser of binary COPY against its twin in Python, however the bytes are cut or damaged."""

from __future__ import annotations

import struct
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("modyn.postgres", reason="modyn was built without libpq")

from modyn import _postgres
from modyn.errors import CorruptError
from modyn.postgres import _array, _column
from tests.reference import copy_rows as twin

TYPES = ["q", "qqq", "qQidf?y", "q0i0d0f0?0y0", "y", "qy0q"]


def decoded(data: bytes, types: str, cuts: list[int], block_rows: int) -> list[tuple[object, ...]]:
    """The rows that the parser finds, from pieces of the data."""
    borders = [0, *sorted(cuts), len(data)]
    pieces = tuple(data[a:b] for a, b in pairwise(borders))
    letters = types.replace("0", "")
    rows: list[tuple[object, ...]] = []
    for block in _postgres.decode(pieces, types, block_rows):
        columns = [_array(*pair) for pair in zip(letters, block, strict=True)]
        values = [c if isinstance(c, list) else c.tolist() for c in columns]
        rows += zip(*values, strict=True)
    return rows


def made(rand, types: str, count: int) -> list[tuple[twin.Value, ...]]:
    rng = rand.numpy

    def one(letter: str, nullable: bool) -> twin.Value:
        if nullable and rng.random() < 0.3:
            return None
        if letter in "qQ":
            return int(rng.integers(0 if letter == "Q" else -(2**63), 2**63 - 1))
        if letter == "i":
            return int(rng.integers(-(2**31), 2**31))
        if letter in "df":
            return float(np.float32(rng.normal()))
        return bool(rng.random() < 0.5) if letter == "?" else rng.bytes(int(rng.integers(0, 20)))

    return [tuple(one(*field) for field in twin.fields(types)) for _ in range(count)]


@pytest.mark.parametrize("types", TYPES)
def test_rows_are_those_of_the_twin(rand, types):
    for extension in (b"", b"something"):
        rows = made(rand, types, 50)
        data = twin.write(rows, types, extension)
        assert twin.parse(data, types) == rows
        for _ in range(30):
            cuts = rand.numpy.integers(0, len(data), rand.numpy.integers(0, 20)).tolist()
            block_rows = int(rand.numpy.integers(1, 60))
            assert decoded(data, types, cuts, block_rows) == rows


@pytest.mark.parametrize("types", TYPES)
def test_damage_is_seen_where_the_twin_sees_it(rand, types):
    whole = twin.write(made(rand, types, 5), types)
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(int(rand.numpy.integers(1, 3))):
            at = int(rand.numpy.integers(0, len(data)))
            data[at] ^= 1 << int(rand.numpy.integers(0, 8))
        damaged = bytes(data[: int(rand.numpy.integers(0, len(data) + 1)) or None])
        cuts = rand.numpy.integers(0, len(damaged) + 1, 5).tolist()

        try:
            want = twin.parse(damaged, types)
        except ValueError:
            with pytest.raises(CorruptError):
                decoded(damaged, types, cuts, 3)
        else:
            if all(v >= 0 for row in want for v in row if isinstance(v, int)):
                assert repr(decoded(damaged, types, cuts, 3)) == repr(want)


def test_what_we_encode_we_decode(rand):
    types = "qQidf?y0"
    rows = made(rand, types, 200)
    dtypes = [np.int64, np.uint64, np.int32, np.float64, np.float32, np.bool_]
    columns = [
        np.array(c, dtype=t) for c, t in zip(list(zip(*rows, strict=True)), dtypes, strict=False)
    ]
    blobs = [row[6] for row in rows]

    data = _postgres.encode(tuple(_column(c, 200) for c in [*columns, blobs]), 200)

    assert twin.parse(bytes(data), types) == rows
    assert decoded(bytes(data), types, [100, 500], 64) == rows


def test_a_length_that_is_claimed_is_no_memory():
    data = twin.SIGNATURE + bytes(8) + struct.pack(">hi", 1, 2**31 - 1) + b"short"

    with pytest.raises(CorruptError, match="ends before its end"):
        _postgres.decode((data,), "y", 10)
