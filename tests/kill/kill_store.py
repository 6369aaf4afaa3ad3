"""Kill a process that writes to a dataset at random moments, and look at what is there.

    python -m tests.kill.kill_store --kills 10000 [--seed N] [--directory DIR]

The writer appends, erases, compacts and ingests (store_story.py); SIGKILL ends it, one time in
five while it opens the dataset, which is when it recovers from the kill before.  A dataset is kept
from kill to kill until it has some segments.  Every other one lies in memory, where the writer gets
further between two kills.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from tests.kill.store_story import Story, drain

KILLS_OF_A_STORY = 100
MEMORY = Path("/dev/shm")


@dataclass
class Campaign:
    """Counts of what was done."""

    kills: int = 0
    early: int = 0  # while it opened
    stories: int = 0
    steps: int = 0  # operations acknowledged


def kill_once(story: Story, rand: random.Random, *, max_ms: float) -> bool:
    """Start a writer, kill it and look; returns whether it was killed while it opened."""
    pid, pipe = story.start()
    early = rand.random() < 0.2
    if early:
        story.wait_for(pipe, "start")
        time.sleep(rand.random() * 0.003)
    else:
        story.wait_for(pipe, "ack", times=rand.randrange(1, 12))
        time.sleep(rand.random() * max_ms / 1000)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    story.hear(drain(pipe))
    os.close(pipe)
    story.judge()
    return early


def campaign(
    directory: Path, *, kills: int, seed: int, max_ms: float = 30, per_story: int = KILLS_OF_A_STORY
) -> Campaign:
    """Kill so many times; raises AssertionError with what is wrong."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as memory:
        return _campaign([directory, Path(memory)], kills, seed, max_ms, per_story)


def _campaign(
    directories: list[Path], kills: int, seed: int, max_ms: float, per_story: int
) -> Campaign:
    rand, done = random.Random(seed), Campaign()
    while done.kills < kills:
        directory = directories[done.stories % 2]
        path = directory / f"story-{done.stories}"
        story = Story(path, rand.randrange(1 << 60))
        done.stories += 1
        for _ in range(min(per_story, kills - done.kills)):
            done.early += kill_once(story, rand, max_ms=max_ms)
            done.kills += 1
            if story.is_large:
                break
        done.steps += story.steps
        shutil.rmtree(path)
        for file in directory.glob("*.csv"):
            file.unlink()
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--directory", type=Path, default=None, help="where datasets are made")
    options = parser.parse_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    print(f"kill_store: seed {seed}", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=options.directory) as directory:
        done = campaign(Path(directory), kills=options.kills, seed=seed)
    rate = done.kills / (time.monotonic() - began)
    print(
        f"kill_store: {done.kills} kills, {done.early} of them while opening, {done.steps} "
        f"operations acknowledged, {done.stories} datasets, {rate:.1f} kills/s; "
        "0 lost, 0 resurrected, 0 undetected, 0 crashes"
    )


if __name__ == "__main__":
    main()
