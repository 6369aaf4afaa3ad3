"""Where the workloads of benchmarks.selection find their data and keep their results."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.selecting import cells, streams
from modyn import Dataset, Pipeline


@dataclass(frozen=True)
class Site:
    """Data, results, and how thoroughly to measure."""

    data: Path
    folder: Path  # for datasets and runs
    kept: cells.Kept
    quick: bool = False
    only: Sequence[str] = ()  # of the streams
    methods: Sequence[str] = ()
    no_new: bool = False  # say what there is, and run nothing
    _warm: list[bool] = field(default_factory=list)

    def seeds(self, full: int) -> range:
        return range(2 if self.quick else full)

    def stream(self, name: str) -> Dataset:
        """Return the dataset of a stream."""
        return self.made(name, lambda: streams.STREAMS[name].read(self.data), thin=True)

    def mnist(self, part: str) -> Dataset:
        """Return the digits of "train" or "t10k"; those of t10k come later in time."""
        first = streams.LATER if part == "t10k" else 0
        read = partial(streams.read_mnist, self.data, part)
        return self.made(f"mnist-{part}", read, first_timestamp=first, thin=True)

    def made(
        self, name: str, read: streams.Reader, first_timestamp: int = 0, thin: bool = False
    ) -> Dataset:
        """Return a dataset, made before or now; a thin one is small when all is to be quick."""
        directory = self.folder / (f"{name}-quick" if self.quick else name)
        limit = 3000 if self.quick and thin else None
        return streams.made(directory, read, limit=limit, first_timestamp=first_timestamp)

    def warm_up(self, pipeline: Pipeline, score: cells.Score) -> None:
        """Run the first pipeline of this process once more, for what is imported and cached."""
        if not self._warm:
            cells.run(pipeline, score, self.folder)
            self._warm.append(True)

    def cell(self, name: cells.Name, pipeline: Pipeline, score: cells.Score) -> cells.Result:
        """Return the result of a cell, of now or of before."""
        if name not in self.kept and self.no_new:
            cell = f"{name.workload} {name.stream} {name.method} {name.ratio}"
            raise streams.NotThereError(f"{cell}, seed {name.seed}, was not run")
        if name not in self.kept:
            result = cells.run(pipeline, score, self.folder)
            self.kept.add(name, result)
            print(
                f"{name.workload} {name.stream} {name.method} {name.ratio} seed {name.seed}: "
                f"{result.value:.2f} %, {result.busy:.2f} s, {result.steps:,} steps",
                file=sys.stderr,
                flush=True,
            )
        return self.kept[name]
