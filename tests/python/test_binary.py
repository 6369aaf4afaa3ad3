"""Binary files: against their twins, and what a bad or a hostile file comes to."""

from __future__ import annotations

import io
import os
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modyn import _core
from modyn.binary import open_files, open_fixed, open_npy, open_tar
from modyn.formats import Files, FixedRecord, Npy, Tar
from tests.conftest import Rand
from tests.reference import files as twin

relaxed = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ALL = 1 << 40
# What a header field may be made to say.
EDGES = [
    0,
    1,
    2**31 - 1,
    2**31,
    2**31 + 1,
    2**32 - 1,
    2**32,
    2**32 + 1,
    2**63 - 1,
    2**63,
    2**64 - 1,
]


def rows(column: Any) -> list[Any]:
    if isinstance(column, tuple):
        values, offsets = column
        return [values[a:b].tobytes() for a, b in pairwise(offsets.tolist())]
    listed: list[Any] = column.tolist()
    return listed


def read_all(reader: _core.Reader, size_max: int = ALL) -> tuple[list[list[Any]], Any, Any]:
    """Columns of the whole file, labels and timestamps, as lists."""
    fields: list[list[Any]] = []
    labels: list[int] = []
    timestamps: list[int] = []
    ended, has = False, (None, None)
    while not ended:
        columns, some, times, ended = reader.read(size_max)
        fields = fields or [[] for _ in columns]
        for field, column in zip(fields, columns, strict=True):
            field += rows(column)
        labels += [] if some is None else some.tolist()
        timestamps += [] if times is None else times.tolist()
        has = (some, times)
    return (
        fields,
        None if has[0] is None else labels,
        None if has[1] is None else timestamps,
    )


def fields_or_error(make: Callable[[], _core.Reader]) -> list[list[Any]] | str:
    try:
        return read_all(make())[0]
    except ValueError as error:
        return str(error)


# Fixed records ---------------------------------------------------------------------------------

DTYPES = ["bool", "int8", "uint16", "int32", "uint64", "float16", "float32", "float64", "complex64"]


def a_layout(rand: Rand) -> tuple[dict[str, tuple[str, tuple[int, ...]]], dict[str, Any]]:
    """A random schema and where its fields lie in a record, gaps and label and all."""
    draw = rand.numpy
    names = [f"f{i}" for i in range(draw.integers(1, 5))]
    shapes: list[tuple[int, ...]] = [(), (3,), (2, 2)]
    schema = {
        name: (DTYPES[draw.integers(len(DTYPES))], shapes[draw.integers(3)]) for name in names
    }
    at = int(draw.integers(0, 4))
    places: dict[str, Any] = {}
    for name in [*draw.permutation([*names, "label", "timestamp"])]:
        places[name] = at
        dtype, shape = schema.get(str(name), ("int64", ()))
        at += np.dtype(dtype).itemsize * int(np.prod(shape, dtype=int)) + int(draw.integers(0, 3))
    return schema, {"places": places, "record_size": at}


@pytest.mark.parametrize("trial", range(40))
def test_fixed_records_match_their_twin(tmp_path: Path, rand: Rand, trial: int) -> None:
    draw = rand.numpy
    schema, layout = a_layout(rand)
    orders = {name: "big" if draw.random() < 0.5 else "little" for name in schema}
    kinds = ["int8", ">i2", "<u4", ">i8", "uint16"]
    label, timestamp = kinds[draw.integers(5)], kinds[draw.integers(5)]
    count, first = int(draw.integers(0, 300)), int(draw.integers(0, 20))
    size = layout["record_size"]
    records = draw.integers(0, 2, (count, size), np.uint8)  # fit for bools, too
    data = bytes(first) + records.tobytes()
    path = tmp_path / "a.bin"
    path.write_bytes(data)
    text = "".join(
        f"{name}: {dtype}{list(shape) if shape else ''}\n".replace(", ", ",")
        for name, (dtype, shape) in schema.items()
    )
    places = layout["places"]
    format = FixedRecord(
        record_size=size,
        first_record=first,
        fields={name: places[name] for name in schema},
        byteorder=orders,  # type: ignore[arg-type]
        label=(places["label"], label),
        timestamp=(places["timestamp"], timestamp),
    )

    def place(name: str, kind: str) -> tuple[int, int, bool, str]:
        dtype = np.dtype(kind)
        order = "big" if kind[0] == ">" else "little"
        return places[name], dtype.itemsize, dtype.kind == "i", order

    want = twin.fixed(
        data,
        schema,
        first_record=first,
        record_size=size,
        offsets=places,
        orders=orders,
        label=place("label", label),
        timestamp=place("timestamp", timestamp),
        growing=False,
    )
    for threads, size_max in [(1, ALL), (3, ALL), (2, 200)]:
        reader = open_fixed(str(path), text, format, threads=threads)
        fields, labels, timestamps = read_all(reader, size_max)
        np.testing.assert_equal(fields, list(want.fields.values()))
        assert labels == want.labels
        assert timestamps == want.timestamps


def test_upstreams_binary_wrapper_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"\x07\x00\x00\x01abc" + b"\x09\x00\x00\x02def")

    reader = open_fixed(str(path), "x: uint8[3]\n", FixedRecord(record_size=7, label_size=4))
    big = open_fixed(
        str(path), "x: uint8[3]\n", FixedRecord(record_size=7, label_size=4, byteorder="big")
    )

    assert read_all(reader)[1] == [0x01000007, 0x02000009]
    assert read_all(big) == ([[[97, 98, 99], [100, 101, 102]]], [0x07000001, 0x09000002], None)


def test_many_threads_read_what_one_reads(tmp_path: Path, rand: Rand) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(rand.numpy.bytes(5_000_000 * 3))
    schema = "a: uint8[3]\nb: float32[2]\n"
    format = FixedRecord(label_size=1)

    one = open_fixed(str(path), schema, format, threads=1).read(ALL)
    four = open_fixed(str(path), schema, format, threads=4).read(ALL)

    assert len(one[0][0]) == 15_000_000 // 12
    for a, b in zip([*one[0], one[1]], [*four[0], four[1]], strict=True):
        assert a is not None
        assert b is not None
        assert a.tobytes() == b.tobytes()


def test_a_record_larger_than_a_piece_is_read(tmp_path: Path, rand: Rand) -> None:
    data = rand.numpy.integers(0, 255, (3, 2_500_004), np.uint8)
    path = tmp_path / "a.bin"
    path.write_bytes(data.tobytes())

    reader = open_fixed(
        str(path), "x: uint8[2500000]\n", FixedRecord(label_size=4, byteorder="big"), threads=2
    )
    columns, labels, _, _ = reader.read(ALL)

    assert (columns[0] == data[:, 4:]).all()
    assert labels is not None
    assert labels.tolist() == data[:, :4].copy().view(">u4")[:, 0].tolist()


def test_a_partial_record_is_left_while_a_file_grows_and_an_error_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(bytes(17 * 8 + 3))
    schema, format = "x: float64\n", FixedRecord()

    with pytest.raises(ValueError, match="ends in the middle of record 17: 3 of 8 bytes"):
        open_fixed(str(path), schema, format)
    reader = open_fixed(str(path), schema, format, growing=True)
    assert len(read_all(reader)[0][0]) == 17
    assert reader.position == 17 * 8
    path.write_bytes(bytes(17 * 8) + struct.pack("<d", 1.5))
    reader = open_fixed(str(path), schema, format, growing=True)
    reader.seek(17 * 8)
    assert read_all(reader)[0] == [[1.5]]
    with pytest.raises(ValueError, match="no record of 8 bytes begins at byte 9"):
        reader.seek(9)


@pytest.mark.parametrize(
    ("schema", "format", "data", "message"),
    [
        ("x: bool\n", FixedRecord(), b"\0\1\2", "record 2 at byte 2: x holds a bool that is"),
        ("x: int8\n", FixedRecord(label_size=8), b"\xff" * 9, r"label holds a number above 2\^63"),
        ("x: bytes\n", FixedRecord(), b"", "'x' is bytes, which has no fixed size"),
        ("x: int8\n", FixedRecord(record_size=2), b"", "but label and fields take 1 bytes"),
        ("x: int32\n", FixedRecord(first_record=9), b"abc", "middle of its header: 3 of 9"),
        ("x: int32\n", FixedRecord(record_size=4, fields={"x": 1}), b"", "4 bytes at 1 of a rec"),
        ("x: int32\n", FixedRecord(record_size=4, fields={"x": 2**62}), b"", "of a record, but"),
        ("x: int8\n", FixedRecord(record_size=2**31, fields={"x": 0}), b"", "record_size must be"),
        ("x: int8\n", FixedRecord(record_size=4, fields={"y": 0}), b"", "names field 'y'"),
    ],
)
def test_what_is_wrong_with_records_is_said(
    tmp_path: Path, schema: str, format: FixedRecord, data: bytes, message: str
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(data)

    with pytest.raises(ValueError, match=message):
        read_all(open_fixed(str(path), schema, format))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"record_size": 0}, "record_size must be at least 1, got 0"),
        ({"label_size": 3}, "label_size must be 1, 2, 4 or 8, got 3"),
        ({"label_size": 4, "label": (0, 4)}, "both given"),
        ({"label": (0, 4)}, "label is given by its place; give fields"),
        ({"fields": {"x": 0}}, "record_size is needed"),
        ({"byteorder": "middle"}, "byteorder must be 'little' or 'big', got 'middle'"),
        ({"record_size": 9, "fields": {"x": -1}}, "offset of field 'x' must be at least 0"),
        ({"record_size": 9, "fields": {}, "label": (0, "float32")}, "an integer type"),
        ({"record_size": 9, "fields": {}, "label": (0, 3)}, "1, 2, 4 or 8 bytes wide"),
        ({"first_record": 2**64}, "first_record must be at least 0"),
    ],
)
def test_settings_of_records_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FixedRecord(**settings)


# NumPy's files ---------------------------------------------------------------------------------


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


# Tar -------------------------------------------------------------------------------------------

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def tar_bytes(
    members: list[tuple[str, bytes]], form: int = tarfile.PAX_FORMAT, **more: Any
) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for number, (name, data) in enumerate(members):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            info.mtime = 1000 + number
            for key, value in more.items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


NAMES = st.text("ab/.é", min_size=1, max_size=12).filter(lambda name: not name.startswith("/"))


@relaxed
@given(
    members=st.lists(
        st.tuples(
            st.sampled_from(["a/1", "a/2", "b/1", "x" * 60 + "/" + "y" * 60, "ü"]),
            st.sampled_from([".jpg", ".JPEG", ".cls", ".seg.png", ".xjpg", ".jpg2", "", "."]),
            st.binary(max_size=1200),
        ),
        max_size=12,
    ),
    form=st.sampled_from(list(FORMATS)),
    size_max=st.sampled_from([1, ALL]),
)
def test_any_archive_is_read_as_its_twin_reads_it(
    tmp_path: Path, members: list[tuple[str, str, bytes]], form: str, size_max: int
) -> None:
    data = tar_bytes([(n + e, b"-5\n" if e == ".cls" else d) for n, e, d in members], FORMATS[form])
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    extensions = {"image": ["jpg", "jpeg"], "label": ["cls"]}
    try:
        want = twin.tar(data, extensions, integers=("label",))
    except ValueError:
        want = None

    format = Tar(fields={"image": "jpg;jpeg"}, label="cls", modification_time=True)

    reader = open_tar(str(path), "image: bytes\n", format, timestamp_unit="ms")
    if want is None:
        with pytest.raises(ValueError, match=re.escape(str(path))):
            read_all(reader, size_max)
        return
    fields, labels, timestamps = read_all(reader, size_max)
    assert fields == [[sample["image"] for sample in want]] or (not want and fields == [[]])
    assert labels == [sample["label"] for sample in want]
    assert timestamps == [sample["mtime_ns"] // 10**6 for sample in want]


def test_times_of_members_are_rounded_down(tmp_path: Path) -> None:
    for mtime, want in [(-1.5, -2), (1.75, 1), (-3.0, -3), (0, 0)]:
        path = tmp_path / "a.tar"
        path.write_bytes(tar_bytes([("1.a", b"x")], mtime=mtime))
        reader = open_tar(
            str(path),
            "a: bytes\n",
            Tar(fields={"a": "a"}, modification_time=True),
            timestamp_unit="s",
        )
        assert read_all(reader)[2] == [want]


def test_numbers_and_arrays_are_members_of_archives(tmp_path: Path) -> None:
    vector = np.array([1.5, -2], "<f4")
    path = tmp_path / "a.tar"
    path.write_bytes(
        tar_bytes([("1.n", b" 0.25\r\n"), ("1.v", vector.tobytes()), ("1.when", b"77")])
    )

    reader = open_tar(
        str(path),
        "n: float64\nv: float32[2]\n",
        Tar(fields={"n": "n", "v": "v"}, timestamp="when"),
        timestamp_unit="s",
    )

    assert read_all(reader) == ([[0.25], [[1.5, -2.0]]], None, [77])


A = Tar(fields={"a": "a;b"}, label="cls")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (tar_bytes([("d/1.a", b"x")]), "byte 0: sample d/1 has no member '.cls' for label"),
        (tar_bytes([("1.cls", b"1")]), "sample 1 has no member '.a' or the like for a"),
        (
            tar_bytes([("1.a", b"x"), ("1.B", b"x")]),
            "byte 1024: sample 1 has a second member for a",
        ),
        (tar_bytes([("1.a", b"x"), ("1.cls", b"one")]), "'.cls': 'one' is not an int64"),
        (tar_bytes([("1.a", b"x"), ("1.cls", b"9" * 20)]), "does not fit an int64"),
        (tar_bytes([("1.a", b"x"), ("1.cls", b" " * 2000)]), "2000 bytes, which is no label"),
        (tar_bytes([("1.a", b"x"), ("1.cls", b"")]), "'' is not an int64"),
        (tar_bytes([("1.a", b"")], type=tarfile.SYMTYPE, linkname="b"), "1.a is a symbolic link"),
        (tar_bytes([("1.a", b"")], type=tarfile.LNKTYPE, linkname="b"), "1.a is a hard link"),
        (tar_bytes([("1.a", b"")], type=tarfile.CHRTYPE), "1.a is a device"),
        (tar_bytes([("1.a", b"")], type=tarfile.FIFOTYPE), "1.a is a pipe"),
        (tar_bytes([("1.a", b"")], type=b"S"), "1.a is a sparse file"),
        (tar_bytes([("1.a", b"x")], pax_headers={"GNU.sparse.major": "1"}), "a sparse file"),
        (tar_bytes([]) + tar_bytes([("1.a", b"x")]), "something stands behind the end"),
        (b"", "the archive is not complete"),
        (b"x" * 512, "byte 0: no header of a member: its sum is wrong"),
    ],
)
def test_what_is_wrong_with_an_archive_is_said(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(data)

    with pytest.raises(ValueError, match=message) as error:
        read_all(open_tar(str(path), "a: bytes\n", A, timestamp_unit="s"))

    assert str(path) in str(error.value)


def test_a_growing_archive_keeps_its_last_sample_until_it_ends(tmp_path: Path) -> None:
    data = tar_bytes([(f"{i}.{e}", b"%d" % i) for i in range(4) for e in ("a", "cls")])
    size = len(data.rstrip(b"\0")) // 512 * 512 + 512
    want = [b"0", b"1", b"2", b"3"]
    path = tmp_path / "a.tar"

    for cut in range(0, size, 64):
        path.write_bytes(data[:cut])
        with pytest.raises(ValueError, match="the archive is not complete"):
            read_all(open_tar(str(path), "a: bytes\n", A, timestamp_unit="s"))
        reader = open_tar(str(path), "a: bytes\n", A, timestamp_unit="s", growing=True)
        first = read_all(reader)[0][0]
        assert first == want[: len(first)]
        path.write_bytes(data)
        reader = open_tar(str(path), "a: bytes\n", A, timestamp_unit="s", growing=True)
        # Wherever a sample begins, a later reader goes on.
        reader.seek(len(first) * 2048)
        assert first + read_all(reader)[0][0] == want


def test_an_archive_that_grows_goes_on_where_its_end_was(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        archive.addfile(tarfile.TarInfo("1.b"))
    format = Tar(fields={"a": "b"})
    reader = open_tar(str(path), "a: bytes\n", format, timestamp_unit="s", growing=True)
    assert read_all(reader)[0] == [[b""]]
    with tarfile.open(path, "a") as archive:
        archive.addfile(tarfile.TarInfo("2.b"))

    again = open_tar(str(path), "a: bytes\n", format, timestamp_unit="s", growing=True)
    again.seek(reader.position)

    assert read_all(again)[0] == [[b""]]


def with_sums(data: bytearray) -> bytes:
    for at in range(0, len(data) - 511, 512):
        if data[at + 257 : at + 262] == b"ustar":
            data[at + 148 : at + 156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    return bytes(data)


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("form", FORMATS)
def test_hostile_sizes_in_archives_are_refused(tmp_path: Path, form: str, edge: int) -> None:
    """The size of every header, in octal, in binary, and in a pax extension."""
    name = "long" * 30 + "/1"  # a member of its own, in GNU's and pax's form
    members = [(name + ".a", b"x" * 600), (name + ".cls", b"-7")]
    if form == "ustar":
        members = [("d/1.a", b"x" * 600), ("d/1.cls", b"-7")]
    data = tar_bytes(members, FORMATS[form])
    path = tmp_path / "a.tar"
    headers = [at for at in range(0, len(data), 512) if data[at + 257 : at + 262] == b"ustar"]
    sizes = [b"\x80" + edge.to_bytes(11, "big"), b"\xff" + edge.to_bytes(11, "big")]
    if edge < 8**11:
        sizes.append(b"%011o\0" % edge)

    for at in headers:
        for size in sizes:
            changed = bytearray(data)
            changed[at + 124 : at + 136] = size
            path.write_bytes(with_sums(changed))
            with pytest.raises(ValueError, match=re.escape(str(path))):
                read_all(open_tar(str(path), "a: bytes\n", A, timestamp_unit="s"))
    path.write_bytes(tar_bytes(members, pax_headers={"size": str(edge)}))
    with pytest.raises(ValueError, match=re.escape(str(path))):
        read_all(open_tar(str(path), "a: bytes\n", A, timestamp_unit="s"))


# Single files ----------------------------------------------------------------------------------


def some_files(folder: Path, rand: Rand, count: int) -> tuple[list[str], list[bytes], list[int]]:
    paths, contents, labels = [], [], []
    for i in range(count):
        path = folder / f"{i:05}.png"
        contents.append(rand.numpy.bytes(int(rand.numpy.integers(0, 3000))))
        labels.append(int(rand.numpy.integers(-(2**62), 2**62)))
        path.write_bytes(contents[-1])
        path.with_suffix(".label").write_text(f"{labels[-1]}\n")
        os.utime(path, ns=(0, i * 10**9 + 5))
        paths.append(str(path))
    return paths, contents, labels


@pytest.mark.parametrize(("threads", "size_max"), [(1, ALL), (3, ALL), (2, 5000)])
def test_files_are_samples_in_the_order_given(
    tmp_path: Path, rand: Rand, threads: int, size_max: int
) -> None:
    paths, contents, labels = some_files(tmp_path, rand, 700)
    format = Files(extension=".png", label=".label", modification_time=True)

    reader = open_files(paths, "x: bytes\n", format, timestamp_unit="ms", threads=threads)

    assert read_all(reader, size_max) == ([contents], labels, [i * 1000 for i in range(700)])
    reader.seek(690)
    assert read_all(reader)[1] == labels[690:]
    with pytest.raises(ValueError, match="700 samples in files, and none begins at 701"):
        reader.seek(701)


def test_a_bad_file_comes_after_the_good_ones_before_it(tmp_path: Path, rand: Rand) -> None:
    paths, contents, _ = some_files(tmp_path, rand, 300)
    os.unlink(paths[200])
    format = Files(extension=".png")

    reader = open_files(paths, "x: bytes\n", format, timestamp_unit="s", threads=3)
    got = [read for _ in range(200) for read in rows(reader.read(1)[0][0])]
    with pytest.raises(FileNotFoundError, match=re.escape(paths[200])):
        reader.read(1)

    assert got == contents[:200]
    assert reader.position == 200


def test_only_regular_files_are_taken_and_nothing_waits(tmp_path: Path) -> None:
    for name in ("folder", "pipe", "link", "device"):
        path = tmp_path / f"{name}.a"
        if name == "folder":
            path.mkdir()
        elif name == "pipe":
            os.mkfifo(path)
        elif name == "link":
            path.symlink_to(tmp_path / "file")
        else:
            path = Path("/dev/null")
        format = Files(extension=".a" if name != "device" else ".null")
        if name == "device":
            with pytest.raises(ValueError, match="does not end in"):
                open_files([path], "x: bytes\n", format, timestamp_unit="s")
            continue
        reader = open_files([path], "x: bytes\n", format, timestamp_unit="s")
        with pytest.raises(ValueError, match=rf"{name}.a: (not a regular file|a symbolic link)"):
            reader.read(ALL)
    with pytest.raises(ValueError, match="/dev/null: not a regular file"):
        open_fixed("/dev/null", "x: int8\n", FixedRecord())


def test_a_name_is_its_bytes_whatever_they_are(tmp_path: Path) -> None:
    names = [b"\xff\xfe.a", b"new\nline.a", b"blank .a", b"..a", b"%s%n.a"]
    paths = [os.path.join(os.fsencode(tmp_path), name) for name in names]
    for path in paths:
        Path(os.fsdecode(path)).write_bytes(path[-5:])

    reader = open_files(
        [os.fsdecode(p) for p in paths], "x: bytes\n", Files(extension=".a"), timestamp_unit="s"
    )

    assert read_all(reader)[0] == [[path[-5:] for path in paths]]


# Facts -----------------------------------------------------------------------------------------


def test_facts_and_checks_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"..123456789..")
    os.utime(path, ns=(1, 1_234_567_890_123_456_789))
    status = path.stat()

    assert _core.file_facts(path) == (13, status.st_mtime_ns, status.st_dev, status.st_ino)
    assert _core.file_check(path, 2, 9) == 0xE3069283
    assert _core.file_check(path, 13, 0) == 0
    with pytest.raises(ValueError, match="has 13 bytes, so there are no 9 bytes at 5"):
        _core.file_check(path, 5, 9)
    with pytest.raises(FileNotFoundError, match="missing"):
        _core.file_facts(tmp_path / "missing")
    with pytest.raises(ValueError, match="not a regular file"):
        _core.file_facts(tmp_path)


OPENERS: dict[str, Callable[[str], _core.Reader]] = {
    "fixed": lambda path: open_fixed(path, "x: int64\n", FixedRecord()),
    "npy": lambda path: open_npy(path, "x: int64\n", Npy()),
    "tar": lambda path: open_tar(path, "x: bytes\n", Tar(fields={"x": "x"}), timestamp_unit="s"),
}


@pytest.mark.parametrize("kind", OPENERS)
def test_a_file_of_nothing_but_size_allocates_nothing(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        if kind == "npy":
            text = f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({2**39},)}}"
            file.write(b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode())
        file.truncate(2**42 + file.tell())

    reader = OPENERS[kind](str(path))

    if kind == "tar":
        with pytest.raises(ValueError, match="behind the end of the archive"):
            reader.read(1000)
    else:
        assert len(reader.read(1000)[0][0]) == 63
