"""M5: from a dataset to a training set that is chosen from Postgres and written back."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import alu_control, compile_floor
from benchmarks.measure import significant, spread, text_of
from benchmarks.postgres.samples import CLASSES, LAYOUTS, make_samples
from benchmarks.postgres.site import Site
from benchmarks.section import Chart, Mark, Section, Table, Verdict
from modyn.dataset import Dataset
from modyn.sampling import Candidates, balanced
from modyn.trainset import TrainingSet

ABOUT = """\
A dataset of 10 million samples is published into an empty database on two connections, a million
of them are chosen with the same number of every label from what Postgres says alone
(`modyn.sampling.balanced` over a Source), the training set is written, durable as a file and into
Postgres, and read back. `embedded` chooses from the dataset's own columns, without a server. The
classes are as unequal as one to ten. Keys and digest of each training set are compared with those
of the embedded one. Client and server share the cores."""

SAMPLES = 10_000_000
CHOSEN = 1_000_000
SEED = 5
LIMIT_S = 30.0
STAGES = ("publish", "choose", "write the file", "write back", "read back")


@dataclass
class Stages:
    """Seconds of each stage in each repetition."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    _started: float = 0.0

    def begin(self) -> None:
        self._started = time.perf_counter()

    def end(self, stage: str) -> None:
        self.seconds.setdefault(stage, []).append(time.perf_counter() - self._started)
        self.begin()

    def totals(self) -> list[float]:
        return [sum(each) for each in zip(*self.seconds.values(), strict=True)]


def make_dataset(path: Path, count: int) -> None:
    """Write a dataset of records of one byte, with classes of unequal size."""
    samples = make_samples(count)
    shares = np.linspace(1, 10, CLASSES)
    labels = np.random.default_rng(SEED).choice(CLASSES, count, p=shares / shares.sum())
    with Dataset.create(path, schema={"x": "uint8"}, timestamp_unit="ms") as dataset:
        for first in range(0, count, 1 << 20):
            part = slice(first, first + (1 << 20))
            times = samples.timestamps[part]
            record = {"x": np.zeros(len(times), np.uint8)}
            dataset.append(record, labels=labels[part], timestamps=times)


def embedded(path: Path, chosen: int, folder: Path) -> tuple[Stages, TrainingSet]:
    """Choose from the dataset's own columns."""
    stages = Stages()
    with Dataset.open(path) as dataset:
        stages.begin()
        candidates = Candidates.from_dataset(dataset, first=0, last=len(dataset))
        keys = balanced(candidates, chosen, seed=SEED)
        stages.end("choose")
        found = TrainingSet.write(folder, keys, dataset_uuid=dataset.uuid)
        stages.end("write the file")
    return stages, found


def through_postgres(
    stages: Stages, path: Path, url: str, layout: str, chosen: int, folder: Path
) -> Any:
    """Publish, choose, write and read back; return the training set and what came back."""
    from modyn.metadata import trainsets
    from modyn.metadata.database import Database
    from modyn.metadata.published import Published
    from modyn.pipelines.lease import Lease

    with Database(url) as database, Dataset.open(path) as dataset:
        database.check()
        with Lease(database, database.pipeline_id("benchmark")) as lease, database.bulk() as bulk:
            stages.begin()
            dataset.publish(database, layout=layout, connections=2)
            stages.end("publish")
            source = Published(database, dataset.uuid).source()
            candidates = Candidates.from_source(source, first=0, last=source.count)
            keys = balanced(candidates, chosen, seed=SEED)
            stages.end("choose")
            found = TrainingSet.write(folder, keys, dataset_uuid=dataset.uuid)
            stages.end("write the file")
            writer = trainsets.Trainsets(bulk, fence=lease.fence, layout=layout)
            writer.write(0, found)
            stages.end("write back")
            kept = trainsets.read(database, bulk, lease.pipeline, 0)
            stages.end("read back")
    return found, kept


def compare(found: TrainingSet, kept: Any, truth: TrainingSet) -> None:
    """What was chosen from Postgres, and what came back, is what the embedded run chose."""
    assert kept is not None
    if found.digest != truth.digest or kept.digest != truth.digest:
        raise AssertionError(f"chosen {found.digest}, kept {kept.digest}, embedded {truth.digest}")
    if not np.array_equal(kept.keys, truth.keys):
        raise AssertionError("other keys came back than were written")


def table(taken: dict[str, Stages]) -> Table:
    rows: list[list[Any]] = []
    for name, stages in taken.items():
        for stage, seconds in stages.seconds.items():
            rows.append(row_of(f"{name}: {stage}", seconds))
        rows.append(row_of(f"{name}: all", stages.totals()))
    return Table("Seconds", ["stage", "median", "min", "max"], rows)


def row_of(name: str, seconds: list[float]) -> list[Any]:
    return [name, *(significant(f(seconds)) for f in (statistics.median, min, max))]


def chart(taken: dict[str, Stages]) -> Chart:
    """Show the stages of each layout."""
    groups = []
    for name, stages in taken.items():
        marks = [
            Mark(stage, statistics.median(seconds), min(seconds), max(seconds), "ours")
            for stage, seconds in stages.seconds.items()
        ]
        groups.append((name, marks))
    return Chart(
        "From a dataset to a training set, by way of Postgres", "seconds", groups, linear=True
    )


def measure(site: Site) -> Section:
    """Go the whole way, in rows and in blocks."""
    section = Section("M5", "Publishing, choosing, writing back", ABOUT)
    count = site.size(SAMPLES, 200_000)
    chosen = min(CHOSEN, count // 10)
    path, folder = site.folder / "samples", site.folder / "chosen"
    folder.mkdir(exist_ok=True)
    make_dataset(path, count)
    taken: dict[str, Stages] = {layout: Stages() for layout in LAYOUTS}
    taken["embedded"] = Stages()
    alu = []
    for repetition in range(site.times or (1 if site.quick else 3)):
        alu.append(alu_control(compile_floor()))
        stages, truth = embedded(path, chosen, folder)
        for stage, seconds in stages.seconds.items():
            taken["embedded"].seconds.setdefault(stage, []).extend(seconds)
        for layout in LAYOUTS:
            Path(truth.path).unlink(missing_ok=True)
            with site.database(f"whole_{layout}_{repetition}") as url:
                found, kept = through_postgres(taken[layout], path, url, layout, chosen, folder)
            compare(found, kept, truth)
        Path(truth.path).unlink(missing_ok=True)
    for layout in LAYOUTS:
        totals = spread(taken[layout].totals())
        what = f"{count / 1e6:g} M samples published, {chosen / 1e6:g} M chosen and kept, {layout}"
        seen = f"{text_of(totals)} s"
        section.verdicts.append(Verdict(what, f"{LIMIT_S:g} s", seen, totals["median"] < LIMIT_S))
    section.tables = [table(taken)]
    section.charts = [chart(taken)]
    section.notes = [f"ALU (two threads to one): {text_of(spread(alu))}"]
    return section
