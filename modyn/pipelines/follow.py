"""A run that follows: a replay of a stream that has no end yet.

    (1) what is there is replayed up to its end: triggers and trainings
    (2) what has come meanwhile is looked for several times a second, and (1) goes on with it
    (3) between looks models are measured on windows that are over, a tenth of a second at a time
    (4) a signal ends it, anywhere; what was committed stays, and the same command goes on

Several of them take turns in one process, a trigger or a look at a time, so that what one of them
has trained is there when another one comes to it.

The ledger is that of a replay but for the number of samples, which stays open: its identity has a
count of null in place of it, and an entry that says how many there were when it began.  `modyn run`
without --follow puts the number in, of that moment, and does the rest: windows that were not over,
handlers that run after the pipeline.  From there on the ledger cannot be told from the one of a
replay of the same samples.  That is why windows are measured only when no sample can come into them
any more: in time order, where they end at the newest timestamp so far or before.  In arrival order
they never are, and all measuring of the dataset that is followed waits for the end.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modyn.errors import ConfigError
from modyn.pipelines import rundir
from modyn.pipelines.ledger import FOLLOWING, opened
from modyn.pipelines.ledger import Progress as Position
from modyn.pipelines.measure import AFTER_TRAINING
from modyn.pipelines.progress import Checked, Progress
from modyn.pipelines.replay import Replay
from modyn.pipelines.stream import Stream, bounds, check_labels
from modyn.stopping import Stopped

if TYPE_CHECKING:
    from modyn.pipelines.pipeline import Pipeline

__all__ = ["Follow", "Followed", "follow"]

LOOK_SECONDS = 0.1  # from one look for new samples to the next


@dataclass(frozen=True, kw_only=True)
class Followed:
    """A pipeline that is to follow its dataset, in a directory, and who looks on."""

    pipeline: "Pipeline"
    directory: Path
    progress: Progress


def follow(
    members: Sequence[Followed], stop: Callable[[], bool], models: Path | None = None
) -> None:
    """Follow until somebody stops it, or nothing more can come to any of them.

    Parameters
    ----------
    members : sequence of Followed
        Each with a dataset handle of its own, and a directory.
    stop : callable
        Says whether to stop; asked several times a second, and before every batch.
    models : Path, optional
        The store of models that runs share.

    Raises
    ------
    ValueError
        When a dataset is open for writing.
    ConfigError
        When one of them cannot go on; the others stop where they are.
    """
    for one in members:
        if one.pipeline.dataset.writable:
            raise ValueError(
                f"{one.pipeline.dataset.path} is open for writing: a run follows a dataset that is "
                "open for reading, Dataset.open(path), while another handle writes"
            )
    with ExitStack() as stack:
        for one in members:
            stack.enter_context(rundir.locked(one.directory))
        turns = [
            stack.enter_context(
                Follow(one.pipeline, one.directory, one.progress, stop, models)
            ).turns()
            for one in members
        ]
        _take_turns(turns)


def _take_turns(turns: list[Iterator[bool]]) -> None:
    """Go through all of them again and again, until all have ended or somebody stops them."""
    try:
        while turns:
            said = [next(one, None) for one in turns]
            turns = [one for one, did in zip(turns, said, strict=True) if did is not None]
            if turns and not any(said):
                time.sleep(LOOK_SECONDS)  # a signal that is heard meanwhile is seen after it
    except Stopped:
        return


class Follow(Replay):
    """A pipeline that follows; the caller holds the run's lock.

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
        self._measuring: Iterator[bool] | None = None
        self._measured_at: tuple[int | None, int] | None = None  # newest timestamp, and models
        self._took, self._pause_until = 0.0, 0.0

    def turns(self) -> Iterator[bool]:
        """Follow until nothing more can come; yield after each turn whether there was work.

        Raises
        ------
        Stopped
            Somebody asked to stop.
        """
        yield from self._wait_for_a_first()
        self._begin()
        self._signals.sweep()
        self._erased = self._pipeline.dataset.view.erased_count
        self._trainer.store.clean()
        self._progress.pipeline(self._pipeline.name, self._stream.count)
        self._catch_up()
        yield from self._go_on()
        while not self._enough():
            self._may_go_on()
            grown = self._backend.grown()
            if grown:
                self._grow()
                yield from self._go_on()
            measured = self._measure_some()
            yield grown or measured
        while self._measure_some(patient=False):
            yield True

    def _may_go_on(self) -> None:
        super()._may_go_on()
        self._check()

    def _check(self) -> None:
        if self._stop():
            raise Stopped

    def _go_on(self) -> Iterator[bool]:
        """Follow the stream to where it ends by now; others have a turn after each trigger."""
        loop = self._loop()
        while not self._enough() and loop.next() is not None:
            self._catch_up()
            yield True

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

    def _wait_for_a_first(self) -> Iterator[bool]:
        """Wait for a sample to follow, if there is none."""
        while self._ledger.new and not self._any():
            while not self._backend.grown():
                self._may_go_on()
                yield False

    def _counts(self) -> dict[str, int]:
        """Return how many samples there are, and note how many there were when the run began."""
        if self._ledger.new:
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

    def _measure(self, when: str, trigger: int | None = None) -> None:
        """Leave it for later: what has come does not wait for it."""

    def _measure_some(self, patient: bool = True) -> bool:
        """Measure models on windows that are over by now, for a moment; return whether any was.

        All are gone through when timestamps have gone on, or a model has come; after that comes a
        pause as long, if `patient`.
        """
        began = time.monotonic()
        if self._measuring is None:
            known = self._backend.newest, len(self._measured)
            if known == self._measured_at or (patient and began < self._pause_until):
                return False
            self._measuring, self._measured_at, self._took = self._slices(), known, 0.0
        going = next(self._measuring, None) is not None
        now = time.monotonic()
        self._took += now - began
        if not going:
            self._measuring, self._pause_until = None, now + self._took
        return True

    def _slices(self) -> Iterator[bool]:
        for row in self._ledger.trainings():
            for _ in self._measurer.slices(AFTER_TRAINING, row.trigger, ends=self._ends()):
                yield True
            yield True
