"""The plain twin of csrc/storage/order.c: samples by time, and a stored order that is extended."""

from __future__ import annotations

from tests.reference.format import crc32c, number


def time_order(times: list[int]) -> list[int]:
    """All keys by (timestamp, key)."""
    return sorted(range(len(times)), key=lambda key: (times[key], key))


def extended(order: list[int], times: list[int]) -> tuple[list[int], int]:
    """The order of all times from that of the first ones, and how many keys stay in place."""
    new = sorted(range(len(order), len(times)), key=lambda key: (times[key], key))
    keep = 0
    while keep < len(order) and (not new or times[order[keep]] <= times[new[0]]):
        keep += 1
    result, old = order[:keep], order[keep:]
    while old and new:
        result.append(new.pop(0) if times[new[0]] < times[old[0]] else old.pop(0))
    return result + old + new, keep


def stored(content: bytes, uuid: bytes) -> list[int] | int | None:
    """The keys of a file time.order, as docs/format.md tells; how many if they are the identity.

    None where it is not to be used. That it is about the right timestamps is not looked at.
    """
    best: tuple[int, bytes] | None = None
    for slot in (content[:512], content[512:1024]):
        whole = len(slot) == 512 and crc32c(slot[:508]) == number(slot, 508, 4)
        known = slot[:12] == b"MDNORD\0\0\1\0\0\0" and slot[16:32] == uuid
        if whole and known and (best is None or number(slot, 32, 8) > best[0]):
            best = (number(slot, 32, 8), slot)
    if best is None:
        return None
    count, slot = best
    if number(slot, 12, 4) == 1:
        return count
    at = number(slot, 40, 8)
    keys = content[at : at + 8 * count]
    for block in range(-(-count // 4096)):
        part = keys[32768 * block : 32768 * (block + 1)]
        full = len(part) == 32768
        right = number(content, 4096 + 4 * block, 4) if full else number(slot, 64, 4)
        if crc32c(b"MDNORD\0\0" + uuid + block.to_bytes(8, "little") + part) != right:
            return None
    return [number(keys, 8 * i, 8) for i in range(count)]
