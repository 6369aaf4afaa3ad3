"""Twin of csrc/base/deal.c and of pass.c, cut.c, buckets.c and loader.c in csrc/prefetch.

Which sample comes when, in lists: nothing here is fast, lazy or resumable.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

from tests.reference.permutation import MASK64, STREAM_SHUFFLE, Permutation, draw, stream

STREAM_PARTITIONS = 6
STREAM_WITHIN = 7
STREAM_WINDOWS = 8


DEAL_MAX = 512


def dealt(items: list[int], word: int) -> list[int]:
    """The items in the order that a random word gives them."""
    if len(items) > DEAL_MAX:
        return [items[i] for i in Permutation.by(len(items), word)]
    found: list[int] = []
    for i, item in enumerate(items):
        found.append(item)
        j = (draw(word, i) >> 32) * (i + 1) >> 32
        found[i], found[j] = found[j], found[i]
    return found


@dataclass(frozen=True)
class Order:
    """How the positions of one epoch after the other are put in order."""

    count: int
    shuffle: str = ""
    partition_size: int = 1
    seed: int = 0

    def epoch(self, epoch: int) -> list[int]:
        """The positions of an epoch."""
        epoch &= MASK64
        positions = list(range(self.count))
        if self.shuffle == "global":
            word = draw(stream(self.seed, STREAM_SHUFFLE), epoch)
            return [positions[i] for i in Permutation.by(self.count, word)] if positions else []
        if self.shuffle == "partition":
            return self._by_partitions(positions, epoch)
        return positions

    def _by_partitions(self, positions: list[int], epoch: int) -> list[int]:
        size = self.partition_size
        parts = [positions[at : at + size] for at in range(0, self.count, size)]
        order = draw(stream(self.seed, STREAM_PARTITIONS), epoch)
        within = draw(stream(self.seed, STREAM_WITHIN), epoch)
        numbers = dealt(list(range(len(parts))), order)
        return [p for n in numbers for p in dealt(parts[n], draw(within, n))]

    def rows(self, epoch: int, count: int) -> list[int]:
        """The positions of the first `count` rows of the pass that begins with an epoch."""
        found: list[int] = []
        while len(found) < count:
            found += self.epoch(epoch)
            epoch += 1
        return found[:count]


@dataclass(frozen=True)
class Buckets:
    """Rows of `batches` batches by the length of the sample at a position."""

    batches: int
    length: Callable[[int], int]


def cut(rows: list[int], batch_size: int, *, drop_last: bool = False) -> list[list[int]]:
    """The rows of a pass in batches."""
    batches = [rows[at : at + batch_size] for at in range(0, len(rows), batch_size)]
    if drop_last and batches and len(batches[-1]) < batch_size:
        batches.pop()
    return batches


def share(batch: list[int], pass_rows: list[int], rank: int, world_size: int) -> list[int]:
    """What one rank has of a batch; too few rows are filled up with the first of the pass."""
    filled = list(batch)
    while len(filled) < world_size:
        filled.append(pass_rows[(len(filled) - len(batch)) % len(pass_rows)])
    ends = [len(filled) * r // world_size for r in range(world_size + 1)]
    return filled[ends[rank] : ends[rank + 1]]


def bucketed(
    batches: list[list[int]], buckets: Buckets, order: Order, epoch: int, batch_size: int
) -> list[list[int]]:
    """The same rows per window, sorted by length, cut again, and whole batches in a new order."""
    word = draw(stream(order.seed, STREAM_WINDOWS), epoch)
    found: list[list[int]] = []
    for window, first in enumerate(range(0, len(batches), buckets.batches)):
        rows = [row for batch in islice(batches, first, first + buckets.batches) for row in batch]
        again = cut(sorted(rows, key=buckets.length), batch_size)
        whole = [number for number, batch in enumerate(again) if len(batch) == batch_size]
        if order.shuffle:
            whole = dealt(whole, draw(word, window))
        found += [again[number] for number in whole]
        found += [batch for batch in again if len(batch) < batch_size]
    return found


def batches_of(
    order: Order,
    *,
    epoch: int,
    batch_size: int,
    samples_to_pass: int | None = None,
    drop_last: bool = False,
    buckets: Buckets | None = None,
    rank: int = 0,
    world_size: int = 1,
) -> list[list[int]]:
    """The positions in each batch of a pass, for one rank."""
    rows = order.rows(epoch, order.count if samples_to_pass is None else samples_to_pass)
    batches = cut(rows, batch_size, drop_last=drop_last)
    if buckets is not None:
        batches = bucketed(batches, buckets, order, epoch, batch_size)
    return [share(batch, rows, rank, world_size) for batch in batches]
