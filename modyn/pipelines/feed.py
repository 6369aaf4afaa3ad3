"""What gives a training its batches, epoch by epoch."""

import math
from collections.abc import Iterator
from typing import Protocol

from modyn.pipelines.clock import Stopwatch
from modyn.pipelines.jobs import Batch, Job

__all__ = ["Feed", "Whole"]


class Feed(Protocol):
    """The batches that are trained on."""

    @property
    def total(self) -> int:
        """How many batches there will be; at most so many where nobody can know."""

    def due(self, done: int) -> int:
        """Return how far along in `total` a training is after so many batches.

        That is `done`, but where an epoch has fewer batches than were counted for it.
        """

    def epochs(self) -> Iterator[Iterator[Batch]]:
        """Yield the batches of each epoch; each is to be gone through before the next."""


class Whole:
    """The batches of a job as they are."""

    def __init__(self, job: Job, clock: Stopwatch) -> None:
        self._job = job
        self._clock = clock
        self._passed = 0  # samples
        self.total = len(job.batches) * job.rounds

    def due(self, done: int) -> int:
        """Return `done`."""
        return done

    def lengths(self) -> list[int]:
        """Return how many samples each batch of a round has."""
        job, size = self._job, self._job.training.batch_size
        rows = job.samples if job.to_pass is None else job.to_pass
        count = len(job.batches)
        return [min(size, rows - size * i) for i in range(count)]

    def epochs(self) -> Iterator[Iterator[Batch]]:
        """Yield the batches of each epoch.

        Where so many samples are passed there is one round of batches.  A batch with samples of
        two epochs belongs to the first.
        """
        batches: Iterator[Batch] = iter(())
        for epoch in range(self._job.epochs):
            if epoch < self._job.rounds:
                self._job.batches.set_epoch(epoch)
                batches = iter(self._job.batches)
            end = math.inf if self._job.to_pass is None else (epoch + 1) * self._job.samples
            yield self._loaded(batches, end)

    def _loaded(self, batches: Iterator[Batch], end: float) -> Iterator[Batch]:
        """Yield batches until `end` samples were passed, and clock the wait for each."""
        while self._passed < end:
            with self._clock.stage("load"):
                batch = next(batches, None)
            if batch is None:
                return
            self._passed += len(batch)
            yield batch
