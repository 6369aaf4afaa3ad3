"""A run that follows: a replay of a stream that has no end yet.

    (1) what is there is replayed up to its end: triggers, trainings, measurements
    (2) what has come meanwhile is looked for several times a second, and (1) goes on with it
    (3) while nothing comes, models are measured on evaluation windows that are over by now
    (4) a signal ends it, anywhere; what was committed stays, and the same command goes on

The ledger is that of a replay but for the number of samples, which stays open: its identity has a
count of null in place of it, and an entry that says how many there were when it began.  `modyn run`
without --follow puts the number in, of that moment, and does the rest: windows that were not over,
handlers that run after the pipeline.  From there on the ledger cannot be told from the one of a
replay of the same samples.  That is why windows are measured only when no sample can come into them
any more: in time order, where they end at the newest timestamp so far or before.  In arrival order
they never are, and all measuring of the dataset that is followed waits for the end.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modyn.errors import ConfigError
from modyn.pipelines.ledger import FOLLOWING, opened
from modyn.pipelines.ledger import Progress as Position
from modyn.pipelines.measure import AFTER_TRAINING
from modyn.pipelines.progress import Checked, Progress
from modyn.pipelines.replay import Replay
from modyn.pipelines.stream import Stream, bounds, check_labels

if TYPE_CHECKING:
    from modyn.pipelines.pipeline import Pipeline

__all__ = ["Follow", "Stopped"]

LOOK_SECONDS = 0.1  # from one look for new samples to the next


class Stopped(BaseException):
    """Somebody asked to stop; like KeyboardInterrupt no error."""


class Follow(Replay):
    """One process that follows; the caller holds the run's lock.

    Parameters
    ----------
    pipeline, directory, progress, models
        As of a replay.
    stop : callable
        Says whether to stop; asked several times a second, and before every batch.
    """

    def __init__(
        self,
        pipeline: "Pipeline",
        directory: Path,
        progress: Progress,
        stop: Callable[[], bool],
        models: Path | None = None,
    ) -> None:
        self._stop = stop
        super().__init__(pipeline, directory, Checked(progress, self._check, often=True), models)
        self._since = 0
        self._erased = 0
        self._counts_now: dict[str, int] = {}
        self._measured_at: int | None = None  # the newest timestamp then
        self._rest_until = 0.0

    def run(self) -> None:
        """Follow until somebody stops it, or nothing more can come."""
        try:
            self._begin()
            self._signals.sweep()
            self._erased = self._pipeline.dataset.view.erased_count
            self._trainer.store.clean()
            self._progress.pipeline(self._pipeline.name, self._stream.count)
            self._catch_up()
            self._go_on()
            while not self._enough():
                self._wait()
                self._grow()
                self._go_on()
        except Stopped:
            return

    def _may_go_on(self) -> None:
        super()._may_go_on()
        self._check()

    def _check(self) -> None:
        if self._stop():
            raise Stopped

    def _go_on(self) -> None:
        """Follow the stream to where it ends by now."""
        loop = self._loop()
        while not self._enough() and loop.next() is not None:
            self._catch_up()

    def _enough(self) -> bool:
        """Return whether no more triggers can come."""
        return super()._enough() or (
            self._is_past_stop() and self._ledger.progress().position == self._stream.count
        )

    def _is_past_stop(self) -> bool:
        """Return whether all samples that come are beyond `stop_replay_at`."""
        stop, newest = bounds(self._pipeline)[1], self._backend.newest
        if stop is None or newest is None or self._pipeline.order != "time":
            return False
        return newest >= stop

    # What there is ------------------------------------------------------------------------------

    def _counts(self) -> dict[str, int]:
        """Wait for a first sample, if there is none; return how many there are."""
        if self._ledger.new:
            while not self._any():
                self._wait_for_more()
            self._since = self._backend.count()
        else:
            following = self._ledger.identity().get(FOLLOWING)
            if following is None:
                raise ConfigError(
                    f"{self._directory} holds a run that covers the samples of when it began, and "
                    "does not follow: go on without --follow, or choose another output directory"
                )
            self._since = int(following["since"])
        self._counts_now = super()._counts()
        return self._counts_now

    def _any(self) -> bool:
        """Return whether there is a sample to follow."""
        dataset = self._pipeline.dataset
        self._backend.refresh()
        start, stop = bounds(self._pipeline)
        times = dataset.timestamps[~dataset.erased]
        inside = times == times
        inside &= True if start is None else times >= start
        inside &= True if stop is None else times < stop
        return bool(inside.any())

    def _identity(self, counts: dict[str, int]) -> dict[str, Any]:
        return opened(super()._identity(counts), self._since)

    def _meet(self, identity: dict[str, Any], start: Position) -> None:
        self._ledger.begin(identity, start)

    def _stream_of(self, count: int) -> Stream:
        if self._ledger.new:
            self._backend.stream(self._since)  # which puts its order down
        return self._backend.followed(self._since, count)

    def _wait_for_more(self) -> None:
        while not self._backend.grown():
            self._check()
            self._rest()

    def _wait(self) -> None:
        """Wait until something has come; measure meanwhile."""
        while not self._backend.grown():
            self._may_go_on()
            if not self._measure_rest():
                self._rest()

    def _rest(self) -> None:
        time.sleep(LOOK_SECONDS)  # a signal that is heard meanwhile is seen after it

    def _grow(self) -> None:
        """Take in what has come."""
        dataset = self._pipeline.dataset
        uuid = dataset.uuid
        seen = self._counts_now[uuid]
        self._backend.refresh()
        for one in self._datasets():
            if one is not dataset and one.uuid == uuid:
                one.refresh()
        self._counts_now[uuid] = self._key_count = count = self._backend.count()
        self._stream = self._backend.followed(self._since, count)
        check_labels(self._pipeline, first=seen)
        self._measurer.cover(self._counts_now)
        if dataset.view.erased_count != self._erased:
            self._erased = dataset.view.erased_count
            self._signals.sweep()
            self._answers = self._new_answers()

    # Evaluation ---------------------------------------------------------------------------------

    def _ends(self) -> dict[str, int | None]:
        """Return up to which timestamp the dataset that is followed is known, by each of its ids.

        In arrival order up to none: any window may still get samples.
        """
        uuid, evaluation = self._pipeline.dataset.uuid, self._pipeline.evaluation
        newest = self._backend.newest if self._pipeline.order == "time" else None
        followed = evaluation.datasets if evaluation else ()
        return {data.dataset_id: newest for data in followed if data.dataset.uuid == uuid}

    def _measure_rest(self) -> bool:
        """Measure models on windows that are over by now; stop when something has come.

        Returns whether anything was looked at.  It is due when timestamps have gone on, and
        takes half of the time at most.
        """
        newest, began = self._backend.newest, time.monotonic()
        if newest == self._measured_at or began < self._rest_until:
            return False
        for row in self._ledger.trainings():
            self._measure(AFTER_TRAINING, row.trigger)
            if self._backend.grown():
                break
        else:
            self._measured_at = newest
        self._rest_until = 2 * time.monotonic() - began
        return True
