"""The work: plan, read, append, write down; one commit per batch."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from modyn.errors import CorruptError
from modyn.formats import Files, FolderLabels, LabelFile
from modyn.ingest.ahead import ahead
from modyn.ingest.batch import Batch, Columns, Piece
from modyn.ingest.facts import Facts, Rejected, check, look
from modyn.ingest.labels import Labels, folder_classes, label_rule
from modyn.ingest.lines import begins_with_line, next_line
from modyn.ingest.plan import Plan, make_plan
from modyn.ingest.readers import Target, digest_of, opener, rules_of
from modyn.ingest.report import IngestReport, Tally
from modyn.ingest.singles import Group, Singles, first_ending
from modyn.ingest.sources import PATH, Entry
from modyn.ingest.times import Times, times_rule

if TYPE_CHECKING:
    from modyn.dataset import Dataset

__all__ = ["BATCH_BYTES", "Intake", "thread_count"]

BATCH_BYTES = 64 << 20
"""Samples up to this size become one commit; a file that holds fewer is never cut."""


class Intake:
    """Takes files of one format into one dataset, again and again."""

    def __init__(
        self,
        dataset: Dataset,
        format: object,
        *,
        timestamps: Times | None = None,
        labels: Labels | None = None,
        threads: int | None = None,
        growing: bool = False,
        batch_bytes: int = BATCH_BYTES,
    ) -> None:
        self._dataset = dataset
        self.rules = rules_of(format, growing)
        _check_labels(dataset, format, labels)
        own = _has_own_times(format, timestamps)
        self._times_of = times_rule(timestamps, dataset.timestamp_unit)
        target = Target(
            dataset.view.schema,
            dataset.view.has_labels,
            dataset.timestamp_unit,
            own,
            thread_count(threads),
            growing,
        )
        self._open = opener(format, target)
        self._labels = labels
        self._label_of = None if labels is None else label_rule(labels, {})
        self._singles = Singles(format, target) if isinstance(format, Files) else None
        self.ending = first_ending(format, target.schema) if isinstance(format, Files) else ""
        self._format = digest_of(format)
        self._batch_bytes = batch_bytes

    def is_known(self, path: str, size: int, mtime: int) -> bool:
        """Whether a file is known as it is, so that there is nothing to do about it."""
        sources = self._dataset._sources()
        row = sources.by_path.get(path)
        if row is None:
            return False
        record = sources.record(row)
        return (record.size, record.mtime) == (size, mtime) and bool(record.whole)

    def plan(self, paths: Sequence[str]) -> Plan:
        """Return what `take` would do with these files, and do nothing."""
        return make_plan(look(paths), self._dataset._sources(), self.rules)

    def take(
        self,
        paths: Sequence[str],
        *,
        on_error: Literal["stop", "skip"] = "skip",
        stopped: Callable[[], bool] = lambda: False,
        waiting: Callable[[Facts], Container[str]] = lambda facts: (),
    ) -> IngestReport:
        """Append what is new in these files, until `stopped` after some commit.

        Those that are `waiting` are left for another time.
        """
        with self._dataset._ingesting:
            return self._take(paths, on_error, stopped, waiting)

    def _take(
        self,
        paths: Sequence[str],
        on_error: Literal["stop", "skip"],
        stopped: Callable[[], bool],
        waiting: Callable[[Facts], Container[str]],
    ) -> IngestReport:
        tally = Tally()
        rejected: list[Rejected] = []
        while paths:
            facts = look(paths)
            plan = make_plan(facts, self._dataset._sources(), self.rules, waiting(facts))
            rejected += plan.rejected
            if plan.rejected and on_error == "stop":
                _cut(plan, min(rejected, key=lambda one: one[0])[0])
            rejected += self._work(plan, tally, on_error, stopped)
            if stopped() or (rejected and on_error == "stop"):
                break
            paths = plan.later
        if rejected and on_error == "stop":
            error = min(rejected, key=lambda one: one[0])[2]
            error.add_note(tally.note())
            raise error
        tally.skipped += [(path, _reason(error)) for _, path, error in sorted(rejected, key=_order)]
        return tally.report()

    def _work(
        self, plan: Plan, tally: Tally, on_error: str, stopped: Callable[[], bool]
    ) -> list[Rejected]:
        """Read and commit what a plan says."""
        rejected: list[Rejected] = []
        tally.known += plan.known
        tally.renamed += plan.renamed
        # Closed also when an interrupt comes: no thread reads on behind it.
        with closing(ahead(self._batches(plan, on_error))) as batches:
            for batch in batches:
                rejected += batch.rejected
                self._commit(batch, tally)
                if stopped():
                    break
        return rejected

    def _commit(self, batch: Batch, tally: Tally) -> None:
        """Make a batch durable, with what it says of its files."""
        if not batch.entry.paths:
            return
        batch.entry.key = first = len(self._dataset)
        piece = batch.joined() if batch.pieces else None
        try:
            self._dataset._commit(piece, batch.entry.encode())
        except BaseException as error:
            self._dataset._forget_sources()
            error.add_note(tally.note())
            raise
        self._dataset._sources().apply(batch.entry)
        tally.classes.update(batch.entry.classes)
        tally.add(batch.files, first, batch.count)

    def _batches(self, plan: Plan, on_error: str) -> Iterator[Batch]:
        """Yield what is to be committed, a batch at a time; made in a thread of its own."""
        batch = self._noted(plan)
        if self._singles is not None:
            yield from self._batches_of_singles(self._singles, plan, batch, on_error)
            return
        for place in plan.take:
            path = plan.facts.paths[place]
            try:
                for part in self._parts(plan, place):
                    if batch.count and batch.nbytes + part.piece.nbytes > self._batch_bytes:
                        yield batch
                        batch = Batch(Entry(self._format, 0))
                    batch.add(part.piece)
                    batch.files.append(path)
                    batch.entry.add(path, **part.row)
                    batch.entry.gone += plan.gone.pop(place, [])
            except (ValueError, OSError, CorruptError) as error:
                batch.rejected.append((plan.facts.order[place], path, error))
                if on_error == "stop":
                    break
        yield batch

    def _batches_of_singles(
        self, singles: Singles, plan: Plan, batch: Batch, on_error: str
    ) -> Iterator[Batch]:
        """Yield the same for files that are one sample each."""
        label_of = self._label_of
        if isinstance(self._labels, FolderLabels) and self._labels.classes is None:
            known = self._dataset._sources().classes
            classes = folder_classes([plan.facts.paths[place] for place in plan.take], known)
            label_of = label_rule(self._labels, classes)
            batch.entry.classes = classes
        stop = on_error == "stop"
        groups = singles.groups(plan, self._batch_bytes, label_of, self._times_of, stop)
        for group in groups:
            if not isinstance(group, Group):
                batch.rejected.append(group)
                if stop:
                    break
                continue
            if batch.count and batch.nbytes + group.piece.nbytes > self._batch_bytes:
                yield batch
                batch = Batch(Entry(self._format, 0))
            batch.add(group.piece)
            paths, rows = plan.rows(group.places, group.head, group.tail)
            batch.files += paths
            batch.entry.extend(paths, **rows)
            for place in group.places:
                batch.entry.gone += plan.gone.pop(place, [])
        yield batch

    def _noted(self, plan: Plan) -> Batch:
        """Return a batch that writes down names, times and inodes of known files."""
        batch = Batch(Entry(self._format, 0))
        for place in plan.noted:
            record = plan.records[place]
            row = plan.row(place, record.end, (record.head, record.tail), True, 0)
            batch.entry.add(plan.facts.paths[place], **row)
            batch.entry.gone += plan.gone.pop(place, [])
        return batch

    def _parts(self, plan: Plan, place: int) -> Iterator[Part]:
        """Yield the samples of one file, with what there is to write down about them."""
        path = plan.facts.paths[place]
        start = plan.start(place)
        if start == 0 and self.rules.growing and not self._is_begun(plan, place):
            return
        reader = self._open(path)
        if start:
            next_start = next_line(path, start) if self.rules.lines else start
            reader.seek(next_start or start)
        ended, first = False, True
        while not ended:
            columns, labels, times, ended = reader.read(self._batch_bytes)
            piece = self._piece(plan, place, columns, labels, times)
            end = reader.position
            checked = self._verified(plan, place, end)
            if (
                piece.count == 0
                and end == start
                and place in plan.records
                and plan.is_as_it_was(place)
            ):
                return
            row = plan.row(place, end, checked, ended, piece.count)
            if not first:
                row["link"] = PATH
            yield Part(piece, row)
            first = False

    def _is_begun(self, plan: Plan, place: int) -> bool:
        """Whether there is something to read of a file that still grows."""
        if self.rules.lines:
            return begins_with_line(plan.facts.paths[place])
        return plan.facts.size[place] > 0 or not self.rules.append_only

    def _piece(
        self,
        plan: Plan,
        place: int,
        columns: Columns,
        labels: npt.NDArray[np.int64] | None,
        times: npt.NDArray[np.int64] | None,
    ) -> Piece:
        if times is None:
            count = _count(columns)
            times = self._times_of(plan.facts.paths[place], plan.facts.mtime[place], count)
        return Piece(columns, labels, times)

    def _verified(self, plan: Plan, place: int, end: int) -> tuple[int, int]:
        """Return the check of what was read; ValueError if the file is no longer the same."""
        path = plan.facts.paths[place]
        now = look([path])
        if now.errors:
            raise now.errors[0][2]
        before = plan.facts.at(place)
        if now.at(0)[:2] != before[:2]:
            raise ValueError(f"{path}: was replaced by another file while it was read")
        if not self.rules.append_only and now.at(0) != before:
            raise ValueError(f"{path}: has changed while it was read; ingest it when it is whole")
        length = end if self.rules.append_only else before[2]
        if now.size[0] < length:
            raise ValueError(f"{path}: has shrunk while it was read")
        return check(path, length)


@dataclass
class Part:
    """Samples of one file, and its row of the entry."""

    piece: Piece
    row: dict[str, int]


def _count(columns: Columns) -> int:
    first = columns[0]
    return len(first[1]) - 1 if isinstance(first, tuple) else len(first)


def _cut(plan: Plan, order: int) -> None:
    """Leave out what comes behind a file that ends the work."""
    plan.take = [place for place in plan.take if plan.facts.order[place] < order]
    plan.noted = [place for place in plan.noted if plan.facts.order[place] < order]


def _order(rejected: Rejected) -> int:
    return rejected[0]


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror.lower()}"
    return str(error)


def thread_count(threads: int | None) -> int:
    """Return how many threads are meant."""
    if threads is None:
        return min(len(os.sched_getaffinity(0)), 8)
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    return threads


def _check_labels(dataset: Dataset, format: object, labels: Labels | None) -> None:
    label = getattr(format, "label", None)
    if label is None:
        label = getattr(format, "label_size", None)
    if labels is not None:
        if not isinstance(labels, FolderLabels | LabelFile):
            raise TypeError(
                f"labels must be a modyn.formats.FolderLabels or LabelFile, got {labels!r}"
            )
        if not isinstance(format, Files):
            raise ValueError("labels are for files that are one sample each")
        if label is not None:
            raise ValueError(f"the label of the format is {label!r}, and labels are given: which?")
        label = labels
    if dataset.view.has_labels and label is None:
        raise ValueError(f"{dataset.path} has labels; give the label column of the files")
    if not dataset.view.has_labels and label is not None:
        raise ValueError(f"{dataset.path} has no labels, but label is {label!r}")


def _has_own_times(format: object, timestamps: Times | None) -> bool:
    """Whether the timestamps come from the files."""
    own = getattr(format, "timestamp", None)
    if own is None and getattr(format, "modification_time", False):
        own = "the time of modification"
    if own is not None and timestamps is not None:
        raise ValueError(
            f"the timestamp of the format is {own!r}, and timestamps are given, too: which?"
        )
    if own is None and timestamps is None:
        raise ValueError(
            "where do the timestamps come from? Give a timestamp to the format, or "
            "timestamps='mtime', a modyn.formats.FileNameTime or a function"
        )
    return own is not None
