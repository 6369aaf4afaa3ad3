"""Where benchmarks.triggers finds its data and keeps its results."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.selecting import cells
from benchmarks.selecting.streams import NotThereError
from benchmarks.triggering import models, streams
from benchmarks.triggering.families import Entry
from benchmarks.triggering.streams import Stream
from modyn import Dataset

QUICK = 6000  # samples of a stream when all is to be quick


@dataclass(frozen=True)
class Site:
    """Data, results, and how thoroughly to measure."""

    data: Path
    folder: Path  # for datasets, runs and models
    kept: cells.Kept
    quick: bool = False
    only: Sequence[str] = ()  # of the streams
    no_new: bool = False  # say what there is, and run nothing
    into: Path | None = None  # for pictures

    def seeds(self) -> range:
        return range(1 if self.quick else 3)

    def streams(self) -> list[Stream]:
        return [s for s in streams.STREAMS.values() if not self.only or s.name in self.only]

    def dataset(self, stream: Stream) -> Dataset:
        """Return the dataset of a stream."""
        return self._made(stream.name, partial(stream.read, self.data))

    def planted(self, stream: Stream, seed: int) -> Dataset:
        """Return the dataset of a stream with planted drifts."""
        read = partial(streams.planted, stream.read, self.data, seed)
        return self._made(f"{stream.name}-planted-{seed}", read)

    def _made(self, name: str, read: streams.Reader) -> Dataset:
        directory = self.folder / (f"{name}-quick" if self.quick else name)
        return streams.made(directory, read, limit=QUICK if self.quick else None)

    def has(self, workload: str, stream: Stream, entry: Entry, seed: int) -> bool:
        """Whether the result of a policy is there."""
        name = cells.Name(workload, stream.name, entry.family, entry.setting, seed)
        return name in self.kept

    def cell(
        self, workload: str, stream: Stream, dataset: Dataset, entry: Entry, seed: int
    ) -> cells.Result:
        """Return the result of a policy on a stream, of now or of before."""
        name = cells.Name(workload, stream.name, entry.family, entry.setting, seed)
        if name not in self.kept and self.no_new:
            raise NotThereError(f"{name} was not run")
        if name not in self.kept:
            began = time.perf_counter()
            delay = int(entry.late * seconds_apart(dataset) * streams.MICRO)
            pipeline = models.pipeline(dataset, stream, entry.make(), seed, delay)
            shared = self.folder / "models"
            result = cells.run(pipeline, models.score, self.folder, models=shared)
            self.kept.add(name, result)
            print(
                f"{workload} {stream.name}, {entry.family} {entry.setting}, seed {seed}: "
                f"{result.value:.2f} %, {len(result.more['positions'])} trainings, "
                f"{time.perf_counter() - began:.1f} s",
                file=sys.stderr,
                flush=True,
            )
        return self.kept[name]


def seconds_apart(dataset: Dataset) -> float:
    """Return how far apart samples are after the first training, in the mean."""
    timestamps = dataset.timestamps[models.FIRST :]
    return float(timestamps[-1] - timestamps[0]) / streams.MICRO / (len(timestamps) - 1)
