"""NumPy's files: against NumPy, and what a bad or a hostile one comes to."""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modyn import _core
from modyn.binary import open_npy
from modyn.formats import Npy
from tests.conftest import Rand
from tests.python.binary_rows import ALL, DTYPES, EDGES, read_all
from tests.reference import files as twin


def fields_or_error(make: Callable[[], _core.Reader]) -> list[list[Any]] | str:
    try:
        return read_all(make())[0]
    except ValueError as error:
        return str(error)


def npy_bytes(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version)
    return file.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("dtype", [*DTYPES, "complex128", ">f4", ">u2", ">c8", ">i8"])
def test_arrays_are_read_as_numpy_wrote_them(
    tmp_path: Path, rand: Rand, dtype: str, version: tuple[int, int]
) -> None:
    array = rand.numpy.integers(0, 2, (50, 2, 3)).astype(dtype)
    data = npy_bytes(array, version)
    path = tmp_path / "a.npy"
    path.write_bytes(data)
    schema = f"x: {np.dtype(dtype).newbyteorder('=').name}[2,3]\n"

    columns, labels, timestamps, ended = open_npy(str(path), schema, Npy(), threads=2).read(ALL)

    assert ended
    assert labels is None
    assert timestamps is None
    assert isinstance(columns[0], np.ndarray)
    assert (columns[0] == twin.npy(data)).all()


def test_structured_arrays_give_fields_by_name(tmp_path: Path, rand: Rand) -> None:
    kind = np.dtype(
        [("skip", "S5"), ("x", ">f4", (2,)), ("when", ">u4"), ("n", "i2"), ("y", "i1")], align=True
    )
    array = np.zeros(1000, kind)
    array["x"] = rand.numpy.random((1000, 2))
    array["n"] = np.arange(1000)
    array["y"] = rand.integers(-100, 100, 1000)
    array["when"] = 2**32 - 1 - np.arange(1000)
    path = tmp_path / "a.npy"
    np.save(path, array)

    reader = open_npy(
        str(path),
        "x: float32[2]\ncount: int16\n",
        Npy(arrays={"count": "n"}, label="y", timestamp="when"),
        threads=2,
    )
    fields, labels, timestamps = read_all(reader, 500)

    want = twin.npy(path.read_bytes())
    assert fields == [want["x"].tolist(), want["n"].tolist()]
    assert labels == want["y"].tolist()
    assert timestamps == want["when"].tolist()


@pytest.mark.parametrize("zip64", [False, True])
def test_archives_give_arrays_by_name(tmp_path: Path, rand: Rand, zip64: bool) -> None:
    count = 40_000
    arrays = {
        "x": rand.numpy.random((count, 7)).astype("f4"),
        "mask": rand.numpy.random((count, 3)) < 0.5,
        "y": rand.integers(0, 9, count).astype("u1"),
        "t": rand.integers(0, 9, count),
    }
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=zip64) as member:
                member.write(npy_bytes(array))
    schema = "x: float32[7]\nm: bool[3]\n"
    format = Npy(arrays={"m": "mask"}, label="y", timestamp="t")

    fields, labels, timestamps = read_all(open_npy(str(path), schema, format, threads=2), 300_000)
    reader = open_npy(str(path), schema, format)
    reader.seek(count - 1)

    want = [array.tolist() for array in twin.npz(path.read_bytes(), ["x", "mask", "y", "t"])]
    assert [*fields, labels, timestamps] == want
    assert read_all(reader)[1] == want[2][-1:]


def with_end_of_64_bits(data: bytes) -> bytes:
    """The same archive with the end record that one of many gibibytes has."""
    at = data.rindex(b"PK\5\6")
    count, size, start = struct.unpack("<HII", data[at + 10 : at + 20])
    end = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, at, 1)
    short = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)
    return data[:at] + end + locator + short


def test_large_archives_end_with_numbers_of_64_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, x=np.arange(9))
    path.write_bytes(with_end_of_64_bits(path.read_bytes()))

    assert read_all(open_npy(str(path), "x: int64\n", Npy()))[0] == [list(range(9))]
    assert [a.tolist() for a in twin.npz(path.read_bytes(), ["x"])] == [list(range(9))]


def saved(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def packed(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


X = np.arange(6, dtype="f4").reshape(3, 2)


@pytest.mark.parametrize(
    ("data", "format", "message"),
    [
        (npy_bytes(np.asfortranarray(X)), Npy(), "in Fortran order; save np.ascontiguousarray"),
        (npy_bytes(X.astype("f8")), Npy(), r"type 'f8', but field x is float32; convert it with"),
        (npy_bytes(X[:, :1]), Npy(), r"each sample has shape \(1\), but field x has shape \(2\)"),
        (npy_bytes(np.array(1.0)), Npy(), "a single value, not an array"),
        (npy_bytes(X), Npy(label="y"), "a plain array, which gives one field and no label"),
        (npy_bytes(X)[:-3], Npy(), "ends in the middle of sample 2 of 3: 5 of 8 bytes"),
        (npy_bytes(X) + b"1", Npy(), "1 bytes behind the array's 3 samples"),
        (b"", Npy(), "ends in the middle of the array's header: 0 bytes"),
        (b"\x93NUMPX\1\0", Npy(), "not an array in NumPy's format"),
        (b"\x93NUMPY\4\0" + bytes(9), Npy(), "version 4.0 of NumPy's format"),
        (packed(x=X), Npy(), "np.savez stores arrays as they are"),
        (saved(x=X), Npy(label="y"), "there is no member y.npy"),
        (saved(x=X, y=np.zeros(2, int)), Npy(label="y"), r"y.npy has 2 samples, but x.npy has 3"),
        (saved(x=X, y=np.zeros(3)), Npy(label="y"), "one integer per sample is needed for the lab"),
        (saved(x=X)[:-1], Npy(), "the end of the archive is missing; is the file complete"),
        (b"PK", Npy(), "the end of the archive is missing"),
        (b"PK in front" + saved(x=X), Npy(), "directory does not end here"),
    ],
)
def test_what_is_wrong_with_arrays_is_said(
    tmp_path: Path, data: bytes, format: Npy, message: str
) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(data)

    with pytest.raises(ValueError, match=message) as error:
        read_all(open_npy(str(path), "x: float32[2]\n", format))

    assert str(path) in str(error.value)


def test_arrays_of_objects_are_never_loaded(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)

    with pytest.raises(ValueError, match="Python objects, which are never loaded"):
        open_npy(str(path), "x: float32\n", Npy())


def test_every_flipped_bit_of_an_archives_arrays_is_found(tmp_path: Path) -> None:
    data = saved(x=np.arange(4, dtype="i2"))
    start = data.index(b"\x93NUMPY")
    path = tmp_path / "a.npz"

    for bit in range(8 * start, 8 * data.index(b"PK\1\2")):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read_all(open_npy(str(path), "x: int16\n", Npy()))


HEADERS = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }",
    '{"shape":(3,2),"descr":"<f4","fortran_order":False}',
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 2L), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), 'more': 1}",
    "{'descr': '<f4', 'fortran_order': 0, 'shape': (3, 2)}",
    "{'descr': '<f4', 'shape': (3, 2)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-3, 2)}",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2)} + f()",
    "{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (3, 2)}",
    "{'descr': __import__('os'), 'fortran_order': False, 'shape': (3, 2)}",
    "{'descr': [('a', '<f4', (2,))], 'fortran_order': False, 'shape': (3,)}",
    "{'descr': [('a', [('b', '<f4')])], 'fortran_order': False, 'shape': (3,)}",
    "{'descr': [((",
    "{'descr': '\\",
    "[]",
    "{}",
    "",
    "{",
    "{'",
]


@pytest.mark.parametrize("header", HEADERS)
def test_headers_are_parsed_and_not_evaluated(tmp_path: Path, header: str) -> None:
    good = HEADERS.index(header) < 3
    path = tmp_path / "a.npy"
    data = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + X.tobytes()
    path.write_bytes(data)

    if good:
        assert read_all(open_npy(str(path), "x: float32[2]\n", Npy()))[0] == [X.tolist()]
        return
    with pytest.raises(ValueError, match=re.escape(str(path))):
        open_npy(str(path), "x: float32[2]\n", Npy())


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize(
    "header",
    [
        "{{'descr': '<f4', 'fortran_order': False, 'shape': ({0}, 2)}}",
        "{{'descr': '<f4', 'fortran_order': False, 'shape': (3, {0})}}",
        "{{'descr': [('x', '<f4', (2,)), ('y', 'V{0}')], 'fortran_order': False, 'shape': (3,)}}",
        "{{'descr': [('x', '<f4', (2,)), ('y', '<f4', ({0}, {0}))], 'fortran_order': False, "
        "'shape': ({0},)}}",
        "{{'descr': '<f{0}', 'fortran_order': False, 'shape': (3, 2)}}",
        "{{'descr': '<U{0}', 'fortran_order': False, 'shape': (3, 2)}}",
    ],
)
def test_hostile_arrays_are_refused(tmp_path: Path, header: str, edge: int) -> None:
    text = header.format(edge)
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode() + X.tobytes())

    with pytest.raises(ValueError, match=re.escape(str(path))):
        open_npy(str(path), "x: float32[2]\n", Npy())


@pytest.mark.parametrize("edge", [*EDGES, 2**16 - 1])
def test_hostile_archives_are_refused_or_read_right(tmp_path: Path, edge: int) -> None:
    """Every number of the archive, at every place, in both forms of its end."""
    whole = saved(x=np.arange(5, dtype="i2"))
    path = tmp_path / "a.npz"
    read = 0

    for data in (whole, with_end_of_64_bits(whole)):
        start = data.index(b"PK\1\2")
        for at in [*range(30), *range(start, len(data))]:
            for width in (w for w in (2, 4, 8) if edge < 2 ** (8 * w)):
                changed = bytearray(data)
                changed[at : at + width] = edge.to_bytes(width, "little")
                path.write_bytes(changed[: len(data)])
                got = fields_or_error(lambda: open_npy(str(path), "x: int16\n", Npy()))
                if isinstance(got, str):
                    assert str(path) in got
                else:
                    assert got == [[0, 1, 2, 3, 4]]
                    read += 1
    assert read > 0  # dates, versions and the like may say what they want


@pytest.mark.parametrize("growing", [False, True])
@pytest.mark.parametrize("data", [npy_bytes(X), saved(x=X)], ids=["npy", "npz"])
def test_arrays_cut_at_any_byte(tmp_path: Path, data: bytes, growing: bool) -> None:
    path = tmp_path / "a.npy"

    for size in range(len(data)):
        path.write_bytes(data[:size])
        if not growing:
            with pytest.raises(ValueError, match=re.escape(str(path))):
                open_npy(str(path), "x: float32[2]\n", Npy())
            continue
        reader = open_npy(str(path), "x: float32[2]\n", Npy(), growing=True)
        fields = read_all(reader)[0]
        assert fields[0] == X.tolist()[: len(fields[0])]
        path.write_bytes(data)
        again = open_npy(str(path), "x: float32[2]\n", Npy(), growing=True)
        again.seek(reader.position)
        assert fields[0] + read_all(again)[0][0] == X.tolist()
