"""Pinned memory for batches to lie in, so that a device reads it without the processor.

Pinned memory belongs to Python: it comes from torch's allocator and is lent to the
pool of a loader (csrc/prefetch/pool.h), which hands it out before its own.  The
pool's workers ask nobody for more.  Instead each batch is looked at on its way:
for a block of its that is not pinned one of that size is lent.  After the first
few batches of a loader all of them lie in pinned memory.

A lent block goes back to torch when no batch lies in it and the loader and its
iterations are gone.  The last tensor over a batch may go on any thread, and much
later; what is still in use is looked at again whenever another loader comes or
goes, and stays for ever, and valid, when none does.
"""

from __future__ import annotations

import contextlib
import threading
import weakref

from modyn import _core
from modyn.loader.stacking import Memory

__all__ = ["Lender"]

SPARE = 8  # a block of payloads is larger than that of the batch it is lent for by an eighth

# Memory of loaders that are gone, in which somebody's tensors lie.
_OUTLIVING: list[_core.Memory] = []


class Lender:
    """Lends pinned memory to the batches of a loader.

    Parameters
    ----------
    memory : _core.Memory
        Of the loader.
    allocate : callable
        Pinned memory of that many bytes, aligned to 64.
    most : int
        Blocks of about the same size, at most: batches that are on their way at a time.
    others : set of int
        Blocks of a batch that are not to be pinned, as _core.Batch.blocks numbers them.
    """

    def __init__(
        self, memory: _core.Memory, allocate: Memory, *, most: int, others: frozenset[int]
    ) -> None:
        self._memory = memory
        self._allocate = allocate
        self._most = most
        self._others = others
        self._lock = threading.Lock()
        self._sizes: list[int] = []  # of all that was lent
        self._end = weakref.finalize(self, _outlive, self._memory)
        sweep()

    def look_at(self, batch: _core.Batch) -> None:
        """Lend a block for each of this batch that is not pinned."""
        for number, size, is_lent in batch.blocks:
            if not is_lent and number not in self._others:
                self._lend(size if number == 0 else size + size // SPARE)

    def _lend(self, size: int) -> None:
        with self._lock:
            if sum(size // 2 <= lent <= 2 * size for lent in self._sizes) >= self._most:
                return  # all of them are in use, which was not foreseen: do without
            self._sizes.append(size)
        self._memory.lend(self._allocate(size))


def sweep() -> None:
    """Let go of what outlived its loader and is used no more."""
    for memory in list(_OUTLIVING):
        if memory.reclaim() == 0:
            with contextlib.suppress(ValueError):  # another thread was faster
                _OUTLIVING.remove(memory)


def _outlive(memory: _core.Memory) -> None:
    if memory.reclaim() > 0:
        _OUTLIVING.append(memory)
    sweep()
