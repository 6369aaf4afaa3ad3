"""Twin of the parser of binary COPY (csrc/metadata/decode.c): all bytes at once, value by value."""

from __future__ import annotations

import struct

SIGNATURE = b"PGCOPY\n\xff\r\n\0"
FORMATS = {"q": ">q", "Q": ">q", "i": ">i", "d": ">d", "f": ">f", "?": ">B"}
Value = int | float | bytes | None


def fields(types: str) -> list[tuple[str, bool]]:
    """ "qd0" is an int8, and a float8 that may be NULL."""
    found: list[tuple[str, bool]] = []
    for letter in types:
        found = [*found[:-1], (found[-1][0], True)] if letter == "0" else [*found, (letter, False)]
    return found


class Bytes:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def take(self, size: int) -> bytes:
        if size < 0 or size > len(self.data):
            raise ValueError("the stream ends early")
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])


def value(stream: Bytes, letter: str, nullable: bool) -> Value:
    size = stream.number(">i")
    if size == -1:
        if nullable:
            return None
        raise ValueError("a NULL")
    if letter == "y":
        return stream.take(size)
    form = FORMATS[letter]
    if size != struct.calcsize(form):
        raise ValueError("a wrong size")
    got = struct.unpack(form, stream.take(size))[0]
    if letter == "?" and got > 1:
        raise ValueError("no bool")
    return bool(got) if letter == "?" else got


def parse(data: bytes, types: str) -> list[tuple[Value, ...]]:
    """Return the rows of a whole stream; ValueError for anything wrong with it."""
    stream, columns, rows = Bytes(data), fields(types), []
    if stream.take(len(SIGNATURE)) != SIGNATURE:
        raise ValueError("no signature")
    if stream.number(">I") >> 16:
        raise ValueError("unknown flags")
    stream.take(stream.number(">i"))
    while (count := stream.number(">h")) != -1:
        if count != len(columns):
            raise ValueError("a wrong number of columns")
        rows.append(tuple(value(stream, *column) for column in columns))
    if stream.data:
        raise ValueError("something behind the end")
    return rows


def write(rows: list[tuple[Value, ...]], types: str, extension: bytes = b"") -> bytes:
    """The stream that a server would send for these rows."""
    out = SIGNATURE + struct.pack(">Ii", 0, len(extension)) + extension
    for row in rows:
        out += struct.pack(">h", len(row))
        for (letter, _), item in zip(fields(types), row, strict=True):
            packed = item
            if item is not None and letter != "y":
                packed = struct.pack(FORMATS[letter], item)
            assert packed is None or isinstance(packed, bytes)
            out += (
                struct.pack(">i", -1) if packed is None else struct.pack(">i", len(packed)) + packed
            )
    return out + struct.pack(">h", -1)
