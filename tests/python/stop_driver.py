"""Follows a stream in processes that get a signal at chosen moments; started by test_stopping.py.

Usage: stop_driver.py DIRECTORY STARTS SEED

The first process comes to the end of what there is, and counts the calls that it makes, of Python
and of C, from modyn.  Each of the others gets SIGTERM or SIGINT at one of them, drawn from the
first half, and the next one goes on with the same run, until one comes to the end before it gets
its signal; then there is a new run.  Every other process is interrupted a ten thousandth of a
second after its signal, wherever it is then; the rest stop where they ask.  Results are a list in
JSON.  Processes are forked from this one, which has imported everything and started no thread; they
may leave no thread that goes on.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

import modyn
import modyn.listing
import modyn.pipelines.follow
from modyn.commands import follow as command
from modyn.commands.follow import Signals, follow
from modyn.pipelines import Run, Training
from tests.python.crash_driver import asking, said_by, warm_up
from tests.python.streams import pipeline, sgd, slices

PATIENT, IMPATIENT = 600.0, 1e-4  # seconds
MODYN = str(Path(modyn.__file__).parent)


class At:
    """Sends a signal to its own process at a call, and says when on a pipe."""

    def __init__(self, moment: int, number: int, writer: int) -> None:
        self.moment, self.number, self.writer = moment, number, writer
        self.count = 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event not in ("call", "c_call") or not code.co_filename.startswith(MODYN):
            return
        self.count += 1
        if self.count == self.moment:
            sys.setprofile(None)
            os.write(self.writer, f"{time.monotonic()} {code.co_qualname}".encode())
            signal.raise_signal(self.number)


def one(base: Path) -> modyn.Pipeline:
    return pipeline(
        modyn.Dataset.open(base / "stream"),
        name="run",
        trigger=asking(),
        training=Training(batch_size=64, optimizers=sgd()),
        evaluation=slices(execution_time="after_training"),
        maximum_triggers=5,
    )


def follows(base: Path, out: Path, at: At) -> None:
    """Follow as the command does, with a signal on the way."""
    said = os.open(base / "said", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644)
    os.dup2(said, 1)
    os.dup2(said, 2)
    with Signals() as signals:
        sys.setprofile(at)
        follow(lambda: [one(base)], out, "again", out / "models", signals)
        sys.setprofile(None)


def end() -> None:
    """End well if no other thread would keep the process; without the second that torch takes."""
    sys.stdout.flush()
    main = threading.main_thread()
    os._exit(any(not one.daemon for one in threading.enumerate() if one is not main))


class Chain:
    """Runs that are stopped again and again."""

    def __init__(self, base: Path) -> None:
        self.base, self.number = base, 0

    @property
    def out(self) -> Path:
        return self.base / f"chain-{self.number}"

    def start(self, index: int, moment: int) -> dict[str, Any]:
        """Start a process that gets a signal; return what became of it."""
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            at = At(moment, (signal.SIGTERM, signal.SIGINT)[index // 2 % 2], writer)
            command.AGAIN_SECONDS = PATIENT
            command.PATIENCE_SECONDS = (PATIENT, IMPATIENT)[index % 2]
            follows(self.base, self.out, at)
            if moment < 0:
                os.write(writer, f"{time.monotonic()} {at.count}".encode())
            end()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        ended = time.monotonic()
        os.close(writer)
        when, _, place = os.read(reader, 1000).decode().partition(" ")
        os.close(reader)
        seconds = ended - float(when) if when else None
        found = {
            "moment": moment,
            "asks": index % 2 == 0,
            "status": status,
            "place": place,
            "seconds": seconds,
        }
        return found | {"said": (self.base / "said").read_text()}

    def end(self) -> dict[str, Any]:
        """Do the rest of a run without a signal, and begin another one."""
        pid = os.fork()
        if pid == 0:
            one(self.base).replay(self.out / "run")
            end()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        ended = Run.open(self.out / "run")
        self.number += 1
        return {"moment": None, "status": status, "digest": said_by(ended)}


def main() -> None:
    base, starts, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    chain = Chain(base)
    warm_up()
    results = [chain.start(0, -1), chain.end(), chain.end()]  # the last one did not follow
    moments = np.random.default_rng(seed).integers(1, int(results[0]["place"]) // 2, starts)
    for index, moment in enumerate(moments.tolist()):
        results.append(chain.start(index, moment))
        if not results[-1]["place"]:  # it came to its end
            results.append(chain.end())
    print(json.dumps([*results, chain.end()]))


if __name__ == "__main__":
    main()
