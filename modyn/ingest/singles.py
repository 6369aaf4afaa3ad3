"""Files that are one sample each: thousands of them in one batch, and no object per file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modyn.binary import open_files
from modyn.errors import CorruptError
from modyn.formats import Files
from modyn.ingest.batch import Column, Piece
from modyn.ingest.facts import Rejected, check, checks_in_memory, look
from modyn.ingest.labels import LabelOf
from modyn.ingest.plan import Plan
from modyn.ingest.readers import Target
from modyn.ingest.times import TimesOf
from modyn.inputs import Field

__all__ = ["Group", "Singles", "first_ending"]

FILES_MAX = 65_536
"""Files of one batch, at most."""


@dataclass
class Group:
    """Samples of files that follow each other in a plan, and the checks of these."""

    places: list[int]
    piece: Piece
    head: list[int]
    tail: list[int]


@dataclass
class _Known:
    """Files that are about to be read, and what is known of their samples."""

    places: list[int]
    labels: list[int]
    times: list[int]

    def part(self, first: int, stop: int) -> _Known:
        return _Known(self.places[first:stop], self.labels[first:stop], self.times[first:stop])


class Singles:
    """Reads the files of a plan, many at a time."""

    def __init__(self, format: Files, target: Target) -> None:
        self._format = format
        self._target = target

    def groups(
        self, plan: Plan, size_max: int, label_of: LabelOf | None, times_of: TimesOf, stop: bool
    ) -> Iterator[Group | Rejected]:
        """Yield the samples of all files to be taken, and what is wrong with the others.

        With `stop`, what is wrong comes behind all files before it.
        """
        for portion in _portions(plan, size_max):
            known = _Known([], [], [])
            for place in portion:
                path, mtime = plan.facts.paths[place], plan.facts.mtime[place]
                try:
                    label = label_of(path) if label_of is not None else 0
                    time = 0 if self._target.own_times else int(times_of(path, mtime, 1)[0])
                except ValueError as error:
                    if stop:
                        yield from self._sound(plan, known)
                    yield plan.facts.order[place], path, error
                    if stop:
                        return
                    continue
                known.places.append(place)
                known.labels.append(label)
                known.times.append(time)
            yield from self._sound(plan, known)

    def _sound(self, plan: Plan, known: _Known) -> Iterator[Group | Rejected]:
        """Yield what can be read, in order, and in between what is wrong with the rest."""
        places = known.places
        if not places:
            return
        try:
            group = self._read(plan, known)
        except (ValueError, OSError, CorruptError) as error:
            if len(places) == 1:
                yield plan.facts.order[places[0]], plan.facts.paths[places[0]], error
                return
        else:
            yield group
            return
        yield from self._sound(plan, known.part(0, len(places) // 2))
        yield from self._sound(plan, known.part(len(places) // 2, len(places)))

    def _read(self, plan: Plan, known: _Known) -> Group:
        target = self._target
        paths = [plan.facts.paths[place] for place in known.places]
        reader = open_files(
            paths, target.schema, self._format, timestamp_unit=target.unit, threads=target.threads
        )
        columns, labels, times, _ = reader.read(1 << 62)
        if target.has_labels and labels is None:
            labels = np.array(known.labels, np.int64)
        if times is None:
            times = np.array(known.times, np.int64)
        head, tail = self._verified(plan, known.places, columns[0])
        return Group(known.places, Piece(columns, labels, times), head, tail)

    def _verified(
        self, plan: Plan, places: list[int], column: Column
    ) -> tuple[list[int], list[int]]:
        """Return the checks of the files; ValueError if one is no longer the same."""
        facts = plan.facts
        now = look([facts.paths[place] for place in places])
        if now.errors:
            raise now.errors[0][2]
        before = zip(*(_at(values, places) for values in facts.columns), strict=True)
        after = zip(*now.columns, strict=True)
        for place, was, found in zip(places, before, after, strict=True):
            if was != found:
                path = facts.paths[place]
                raise ValueError(
                    f"{path}: has changed while it was read; ingest it when it is whole"
                )
        sizes = np.array(now.size, np.int64)
        content = _content(column)
        if content is None or not (np.diff(content[1]) == sizes).all():
            # The first field is a number, written out; its file is read once more.
            pairs = [check(path, size) for path, size in zip(now.paths, now.size, strict=True)]
            return [head for head, _ in pairs], [tail for _, tail in pairs]
        return checks_in_memory(*content)


def _portions(plan: Plan, size_max: int) -> Iterator[list[int]]:
    """Yield the files to be taken, as many at a time as one batch holds."""
    portion: list[int] = []
    size = 0
    for place in plan.take:
        if portion and (size + plan.facts.size[place] > size_max or len(portion) == FILES_MAX):
            yield portion
            portion, size = [], 0
        portion.append(place)
        size += plan.facts.size[place]
    if portion:
        yield portion


def _at(values: Sequence[int], places: list[int]) -> Iterator[int]:
    return (values[place] for place in places)


def _content(column: Column) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]] | None:
    """Return the bytes of a column, and where those of each sample begin."""
    if isinstance(column, tuple):
        return column
    size = column.nbytes // max(len(column), 1)
    flat = np.ascontiguousarray(column).reshape(-1).view(np.uint8)
    return flat, np.arange(len(column) + 1, dtype=np.int64) * size


def first_ending(format: Files, schema: str) -> str:
    """Return what the names of the files end in that stand for samples."""
    if isinstance(format.extension, str):
        return format.extension
    return format.extension.get(Field.parse(schema.splitlines()[0]).name, "")
