"""What a trigger may choose from, and how it chooses at random.

Every key has a draw, a number that follows from the seed and the key alone, and the keys with the
smallest draws are chosen. So a choice depends on the seed and on the set of candidates, not on
their order, on how they are read, or on anything that was drawn before.
"""

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.arrivals import Arrivals

if TYPE_CHECKING:
    from modyn.dataset import Dataset
    from modyn.metadata.source import Source

__all__ = ["Candidates", "balanced", "fair_shares", "target_size", "uniform"]

_BLOCK_COUNT = 65_536
_Columns = tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int64] | None]
_LEVEL, _EXACT, _EQUAL = 0, 1, 2  # mdn_shares_mode


@dataclass(frozen=True)
class _Filter:
    """Which samples are kept; None keeps any."""

    start: int | None = None
    stop: int | None = None
    labels: tuple[int, ...] | None = None

    def and_also(self, other: "_Filter") -> "_Filter":
        """Return the filter of samples that both keep."""
        starts = [f.start for f in (self, other) if f.start is not None]
        stops = [f.stop for f in (self, other) if f.stop is not None]
        sets = [set(f.labels) for f in (self, other) if f.labels is not None]
        return _Filter(
            max(starts, default=None),
            min(stops, default=None),
            tuple(sorted(set.intersection(*sets))) if sets else None,
        )


class Candidates:
    """The samples that a trigger may choose from, in stream order.

    Made by `from_dataset`, `from_source` or `from_arrays`. Nothing is read until it is asked for;
    the samplers of this module and `blocks` need little memory however many candidates there are.

    Examples
    --------
    >>> candidates = Candidates.from_arrays([4, 7, 9], timestamps=[10, 10, 20], labels=[0, 1, 0])
    >>> len(candidates), candidates.labels.tolist()
    (3, [0, 1, 0])
    >>> uniform(candidates, 2, seed=0).tolist()
    [7, 9]
    """

    def __init__(
        self, core: _core.Candidates, block_count: int, *, source: "Source | None" = None
    ) -> None:
        if block_count < 1:
            raise ValueError(f"block_count must be at least 1, got {block_count}")
        self._core = core
        self._block_count = block_count
        self._source = source
        self._range = (0, len(core))  # of a source, before its filter
        self._whole, self._filter = core, _Filter()

    @classmethod
    def from_dataset(
        cls,
        dataset: "Dataset | _core.View",
        *,
        order: npt.NDArray[np.uint64] | None = None,
        first: int,
        last: int,
        block_count: int = _BLOCK_COUNT,
    ) -> "Candidates":
        """Return the samples at positions first to last - 1 of a dataset's stream.

        Parameters
        ----------
        dataset : Dataset or its view
            As of now; what is appended later is not seen.
        order : uint64, shape (n,), or None
            Keys in stream order; None when that is arrival order. Kept, not copied.
        first, last : int
            0 <= first <= last <= number of samples.
        block_count : int
            Samples of a block of `blocks`, at least 1.

        Raises
        ------
        ValueError
            For positions out of range.
        """
        view = dataset if isinstance(dataset, _core.View) else dataset.view
        first, last = _number("first", first), _number("last", last)
        return cls(_core.Candidates.from_view(view, order, first, last), block_count)

    @classmethod
    def from_source(
        cls, source: "Source", *, first: int, last: int, block_count: int = _BLOCK_COUNT
    ) -> "Candidates":
        """Return the samples at positions first to last - 1 of a stream in a database.

        Every use reads them anew from the server, in bounded memory; what fails there surfaces
        where they are used. Ctrl-C ends a wait.

        Parameters
        ----------
        source : Source
            Kept, with its connections, as long as the candidates are.
        first, last : int
            0 <= first <= last <= `source.count`.
        block_count : int
            Samples of a block of `blocks`, at least 1.

        Raises
        ------
        ValueError
            For positions out of range.
        DatabaseError
            When the server must say how many samples there are, and cannot be asked.
        """
        first, last = _number("first", first), _number("last", last)
        core = _core.Candidates.from_source(source.capsule, first, last)
        made = cls(core, block_count, source=source)
        made._range = (first, last)
        return made

    @classmethod
    def from_arrays(
        cls,
        keys: npt.ArrayLike,
        timestamps: npt.ArrayLike,
        labels: npt.ArrayLike | None = None,
        *,
        block_count: int = _BLOCK_COUNT,
    ) -> "Candidates":
        """Return samples whose metadata lie in arrays.

        Parameters
        ----------
        keys : integers >= 0, shape (n,)
            Each once, in any order.
        timestamps : int64, shape (n,)
        labels : int64, shape (n,), or None
        block_count : int
            Samples of a block of `blocks`, at least 1.

        Raises
        ------
        TypeError
            For arrays of anything but integers.
        ValueError
            For arrays of different length or of more than one dimension, negative keys, and
            numbers beyond 64 bits.
        """
        return cls(_from_arrays(keys, timestamps, labels), block_count)

    def where(
        self,
        *,
        start: int | None = None,
        stop: int | None = None,
        labels: npt.ArrayLike | None = None,
    ) -> "Candidates":
        """Return those of a time and of some labels, in the same order.

        Candidates that come from a database are chosen there, and the others are never sent.
        How many are left is counted in this call, by a look at all of them.

        Parameters
        ----------
        start, stop : int or None, unit of the dataset
            Those with start <= timestamp < stop; None is unbounded.
        labels : integers, shape (n,), or None
            Those with one of these labels; None for any, or none.

        Raises
        ------
        ValueError
            For labels where the candidates have none.

        Examples
        --------
        >>> candidates = Candidates.from_arrays([4, 7, 9], [10, 10, 20], labels=[0, 1, 0])
        >>> candidates.where(labels=[0]).keys.tolist()
        [4, 9]
        >>> candidates.where(stop=20).where(labels=[0, 2]).keys.tolist()
        [4]
        """
        wanted = self._filter.and_also(_filter(start, stop, labels))
        if wanted.labels is not None and not self._core.has_labels:
            raise ValueError("the candidates have no labels to choose by")
        if self._source is not None:
            chosen = self._source.where(wanted.start, wanted.stop, wanted.labels)
            first, last = self._range
            made = Candidates.from_source(
                chosen, first=first, last=last, block_count=self._block_count
            )
            made._source, made._filter = self._source, wanted
            return made
        among = None if wanted.labels is None else np.array(wanted.labels, dtype=np.int64)
        core = self._whole.where(wanted.start, wanted.stop, among)
        made = Candidates(core, self._block_count)
        made._whole, made._filter = self._whole, wanted
        return made

    def __len__(self) -> int:
        return len(self._core)

    @property
    def keys(self) -> npt.NDArray[np.uint64]:
        """Keys in stream order: uint64, shape (n,), read-only."""
        return self._columns[0]

    @property
    def timestamps(self) -> npt.NDArray[np.int64]:
        """Timestamps in stream order: int64, shape (n,), read-only."""
        return self._columns[1]

    @property
    def labels(self) -> npt.NDArray[np.int64] | None:
        """Labels in stream order: int64, shape (n,), read-only; None without labels."""
        return self._columns[2]

    def blocks(self) -> Iterator[Arrivals]:
        """Yield the candidates in stream order, `block_count` at a time, in bounded memory."""
        for columns in self._core.blocks(self._block_count):
            yield Arrivals(*_read_only(columns))

    @cached_property
    def _columns(self) -> _Columns:
        return _read_only(self._core.columns(0, len(self)))


def uniform(
    candidates: "Candidates | npt.ArrayLike", count: int, *, seed: int
) -> npt.NDArray[np.uint64]:
    """Return `count` keys, every set of that size equally likely, or all if there are fewer.

    The choice of a smaller count with the same seed is part of that of a larger one, and a key
    that is chosen among some candidates is chosen among any part of them that holds it.

    Parameters
    ----------
    candidates : Candidates, or integers >= 0 of shape (n,)
        Or bare keys. A key that comes more than once counts once.
    count : int
        At least 0.
    seed : int
        0 to 2**64 - 1.

    Returns
    -------
    uint64, shape (min(count, n),)
        Ascending.

    Raises
    ------
    ValueError
        For a negative count, a seed out of range, or negative keys.

    References
    ----------
    Bottom-k sampling by hashing: E. Cohen and H. Kaplan, "Summarizing data using bottom-k
    sketches", PODC 2007; with weights it is the priority sampling of N. Duffield, C. Lund and
    M. Thorup, J. ACM 54(6), 2007. Here the hash is a bijection of 64-bit words, so that there
    are no ties and only draws need to be remembered.

    Examples
    --------
    >>> uniform(range(1000), 4, seed=7).tolist()
    [582, 736, 880, 908]
    >>> uniform(range(1000), 2, seed=7).tolist()
    [736, 908]
    """
    core = _core_of(candidates, None)
    return core.uniform(_number("count", count), _number("seed", seed))


def balanced(
    candidates: "Candidates | npt.ArrayLike",
    count: int,
    *,
    seed: int,
    labels: npt.ArrayLike | None = None,
    force_column_balancing: bool = False,
    force_required_target_size: bool = False,
) -> npt.NDArray[np.uint64]:
    """Return at most `count` keys, of every label a fair share, chosen uniformly inside it.

    The share of a label with n samples is min(n, s), with the largest s for which the shares do
    not exceed `count`: see `fair_shares`, also for the two options.

    Parameters
    ----------
    candidates : Candidates, or integers >= 0 of shape (n,)
        Samples with labels, or bare keys, then with `labels`. Each key once.
    count : int
        At least 0.
    seed : int
        0 to 2**64 - 1.
    labels : int64, shape (n,), or None
        Of bare keys.
    force_column_balancing : bool
        The same number of every label, even if the total shrinks.
    force_required_target_size : bool
        Exactly min(count, n) keys; wins if both are set.

    Returns
    -------
    uint64, shape (m,), m <= count
        Ascending.

    Raises
    ------
    ValueError
        Without labels, with more than 2**22 different ones, or for a key that would be chosen
        twice.

    References
    ----------
    As for `uniform` and `fair_shares`.

    Examples
    --------
    >>> labels = [0] * 6 + [1] * 94
    >>> balanced(range(100), 20, labels=labels, seed=7).tolist()[:7]
    [0, 1, 2, 3, 4, 5, 16]
    >>> len(balanced(range(100), 20, labels=labels, seed=7, force_column_balancing=True))
    12
    """
    mode = _mode(force_column_balancing, force_required_target_size)
    core = _core_of(candidates, labels)
    return core.balanced(_number("count", count), mode, _number("seed", seed))


def fair_shares(
    sizes: npt.ArrayLike,
    capacity: int,
    *,
    force_column_balancing: bool = False,
    force_required_target_size: bool = False,
    seed: int = 0,
) -> npt.NDArray[np.uint64]:
    """Return how many samples each group gives when `capacity` are to be shared fairly.

    Group i gives min(sizes[i], s); s, the same for all, is the largest integer for which the sum
    does not exceed `capacity`. What then is left over, less than one sample for each group that
    could give more, is not used, unless `force_required_target_size` is set.

    Parameters
    ----------
    sizes : integers >= 0, shape (groups,)
    capacity : int
        At least 0.
    force_column_balancing : bool
        Every group gives min(smallest size, capacity // groups).
    force_required_target_size : bool
        What is left over goes one each to groups that could give more, all of them equally
        likely, so that the sum is min(capacity, sum of sizes). Wins if both are set.
    seed : int
        Of that choice. Group i has draw i; the groups with the smallest draws are chosen. Nothing
        else is random.

    Returns
    -------
    uint64, shape (groups,)

    References
    ----------
    Water-filling, or max-min fairness: D. Bertsekas and R. Gallager, "Data Networks", 2nd
    edition, 1992, section 6.5.2. Here in whole samples.

    Examples
    --------
    >>> fair_shares([5, 400, 5], 100).tolist()
    [5, 90, 5]
    >>> fair_shares([50, 50, 50], 100).tolist()
    [33, 33, 33]
    >>> sum(fair_shares([50, 50, 50], 100, force_required_target_size=True).tolist())
    100
    """
    mode = _mode(force_column_balancing, force_required_target_size)
    groups = _column("sizes", sizes, np.dtype(np.uint64))
    return _core.fair_shares(groups, _number("capacity", capacity), mode, _number("seed", seed))


def target_size(n: int, ratio: int, ratio_max: int = 100, limit: int = -1) -> int:
    """Return how many of `n` candidates to choose: floor(n * ratio / ratio_max), at most `limit`.

    Parameters
    ----------
    n : int
        Number of candidates, at least 0.
    ratio, ratio_max : int
        0 <= ratio <= ratio_max, ratio_max >= 1.
    limit : int
        At least 1, or -1 for none.

    Raises
    ------
    ValueError
        For a number outside of its range.

    Examples
    --------
    >>> target_size(999, 50)
    499
    >>> target_size(999, 50, limit=10)
    10
    """
    if n < 0:
        raise ValueError(f"n must be at least 0, got {n}")
    if ratio_max < 1:
        raise ValueError(f"ratio_max must be at least 1, got {ratio_max}")
    if not 0 <= ratio <= ratio_max:
        raise ValueError(f"ratio must be 0 to {ratio_max} (ratio_max), got {ratio}")
    if limit != -1 and limit < 1:
        raise ValueError(f"limit must be at least 1, or -1 for none, got {limit}")
    size = n * ratio // ratio_max
    return size if limit == -1 else min(size, limit)


def _filter(start: int | None, stop: int | None, labels: npt.ArrayLike | None) -> _Filter:
    among = None
    if labels is not None:
        among = tuple(np.unique(_column("labels", labels, np.dtype(np.int64))).tolist())
    return _Filter(_time("start", start), _time("stop", stop), among)


def _time(name: str, value: int | None) -> int | None:
    if value is None:
        return None
    time = operator.index(value)
    if not -(2**63) <= time < 2**63:
        raise ValueError(f"{name} must be -2**63 to 2**63 - 1, got {time}")
    return time


def _mode(force_column_balancing: bool, force_required_target_size: bool) -> int:
    if force_required_target_size:
        return _EXACT
    return _EQUAL if force_column_balancing else _LEVEL


def _number(name: str, value: int) -> int:
    """Return an integer that fits into 64 bits without a sign."""
    number = operator.index(value)
    if not 0 <= number < 2**64:
        raise ValueError(f"{name} must be 0 to 2**64 - 1, got {number}")
    return number


def _column(name: str, values: npt.ArrayLike, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return values as a contiguous array of that integer dtype; no value may change."""
    array = np.asarray(values)
    if array.size == 0 and array.dtype.kind == "f":
        array = array.astype(dtype)  # an empty list
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {array.shape}")
    if array.dtype != dtype and array.size:
        least, most = int(array.min()), int(array.max())
        bounds = np.iinfo(dtype)
        if least < bounds.min or most > bounds.max:
            wrong = least if least < bounds.min else most
            raise ValueError(f"{name} must be {dtype} numbers, got {wrong}")
    return np.ascontiguousarray(array, dtype=dtype)


def _from_arrays(
    keys: npt.ArrayLike, timestamps: npt.ArrayLike | None, labels: npt.ArrayLike | None
) -> _core.Candidates:
    signed = np.dtype(np.int64)
    return _core.Candidates.from_arrays(
        _column("keys", keys, np.dtype(np.uint64)),
        None if timestamps is None else _column("timestamps", timestamps, signed),
        None if labels is None else _column("labels", labels, signed),
    )


def _core_of(
    candidates: "Candidates | npt.ArrayLike", labels: npt.ArrayLike | None
) -> _core.Candidates:
    if not isinstance(candidates, Candidates):
        return _from_arrays(candidates, None, labels)
    if labels is not None:
        raise TypeError("labels are for bare keys; these candidates have their own")
    return candidates._core


def _read_only(columns: _Columns) -> _Columns:
    for column in columns:
        if column is not None:
            column.flags.writeable = False
    return columns
