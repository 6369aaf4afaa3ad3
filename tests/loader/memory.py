"""Run epochs, and leave iterators, and look whether memory, threads or descriptors grow.

    python -m tests.loader.memory --rounds 1000

After a warm-up a part does its work in ten equal blocks; after each one the anonymous memory of the
process is read.  What counts is the slope of a line through these, times the blocks: how much
memory the rounds took that they did not give back.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

import modyn
from modyn.loader import Loader

BLOCKS = 10
SAMPLES = 4000
ALLOWED_KIB = 1024  # of drift in all rounds; a batch that is kept in each is more


def resident_kib() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise OSError("no RssAnon in /proc/self/status")


def handles() -> tuple[int, int]:
    """Threads and descriptors."""
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))


def drift(work: Callable[[int], object], rounds: int) -> tuple[float, int, int]:
    """KiB, threads and descriptors that so many rounds took for good."""
    for number in range(max(rounds // 5, 20)):
        work(number)
    gc.collect()
    before = handles()
    seen = []
    for block in range(BLOCKS):
        for number in range(rounds // BLOCKS):
            work(block + number)
        gc.collect()
        seen.append(resident_kib())
    after = handles()
    slope = float(np.polyfit(np.arange(BLOCKS), seen, 1)[0])
    return slope * BLOCKS, after[0] - before[0], after[1] - before[1]


def fill(path: Path) -> Path:
    keys = np.arange(SAMPLES)
    texts = [bytes(int(key) % 60) for key in keys]
    with modyn.Dataset.create(path, schema={"x": "float32[40]", "text": "bytes"}) as writer:
        x = np.ones((SAMPLES, 40), np.float32)
        writer.append({"x": x, "text": texts}, labels=keys, timestamps=keys)
    return path


def parts(loader: Loader) -> dict[str, Callable[[int], object]]:
    """What is done in a round, by name."""

    def epoch(number: int) -> None:
        loader.set_epoch(number)
        for batch in loader:
            batch.numpy("x"), batch["text"], batch.keys

    def abandoned(number: int) -> None:
        iterator = iter(loader)
        for _ in range(number % 4):
            next(iterator)

    def resumed(number: int) -> None:
        loader.load_state_dict(loader.state_at(number % len(loader)))
        next(iter(loader))
        loader.state_dict()

    def in_dataloader(number: int) -> None:
        dataset = loader.torch_dataset()
        dataset.set_epoch(number)
        next(iter(dataset))

    return {
        "epochs": epoch,
        "abandoned iterators": abandoned,
        "resumes": resumed,
        "iterations of a torch dataset": in_dataloader,
    }


def campaign(path: Path, rounds: int) -> dict[str, tuple[float, int, int]]:
    with modyn.Dataset.open(path) as dataset:
        loader = Loader(dataset, np.arange(SAMPLES), batch_size=250, shuffle="global", threads=3)
        return {name: drift(work, rounds) for name, work in parts(loader).items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = campaign(fill(Path(folder) / "data"), given.rounds)
    for name, (kib, threads, descriptors) in found.items():
        print(f"{given.rounds} {name}: {kib:+.0f} KiB, {threads:+} threads, {descriptors:+} fds")
    grown = [n for n, (kib, *rest) in found.items() if kib > ALLOWED_KIB or any(rest)]
    sys.exit(f"grown: {grown}" if grown else 0)


if __name__ == "__main__":
    main()
