"""What a trigger may choose from: samples in stream order, read in bounded memory."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.arrivals import Arrivals
from modyn.sampling.numbers import column, number, time

if TYPE_CHECKING:
    from modyn.dataset import Dataset
    from modyn.metadata.source import Source

__all__ = ["Candidates", "Part", "core_of", "living"]

BLOCK_COUNT = 65_536
ERASED_COUNT = 2**24  # samples whose erasure is looked up at once
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


class Part(NamedTuple):
    """The candidates that one trigger brought.

    Parameters
    ----------
    trigger : int
        Its index.
    candidates : Candidates
        There may be none.
    """

    trigger: int
    candidates: "Candidates"


@dataclass(frozen=True, eq=False)
class _Place:
    """Where candidates come from.

    Parameters
    ----------
    between : callable
        Returns the samples at positions first to last - 1, of one trigger.
    first, last : int
        The positions of the candidates.
    starts : sequence of (trigger, position)
        The triggers that they are of, and where the samples of each begin; never empty.
    view : View or None
        Says what is erased.
    """

    between: Callable[[int, int], "Candidates"]
    first: int
    last: int
    starts: tuple[tuple[int, int], ...]
    view: _core.View | None = None


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
        self,
        core: _core.Candidates,
        block_count: int,
        place: _Place,
        *,
        source: "Source | None" = None,
    ) -> None:
        if block_count < 1:
            raise ValueError(f"block_count must be at least 1, got {block_count}")
        self._core = core
        self._block_count = block_count
        self._place = place
        self._source = source
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
        starts: Sequence[tuple[int, int]] = (),
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
        starts : sequence of (trigger, position)
            Of which triggers they are, ascending, and where the samples of each begin: the first
            at `first`. By default all are of trigger 0.

        Raises
        ------
        ValueError
            For positions out of range, and starts that contradict them.
        """
        view = dataset if isinstance(dataset, _core.View) else dataset.view
        first, last = number("first", first), number("last", last)
        core = _core.Candidates.from_view(view, order, first, last)

        def between(first: int, last: int) -> Candidates:
            return cls.from_dataset(
                view, order=order, first=first, last=last, block_count=block_count
            )

        return cls(core, block_count, _place(between, first, last, starts, view))

    @classmethod
    def from_source(
        cls,
        source: "Source",
        *,
        first: int,
        last: int,
        block_count: int = BLOCK_COUNT,
        starts: Sequence[tuple[int, int]] = (),
        view: "_core.View | None" = None,
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
        starts : sequence of (trigger, position)
            As for `from_dataset`.
        view : View or None
            Of the dataset that is streamed: it says which samples are erased. Without it, `living`
            reads the stream.

        Raises
        ------
        ValueError
            For positions out of range, and starts that contradict them.
        DatabaseError
            When the server must say how many samples there are, and cannot be asked.
        """
        first, last = number("first", first), number("last", last)
        core = _core.Candidates.from_source(source.capsule, first, last)

        def between(first: int, last: int) -> Candidates:
            return cls.from_source(source, first=first, last=last, block_count=block_count)

        place = _place(between, first, last, starts, view)
        return cls(core, block_count, place, source=source)

    @classmethod
    def from_arrays(
        cls,
        keys: npt.ArrayLike,
        timestamps: npt.ArrayLike,
        labels: npt.ArrayLike | None = None,
        *,
        block_count: int = BLOCK_COUNT,
        starts: Sequence[tuple[int, int]] = (),
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
        starts : sequence of (trigger, position)
            As for `from_dataset`; positions count from 0.

        Raises
        ------
        TypeError
            For arrays of anything but integers.
        ValueError
            For arrays of different length or of more than one dimension, negative keys, numbers
            beyond 64 bits, and starts that contradict the positions.
        """
        core = _from_arrays(keys, timestamps, labels)

        def between(first: int, last: int) -> Candidates:
            return cls.from_arrays(
                np.asarray(keys)[first:last],
                np.asarray(timestamps)[first:last],
                None if labels is None else np.asarray(labels)[first:last],
                block_count=block_count,
            )

        return cls(core, block_count, _place(between, 0, len(core), starts, None))

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The candidates of each trigger, oldest first: one entry per trigger, maybe an empty one.

        Their columns are read where they are asked for, as those of all candidates are.

        Examples
        --------
        >>> candidates = Candidates.from_arrays([4, 7, 9], [10, 10, 20], starts=[(3, 0), (4, 2)])
        >>> [(trigger, part.keys.tolist()) for trigger, part in candidates.parts]
        [(3, [4, 7]), (4, [9])]
        """
        starts = self._place.starts
        ends = [first for _, first in starts[1:]] + [self._place.last]
        return tuple(
            Part(trigger, self._part(first, end))
            for (trigger, first), end in zip(starts, ends, strict=True)
        )

    @cached_property
    def new(self) -> "Candidates":
        """The candidates that this trigger brought: the last of `parts`."""
        _, first = self._place.starts[-1]
        return self._part(first, self._place.last)

    def _part(self, first: int, last: int) -> "Candidates":
        if (first, last) == (self._place.first, self._place.last):
            return self
        part = self._place.between(first, last)
        wanted = self._filter
        if wanted == _Filter():
            return part
        return part.where(start=wanted.start, stop=wanted.stop, labels=wanted.labels)

    def living(self, keys: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Return which of these keys, chosen by an earlier trigger, are not erased.

        Candidates of a dataset look them up there; those in arrays, which know of no erasure, say
        which of the keys are among them. What `where` left out does not count as erased.

        Parameters
        ----------
        keys : integers >= 0, shape (n,)
            Of samples of the stream, in any order.

        Returns
        -------
        bool, shape (n,)

        Examples
        --------
        >>> Candidates.from_arrays([4, 7, 9], [10, 10, 20]).living([9, 8]).tolist()
        [True, False]
        """
        wanted = column("keys", keys, np.dtype(np.uint64))
        if self._place.view is not None:
            return living(self._place.view, wanted)
        whole = self._place.between(self._place.first, self._place.last)
        asked, which = np.unique(wanted, return_inverse=True)
        found = np.zeros(len(asked), dtype=bool)
        for block in whole.blocks() if len(asked) else ():
            places = np.minimum(np.searchsorted(asked, block.keys), len(asked) - 1)
            found[places[asked[places] == block.keys]] = True
        return found[which]

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
            core = _core.Candidates.from_source(chosen.capsule, self._place.first, self._place.last)
        else:
            among = None if wanted.labels is None else np.array(wanted.labels, dtype=np.int64)
            core = self._whole.where(wanted.start, wanted.stop, among)
        made = Candidates(core, self._block_count, self._place, source=self._source)
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


def living(view: _core.View, keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Return which of these keys are not erased, those beyond the view among them.

    Looks at as much of the dataset at a time as little memory allows.
    """
    if view.erased_count == 0 or len(keys) == 0:
        return np.ones(len(keys), dtype=bool)
    ascending = bool(np.all(keys[1:] >= keys[:-1]))
    order = None if ascending else np.argsort(keys, kind="stable")
    wanted = keys if order is None else keys[order]
    found = np.ones(len(keys), dtype=bool)
    begin, count = 0, view.count
    while begin < len(wanted) and int(wanted[begin]) < count:
        first = int(wanted[begin])
        stop = min(first + ERASED_COUNT, count, int(wanted[-1]) + 1)
        end = int(np.searchsorted(wanted, np.uint64(stop)))
        gone = view.erased(first, stop - first)
        found[begin:end] = ~gone[(wanted[begin:end] - np.uint64(first)).astype(np.intp)]
        begin = end
    if order is None:
        return found
    there = np.empty_like(found)
    there[order] = found
    return there


def core_of(
    candidates: "Candidates | npt.ArrayLike", labels: npt.ArrayLike | None
) -> _core.Candidates:
    """Return what C reads of candidates, or of bare keys with labels."""
    if not isinstance(candidates, Candidates):
        return _from_arrays(candidates, None, labels)
    if labels is not None:
        raise TypeError("labels are for bare keys; these candidates have their own")
    return candidates._core


def _place(
    between: Callable[[int, int], Candidates],
    first: int,
    last: int,
    starts: Sequence[tuple[int, int]],
    view: _core.View | None,
) -> _Place:
    known = tuple(starts) or ((0, first),)
    triggers, positions = zip(*known, strict=True)
    rising = all(a < b for a, b in itertools.pairwise(triggers))
    fits = list(positions) == sorted(positions) and positions[0] == first and positions[-1] <= last
    if not rising or not fits:
        raise ValueError(
            f"starts must name triggers and positions in ascending order, from {first} on and not "
            f"beyond {last}, got {list(starts)}"
        )
    return _Place(between, first, last, known, view)


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
