"""A set of keys in one bit for each: which samples were used, and which were not."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.sampling.numbers import column

__all__ = ["KeySet"]

_BITS = 64
_LARGEST = 2**40 - 1  # 128 GiB of bits; keys of a dataset are numbered from 0


class KeySet:
    """Keys of one dataset, a bit for each key from 0 to the largest one.

    It grows with the largest key put in. Not for several threads at a time while one changes it.

    Parameters
    ----------
    keys : integers >= 0, shape (n,)
        The first ones.

    Examples
    --------
    >>> used = KeySet([4, 7])
    >>> used.add([7, 9])
    1
    >>> used.contains([3, 4, 9, 1000]).tolist(), len(used)
    ([False, True, True, False], 3)
    >>> used & np.arange(8)
    array([4, 7], dtype=uint64)
    """

    def __init__(self, keys: npt.ArrayLike = ()) -> None:
        self._words = np.zeros(0, dtype=np.uint64)
        self._count = 0
        self.add(keys)

    def add(self, keys: npt.ArrayLike) -> int:
        """Put keys in and return how many are new.

        Raises
        ------
        TypeError
            For keys that are no integers.
        ValueError
            For a key below 0 or beyond 2**40 - 1; nothing has changed then.
        """
        wanted = column("keys", keys, np.dtype(np.uint64))
        if not wanted.size:
            return 0
        largest = int(wanted.max())
        if largest > _LARGEST:
            raise ValueError(f"a KeySet takes keys up to 2**40 - 1, got {largest}")
        self._reach(largest // _BITS + 1)
        new = _core.bits_set(self._words, wanted, True)
        self._count += new
        return new

    def discard(self, keys: npt.ArrayLike) -> int:
        """Take keys out and return how many were in."""
        gone = _core.bits_set(self._words, column("keys", keys, np.dtype(np.uint64)), False)
        self._count -= gone
        return gone

    def contains(self, keys: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return whether each key is in: bool, shape (n,)."""
        asked = column("keys", keys, np.dtype(np.uint64))
        found = np.empty(asked.shape, dtype=np.bool_)
        _core.bits_get(self._words, asked, found.view(np.uint8))
        return found

    def update(self, other: "KeySet") -> None:
        """Put all keys of another set in."""
        self._reach(other._words.size)
        self._words[: other._words.size] |= other._words
        self._count = int(np.bitwise_count(self._words).sum())

    def __and__(self, keys: npt.ArrayLike) -> npt.NDArray[np.uint64]:
        """Return those of some keys that are in, in their order: uint64."""
        asked = column("keys", keys, np.dtype(np.uint64))
        return asked[self.contains(asked)]

    def __contains__(self, key: int) -> bool:
        return bool(self.contains([key])[0])

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        """Yield the keys, ascending."""
        for word in np.flatnonzero(self._words).tolist():
            bits = int(self._words[word])
            yield from (word * _BITS + bit for bit in range(_BITS) if bits >> bit & 1)

    @property
    def nbytes(self) -> int:
        """Bytes of the bitmap."""
        return self._words.nbytes

    def _reach(self, word_count: int) -> None:
        """Make the bitmap that long at least; by an eighth longer, so that growing costs little."""
        have = self._words.size
        if word_count > have:
            grown = np.zeros(max(word_count, have + have // 8), dtype=np.uint64)
            grown[:have] = self._words
            self._words = grown
