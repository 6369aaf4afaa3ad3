"""Twin of csrc/selector/keyruns.c: sets of keys, as sets."""

import itertools
from collections.abc import Iterable


class KeyRuns:
    """What a set of keys answers."""

    def __init__(self, keys: Iterable[int]) -> None:
        given = list(keys)
        if any(b <= a for a, b in itertools.pairwise(given)):
            raise ValueError("keys must ascend")
        self._keys = frozenset(given)

    def __contains__(self, key: int) -> bool:
        return key in self._keys

    def common(self, other: "KeyRuns") -> int:
        return len(self._keys & other._keys)

    def union(self, other: "KeyRuns") -> "KeyRuns":
        return KeyRuns(sorted(self._keys | other._keys))

    def keys(self, limit: int | None = None, first: int = 0) -> list[int]:
        return sorted(key for key in self._keys if key >= first)[:limit]

    def both(self, other: "KeyRuns", limit: int | None = None, first: int = 0) -> list[int]:
        return KeyRuns(sorted(self._keys & other._keys)).keys(limit, first)

    def without(self, other: "KeyRuns", limit: int | None = None, first: int = 0) -> list[int]:
        return KeyRuns(sorted(self._keys - other._keys)).keys(limit, first)

    def __len__(self) -> int:
        return len(self._keys)
