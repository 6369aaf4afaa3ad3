"""Where the workloads run: a folder on disk, the dataset that they share, and how thoroughly."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loading.data import write_dataset
from benchmarks.measure import Settings


@dataclass(frozen=True)
class Site:
    """A folder for what is measured, and the size of it."""

    folder: Path
    quick: bool = False
    records: int | None = None  # of the dataset; None: 25 million, or a million when quick
    times: int | None = None  # repetitions, where not as many as usual

    @property
    def settings(self) -> Settings:
        return Settings(self.folder, quick=self.quick, times=self.times)

    @property
    def repetitions(self) -> int:
        return self.settings.repetitions

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full

    @property
    def count(self) -> int:
        """How many records the dataset has."""
        return self.records or self.size(25_000_000, 1_000_000)

    @functools.cached_property
    def dataset(self) -> Path:
        """The dataset, which whoever comes first writes."""
        path = self.folder / f"clicks-{self.count}"
        if not path.exists():
            write_dataset(path, self.count)
        return path
