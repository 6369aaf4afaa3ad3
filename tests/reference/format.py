"""A reader of datasets in plain Python, written from docs/format.md alone."""

from __future__ import annotations

import ctypes
import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

KINDS = ("records", "timestamps", "labels", "offsets")


def _table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


TABLE = _table()


def crc32c(data: bytes, crc: int = 0) -> int:
    """Return the CRC-32C of data, continued from crc."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def number(data: bytes, at: int, size: int) -> int:
    return int.from_bytes(data[at : at + size], "little")


def leb128(data: bytes) -> list[int]:
    numbers, value, shift = [], 0, 0
    for byte in data:
        value, shift = value | (byte & 127) << shift, shift + 7
        if byte < 128:
            numbers.append(value)
            value = shift = 0
    assert shift == 0
    return numbers


@dataclass
class Entry:
    kind: int
    payload: bytes


def unpack(frame: bytes, size: int) -> bytes:
    """Return the `size` bytes that a zstd frame holds."""
    library = ctypes.CDLL("libzstd.so.1")
    library.ZSTD_decompress.restype = ctypes.c_size_t
    room = ctypes.create_string_buffer(size)
    arguments = (room, ctypes.c_size_t(size), frame, ctypes.c_size_t(len(frame)))
    assert library.ZSTD_decompress(*arguments) == size
    return room.raw


@dataclass
class Link:
    """Where the records of a segment lie."""

    path: str
    offset: int
    stride: int


@dataclass
class Field:
    name: str
    dtype: np.dtype[Any] | None  # None: bytes
    shape: tuple[int, ...]

    @classmethod
    def parse(cls, line: str) -> Field:
        name, kind = line.split(": ")
        if kind == "bytes":
            return cls(name, None, ())
        scalar, _, extents = kind.removesuffix("]").partition("[")
        shape = tuple(int(e) for e in extents.split(",")) if extents else ()
        return cls(name, np.dtype(scalar), shape)

    @property
    def size(self) -> int:
        return 0 if self.dtype is None else self.dtype.itemsize * int(np.prod(self.shape))


class Reference:
    """All of a dataset, read and checked byte by byte."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        manifest = (self.path / "manifest").read_bytes()
        self._read_header(manifest)
        self._read_commits(manifest)
        self.events = self._read_journal("events", b"MDNEVNT\0", 0)
        self.sources = self._read_journal("sources", b"MDNSRCE\0", 1)
        self._read_events()
        self.samples: list[dict[str, Any]] = []
        for segment in range((self.count + self.rows - 1) >> self.shift):
            self._read_segment(segment)

    def _read_header(self, data: bytes) -> None:
        assert data[:8] == b"MDNDATA\0"
        assert number(data, 8, 4) == 1
        self.has_labels = number(data, 12, 4) & 1 == 1
        self.compressed = number(data, 12, 4) & 2 == 2
        assert number(data, 12, 4) < 4
        self.uuid = data[16:32]
        self.unit = ("s", "ms", "us", "ns")[number(data, 32, 4)]
        self.shift = number(data, 36, 4)
        self.rows = 1 << self.shift
        size = number(data, 40, 4)
        self.records_at = 1536 + (size + 511) // 512 * 512
        assert not any(data[52:508])
        assert not any(data[1536 + size : self.records_at])
        self.header_crc = number(data, 508, 4)
        assert self.header_crc == crc32c(data[1536 : self.records_at], crc32c(data[:508]))
        self.schema = data[1536 : 1536 + size].decode()
        self.fields = [Field.parse(line) for line in self.schema.splitlines()]
        self.ragged = any(field.dtype is None for field in self.fields)
        self.head = sum(field.size if field.dtype else 4 for field in self.fields)
        self.block_shift = [0, 12, 12, 12]
        while not self.ragged and self.block_shift[0] < 12:
            if self.head << self.block_shift[0] >= 65536:
                break
            self.block_shift[0] += 1
        self.has = [True, True, self.has_labels, self.ragged]

    def _read_commits(self, data: bytes) -> None:
        self.commits = []
        chain, self.count, self.sizes = self.header_crc, 0, (0, 0)
        for at in range(self.records_at, len(data), 128):
            record = data[at : at + 128]
            assert record[:4] == b"MDNC"
            assert number(record, 4, 4) == (2 if any(record[56:104]) else 1)
            assert number(record, 8, 8) == len(self.commits) + 1
            assert number(record, 120, 4) == chain
            assert not any(record[104:120])
            chain = number(record, 124, 4)
            assert chain == crc32c(record[:124], crc32c(self.uuid))
            sizes = struct.unpack("<2Q", record[56:72])
            assert all(now >= before for now, before in zip(sizes, self.sizes, strict=True))
            assert number(record, 16, 8) >= self.count
            assert number(record, 16, 8) > self.count or sizes != self.sizes
            self.sizes = sizes
            self.count = number(record, 16, 8)
            self.commits.append(record)
        last = self.commits[-1] if self.commits else bytes(128)
        self.checks = (last[72:88], last[88:104])
        self.open_bytes = number(last, 24, 8)
        self.tail = struct.unpack("<4I", last[32:48])
        self.reach = 0
        for slot in (data[512:1024], data[1024:1536]):
            if any(slot):
                assert slot[:4] == b"MDNR"
                assert not any(slot[16:])
                assert number(slot, 4, 4) == crc32c(slot[8:16], crc32c(self.uuid))
                self.reach = max(self.reach, number(slot, 8, 8))

    def _read_journal(self, name: str, magic: bytes, which: int) -> list[Entry]:
        if self.sizes[which] == 0:
            assert not any(self.checks[which])
            return []
        data = (self.path / name).read_bytes()[: self.sizes[which]]
        head = magic + struct.pack("<II", 1, 0) + self.uuid + bytes(28)
        assert data[:64] == head + struct.pack("<I", crc32c(head))
        check = hashlib.blake2b(data[:64], digest_size=32).digest()[:16]
        at, entries = 64, []
        while at < len(data):
            size = number(data, at + 8, 8)
            end = at + 32 + (size + 7) // 8 * 8
            assert data[at : at + 4] == b"MDNE"
            assert not any(data[at + 24 : at + 32])
            assert not any(data[at + 32 + size : end])
            digest = hashlib.blake2b(check + data[at:end], digest_size=32).digest()
            assert data[end : end + 32] == digest
            entries.append(Entry(number(data, at + 4, 4), data[at + 32 : at + 32 + size]))
            check, at = digest[:16], end + 32
        assert check == self.checks[which]
        return entries

    def _read_events(self) -> None:
        self.erased: set[int] = set()
        self.reasons: list[tuple[str, str]] = []
        self.generation: dict[int, int] = {}
        self.links: dict[int, Link] = {}
        for index, entry in enumerate(self.events):
            if entry.kind == 1:
                self._read_erasure(entry.payload)
            elif entry.kind == 3:
                self._read_link(entry.payload)
            else:
                assert entry.kind == 2
                count = number(entry.payload, 0, 8)
                moved = list(struct.iter_unpack("<QQ", entry.payload[8:]))
                assert len(moved) == count
                self.generation.update((segment, index + 1) for segment, _ in moved)

    def _read_erasure(self, payload: bytes) -> None:
        count, who, why = struct.unpack_from("<QII", payload)
        texts = payload[16 : 16 + who + why]
        self.reasons.append((texts[:who].decode(), texts[who:].decode()))
        numbers, at, keys = leb128(payload[16 + who + why :]), 0, set()
        for index in range(0, len(numbers), 2):
            assert index == 0 or numbers[index] > 0
            first = at + numbers[index]
            at = first + numbers[index + 1] + 1
            keys.update(range(first, at))
        assert len(keys) == count
        assert not keys & self.erased
        self.erased |= keys

    def _read_link(self, payload: bytes) -> None:
        size, mtime, offset, stride, row, first, count = struct.unpack_from("<Qq5Q", payload)
        path = os.fsdecode(payload[56:])
        assert path.startswith("/")
        assert "\0" not in path
        assert stride >= self.head
        assert count > 0
        assert offset + (row + count * self.rows - 1) * stride + self.head <= size
        found = os.stat(path)
        assert (found.st_size, found.st_mtime_ns) == (size, mtime)
        for index in range(count):
            assert first + index not in self.links
            self.links[first + index] = Link(
                path, offset + (row + index * self.rows) * stride, stride
            )

    def _linked_records(self, link: Link) -> list[bytes]:
        data = Path(link.path).read_bytes()[link.offset :]
        return [data[row * link.stride :][: self.head] for row in range(self.rows)]

    def _check_blocks(self, segment: int, kind: int, rows: list[bytes], checks: bytes) -> None:
        """Compare the checksums of all blocks of a segment."""
        size = 1 << self.block_shift[kind]
        for first in range(0, len(rows), size):
            block = (segment * self.rows + first) // size
            seed = crc32c(self.uuid + struct.pack("<IQ", kind, block))
            content = b"".join(rows[first : first + size])
            full = first + size <= len(rows)
            expected = number(checks, 4 * (first // size), 4) if full else self.tail[kind]
            assert crc32c(content, seed) == expected, (segment, KINDS[kind], block)

    def _read_segment(self, segment: int) -> None:
        count = min(self.rows, self.count - segment * self.rows)
        generation = self.generation.get(segment, 0)
        name = f"{segment:06}-{generation}" if generation else f"{segment:06}"
        col = (self.path / f"{name}.col").read_bytes()
        self._check_col_header(col, segment)
        at, columns = 65536, {}
        for kind in (1, 2, 3):
            if self.has[kind]:
                columns[kind] = struct.unpack(f"<{count}q", col[at : at + 8 * count])
                at += 8 * self.rows
        ends = columns.get(3, [self.head * (row + 1) for row in range(count)])
        if segment in self.links:
            records = self._linked_records(self.links[segment])
        else:
            seg = (self.path / f"{name}.seg").read_bytes()
            records = [seg[s:e] for s, e in zip([0, *ends], ends, strict=False)]
        if count < self.rows:
            assert ends[-1] == self.open_bytes
        start = at
        for kind in range(4):
            if not self.has[kind]:
                continue
            rows = records if kind == 0 else [struct.pack("<q", v) for v in columns[kind]]
            blocks = self.rows >> self.block_shift[kind]
            self._check_blocks(segment, kind, rows, col[at : at + 4 * blocks])
            at += 4 * blocks
        assert len(col) == start + (at - start + 65535) // 65536 * 65536
        for row, record in enumerate(records):
            sample = self._parse(record) if record else {}
            sample["timestamp"] = columns[1][row]
            sample["label"] = columns[2][row] if self.has_labels else None
            self.samples.append(sample)

    def _check_col_header(self, col: bytes, segment: int) -> None:
        flags = (1 if self.has_labels else 0) | (2 if self.ragged else 0)
        expected = b"MDNCOL\0\0" + struct.pack("<II", 1, flags) + self.uuid
        expected += struct.pack("<QII", segment, self.shift, self.block_shift[0])
        expected += struct.pack("<Q", self.generation.get(segment, 0))
        assert col[:56] == expected
        assert not any(col[56:4092])
        assert number(col, 4092, 4) == crc32c(col[:4092])

    def _parse(self, record: bytes) -> dict[str, Any]:
        sample: dict[str, Any] = {}
        at = 0
        for field in self.fields:
            if field.dtype is not None:
                value = np.frombuffer(record[at : at + field.size], field.dtype)
                sample[field.name] = value.reshape(field.shape)
                at += field.size
        ragged = [field for field in self.fields if field.dtype is None]
        lengths = [number(record, at + 4 * i, 4) for i in range(len(ragged))]
        at += 4 * len(ragged)
        if self.compressed and at + sum(lengths) != len(record):
            record = record[:at] + unpack(record[at:], sum(lengths))
        for field, length in zip(ragged, lengths, strict=True):
            sample[field.name] = record[at : at + length]
            at += length
        assert at == len(record)
        return sample
