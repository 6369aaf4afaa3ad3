"""Ids of your own: from any 64-bit numbers to the keys of a dataset."""

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.inputs import as_keys

__all__ = ["KeyIndex"]


class KeyIndex:
    """A table in memory from ids, any 64-bit numbers, to keys.

    Samples of a dataset have the keys 0, 1, 2, ... in the order in which they were
    appended. Who knows them by numbers of another kind keeps those (as a field, say), makes
    an index of them once per process, and asks it for the keys. It takes 16 to 21 bytes for
    each id, and about a microsecond for 40 of them, wherever they lie.

    An id that comes again gets the new key. Any number of threads may look up at the same
    time; while one adds, they wait for it.

    Parameters
    ----------
    ids : uint64, shape (n,)
        Any numbers, in any order.
    keys : uint64, shape (n,), optional
        Their keys, below 2**38 - 1; 0, 1, 2, ... by default.
    threads : int
        How many threads build; the answers are the same for any number.

    Examples
    --------
    >>> index = KeyIndex([2**64 - 1, 70, 4711])
    >>> index.keys([4711, 2**64 - 1, 4711]).tolist()
    [2, 0, 2]
    >>> index.add([5, 70])
    >>> index.keys([70, 5, 6], missing=99).tolist()
    [4, 3, 99]
    >>> 6 in index, 5 in index, len(index)
    (False, True, 4)
    >>> index.keys([70, 6])
    Traceback (most recent call last):
        ...
    KeyError: 'no sample has id 6, ids[1]'
    """

    def __init__(
        self, ids: npt.ArrayLike, keys: npt.ArrayLike | None = None, *, threads: int = 1
    ) -> None:
        self._core = _core.KeyIndex.new()
        self.add(ids, keys, threads=threads)

    def add(
        self, ids: npt.ArrayLike, keys: npt.ArrayLike | None = None, *, threads: int = 1
    ) -> None:
        """Give more ids their keys; those behind the largest key so far by default.

        Raises
        ------
        ValueError
            There are not as many keys as ids, or a number is negative or too large; nothing
            was added.
        """
        try:
            numbers = as_keys(ids, "ids")
            chosen = None if keys is None else as_keys(keys)
        except KeyError as negative:
            raise ValueError(f"ids and keys are 0 or more: {negative.args[0]}") from None
        self._core.add(numbers, chosen, threads)

    def keys(
        self,
        ids: npt.ArrayLike,
        *,
        missing: int | None = None,
        out: npt.NDArray[np.uint64] | None = None,
        threads: int = 1,
    ) -> npt.NDArray[np.uint64]:
        """Return the keys of `ids`, in their order.

        Parameters
        ----------
        ids : uint64, shape (n,)
            In any order; repeats are allowed.
        missing : int, optional
            What stands for an id that is not there, instead of an error.
        out : uint64, shape (n,), optional
            An array to fill, C-contiguous, instead of a new one.
        threads : int
            How many threads look up; the result is the same for any number.

        Raises
        ------
        KeyError
            An id is not there; the first of them is named, with its place.
        """
        numbers = as_keys(ids, "ids")
        if out is None:
            out = np.empty(numbers.shape, np.uint64)
        self._core.find(numbers, out, missing, threads)
        return out

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the table takes."""
        return self._core.nbytes

    def __len__(self) -> int:
        """Return how many different ids there are."""
        return len(self._core)

    def __contains__(self, number: object) -> bool:
        """Whether there is such an id."""
        if not isinstance(number, int | np.integer) or not 0 <= number < 2**64:
            return False
        nothing = 2**64 - 1  # larger than any key
        return int(self.keys([int(number)], missing=nothing)[0]) != nothing

    def __repr__(self) -> str:
        return f"KeyIndex({len(self)} ids, {self.nbytes / 2**20:.1f} MiB)"
