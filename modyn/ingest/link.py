"""Files that stay where they are: one commit per file, of its records and where they lie."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modyn.binary import link_plan
from modyn.errors import CorruptError
from modyn.formats import FixedRecord
from modyn.ingest.driver import Intake, thread_count
from modyn.ingest.facts import Rejected, check, look
from modyn.ingest.plan import Plan, Rules
from modyn.ingest.readers import digest_of
from modyn.ingest.report import Tally
from modyn.ingest.sources import Entry
from modyn.ingest.times import Times, times_rule

if TYPE_CHECKING:
    from modyn.dataset import Dataset

__all__ = ["LinkIntake"]


class LinkIntake(Intake):
    """Links files of fixed records into one dataset."""

    def __init__(
        self,
        dataset: Dataset,
        format: object,
        *,
        timestamps: Times | None = None,
        threads: int | None = None,
    ) -> None:
        if not isinstance(format, FixedRecord):
            raise ValueError(
                f"only files of modyn.formats.FixedRecord can be linked, got {format!r}; "
                "use mode='copy'"
            )
        self._dataset = dataset
        # A file that is linked is whole: whoever appends to it breaks the link.
        self.rules = Rules(type(format).__name__, append_only=False, lines=False, growing=False)
        self._link_plan = link_plan(dataset.view.schema, format)
        if (format.timestamp is None) == (timestamps is None):
            raise ValueError(
                "give either a timestamp to the format, or timestamps: 'mtime', a "
                "modyn.formats.FileNameTime or a function"
            )
        self._times = timestamps
        self._times_of = times_rule(timestamps, dataset.timestamp_unit)
        self._format = digest_of(format)
        self._threads = thread_count(threads)

    def _work(
        self, plan: Plan, tally: Tally, on_error: str, stopped: Callable[[], bool]
    ) -> list[Rejected]:
        """Link what a plan says, file by file."""
        rejected: list[Rejected] = []
        tally.known += plan.known
        tally.renamed += plan.renamed
        self._commit(self._noted(plan), tally)
        for place in plan.take:
            path = plan.facts.paths[place]
            try:
                self._link(plan, place, tally)
            except (ValueError, OSError, CorruptError) as error:
                self._dataset._forget_sources()
                if isinstance(error, OSError) and not str(error.strerror).startswith(path):
                    error.add_note(tally.note())
                    raise
                rejected.append((plan.facts.order[place], path, error))
                if on_error == "stop":
                    break
            if stopped():
                break
        return rejected

    def _link(self, plan: Plan, place: int, tally: Tally) -> None:
        """Link one file, in one commit."""
        path, size = plan.facts.paths[place], plan.facts.size[place]
        checked = check(path, size)
        now = look([path])
        if now.errors or now.at(0) != plan.facts.at(place):
            raise ValueError(f"{path}: changes at this moment; link it when it is whole")
        records = max(0, size - self._link_plan.first_record) // self._link_plan.record_size
        entry = Entry(self._format, len(self._dataset))
        entry.add(path, **plan.row(place, size, checked, True, records))
        entry.gone += plan.gone.pop(place, [])
        first, samples, linked = self._dataset._link(
            path, size, self._link_plan, self._given_times(plan, place, records), self._threads,
            entry.encode(),
        )  # fmt: skip
        self._dataset._sources().apply(entry)
        tally.add([path], first, samples)
        tally.linked += linked

    def _given_times(
        self, plan: Plan, place: int, records: int
    ) -> npt.NDArray[np.int64] | int | None:
        """Return the timestamps that are not in the file: one for all, where that does."""
        path, mtime = plan.facts.paths[place], plan.facts.mtime[place]
        if self._times is None:
            return None
        if callable(self._times):
            return self._times_of(path, mtime, records)
        return int(self._times_of(path, mtime, 1)[0])
