"""Tar files: against their twin, and what a bad or a hostile one comes to."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modyn.binary import open_tar
from modyn.formats import Tar
from tests.python.binary_rows import ALL, EDGES, read_all
from tests.reference import files as twin

relaxed = settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


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
