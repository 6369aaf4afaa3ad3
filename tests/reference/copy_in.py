"""Rows of a binary COPY, as csrc/metadata/encode.c writes them, one field after the other."""

from __future__ import annotations

import struct
from collections.abc import Sequence

HEADER = b"PGCOPY\n\xff\r\n\x00" + struct.pack(">ii", 0, 0)
TRAILER = struct.pack(">h", -1)
FORMATS = {"q": ">q", "Q": ">q", "i": ">i", "d": ">d", "f": ">f", "?": ">?"}

Value = int | float | bool | bytes | None


def field(code: str, value: Value) -> bytes:
    if value is None:
        return struct.pack(">i", -1)
    content = value if isinstance(value, bytes) else struct.pack(FORMATS[code], value)
    return struct.pack(">i", len(content)) + content


def encode(codes: str, columns: Sequence[Sequence[Value]]) -> bytes:
    """Return the stream of these columns; codes has one character for each of them."""
    rows = [
        struct.pack(">h", len(codes))
        + b"".join(field(code, value) for code, value in zip(codes, row, strict=True))
        for row in zip(*columns, strict=True)
    ]
    return HEADER + b"".join(rows) + TRAILER
