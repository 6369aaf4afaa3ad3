"""Compressed payloads: what comes back, what they cost, and what is wrong with them."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from modyn.dataset import Dataset
from modyn.errors import CorruptError
from modyn.loader import Loader
from tests.reference.format import Reference, crc32c

SCHEMA = {"title": "bytes", "n": "int32", "body": "bytes"}


def create(path: Path, schema: dict[str, str] = SCHEMA, **more: object) -> Dataset:
    return Dataset.create(
        path, schema=schema, labels=False, compression="zstd", segment_records=8192, **more
    )


def payload(rand) -> bytes:
    """One that is empty, short, random, or of few words."""
    match rand.numpy.integers(5):
        case 0:
            return b""
        case 1:
            return rand.numpy.bytes(1)
        case 2:
            return rand.numpy.bytes(int(rand.numpy.integers(1, 2000)))
        case _:
            words = [b"a", b"buffer", b"in", b"overflow", b"of"]
            return b" ".join(
                words[i] for i in rand.integers(0, 5, int(rand.integers(0, 300, 1)[0]))
            )


def samples(rand, count: int) -> dict[str, list[bytes] | np.ndarray]:
    return {
        "title": [payload(rand) for _ in range(count)],
        "n": np.arange(count, dtype=np.int32),
        "body": [payload(rand) for _ in range(count)],
    }


def check(dataset: Dataset, expected: dict[str, list[bytes] | np.ndarray], rand) -> None:
    keys = rand.numpy.permutation(len(dataset))
    for names in (["title", "n", "body"], ["body"], ["title", "n"], ["n"]):
        for threads in (1, 2):
            got = dataset.fetch(keys, fields=names, threads=threads)
            for name in names:
                assert list(got[name]) == [expected[name][key] for key in keys]


def test_what_is_appended_comes_back(tmp_path, rand):
    expected = samples(rand, 9000)
    with create(tmp_path / "d") as dataset:
        for first, last in ((0, 1), (1, 700), (700, 8500), (8500, 9000)):
            part = {name: column[first:last] for name, column in expected.items()}
            dataset.append(part, timestamps=np.zeros(last - first))
        check(dataset, expected, rand)

    check(Dataset.open(tmp_path / "d"), expected, rand)


def test_large_payloads_come_back(tmp_path, rand):
    large = 16 << 20
    payloads = [b"", b"x" * large, rand.numpy.bytes(large), b"", b"ab" * (large // 2), b"y"]
    with create(tmp_path / "d", {"text": "bytes"}) as dataset:
        dataset.append({"text": payloads}, timestamps=np.zeros(6))

        assert list(dataset.fetch(np.arange(6)[::-1])["text"]) == payloads[::-1]
        ends = (tmp_path / "d" / "000000.seg").stat().st_blocks * 512
    assert ends < 2.5 * large


def test_what_does_not_shrink_costs_nothing(tmp_path, rand):
    payloads = [rand.numpy.bytes(n) for n in (0, 1, 2, 100, 5000)]
    with create(tmp_path / "d", {"text": "bytes"}) as dataset:
        dataset.append({"text": payloads}, timestamps=np.zeros(5))

    content = b"".join(struct.pack("<I", len(p)) + p for p in payloads)
    assert (tmp_path / "d" / "000000.seg").read_bytes()[: len(content)] == content


def test_the_files_are_what_the_documentation_says(tmp_path, rand):
    expected = samples(rand, 300)
    with create(tmp_path / "d") as dataset:
        dataset.append(expected, timestamps=np.zeros(300))

    found = Reference(tmp_path / "d").samples
    assert [sample["title"] for sample in found] == expected["title"]
    assert [sample["body"] for sample in found] == expected["body"]


def test_a_loader_unpacks(tmp_path, rand):
    expected = samples(rand, 500)
    with create(tmp_path / "d") as dataset:
        dataset.append(expected, timestamps=np.zeros(500))
    with Dataset.open(tmp_path / "d") as dataset:
        loader = Loader(dataset, np.arange(500), batch_size=64, shuffle="global", seed=1, threads=2)
        for batch in loader:
            for name in ("title", "body"):
                got = list(batch.numpy(name))
                assert got == [expected[name][key] for key in batch.keys.numpy()]


def test_erased_samples_leave_and_the_others_stay(tmp_path, rand):
    expected = samples(rand, 1000)
    expected["body"][17] = b"the secret of user 4711 " * 50
    with create(tmp_path / "d") as dataset:
        dataset.append(expected, timestamps=np.zeros(1000))
        dataset.erase([17, 18], reason="test")
        dataset.compact()

        keys = dataset.keys()
        got = dataset.fetch(keys)
        assert list(got["body"]) == [expected["body"][key] for key in keys]
        with pytest.raises(KeyError, match="17"):
            dataset.fetch([17])


def forge(path: Path, key: int, change: object) -> None:
    """Change the record of a key and put its checksum right, as only an enemy would."""
    uuid = (path / "manifest").read_bytes()[16:32]
    seg, col = (path / "000000.seg").read_bytes(), bytearray((path / "000000.col").read_bytes())
    ends = struct.unpack_from("<8192q", col, 2 * 65536)
    first, last = (ends[key - 1] if key else 0), ends[key]
    record = change(bytearray(seg[first:last]))
    assert len(record) == last - first
    (path / "000000.seg").write_bytes(seg[:first] + record + seg[last:])
    check = crc32c(bytes(record), crc32c(uuid + struct.pack("<IQ", 0, key)))
    struct.pack_into("<I", col, 3 * 65536 + 4 * key, check)
    (path / "000000.col").write_bytes(col)


def longer(record: bytearray) -> bytearray:
    record[:4] = struct.pack("<I", struct.unpack("<I", record[:4])[0] + 1)
    return record


def enormous(record: bytearray) -> bytearray:
    record[:4] = b"\xff\xff\xff\xff"
    return record


def no_frame(record: bytearray) -> bytearray:
    record[4:8] = b"nope"
    return record


def broken(record: bytearray) -> bytearray:
    record[12:] = bytes(len(record) - 12)
    return record


@pytest.mark.parametrize("change", [longer, enormous, no_frame, broken])
def test_a_frame_that_does_not_hold_its_payload_is_named(tmp_path, change):
    with create(tmp_path / "d", {"text": "bytes"}) as dataset:
        dataset.append({"text": [b"some words " * 90] * 3}, timestamps=np.zeros(3))
    forge(tmp_path / "d", 1, change)

    with Dataset.open(tmp_path / "d") as dataset:
        assert list(dataset.fetch([0, 2])["text"]) == [b"some words " * 90] * 2
        with pytest.raises(CorruptError, match="key 1 "):
            dataset.fetch([0, 1, 2])


def test_compression_is_refused_where_it_makes_no_sense(tmp_path):
    with pytest.raises(ValueError, match="bytes fields"):
        create(tmp_path / "d", {"x": "int32"})
    with pytest.raises(ValueError, match="'gzip'"):
        Dataset.create(tmp_path / "d", schema={"t": "bytes"}, compression="gzip")
    assert not (tmp_path / "d" / "manifest").exists()


def test_a_reader_that_does_not_know_compression_refuses_the_flag(tmp_path):
    create(tmp_path / "d").close()

    assert (tmp_path / "d" / "manifest").read_bytes()[12:16] == b"\2\0\0\0"


@pytest.mark.parametrize("call", ["Dataset.open(path)", "Dataset.create(path + '2', **new)"])
def test_without_the_library_the_error_says_what_to_install(tmp_path, call):
    create(tmp_path / "d", {"t": "bytes"}).close()
    (tmp_path / "libzstd.so.1").write_bytes(b"not a library")
    code = (
        "import sys; from modyn.dataset import Dataset; path = sys.argv[1]\n"
        "new = {'schema': {'t': 'bytes'}, 'compression': 'zstd'}\n"
        f"{call}"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "d")],
        env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert "OSError" in done.stderr
    assert "install the Debian package libzstd1" in done.stderr


def test_a_frame_is_plain_zstd(tmp_path):
    text = b"some words " * 90
    with create(tmp_path / "d", {"t": "bytes"}) as dataset:
        dataset.append({"t": [text]}, timestamps=[0])
    frame = (tmp_path / "d" / "000000.seg").read_bytes()[4:]
    room = ctypes.create_string_buffer(len(text))
    zstd = ctypes.CDLL("libzstd.so.1")
    zstd.ZSTD_findFrameCompressedSize.restype = ctypes.c_size_t
    zstd.ZSTD_findFrameCompressedSize.argtypes = [ctypes.c_char_p, ctypes.c_size_t]

    size = zstd.ZSTD_findFrameCompressedSize(frame, len(frame))
    zstd.ZSTD_decompress(room, ctypes.c_size_t(len(text)), frame, ctypes.c_size_t(size))

    assert room.raw == text
