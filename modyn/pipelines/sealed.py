"""Content that ends with the BLAKE2b-256 of all before it, so that damage is noticed."""

from hashlib import blake2b
from typing import BinaryIO

__all__ = ["SEAL_BYTES", "body_of", "is_whole", "seal_of"]

SEAL_BYTES = 32
PIECE_BYTES = 1 << 20


def seal_of(content: "bytes | memoryview") -> bytes:
    """Return what is to be written behind a content."""
    return blake2b(content, digest_size=SEAL_BYTES).digest()


def body_of(content: memoryview) -> memoryview | None:
    """Return what is before the seal, or None where that is not of this content."""
    body, seal = content[:-SEAL_BYTES], content[-SEAL_BYTES:]
    return body if seal_of(body) == seal else None


def is_whole(file: BinaryIO, size: int) -> bool:
    """Return whether a file of so many bytes ends with the seal of what is before it.

    Reads it in pieces, from its beginning to its end.
    """
    state, left = blake2b(digest_size=SEAL_BYTES), size - SEAL_BYTES
    file.seek(0)
    while left > 0 and (piece := file.read(min(left, PIECE_BYTES))):
        state.update(piece)
        left -= len(piece)
    return left == 0 and file.read(SEAL_BYTES + 1) == state.digest()
