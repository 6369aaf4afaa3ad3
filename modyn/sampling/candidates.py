"""What a trigger may choose from: samples in stream order, read in bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.arrivals import Arrivals
from modyn.sampling.numbers import column, number, time

if TYPE_CHECKING:
    from modyn.dataset import Dataset
    from modyn.metadata.source import Source

__all__ = ["Candidates", "core_of"]

BLOCK_COUNT = 65_536
Columns = tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int64] | None]


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
    >>> from modyn.sampling import uniform
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
        block_count: int = BLOCK_COUNT,
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
        first, last = number("first", first), number("last", last)
        return cls(_core.Candidates.from_view(view, order, first, last), block_count)

    @classmethod
    def from_source(
        cls, source: "Source", *, first: int, last: int, block_count: int = BLOCK_COUNT
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
        first, last = number("first", first), number("last", last)
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
        block_count: int = BLOCK_COUNT,
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
    def _columns(self) -> Columns:
        return _read_only(self._core.columns(0, len(self)))


def core_of(
    candidates: "Candidates | npt.ArrayLike", labels: npt.ArrayLike | None
) -> _core.Candidates:
    """Return what C reads of candidates, or of bare keys with labels."""
    if not isinstance(candidates, Candidates):
        return _from_arrays(candidates, None, labels)
    if labels is not None:
        raise TypeError("labels are for bare keys; these candidates have their own")
    return candidates._core


def _from_arrays(
    keys: npt.ArrayLike, timestamps: npt.ArrayLike | None, labels: npt.ArrayLike | None
) -> _core.Candidates:
    signed = np.dtype(np.int64)
    return _core.Candidates.from_arrays(
        column("keys", keys, np.dtype(np.uint64)),
        None if timestamps is None else column("timestamps", timestamps, signed),
        None if labels is None else column("labels", labels, signed),
    )


def _filter(start: int | None, stop: int | None, labels: npt.ArrayLike | None) -> _Filter:
    among = None
    if labels is not None:
        among = tuple(np.unique(column("labels", labels, np.dtype(np.int64))).tolist())
    return _Filter(time("start", start), time("stop", stop), among)


def _read_only(columns: Columns) -> Columns:
    for array in columns:
        if array is not None:
            array.flags.writeable = False
    return columns
