"""Sampling, shares and training set files, as plainly as they can be written."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

from tests.reference.permutation import draw, stream

UNIFORM, BALANCED, SHARES = 1, 2, 4  # streams of a seed: csrc/base/random.h


def smallest_draws(keys: Sequence[int], count: int, seed: int, number: int) -> list[int]:
    start = stream(seed, number)
    return sorted(set(keys), key=lambda key: (draw(start, key), key))[:count]


def uniform(keys: Sequence[int], count: int, *, seed: int) -> list[int]:
    """The `count` keys with the smallest draws, in key order."""
    return sorted(smallest_draws(keys, count, seed, UNIFORM))


def fair_shares(
    sizes: Sequence[int], capacity: int, *, equal: bool = False, exact: bool = False, seed: int = 0
) -> list[int]:
    """Pour one sample after the other, round by round, while a whole round fits."""
    if equal and not exact:
        share = min([capacity // len(sizes), *sizes]) if sizes else 0
        return [share for _ in sizes]
    shares = [0 for _ in sizes]
    while True:
        open_groups = [i for i, size in enumerate(sizes) if shares[i] < size]
        left = capacity - sum(shares)
        if not open_groups or left < len(open_groups):
            break
        for i in open_groups:
            shares[i] += 1
    if exact:
        for i in sorted(open_groups, key=lambda i: draw(stream(seed, SHARES), i))[:left]:
            shares[i] += 1
    return shares


def balanced(
    keys: Sequence[int],
    labels: Sequence[int],
    count: int,
    *,
    seed: int,
    equal: bool = False,
    exact: bool = False,
) -> list[int]:
    """A uniform choice inside every label, of its fair share."""
    groups = [
        [key for key, other in zip(keys, labels, strict=True) if other == label]
        for label in sorted(set(labels))
    ]
    shares = fair_shares([len(g) for g in groups], count, equal=equal, exact=exact, seed=seed)
    chosen = [
        smallest_draws(group, share, seed, BALANCED)
        for group, share in zip(groups, shares, strict=True)
    ]
    return sorted(key for group in chosen for key in group)


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def trainset_file(
    keys: Sequence[int], weights: Sequence[float] | None = None, uuid: bytes = bytes(16)
) -> tuple[str, bytes]:
    """Digest and bytes of a training set file, by docs/format-trainset.md; ascending keys."""
    flags = 0 if weights is None else 1
    identity = struct.pack("<8sIIQ16s", b"MDNSET", 1, flags, len(keys), uuid)
    rows = struct.pack(f"<{len(keys)}Q", *keys)
    rows += b"" if weights is None else struct.pack(f"<{len(weights)}d", *weights)
    digest = hashlib.blake2b(identity + rows, digest_size=32)
    header = identity + digest.digest() + bytes(52)
    return digest.hexdigest(), header + struct.pack("<I", crc32c(header)) + rows
