"""Cut the power while a process writes to a dataset, and look at what is there.

    python -m tests.power.cut_store --cuts 1000 [--seed N] [--options data=writeback]

Writer, reader and oracle are those of the kills (tests/kill/store_story.py); the dataset lies on a
file system of loopfs.py.  One cut in five comes while the dataset is opened.

What the writer acknowledged before the cut must be there.  A line that comes after it proves
nothing: a sync in flight may return 0 although the file system throws its transaction away (of a
real machine nobody would hear that line).  After every tenth cut the file system is checked.
"""

from __future__ import annotations

import argparse
import os
import random
import secrets
import signal
import time
from dataclasses import dataclass

from tests.kill.store_story import Story, drain
from tests.power.loopfs import LoopFs, unavailable

CUTS_OF_A_DISK = 25
CHECK_EVERY = 10


@dataclass
class Campaign:
    """Counts of what was done."""

    cuts: int = 0
    early: int = 0  # while the dataset was opened
    disks: int = 0
    steps: int = 0  # operations acknowledged before a cut


def cut_once(disk: LoopFs, story: Story, rand: random.Random, *, max_ms: float) -> bool:
    """Start a writer, cut the power and look; returns whether it was opening the dataset."""
    pid, pipe = story.start()
    early = rand.random() < 0.2
    if early:
        story.wait_for(pipe, "start")
        time.sleep(rand.random() * 0.01)
    else:
        story.wait_for(pipe, "ack", times=rand.randrange(1, 8))
        time.sleep(rand.random() * max_ms / 1000)
    story.hear(drain(pipe))
    disk.cut()
    time.sleep(0.005)  # for a writer that does not see errors to give itself away
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    story.hear(drain(pipe), late=True)
    os.close(pipe)
    disk.remount()
    return early


def campaign(*, cuts: int, seed: int, max_ms: float = 40, options: str = "") -> Campaign:
    """Cut so many times; raises AssertionError with what is wrong."""
    rand, done = random.Random(seed), Campaign()
    while done.cuts < cuts:
        with LoopFs(options) as disk:
            story = Story(disk.path / "story", rand.randrange(1 << 60))
            done.disks += 1
            for _ in range(min(CUTS_OF_A_DISK, cuts - done.cuts)):
                done.early += cut_once(disk, story, rand, max_ms=max_ms)
                done.cuts += 1
                if done.cuts % CHECK_EVERY == 0:
                    disk.check()
                story.judge()
                if story.is_large:
                    break
            done.steps += story.steps
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--options", default="", help="of the mount, e.g. data=writeback")
    options = parser.parse_args()
    if reason := unavailable():
        raise SystemExit(f"cut_store: skipped: {reason}")
    seed = secrets.randbits(32) if options.seed is None else options.seed
    print(f"cut_store: seed {seed}", flush=True)
    began = time.monotonic()
    done = campaign(cuts=options.cuts, seed=seed, options=options.options)
    rate = done.cuts / (time.monotonic() - began)
    print(
        f"cut_store: {done.cuts} power cuts, {done.early} of them while opening, {done.steps} "
        f"operations acknowledged, {done.disks} file systems, {rate:.1f} cuts/s; "
        "0 lost, 0 resurrected, 0 undetected, 0 crashes"
    )


if __name__ == "__main__":
    main()
