"""A reader of a dataset's files, written from docs/format.md alone.

It shares no code with the core, takes one row at a time and checks every checksum, so that a
page and a program that disagree are noticed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

SECTOR = 512
KINDS = ["records", "timestamps", "labels", "offsets"]
UNITS = ["s", "ms", "us", "ns"]


def _table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


TABLE = _table()


def crc32c(crc: int, data: bytes) -> int:
    """CRC-32C, bit-reflected, continued from `crc`."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


@dataclass
class Field:
    name: str
    dtype: np.dtype | None  # None for bytes
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return (
            0 if self.dtype is None else self.dtype.itemsize * int(np.prod(self.shape, dtype=int))
        )


def parse_schema(text: str) -> list[Field]:
    fields = []
    for line in text.splitlines():
        name, kind = line.split(": ")
        base, _, shape = kind.partition("[")
        sizes = tuple(int(n) for n in shape.rstrip("]").split(",")) if shape else ()
        fields.append(Field(name, None if base == "bytes" else np.dtype(base), sizes))
    return fields


@dataclass
class Files:
    """What the files of a dataset hold, row by row."""

    uuid: bytes
    unit: str
    shift: int
    fields: list[Field]
    commits: list[tuple[int, int, tuple[int, ...]]]  # count, segment bytes, checksums
    reach: int
    timestamps: list[int] = field(default_factory=list)
    labels: list[int] | None = None
    rows: list[dict[str, np.ndarray | bytes]] = field(default_factory=list)


def read(directory: Path) -> Files:
    """Read a whole dataset, checking whatever can be checked."""
    files = read_manifest((directory / "manifest").read_bytes())
    if not files.commits:
        return files
    count, _, tails = files.commits[-1]
    for segment in range((count + (1 << files.shift) - 1) >> files.shift):
        rows = min(count - (segment << files.shift), 1 << files.shift)
        _read_segment(files, directory, segment, rows, tails)
    return files


def read_manifest(data: bytes) -> Files:
    magic, version, flags, uuid, unit, shift, size, _ = struct.unpack_from("<8sII16sIIIQ", data)
    padded = -(-size // SECTOR) * SECTOR
    at = 3 * SECTOR
    crc = crc32c(crc32c(0, data[:508]), data[at : at + padded])
    assert magic == b"MDNDATA\0"
    assert version == 1
    assert not any(data[52:508])
    assert struct.unpack_from("<I", data, 508) == (crc,)
    files = Files(uuid, UNITS[unit], shift, parse_schema(data[at : at + size].decode()), [], 0)
    files.labels = [] if flags & 1 else None
    at += padded
    for sequence in range(1, (len(data) - at) // 128 + 1):
        record = data[at : at + 128]
        kind, number, count, filled = struct.unpack_from("<IQQQ", record, 4)
        tails = struct.unpack_from("<4I", record, 32)
        assert record[:4] == b"MDNC"
        assert (kind, number) == (1, sequence)
        assert not any(record[56:120])
        assert struct.unpack_from("<I", record, 120) == (crc,)
        crc = crc32c(crc32c(0, uuid), record[:124])
        assert struct.unpack_from("<I", record, 124) == (crc,)
        files.commits.append((count, filled, tails))
        at += 128
    for slot in (data[SECTOR : SECTOR + 16], data[2 * SECTOR : 2 * SECTOR + 16]):
        if any(slot):
            assert slot[:4] == b"MDNR"
            assert struct.unpack_from("<I", slot, 4) == (crc32c(crc32c(0, uuid), slot[8:]),)
            files.reach = max(files.reach, *struct.unpack_from("<Q", slot, 8))
    return files


def _block_shifts(files: Files) -> list[int]:
    records = 0
    if all(f.dtype is not None for f in files.fields):
        size = sum(f.size for f in files.fields)
        while records < 12 and size << records < 65536:
            records += 1
    return [records, 12, 12, 12]


def _read_segment(
    files: Files, directory: Path, segment: int, rows: int, tails: tuple[int, ...]
) -> None:
    ragged = any(f.dtype is None for f in files.fields)
    has = [True, True, files.labels is not None, ragged]
    seg = (directory / f"{segment:06d}.seg").read_bytes()
    col = (directory / f"{segment:06d}.col").read_bytes()
    _check_header(files, col, segment, has)
    columns, at = {}, 65536
    for kind in (1, 2, 3):
        if has[kind]:
            columns[kind] = np.frombuffer(col, "<i8", rows, at)
            at += 8 << files.shift
    ends = columns.get(3)
    size = sum(f.size for f in files.fields)
    if ends is None:
        ends = np.arange(1, rows + 1) * size
    starts = [0, *ends[:-1].tolist()]
    _check_blocks(files, col, at, segment, has, tails, starts, ends.tolist(), seg, columns)
    files.timestamps += columns[1].tolist()
    if files.labels is not None:
        files.labels += columns[2].tolist()
    for start, end in zip(starts, ends.tolist(), strict=True):
        files.rows.append(_parse_record(files.fields, seg[start:end]))


def _check_header(files: Files, col: bytes, segment: int, has: list[bool]) -> None:
    magic, version, flags, uuid, number, shift, blocks = struct.unpack_from("<8sII16sQII", col)
    assert (magic, version) == (b"MDNCOL\0\0", 1)
    assert flags == (1 if has[2] else 0) | (2 if has[3] else 0)
    assert (uuid, number) == (files.uuid, segment)
    assert (shift, blocks) == (files.shift, _block_shifts(files)[0])
    assert struct.unpack_from("<I", col, 4092) == (crc32c(0, col[:4092]),)


def _check_blocks(
    files: Files,
    col: bytes,
    at: int,
    segment: int,
    has: list[bool],
    tails: tuple[int, ...],
    starts: list[int],
    ends: list[int],
    seg: bytes,
    columns: dict[int, np.ndarray],
) -> None:
    """Every block of one segment against its checksum; `at` is where checksums begin."""
    for kind, shift in enumerate(_block_shifts(files)):
        if not has[kind]:
            continue
        per_segment = 1 << (files.shift - shift)
        for block in range((len(ends) + (1 << shift) - 1) >> shift):
            first, last = block << shift, min((block + 1) << shift, len(ends))
            if kind == 0:
                content = seg[starts[first] : ends[last - 1]]
            else:
                content = columns[kind][first:last].tobytes()
            number = segment * per_segment + block
            seed = crc32c(0, files.uuid + struct.pack("<IQ", kind, number))
            full = last - first == 1 << shift
            right = struct.unpack_from("<I", col, at + 4 * block)[0] if full else tails[kind]
            assert crc32c(seed, content) == right, (KINDS[kind], number)
        at += 4 * per_segment


def _parse_record(fields: list[Field], record: bytes) -> dict[str, np.ndarray | bytes]:
    row: dict[str, np.ndarray | bytes] = {}
    at = 0
    for f in fields:
        if f.dtype is not None:
            row[f.name] = np.frombuffer(record[at : at + f.size], f.dtype).reshape(f.shape)
            at += f.size
    ragged = [f for f in fields if f.dtype is None]
    sizes = struct.unpack_from(f"<{len(ragged)}I", record, at)
    at += 4 * len(ragged)
    for f, size in zip(ragged, sizes, strict=True):
        row[f.name] = record[at : at + size]
        at += size
    assert at == len(record)
    return row
