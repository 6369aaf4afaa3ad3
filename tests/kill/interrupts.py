"""Press Ctrl-C in the middle of each long call of a dataset, and see what becomes of it.

    python -m tests.kill.interrupts --times 50 [--mebibytes 512] [--seed N] [CALL ...]

A process makes one call again and again; SIGINT comes at a random moment of it.  Then
KeyboardInterrupt has to be raised, how soon is printed, and the next call has to work: the dataset
is whole, no descriptor and no thread is left behind.  A call that is deaf raises at its end only.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

LIMIT_MS = 200
RECORD = 256


class Calls:
    """A dataset, and long calls on it; each can be made any number of times."""

    def __init__(self, home: Path, mebibytes: int) -> None:
        import modyn

        self.home, self.count = home, mebibytes * (1 << 20) // RECORD
        self.values = np.zeros((self.count, RECORD // 4), np.float32)
        self.times = np.arange(self.count, dtype=np.int64)
        self.modyn = modyn
        self.dataset = self.fresh("dataset")
        self.rows = 0

    def fresh(self, name: str) -> Any:
        return self.modyn.Dataset.create(
            self.home / f"{name}-{secrets.token_hex(4)}",
            schema={"x": f"float32[{RECORD // 4}]"},
            labels=False,
        )

    def filled(self) -> Any:
        if len(self.dataset) == 0:
            self.dataset.append({"x": self.values}, timestamps=self.times)
        return self.dataset

    def append(self) -> Callable[[], object]:
        def call() -> None:
            if len(self.dataset) >= 4 * self.count:
                self.dataset = self.fresh("dataset")
            self.dataset.append({"x": self.values}, timestamps=self.times)

        return call

    def fetch(self) -> Callable[[], object]:
        dataset = self.filled()
        keys = np.random.default_rng(1).permutation(self.count).astype(np.uint64)
        return lambda: dataset.fetch(keys)

    def erase(self) -> Callable[[], object]:
        dataset = self.filled()
        return lambda: dataset.erase(since=0, until=self.count // 2, reason="to see")

    def compact(self) -> Callable[[], object]:
        dataset = self.filled()
        state = {"next": 0}

        def call() -> None:
            if state["next"] < self.count:
                dataset.erase([state["next"]], reason="to see")
                state["next"] += 1
            dataset.compact()

        return call

    def audit(self) -> Callable[[], object]:
        dataset = self.filled()
        for key in range(300):
            dataset.erase([key], reason="to see " * 1000)
        return lambda: dataset.audit()

    def ingest(self) -> Callable[[], object]:
        file = self.home / "rows.csv"
        rows = self.count // 8
        file.write_text("time,x\n" + "".join(f"{i},{i / 7}\n" for i in range(rows)))

        def call() -> None:
            with self.modyn.Dataset.create(
                self.home / f"csv-{secrets.token_hex(4)}", schema={"x": "float64"}, labels=False
            ) as dataset:
                dataset.ingest(file, format=self.modyn.formats.CSV(timestamp="time"))

        return call

    def open(self) -> Callable[[], object]:
        self.filled().close()
        return lambda: self.modyn.Dataset.open(self.dataset.path, mode="w").close()

    def verify(self) -> Callable[[], object]:
        return self.filled().verify


NAMES = ["append", "fetch", "erase", "compact", "audit", "ingest", "open"]


def left_behind() -> tuple[int, int]:
    return len(os.listdir("/proc/self/fd")), threading.active_count()


def is_clean(before: tuple[int, int]) -> bool:
    """Whether nothing is left behind, in a moment at the latest: a leak stays."""
    until = time.monotonic() + 2
    while True:
        files, threads = left_behind()
        # A writer has the two files of a segment open, or none; a leak grows beyond that.
        if files <= before[0] + 2 and threads == before[1]:
            return True
        if time.monotonic() > until:
            return False
        gc.collect()
        time.sleep(0.01)


def child(home: Path, name: str, mebibytes: int) -> None:
    """Make the call for ever, and tell of each interrupt."""
    calls = Calls(home, mebibytes)
    call = getattr(calls, name)()
    call()
    before = left_behind()
    print("ready", flush=True)
    while True:
        try:
            print("call", flush=True)
            while True:
                call()
        except KeyboardInterrupt:
            caught = time.monotonic()
        # Not in the handler: its traceback holds frames, and with them files and readers.
        clean = is_clean(before)
        whole = name == "open" or len(calls.dataset) % calls.count == 0
        print("caught", caught, clean, whole, flush=True)


def probe(
    name: str, *, times: int, mebibytes: int, rand: random.Random, home: Path | None = None
) -> list[float]:
    """Interrupt a call so often; return after how many ms it was over, ascending."""
    seconds = []
    with tempfile.TemporaryDirectory(dir=home) as directory:
        command = [sys.executable, "-m", "tests.kill.interrupts", "--child", directory, name]
        process = subprocess.Popen(
            [*command, "--mebibytes", str(mebibytes)], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", f"{name} failed"
            for _ in range(times):
                assert process.stdout.readline() == "call\n", f"{name} failed"
                time.sleep(0.002 + rand.random() * 0.2)
                sent = time.monotonic()
                process.send_signal(signal.SIGINT)
                word, caught, clean, whole = process.stdout.readline().split() or ["", 0, "", ""]
                assert word == "caught", f"{name} died of an interrupt"
                assert clean == "True", f"{name} left descriptors or threads behind"
                assert whole == "True", f"{name} left half of a batch"
                seconds.append(float(caught) - sent)
        finally:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
    return sorted(1000 * s for s in seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("calls", nargs="*", default=NAMES)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--mebibytes", type=int, default=512)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--directory", type=Path, default=None)
    parser.add_argument("--child", type=Path, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return child(options.child, options.calls[0], options.mebibytes)
    seed = secrets.randbits(32) if options.seed is None else options.seed
    print(f"interrupts: seed {seed}, {options.mebibytes} MiB", flush=True)
    for name in options.calls:
        found = probe(
            name,
            times=options.times,
            mebibytes=options.mebibytes,
            rand=random.Random(seed),
            home=options.directory,
        )
        deaf = "" if found[-1] <= LIMIT_MS else "   DEAF"
        print(
            f"interrupts: {name:8} {len(found)} interrupts, median {found[len(found) // 2]:5.0f} "
            f"ms, worst {found[-1]:5.0f} ms{deaf}",
            flush=True,
        )
    return None


if __name__ == "__main__":
    main()
