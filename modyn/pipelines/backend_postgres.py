"""Metadata of a run in Postgres: arrivals, candidates, training sets, signals and the ledger."""

import logging
import shlex
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from modyn.dataset import Dataset
from modyn.errors import ConfigError, CorruptError, DatabaseError
from modyn.metadata.database import Database
from modyn.metadata.published import Published
from modyn.metadata.signals import PostgresSignals
from modyn.metadata.stream import stream_of
from modyn.metadata.trainsets import Kept, Trainsets, read
from modyn.pipelines import rundir
from modyn.pipelines.growing import Growing
from modyn.pipelines.lease import Lease
from modyn.pipelines.ledger import Ledger
from modyn.pipelines.ledger_postgres import PostgresLedger
from modyn.pipelines.settings import Metadata
from modyn.pipelines.stream import Stream, bounds
from modyn.signals import SignalStore
from modyn.trainset import TrainingSet

if TYPE_CHECKING:
    from modyn.pipelines.pipeline import Pipeline

log = logging.getLogger(__name__)

LOOK_SECONDS = 0.3  # from one question to the database what is published to the next
ATTEMPTS = 5  # at reading a training set, each after the server has answered


class Postgres:
    """Metadata in a database; the run directory has training sets as files, and models.

    Holds the pipeline's lease from the beginning to `close`.

    Parameters
    ----------
    pipeline : Pipeline
        What the run does; with `metadata`.
    directory : Path
        The run directory.
    settings : Metadata
        Where the database is, and how it is used.

    Raises
    ------
    BusyError
        When another controller has the lease.
    ConfigError
        When the dataset is not published, or erasures of it are not.
    """

    def __init__(self, pipeline: "Pipeline", directory: Path, settings: Metadata) -> None:
        rundir.check_place(directory, settings.url)
        self._pipeline = pipeline
        self._settings = settings
        self.url: str | None = settings.url
        self.trainsets = directory / rundir.TRAINSETS
        self._growing: Growing | None = None
        self._looked_at = 0.0
        self._latest = Dataset.open(pipeline.dataset.path)  # looks for what has come
        with ExitStack() as opened:
            self._database = Database(settings.url, retry_seconds=settings.retry_seconds)
            opened.callback(self._database.close)
            self._published = self._check_published()
            self._lease = Lease(
                self._database,
                self._database.pipeline_id(pipeline.name),
                seconds=settings.lease_seconds,
                directory=directory,
            )
            opened.enter_context(self._lease)
            self._connection = opened.enter_context(self._database.bulk())
            self.signals: SignalStore = PostgresSignals(
                self._database,
                self._lease.fence,
                pipeline.dataset.uuid,
                hash_partition_modulus=settings.hash_partition_modulus,
                unlogged=settings.unlogged,
                retry_seconds=settings.retry_seconds,
            )
            self.ledger: Ledger = PostgresLedger(self._database, pipeline.name, self._lease)
            self._opened = opened.pop_all()

    def _check_published(self) -> Published:
        """Return the dataset as published, all of it if that is asked for."""
        dataset, settings = self._pipeline.dataset, self._settings
        how = f"modyn dataset publish {dataset.path} {shlex.quote(settings.url)}"
        if settings.publish:
            new = self._database.dataset(dataset.uuid) is None  # else it stays as it is laid out
            dataset.publish(
                self._database,
                layout=settings.layout if new else None,
                unlogged=settings.unlogged if new else None,
                connections=settings.connections,
            )
        row = self._database.dataset(dataset.uuid)
        if row is None or row.count == 0:
            raise ConfigError(
                f"{dataset.path}: nothing of the dataset is published in {settings.url}; "
                f"publish it with: {how} (or publish: true, or --publish)"
            )
        if row.events < len(dataset.audit()):
            raise ConfigError(
                f"{dataset.path}: samples were erased and {settings.url} does not know it yet; "
                f"publish that with: {how}"
            )
        if row.count < len(dataset):
            log.warning(
                "%s: %d of %d samples are published; a new run covers those (more: %s)",
                *(dataset.path, row.count, len(dataset), how),
            )
        return Published(self._database, dataset.uuid)

    def count(self) -> int:
        """Return how many samples of the dataset are published."""
        return min(self._published.count, len(self._pipeline.dataset))

    def stream(self, count: int) -> Stream:
        """Return the stream that the database has, written there when the run begins."""
        if count > self._published.count:
            raise ConfigError(
                f"{self._pipeline.dataset.path}: the run began with {count} samples, and "
                f"{self._published.count} are published in {self.url}"
            )
        start, stop = bounds(self._pipeline)
        found = stream_of(
            self._published,
            self._lease.pipeline,
            self._pipeline.order,
            start,
            stop,
            count,
            fence=self._lease.fence.statement,
        )
        return Stream(
            count=found.source.count,
            order=found.order,
            ascending=found.ascending,
            source=found.source,
        )

    def grown(self) -> bool:
        """Return whether something was published that was not seen, or can be published."""
        if self._settings.publish:
            self._latest.refresh()
            there, seen = self._latest.view, self._published
            return (there.count, there.erased_count) != (seen.count, seen.erased)
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return False
        self._looked_at = time.monotonic()
        before = self._published.count, self._published.events
        self._published.refresh()
        return (self._published.count, self._published.events) != before

    def refresh(self) -> None:
        """See what has come to the dataset; publish it, where that is ours to do."""
        if self._settings.publish:
            self._pipeline.dataset.publish(self._database, connections=self._settings.connections)
        self._published.refresh()
        self._pipeline.dataset.refresh()  # which has all that is published

    @property
    def newest(self) -> int | None:
        """The latest timestamp of what was followed."""
        return None if self._growing is None else self._growing.newest

    def followed(self, since: int, count: int) -> Stream:
        """Return the stream of all samples in the order of keys; no other one can be followed."""
        if self._growing is None:
            if bounds(self._pipeline) != (None, None):
                raise ConfigError(
                    "pipeline.start_replay_at and stop_replay_at: a run with metadata in Postgres "
                    "that follows takes all samples; with metadata in the run directory it need not"
                )
            if self._pipeline.order == "time" and not self._published.is_ascending(since):
                raise ConfigError(
                    f"{self._pipeline.dataset.path}: the samples do not come in the order of their "
                    "timestamps; with metadata in Postgres a run follows them in arrival order "
                    "(pipeline.order: arrival), with metadata in the run directory in time order"
                )
            self._growing = Growing(self._pipeline, None, since)
        stream = self._growing.to(count)
        return replace(stream, source=self._published.source(count))

    def keep_stream(self, stream: Stream) -> None:
        """Do nothing: positions are keys."""

    def keep(self, trigger: int, digest: str) -> None:
        """Write a training set into the database, from its file."""
        settings = self._settings
        trainsets = Trainsets(
            self._connection,
            fence=self._lease.fence,
            layout=settings.layout,
            hash_partition_modulus=settings.hash_partition_modulus,
            unlogged=settings.unlogged,
            retry_seconds=settings.retry_seconds,
        )
        self._lease.check()
        trainsets.write(trigger, TrainingSet.open(self.trainsets / f"{digest}.set"))

    def training_set(self, trigger: int, digest: str) -> TrainingSet:
        """Return a training set from the folder, or from the database where it is not there."""
        path = self.trainsets / f"{digest}.set"
        if path.exists():
            return TrainingSet.open(path)
        found = self._read(trigger)
        if found is None or found.digest != digest:
            said = "none" if found is None else found.digest
            raise CorruptError(
                f"{self.url}: the ledger of pipeline {self._pipeline.name!r} says that trigger "
                f"{trigger} has the training set {digest}; there is {said}"
            )
        return found.write(self.trainsets)

    def _read(self, trigger: int) -> Kept | None:
        """Read a training set over a connection of its own; again, where that is lost."""
        attempts = 0
        while True:
            attempts += 1
            try:
                with self._database.bulk() as connection:  # which waits for a server that was lost
                    return read(self._database, connection, self._lease.pipeline, trigger)
            except DatabaseError as error:
                if attempts >= ATTEMPTS:
                    raise
                log.warning("%s; trying again", error)

    def check(self) -> None:
        """Raise if the lease was lost, or may have been."""
        self._lease.check()

    def close(self) -> None:
        """Give the lease back and end all connections."""
        self._opened.close()
        self._latest.close()
