"""Twin of csrc/ingest/csv_rows.c and number.c, written for clarity alone."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np

FLOAT = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
SPECIAL = re.compile(rb"[+-]?(nan|inf|infinity)", re.IGNORECASE)
INTEGER = re.compile(rb"[+-]?\d+")
NO = (b"0", b"false", b"False", b"FALSE")
YES = (b"1", b"true", b"True", b"TRUE")


def rows(text: bytes, *, separator: bytes = b",", quote: bytes | None = b'"') -> list[list[bytes]]:
    """Return the cells of every row that is not an empty line; ValueError if there is none."""
    text = text.removeprefix(b"\xef\xbb\xbf")
    result = []
    at = 0
    while at < len(text):
        row, at = _row(text, at, separator, quote)
        if row is not None:
            result.append(row)
    return result


def _line_end(text: bytes, at: int) -> int | None:
    """Return what follows the line end at `at`, or None if there is none."""
    if at == len(text):
        return at
    if text[at : at + 1] == b"\n":
        return at + 1
    if text[at : at + 2] == b"\r\n":
        return at + 2
    return at + 1 if text[at : at + 2] == b"\r" and at + 1 == len(text) else None


def _row(
    text: bytes, at: int, separator: bytes, quote: bytes | None
) -> tuple[list[bytes] | None, int]:
    end = _line_end(text, at)
    if end is not None:
        return None, end
    cells = []
    while True:
        if quote is not None and text[at : at + 1] == quote:
            cell, at = _quoted(text, at + 1, quote)
        else:
            start = at
            while _line_end(text, at) is None and text[at : at + 1] != separator:
                at += 1
            cell = text[start:at]
        cells.append(cell)
        end = _line_end(text, at)
        if end is not None:
            return cells, end
        if text[at : at + 1] != separator:
            raise ValueError("text after the closing quote")
        at += 1


def _quoted(text: bytes, at: int, quote: bytes) -> tuple[bytes, int]:
    cell = b""
    while at < len(text):
        if text[at : at + 2] == quote * 2:
            cell += quote
            at += 2
        elif text[at : at + 1] == quote:
            return cell, at + 1
        else:
            cell += text[at : at + 1]
            at += 1
    raise ValueError("a quote is never closed")


def number(dtype: str, text: bytes) -> np.generic:
    """Return the number that a cell holds; ValueError if it is none, OverflowError if too large."""
    kind = np.dtype(dtype)
    if kind == np.bool_:
        if text not in NO + YES:
            raise ValueError(text)
        return np.bool_(text in YES)
    if kind.kind in "iu":
        if not INTEGER.fullmatch(text):
            raise ValueError(text)
        return kind.type(int(text))  # OverflowError
    if text == b"" or SPECIAL.fullmatch(text):
        return kind.type(float(text or b"nan"))
    if not FLOAT.fullmatch(text):
        raise ValueError(text)
    return _nearest(kind, text)


def _nearest(kind: np.dtype, text: bytes) -> np.generic:
    """Return the float nearest to a decimal; of two, the one whose last bit is 0."""
    negative = text.startswith(b"-")
    exact = abs(Fraction(text.decode()))
    info = np.finfo(kind)
    bits = np.dtype(f"u{kind.itemsize}")
    top = int(np.array(info.max).view(bits))  # floats of one sign are ordered as their bits are
    low, high = 0, top
    while low < high:  # the largest float that is not above
        middle = (low + high + 1) // 2
        if _exact(middle, bits, kind) <= exact:
            low = middle
        else:
            high = middle - 1
    below = _exact(low, bits, kind)
    # Beyond the largest one lies what would be the next, were there more exponents.
    step = -1 if low == top else 1
    above = below + abs(_exact(low + step, bits, kind) - below)
    up = above - exact < exact - below or (above - exact == exact - below and low % 2 == 1)
    if up and low == top:
        raise OverflowError(text)
    value = np.array(low + up, bits).view(kind)[()]
    return -value if negative else value


def _exact(pattern: int, bits: np.dtype, kind: np.dtype) -> Fraction:
    return Fraction(float(np.array(pattern, bits).view(kind)))
