"""Twin of csrc/base/keyindex.c: what a table of ids answers."""

from collections.abc import Iterable


class KeyIndex:
    """Ids to keys, as a dictionary."""

    def __init__(self) -> None:
        self._keys: dict[int, int] = {}
        self._next = 0

    def add(self, ids: Iterable[int], keys: Iterable[int] | None = None) -> None:
        """The last key of an id counts; without keys, those behind the largest so far."""
        pairs = (
            list(enumerate(ids, self._next)) if keys is None else list(zip(keys, ids, strict=True))
        )
        for key, number in pairs:
            self._keys[number] = key
            self._next = max(self._next, key + 1)

    def keys(self, ids: Iterable[int], missing: int | None = None) -> list[int]:
        """The keys of ids; KeyError with the first that is not there, and its place."""
        found = []
        for place, number in enumerate(ids):
            if number not in self._keys and missing is None:
                raise KeyError(f"no sample has id {number}, ids[{place}]")
            found.append(self._keys.get(number, missing if missing is not None else 0))
        return found

    def __len__(self) -> int:
        return len(self._keys)
