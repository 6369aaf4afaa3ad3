"""Each sample of each file is taken once, whatever happened to the files and to the work."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from modyn.dataset import Dataset
from modyn.formats import CSV
from modyn.ingest.driver import Intake
from modyn.ingest.report import IngestReport
from tests.reference.file_histories import World

FORMAT = CSV(timestamp="t")
HISTORIES = 10_000 if os.environ.get("MODYN_LONG") else 300
STEPS = 40


class Killed(BaseException):
    """The end of a process."""


class Run:
    """A dataset that follows the files of a world."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.rand = random.Random(seed)
        self.world = World(folder, self.rand)
        self.path = folder / "dataset"
        self.dataset = Dataset.create(self.path, schema={"x": "int64"}, labels=False)

    def step(self) -> None:
        chance = self.rand.random()
        if chance < 0.12:
            self.ingest(growing=False)
        elif chance < 0.25:
            self.ingest(growing=True)
        elif chance < 0.31:
            self.crash()
        elif chance < 0.33:
            self.reopen()
        else:
            self.world.step()

    def ingest(self, growing: bool) -> None:
        report = self.take(growing)

        rejected = self.world.ingest(growing)
        assert sorted(os.path.basename(path) for path, _ in report.skipped) == rejected
        assert self.samples() == self.world.samples()

    def crash(self) -> None:
        """End the work at some commit, before or after it, and go on later."""
        growing = self.rand.random() < 0.5
        commits, after = self.rand.randrange(4), self.rand.random() < 0.5
        commit = self.dataset._commit

        def until_killed(*what: object) -> None:
            nonlocal commits
            if commits == 0 and not after:
                raise Killed
            commit(*what)  # type: ignore[arg-type]
            if commits == 0:
                raise Killed
            commits -= 1

        self.world.log.append(f"crash at {commits} after={after}")
        self.dataset._commit = until_killed  # type: ignore[method-assign]
        with contextlib.suppress(Killed):
            self.take(growing)
        self.reopen()
        for _ in range(self.rand.randrange(3)):
            self.world.step_in_between()
        self.ingest(growing)

    def take(self, growing: bool) -> IngestReport:
        size = self.rand.choice([1, 100, 1 << 20])
        intake = Intake(self.dataset, FORMAT, growing=growing, threads=1, batch_bytes=size)
        return intake.take([self.world.path(name) for name in sorted(self.world.files)])

    def reopen(self) -> None:
        self.dataset.close()
        self.dataset = Dataset.open(self.path, mode="w")

    def samples(self) -> list[int]:
        keys = np.arange(len(self.dataset))
        return sorted(np.asarray(self.dataset.fetch(keys)["x"]).tolist())


@pytest.fixture
def fast_path(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, if there is one: thousands of commits, none of which is to last."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


@pytest.mark.parametrize("part", range(10))
def test_each_sample_is_taken_once_in_any_history(fast_path: Path, part: int) -> None:
    for seed in range(part, HISTORIES, 10):
        folder = fast_path / str(seed)
        folder.mkdir()
        run = Run(folder, seed)
        try:
            for _ in range(STEPS):
                run.step()
            run.ingest(growing=False)
        except BaseException:
            print(f"history {seed}:", *run.world.log, sep="\n  ")
            raise
        run.dataset.close()
        shutil.rmtree(folder)
