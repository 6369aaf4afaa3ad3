"""Sets of keys that never change, small in memory and quick to compare."""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.inputs import as_keys

__all__ = ["KeyRuns"]

ALL, BOTH, WITHOUT = 0, 1, 2
BLOCK = 65_536  # keys at a time of an iteration
MOST = 2**40  # keys of ranges


class KeyRuns:
    """A set of keys that never changes.

    It is held in parts of 65,536 keys: of a part in which all are there nothing but that is
    kept, of others runs, keys or a bitmap. So keys in a row take next to nothing, and others
    8 KiB per part at most: n keys anywhere below m take at most about m / 8 bytes.

    Any number of threads may ask at the same time.

    Parameters
    ----------
    keys : uint64, shape (n,), ascending
        Each once; copied in its short form.
    threads : int
        How many threads make the set; it is the same for any number.

    Raises
    ------
    ValueError
        When keys do not ascend.

    Examples
    --------
    >>> even = KeyRuns(np.arange(0, 1_000_000, 2))
    >>> first = KeyRuns.of_ranges([range(0, 300_000)])
    >>> len(even), len(first), first.nbytes < 400
    (500000, 300000, True)
    >>> even.common(first), 7 in even, 8 in even
    (150000, False, True)
    >>> even.without(first, limit=3).tolist()
    [300000, 300002, 300004]
    >>> len(even | first)
    650000
    """

    __slots__ = ("_core",)

    def __init__(self, keys: npt.ArrayLike, *, threads: int = 1) -> None:
        self._core = _core.KeyRuns.of_keys(as_keys(keys), threads)

    @classmethod
    def of_ranges(cls, ranges: Iterable[range]) -> "KeyRuns":
        """Return the set of all keys of ranges, in any order, which do not overlap.

        Raises
        ------
        ValueError
            When two of them overlap, one has a step, or they are no keys of 64 bits; and for
            ranges of more than 2**40 keys, whose parts would not fit into memory.
        """
        found = sorted((r.start, r.stop - 1, r.step) for r in ranges if len(r))
        if any(step != 1 for _, _, step in found):
            raise ValueError("ranges of keys have the step 1")
        if found and not 0 <= found[0][0] <= max(last for _, last, _ in found) < 2**64:
            raise ValueError("keys must be 0 to 2**64 - 1")
        if (keys := sum(last - first + 1 for first, last, _ in found)) > MOST:
            raise ValueError(f"ranges must have {MOST} keys at most, got {keys}")
        firsts = np.array([first for first, _, _ in found], dtype=np.uint64)
        lasts = np.array([last for _, last, _ in found], dtype=np.uint64)
        return cls._of(_core.KeyRuns.of_ranges(firsts, lasts))

    @classmethod
    def _of(cls, core: _core.KeyRuns) -> "KeyRuns":
        made = cls.__new__(cls)
        made._core = core
        return made

    def __len__(self) -> int:
        return len(self._core)

    def __contains__(self, key: int) -> bool:
        return bool(self.contains([key])[0])

    def __or__(self, other: "KeyRuns") -> "KeyRuns":
        return KeyRuns._of(self._core.union(other._core))

    def __iter__(self) -> Iterator[int]:
        first = 0
        while len(block := self.keys(limit=BLOCK, first=first)):
            yield from block.tolist()
            if block[-1] == np.iinfo(np.uint64).max:
                return
            first = int(block[-1]) + 1

    def contains(self, keys: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return which of `keys`, uint64 of shape (n,) in any order, are in the set."""
        asked = as_keys(keys)
        found = np.empty(len(asked), dtype=np.bool_)
        self._core.contains(asked, found)
        return found

    def common(self, other: "KeyRuns", *, threads: int = 1) -> int:
        """Return how many keys are in both sets."""
        return self._core.common(other._core, threads)

    def keys(self, *, limit: int | None = None, first: int = 0) -> npt.NDArray[np.uint64]:
        """Return keys from `first` on, `limit` at most: uint64, shape (k,), ascending."""
        return self._list(None, ALL, limit, first)

    def both(
        self, other: "KeyRuns", *, limit: int | None = None, first: int = 0
    ) -> npt.NDArray[np.uint64]:
        """Return the keys, from `first` on, that are in `other` too."""
        return self._list(other, BOTH, limit, first)

    def without(
        self, other: "KeyRuns", *, limit: int | None = None, first: int = 0
    ) -> npt.NDArray[np.uint64]:
        """Return the keys, from `first` on, that are not in `other`."""
        return self._list(other, WITHOUT, limit, first)

    def _list(
        self,
        other: "KeyRuns | None",
        which: int,
        limit: int | None,
        first: int,
    ) -> npt.NDArray[np.uint64]:
        if not 0 <= first < 2**64:
            raise ValueError(f"first must be 0 to 2**64 - 1, got {first}")
        if limit is not None and limit < 0:
            raise ValueError(f"limit must be at least 0, or None, got {limit}")
        room = len(self) if limit is None else min(limit, len(self))
        out = np.empty(room, dtype=np.uint64)
        found = self._core.list(None if other is None else other._core, which, first, out)
        return out[:found]

    @property
    def nbytes(self) -> int:
        """Bytes of memory; a union counts only what it did not share when it was made."""
        return self._core.nbytes

    def __repr__(self) -> str:
        return f"KeyRuns({len(self):,} keys, {self.nbytes:,} bytes)"
