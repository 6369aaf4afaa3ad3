"""What is read from disk ahead of the batches: settings, and what "auto" made of them."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.loader.arguments import as_number
from modyn.loader.budget import Budget

__all__ = ["Chosen", "Resident", "Staging", "chosen"]

PARTITIONS_MAX = 1024
REQUESTS_MAX = 1024


@dataclass(frozen=True)
class Chosen:
    """What a loader reads ahead, and why; it never changes which samples come.

    Attributes
    ----------
    num_prefetched_partitions : int
        Partitions that are read ahead of the one in use; 0: none.
    parallel_prefetch_requests : int
        Reads under way at a time.
    why : str
        In words.
    tried : tuple of (int, float)
        Numbers of requests that were tried, and bytes per second with each.
    """

    num_prefetched_partitions: int
    parallel_prefetch_requests: int
    why: str
    tried: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Staging:
    """How much may be read ahead; None is to be chosen while it runs."""

    partitions: int | None
    requests: int | None
    depth: int  # batches ahead of the loop

    @classmethod
    def of(
        cls,
        num_prefetched_partitions: int | Literal["auto"],
        parallel_prefetch_requests: int | Literal["auto"],
        depth: int,
    ) -> Staging:
        """Return the settings, checked."""
        return cls(
            _number_or_auto(
                "num_prefetched_partitions", num_prefetched_partitions, 0, PARTITIONS_MAX
            ),
            _number_or_auto(
                "parallel_prefetch_requests", parallel_prefetch_requests, 1, REQUESTS_MAX
            ),
            depth,
        )

    def reserve(self, budget: Budget) -> int:
        """Return the bytes for what is read ahead, and take them from the budget."""
        spare = budget.spare(depth=self.depth)
        if spare is None:
            return _available_memory() // 2
        if self.partitions == 0:
            return 0
        budget.reserve("partitions read ahead", spare // 2)
        return spare // 2


class Resident:
    """Records in memory of their own: made when first asked for, and inherited by forks.

    Those from the smallest to the largest key are copied.  Where a loader is unpickled, they
    are copied again.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._view: _core.View | None = None
        self._size = 0

    @classmethod
    def of(cls, resident: Literal["hugepages"] | None, threads: int) -> Resident | None:
        """Return what is asked for; None for nothing."""
        if resident is None:
            return None
        if resident != "hugepages":
            raise ValueError(f'resident must be "hugepages" or None, got {resident!r}')
        return cls(threads)

    def view(self, view: _core.View, keys: npt.NDArray[np.uint64], budget: Budget) -> _core.View:
        """Return a view that shows the same, and take what it needs from the budget."""
        if self._view is None:
            there = keys if keys.max(initial=0) < view.count else keys[keys < view.count]
            if not len(there):
                return view
            first, end = int(there.min()), int(there.max()) + 1
            self._size = view.copy_size(first, end)
            self._reserve(budget)
            self._view = view.hugepages(first, end, self._threads)
        else:
            self._reserve(budget)
        return self._view

    def _reserve(self, budget: Budget) -> None:
        available = _available_memory()
        if self._view is None and self._size > available:
            raise ValueError(
                f'resident="hugepages" takes {self._size} bytes, and {available} are available'
            )
        budget.reserve("the resident copy", self._size)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_view": None}


def _number_or_auto(name: str, value: int | str, low: int, high: int) -> int | None:
    if value == "auto":
        return None
    if isinstance(value, str):
        raise ValueError(f'{name} must be a number or "auto", got {value!r}')
    return as_number(name, value, low, high)


def _available_memory() -> int:
    """Return bytes that the system, and the group we are in, can still give."""
    available = 2**63 - 1
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                available = int(line.split()[1]) * 1024
    group = Path("/sys/fs/cgroup")
    with suppress(OSError, ValueError):
        limit = int((group / "memory.max").read_text())
        used = int((group / "memory.current").read_text())
        available = min(available, max(limit - used, 0))
    return available


def chosen(core: _core.Loader) -> Chosen | None:
    """Return what the pass that began last reads ahead; None before the first."""
    state, partitions, requests, tried, seconds, size = core.ahead
    if state == "":
        return None
    return Chosen(partitions, requests, _why(state, requests, dict(tried), seconds, size), tried)


def _why(state: str, requests: int, rates: dict[int, float], seconds: float, size: int) -> str:
    if state == "off":
        return "no partitions were asked for"
    if state == "given":
        return "as asked for"
    if state == "resident":
        return "what a sample of the pass needs is in memory"
    if state == "probing":
        return "not known yet: the first partitions are being read to find out"
    tried = ", ".join(f"{rate / 1e9:.2f} GB/s with {n}" for n, rate in rates.items())
    rate = rates.get(requests, 0.0)
    each = f"; a partition of {size / 1e6:.0f} MB takes {size / rate:.2f} s" if rate else ""
    return f"in {seconds:.1f} s of reading the first partitions: {tried}{each}"
