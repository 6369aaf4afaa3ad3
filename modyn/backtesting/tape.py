"""The stream of a run as arrays: what policies are played over.

Places count the samples of the stream that are still there, from 0 on: after the first k of them
the place is k.  Positions, as a ledger has them, count those too that were erased meanwhile.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from modyn.arrivals import Arrivals
from modyn.errors import ConfigError
from modyn.pipelines import rundir
from modyn.pipelines.stream import Stream, kept, stream_of

if TYPE_CHECKING:
    from modyn.dataset import Dataset
    from modyn.pipelines.pipeline import Pipeline
    from modyn.pipelines.run import Run

__all__ = ["Tape"]

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tape:
    """The living samples of a stream, in stream order.

    Parameters
    ----------
    arrivals : Arrivals
        All of them.
    positions : int64, shape (n,), or None
        Where each lies in the stream; None where nothing was erased.
    unit : str
        Of the timestamps.
    ascending : bool
        Whether the timestamps ascend.
    """

    arrivals: Arrivals
    positions: Places | None
    unit: str
    ascending: bool

    @classmethod
    def of(cls, run: "Run", dataset: "Dataset") -> "Tape":
        """Return the stream that a run followed.

        Raises
        ------
        ConfigError
            When the dataset is not the run's, or has fewer samples than when the run began.
        """
        facts = run.identity["dataset"]
        if dataset.uuid != facts["uuid"]:
            raise ConfigError(f"{dataset.path}: not the dataset that {run.path} followed")
        if facts["count"] is None:
            raise ConfigError(
                f"{run.path}: the run follows its dataset and is not finished; modyn run without "
                "--follow finishes it"
            )
        count = int(facts["count"])
        if len(dataset) < count:
            raise ConfigError(
                f"{dataset.path}: the run {run.path} began with {count} samples, now there are "
                f"{len(dataset)}"
            )
        stream = _stream(run, dataset, count)
        keys = np.arange(count, dtype=np.uint64) if stream.order is None else stream.order
        erased = dataset.erased[keys]
        positions = None
        if erased.any():
            positions = np.flatnonzero(~erased)
            keys = keys[positions]
        labels = dataset.labels
        arrivals = Arrivals(
            keys, dataset.timestamps[keys], None if labels is None else labels[keys]
        )
        return cls(
            arrivals=arrivals,
            positions=positions,
            unit=dataset.timestamp_unit,
            ascending=stream.ascending,
        )

    def __len__(self) -> int:
        return len(self.arrivals)

    @cached_property
    def newest(self) -> Places:
        """The newest timestamp up to each sample, shape (n,): ascending."""
        times = self.arrivals.timestamps
        return times if self.ascending else np.maximum.accumulate(times)

    @cached_property
    def span(self) -> int:
        """How far the oldest and the newest timestamp are apart."""
        times = self.arrivals.timestamps
        return int(times.max()) - int(times.min()) if len(times) else 0

    def known(self, delay: int) -> Places:
        """Return up to which place labels are known after so many samples, shape (n + 1,).

        Labels come `delay` after the timestamps, and time is the newest timestamp so far; the first
        sample whose label is not known ends the range, as in a run.
        """
        known = np.searchsorted(self.newest, self.newest - delay + 1, side="left")
        upto = np.minimum(known, np.arange(1, len(self) + 1))
        return np.concatenate(([0], upto)).astype(np.int64)

    def place(self, position: int) -> int:
        """Return how many samples that are still there come before a position of the stream."""
        if self.positions is None:
            return position
        return int(np.searchsorted(self.positions, position))

    def position(self, place: int) -> int:
        """Return the position of the stream after so many samples."""
        if self.positions is None or place == 0:
            return place
        return int(self.positions[place - 1]) + 1

    def until(self, first: Places, last: Places) -> Places:
        """Return the newest timestamp of first <= place < last, for arrays of both, first < last.

        That is what a model has learned from that was trained on these samples.
        """
        times = self.arrivals.timestamps
        if self.ascending:
            return times[last - 1]
        found = [
            self.newest[b - 1] if a == 0 else times[a:b].max()
            for a, b in zip(first.tolist(), last.tolist(), strict=True)
        ]
        return np.array(found, dtype=np.int64)


@dataclass(frozen=True)
class _Followed:
    """What decides on the stream of a pipeline."""

    dataset: "Dataset"
    order: str
    start_replay_at: Any
    stop_replay_at: Any


def _stream(run: "Run", dataset: "Dataset", count: int) -> Stream:
    found = kept(run.path / rundir.STREAM)
    if found is not None:
        return found
    section = run.identity["config"]["pipeline"]
    followed = _Followed(
        dataset=dataset,
        order=section["order"],
        start_replay_at=section["start_replay_at"],
        stop_replay_at=section["stop_replay_at"],
    )
    return stream_of(cast("Pipeline", followed), count)
