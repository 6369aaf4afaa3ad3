"""A folder that is followed: what comes into it is taken as it comes.

A look at the whole folder decides what is new, always; events of the file system only say when
to look. So an event that is lost delays a file until the next look, and loses none.
"""

from __future__ import annotations

import atexit
import dataclasses
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Self

from modyn.ingest.driver import Intake
from modyn.ingest.events import Events
from modyn.ingest.facts import Facts
from modyn.ingest.labels import Labels
from modyn.ingest.names import walk
from modyn.ingest.report import IngestReport
from modyn.ingest.times import Times

if TYPE_CHECKING:
    from modyn.dataset import Dataset

__all__ = ["Watch", "watch"]

LOOK_EVERY = 2.0
"""Seconds between two looks while there are events, in case one of them is lost."""

LOOK_WITHOUT_EVENTS = 0.5
"""Seconds between two looks where there are no events."""

REPORTS_MAX = 10_000
"""Reports that are kept for somebody who iterates; then the oldest go."""


def watch(
    dataset: Dataset,
    folder: str | os.PathLike[str],
    *,
    format: object,
    timestamps: Times | None = None,
    labels: Labels | None = None,
    threads: int | None = None,
    settle: float = 0.3,
    poll: float | None = None,
    on_report: Callable[[IngestReport], None] | None = None,
) -> Watch:
    r"""Take what comes into a folder as it comes, until the watch that is returned is stopped.

    Files are taken as `ingest` takes them, and by the same rules. An unfinished
    line or record at the end of a file waits until it is finished; a file of a
    format that does not grow waits until it is whole: closed by its writer,
    moved here, or left alone for `settle` seconds. A file that is wrong, or a folder
    that cannot be read, is reported once and tried again when it has changed.

    A thread does the work. The package watchdog (`pip install 'modyn[watch]'`)
    lets it know at once; without it, and on file systems that do not tell (network
    shares), the folder is looked at again and again.

    Parameters
    ----------
    folder : path
        Looked into with all folders below. It need not exist yet.
    format, timestamps, labels, threads
        As for `ingest`.
    settle : float
        Seconds.
    poll : float, optional
        Seconds from one look to the next, instead of events.
    on_report : function, optional
        Called with an IngestReport, in the thread of the watch, whenever
        something was added or rejected. Without it, iterate over the watch.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from modyn import Dataset
    >>> from modyn.formats import CSV
    >>> home = Path(tempfile.mkdtemp())
    >>> days = Dataset.create(home / "days", schema={"temp": "float32"}, labels=False)
    >>> with days.watch(home / "in", format=CSV(timestamp="day"), poll=0.01) as watch:
    ...     (home / "in").mkdir()
    ...     _ = (home / "in" / "june.csv").write_text("day,temp\n151,19.5\n")
    ...     for report in watch:
    ...         if report.samples:
    ...             break
    >>> print(report)
    1 sample of 1 file added
    """
    intake = Intake(
        dataset, format, timestamps=timestamps, labels=labels, threads=threads, growing=True
    )
    return Watch(
        intake,
        os.path.abspath(os.fspath(folder)),
        without=dataset.path,
        settle=settle,
        poll=poll,
        on_report=on_report,
    )


class Watch:
    """A folder that is being followed; `watch` makes one and explains it."""

    def __init__(
        self,
        intake: Intake,
        folder: str,
        *,
        without: str = "",
        settle: float = 0.3,
        poll: float | None = None,
        on_report: Callable[[IngestReport], None] | None = None,
    ) -> None:
        if settle < 0:
            raise ValueError(f"settle must be at least 0 seconds, got {settle}")
        if poll is not None and poll <= 0:
            raise ValueError(f"poll must be more than 0 seconds, got {poll}")
        self._intake = intake
        self._folder = folder
        self._without = without
        self._settling = _Settling(settle)
        self._poll = poll
        self._on_report = on_report
        self._events: Events | None = None
        # What was reported: the facts of the file then, and what was wrong with it.
        self._told: dict[str, tuple[object, str]] = {}
        self._now: dict[str, object] = {}
        self._reports: deque[IngestReport] = deque(maxlen=REPORTS_MAX)
        self._reported = threading.Condition()
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="modyn-watch", daemon=True)
        atexit.register(self._end)
        self._thread.start()

    def stop(self) -> None:
        """End it after the batch that is being appended; what is not taken is taken next time.

        Raises
        ------
        Exception
            What ended the work before: an error of the dataset or of its disk.
        """
        self._end()
        self.wait()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended, at most `timeout` seconds, and return whether it has.

        Raises
        ------
        Exception
            What ended the work, if it was not `stop`.
        """
        self._thread.join(timeout)
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        return not self._thread.is_alive()

    def __iter__(self) -> Iterator[IngestReport]:
        """Yield the reports as they come, until it has ended; without `on_report`."""
        while True:
            with self._reported:
                self._reported.wait_for(lambda: self._reports or not self._thread.is_alive(), 1)
                report = self._reports.popleft() if self._reports else None
            if report is not None:
                yield report
            elif not self._thread.is_alive() and not self._reports:
                self.wait()
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = "following" if self._thread.is_alive() else "ended"
        return f"<Watch {self._folder!r}, {state}>"

    # In its thread ------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._stopped.is_set():
                begin = time.monotonic()
                self._wake.clear()
                self._follow_events()
                self._look()
                # Half of the time may go into looking at large folders, and no more.
                self._stopped.wait(min(time.monotonic() - begin, 10))
                if not self._stopped.is_set():
                    self._wake.wait(self._pause())
        except BaseException as error:
            self._error = error
        finally:
            if self._events is not None:
                self._events.close()
            with self._reported:
                self._reported.notify_all()

    def _end(self) -> None:
        self._stopped.set()
        self._wake.set()
        self._thread.join()
        atexit.unregister(self._end)

    def _follow_events(self) -> None:
        """Have events, as long as there is a folder and they are wanted."""
        if self._poll is not None:
            return
        if not os.path.isdir(self._folder):
            if self._events is not None:
                self._events.close()
                self._events = None
        elif self._events is None:
            self._events = Events.of(self._folder, self._hear)

    def _hear(self, whole: str | None) -> None:
        if whole is not None:
            self._settling.closed.append(whole)
        self._wake.set()

    def _pause(self) -> float:
        if self._poll is not None:
            longest = self._poll
        else:
            longest = LOOK_EVERY if self._events is not None else LOOK_WITHOUT_EVENTS
        return min(longest, self._settling.left)

    def _look(self) -> None:
        """Take what is new, and report what is worth it."""
        errors: list[OSError] = []
        paths = list(walk(self._folder, self._without, errors))
        self._now = {}
        taken = self._intake.take(paths, waiting=self._waiting, stopped=self._stopped.is_set)
        skipped = [(str(error.filename), (error.strerror or "").lower()) for error in errors]
        skipped += [one for one in taken.skipped if one[0] in self._now or os.path.lexists(one[0])]
        told = {path: (self._now.get(path), reason) for path, reason in skipped}
        news = tuple((path, told[path][1]) for path in told if told[path] != self._told.get(path))
        still = {path: was for path, was in self._told.items() if was[0] == self._now.get(path, 0)}
        self._told = still | told
        if taken.files or taken.renamed or news:
            self._report(dataclasses.replace(taken, skipped=news))

    def _waiting(self, facts: Facts) -> set[str]:
        """Return the files that are not to be read now: unfinished, or refused as they are."""
        self._now |= {path: facts.at(place) for place, path in enumerate(facts.paths)}
        waiting = self._settling.unsettled(facts, self._intake)
        waiting.update(path for path, (at, _) in self._told.items() if self._now.get(path) == at)
        return waiting

    def _report(self, report: IngestReport) -> None:
        if self._on_report is not None:
            self._on_report(report)
            return
        with self._reported:
            self._reports.append(report)
            self._reported.notify_all()


class _Settling:
    """Files that are taken as a whole, until nobody has written to them for a while."""

    def __init__(self, seconds: float) -> None:
        self.closed: deque[str] = deque()  # by their writers, or moved here
        self.left = math.inf  # seconds until the next one has settled
        self._seconds = seconds
        self._seen: dict[str, tuple[object, float]] = {}

    def unsettled(self, facts: Facts, intake: Intake) -> set[str]:
        self.left = math.inf
        if intake.rules.append_only:
            self.closed.clear()
            return set()
        closed = {self.closed.popleft() for _ in range(len(self.closed))}
        now = time.monotonic()
        before, self._seen = self._seen, {}
        waiting = set()
        for place, path in enumerate(facts.paths):
            if intake.is_known(path, facts.size[place], facts.mtime[place]):
                continue
            at = facts.at(place)
            was, since = before.get(path, (None, now))
            since = -math.inf if path in closed else since if was == at else now
            self._seen[path] = at, since
            if now - since < self._seconds:
                waiting.add(path)
                self.left = min(self.left, since + self._seconds - now)
        return waiting
