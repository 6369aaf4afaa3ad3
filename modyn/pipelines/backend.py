"""Where the metadata of a run lies: in its directory, or in Postgres.

A run asks its backend for the ledger, for the number of samples that it covers, for its stream,
and to keep training sets and give them back; it knows nothing else about the place.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from modyn.dataset import Dataset
from modyn.pipelines import rundir
from modyn.pipelines.growing import Growing
from modyn.pipelines.ledger import Ledger
from modyn.pipelines.ledger_sqlite import SqliteLedger
from modyn.pipelines.settings import Metadata
from modyn.pipelines.signal_files import SignalFiles
from modyn.pipelines.stream import Stream, in_key_order, keep, kept, stream_of
from modyn.signals import SignalStore
from modyn.trainset import TrainingSet

if TYPE_CHECKING:
    from modyn.pipelines.pipeline import Pipeline


class Backend(Protocol):
    """What a run asks for.

    Attributes
    ----------
    ledger : Ledger
        What was done.
    trainsets : Path
        The folder into which the loop writes training sets, and from which they are mapped.
    signals : SignalStore
        What models said of samples while they were trained.
    url : str or None
        The database, if that is the place.
    """

    ledger: Ledger
    trainsets: Path
    signals: SignalStore
    url: str | None

    def count(self) -> int:
        """Return how many samples of the stream's dataset a new run covers."""

    def stream(self, count: int) -> Stream:
        """Return the stream over the first `count` samples, as it was when the run began."""

    def grown(self) -> bool:
        """Return whether something has come since the last `refresh`; cheap."""

    def refresh(self) -> None:
        """See what has come to the dataset."""

    @property
    def newest(self) -> int | None:
        """The latest timestamp of what was followed, None before anything was."""

    def followed(self, since: int, count: int) -> Stream:
        """Return the stream of a run that follows since there were so many samples, up to a count.

        Raises
        ------
        ConfigError
            In time order, when a sample is late.
        """

    def keep_stream(self, stream: Stream) -> None:
        """Put the stream of a run down that followed, and now covers that and no more."""

    def keep(self, trigger: int, digest: str) -> None:
        """Have a trigger's training set, which lies in the folder, where the metadata lies.

        Returns when it is there durably, so that the trigger can be committed.
        """

    def training_set(self, trigger: int, digest: str) -> TrainingSet:
        """Return the training set of a committed trigger."""

    def check(self) -> None:
        """Raise if the run may not go on here; as cheap as a look at a clock.

        Raises
        ------
        FencedError
            When another process has taken the run over.
        """

    def close(self) -> None:
        """Close what is open; any number of times."""


class Embedded:
    """All metadata in the run directory: the default.

    Parameters
    ----------
    pipeline : Pipeline
        What the run does.
    directory : Path
        The run directory.
    """

    def __init__(self, pipeline: "Pipeline", directory: Path) -> None:
        self._pipeline = pipeline
        self._directory = directory
        rundir.check_place(directory, None)
        self.url: str | None = None
        self.trainsets = directory / rundir.TRAINSETS
        self.signals: SignalStore = SignalFiles(directory / rundir.SIGNALS)
        self.ledger: Ledger = SqliteLedger(directory)
        self._latest: Dataset | None = None  # a handle that looks for what has come
        self._growing: Growing | None = None

    def count(self) -> int:
        """Return how many samples the dataset holds."""
        return len(self._pipeline.dataset)

    def stream(self, count: int) -> Stream:
        """Return the stream: found out for a new run, else as it was put down."""
        path = self._directory / rundir.STREAM
        if not self.ledger.new:
            found = kept(path)
            return in_key_order(self._pipeline, count, path) if found is None else found
        stream = stream_of(self._pipeline, count)
        path.unlink(missing_ok=True)  # of a run that was killed before it began
        keep(stream, path)
        return stream

    def grown(self) -> bool:
        """Return whether the dataset has samples or erasures that its handle has not seen."""
        if self._latest is None:
            self._latest = Dataset.open(self._pipeline.dataset.path)
        self._latest.refresh()
        there, seen = self._latest.view, self._pipeline.dataset.view
        return (there.count, there.erased_count) != (seen.count, seen.erased_count)

    def refresh(self) -> None:
        """See what has come to the dataset."""
        self._pipeline.dataset.refresh()

    @property
    def newest(self) -> int | None:
        """The latest timestamp of what was followed."""
        return None if self._growing is None else self._growing.newest

    def followed(self, since: int, count: int) -> Stream:
        """Return the stream as it was put down when the run began, and what came since."""
        if self._growing is None:
            # A file that names later keys is that of a process that was about to end the run.
            path = self._directory / rundir.STREAM
            known, order = kept(path), None
            if known is None:
                in_key_order(self._pipeline, since, path)  # which refuses what is not
            elif known.order is not None:
                order = known.order[known.order < since]
            self._growing = Growing(self._pipeline, order, since)
        return self._growing.to(count)

    def keep_stream(self, stream: Stream) -> None:
        """Put the order down; before the ledger says that it counts."""
        keep(stream, self._directory / rundir.STREAM)

    def keep(self, trigger: int, digest: str) -> None:
        """Do nothing: the folder is the place."""

    def training_set(self, trigger: int, digest: str) -> TrainingSet:
        """Return the training set in the folder."""
        return TrainingSet.open(self.trainsets / f"{digest}.set")

    def check(self) -> None:
        """Do nothing: the lock of the directory is the kernel's."""

    def close(self) -> None:
        """Close the ledger."""
        self.ledger.close()
        if self._latest is not None:
            self._latest.close()


def backend_of(pipeline: "Pipeline", directory: Path) -> Backend:
    """Return the place that a pipeline names for its metadata."""
    if isinstance(pipeline.metadata, Metadata):
        from modyn.pipelines.backend_postgres import Postgres

        return Postgres(pipeline, directory, pipeline.metadata)
    return Embedded(pipeline, directory)
