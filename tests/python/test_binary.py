"""Binary files, fixed records and single ones: against their twins, and what a bad one comes to."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modyn import _core
from modyn.binary import open_files, open_fixed, open_npy, open_tar
from modyn.formats import Files, FixedRecord, Npy, Tar
from tests.conftest import Rand
from tests.python.binary_rows import ALL, DTYPES, read_all, rows
from tests.reference import files as twin

# Fixed records ------------------------------------------------------------------------------------


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


# Single files -------------------------------------------------------------------------------------


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


# Facts --------------------------------------------------------------------------------------------


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
