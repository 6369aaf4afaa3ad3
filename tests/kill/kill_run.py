"""Kill `modyn run` at random moments, run it again until it ends, and compare with a quiet run.

    python -m tests.kill.kill_run --kills 200 [--seed N] [PIPELINE.yaml --datasets DIR]

One round runs a pipeline in an empty directory.  Each attempt is a process group of its own, which
SIGKILL ends: one in five while it starts up, and of the others half at a random time of the work
and half within a few milliseconds of the n-th change of a file.  When an attempt ends by itself,
the round is over, and its ledger, training sets and weights must be those of the undisturbed run.
Rounds follow until there were enough kills.

With --follow it is `modyn run --follow` that is killed, while samples arrive; there is one round,
which a signal and a last `modyn run` end, and the run over all samples to compare with comes last.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

import modyn

ATTEMPT_SECONDS = 600
PIPELINE = """\
pipeline: {name: killed, seed: 3}
model:
  id: MLP
  config: {num_classes: 2, hidden: [8]}
training:
  batch_size: 64
  epochs_per_trigger: 2
  use_previous_model: true
  shuffle: true
  optimizers:
    - {name: default, algorithm: Adam, source: PyTorch, param_groups: [{module: model}]}
  optimization_criterion: {name: CrossEntropyLoss}
data: {dataset_id: killed}
trigger: {id: DataAmountTrigger, num_samples: 350}
selection_strategy:
  name: CoresetStrategy
  tail_triggers: 1
  presampling_config: {strategy: LabelBalanced, ratio: 50}
evaluation:
  device: cpu
  handlers:
    - name: matrix
      execution_time: after_training
      models: matrix
      strategy: {type: SlicingEvalStrategy, eval_every: 10h}
      datasets: [killed]
  datasets:
    - {dataset_id: killed, batch_size: 256, metrics: [{name: Accuracy}, {name: RocAuc}]}
"""


@dataclass(frozen=True)
class Job:
    """What is run: a pipeline over the datasets in a directory."""

    pipeline: Path
    datasets: Path
    follow: bool = False

    def command(self, out: Path) -> list[str]:
        words = [sys.executable, "-m", "modyn.cli", "run", self.pipeline, "--out", out]
        words += ["--datasets", self.datasets, *["--follow"] * self.follow]
        return [str(word) for word in words]


@dataclass(frozen=True)
class Outcome:
    """What a finished run leaves, without times: digests by name."""

    ledger: dict[str, str]
    files: dict[str, str]


@dataclass
class Campaign:
    """Counts of what was done."""

    kills: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)
    rounds: int = 0
    resumed: int = 0  # attempts that found something of an earlier one


def give(dataset: modyn.Dataset, last: int) -> None:
    """Append what is missing up to a key; what a sample is follows from its key."""
    rng = np.random.default_rng(7)
    features = rng.normal(size=(last, 4)).astype(np.float32)
    labels = (features @ np.array([1, -1, 0.5, 0]) > 0).astype(np.int64)
    timestamps = np.arange(last, dtype=np.int64) * 60
    new = slice(len(dataset), last)
    dataset.append({"dense": features[new]}, labels=labels[new], timestamps=timestamps[new])


def tiny_job(directory: Path, *, samples: int = 3000) -> Job:
    """A dataset that a small model can learn, and a pipeline of several triggers over it."""
    path = directory / "datasets" / "killed"
    path.parent.mkdir(parents=True)
    with modyn.Dataset.create(path, schema={"dense": "float32[4]"}) as dataset:
        give(dataset, samples)
    pipeline = directory / "killed.yaml"
    pipeline.write_text(PIPELINE)
    return Job(pipeline, path.parent)


def outcome(out: Path) -> Outcome:
    ledgers, files = {}, {}
    for path in sorted(out.rglob("ledger.sqlite")):
        run = modyn.Run.open(path.parent)
        if not run.finished:
            raise AssertionError(f"{path.parent} is not finished")
        ledgers[path.parent.name] = run.digest()
    for pattern in ("trainsets/*.set", "models/*/weights.safetensors"):
        for path in sorted(out.rglob(pattern)):
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            files[path.relative_to(out).as_posix()] = content
    if not ledgers or not files:
        raise AssertionError(f"{out} holds no run")
    return Outcome(ledgers, files)


def state_of(directory: Path) -> tuple[tuple[str, int, int], ...]:
    """Name, size and time of every file, to see that something changed."""
    found = []
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            try:
                stat = os.stat(path)
            except FileNotFoundError:
                continue  # it went between two looks: that is a change, too
            found.append((path, stat.st_size, stat.st_mtime_ns))
    return tuple(sorted(found))


def start(job: Job, out: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(
            job.command(out),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def kill(process: subprocess.Popen[bytes]) -> bool:
    """Kill the process group; False when the process had ended by itself."""
    if process.poll() is not None:
        return False
    os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def ended(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for the process, and raise with its output unless it went well."""
    try:
        code = process.wait(ATTEMPT_SECONDS)
    except subprocess.TimeoutExpired:
        kill(process)
        code = None
    if code != 0:
        tail = log.read_text(errors="replace")[-4000:]
        raise AssertionError(f"modyn run ended with {code}:\n{tail}")


def wait_for(process: subprocess.Popen[bytes], until: Callable[[], bool]) -> None:
    """Look about every half millisecond, until `until()` or the process has ended."""
    while process.poll() is None and not until():
        time.sleep(0.0005)


class Changes:
    """Counts how often the files below a directory were seen to change."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._last, self.count = directory, state_of(directory), 0

    def __call__(self) -> int:
        state = state_of(self._directory)
        self.count += state != self._last
        self._last = state
        return self.count


def undisturbed(job: Job, directory: Path) -> tuple[Outcome, float, float]:
    """The quiet run: its outcome, when it first wrote a file, and how long it took."""
    out = directory / "undisturbed"
    began = time.monotonic()
    process = start(job, out, directory / "log")
    changes = Changes(out)
    wait_for(process, lambda: changes() > 0)
    first = time.monotonic() - began
    ended(process, directory / "log")
    return outcome(out), first, time.monotonic() - began


def attempt(
    job: Job, out: Path, log: Path, rand: random.Random, *, first: float, whole: float
) -> str | None:
    """Run once and kill; the kind of the kill, or None when the run ended before it."""
    kind = rand.choice(["start", "time", "time", "change", "change"])
    began = time.monotonic()
    process = start(job, out, log)
    if kind == "change":
        changes, wanted = Changes(out), rand.randint(1, 25)
        wait_for(process, lambda: changes() >= wanted)
        time.sleep(rand.uniform(0, 0.004))
    else:
        end = began + rand.uniform(*((0, first) if kind == "start" else (first, whole)))
        wait_for(process, lambda: time.monotonic() >= end)
    if kill(process):
        return kind
    ended(process, log)
    return None


def campaign(job: Job, directory: Path, *, kills: int, seed: int, verbose: bool) -> Campaign:
    """Kill `kills` times and more, until the last round has ended; raises on any difference."""
    rand, done = random.Random(seed), Campaign()
    expected, first, whole = undisturbed(job, directory)
    log = directory / "log"
    while done.kills < kills:
        out = directory / f"round-{done.rounds}"
        while True:
            done.resumed += any(out.rglob("ledger.sqlite"))
            kind = attempt(job, out, log, rand, first=first, whole=whole)
            if kind is None:
                break
            done.kills += 1
            done.by_kind[kind] = done.by_kind.get(kind, 0) + 1
        if outcome(out) != expected:
            raise AssertionError(f"round {done.rounds} of seed {seed} differs; it is in {out}")
        done.rounds += 1
        if verbose:
            print(f"round {done.rounds}: {done.kills} kills so far, equal", flush=True)
    return done


class Arrivals(threading.Thread):
    """Samples that arrive at random moments, as long as it is let."""

    def __init__(self, path: Path, seed: int, most: int) -> None:
        super().__init__(daemon=True)
        self._rand, self._most = random.Random(seed), most
        self._ended = threading.Event()
        self._dataset = modyn.Dataset.open(path, mode="w")
        self.count = len(self._dataset)

    def run(self) -> None:
        while not self._ended.wait(self._rand.uniform(0, 0.3)):
            wanted = self.count + self._rand.randint(1, 60)
            if wanted < self._most:
                give(self._dataset, wanted)
                self.count = wanted

    def end(self) -> None:
        """Wait for the last one, and give some more."""
        self._ended.set()
        self.join(ATTEMPT_SECONDS)
        give(self._dataset, self.count + 100)
        self.count += 100
        self._dataset.close()


def follow_campaign(directory: Path, *, kills: int, seed: int) -> Campaign:
    """Kill what follows `kills` times while samples arrive; raises on any difference."""
    rand, done = random.Random(seed), Campaign(rounds=1)
    job = tiny_job(directory, samples=500)
    out, log = directory / "followed", directory / "log"
    _, first, _ = undisturbed(job, directory)
    shutil.rmtree(directory / "undisturbed")
    arrivals = Arrivals(job.datasets / "killed", seed, most=500 + kills * 300)
    following = replace(job, follow=True)
    arrivals.start()
    while done.kills < kills:
        done.resumed += any(out.rglob("ledger.sqlite"))
        kind = attempt(following, out, log, rand, first=first, whole=first + 2)
        if kind is None:
            raise AssertionError(f"it ended by itself: {log.read_text(errors='replace')}")
        done.kills += 1
        done.by_kind[kind] = done.by_kind.get(kind, 0) + 1
    arrivals.end()
    process = start(following, out, log)
    wait_for(process, lambda: position(out / "killed") == arrivals.count)
    process.send_signal(signal.SIGTERM)
    ended(process, log)
    ended(start(job, out, log), log)
    if outcome(out) != undisturbed(job, directory)[0]:
        raise AssertionError(f"seed {seed}: the run that followed differs; it is in {out}")
    return done


def position(run: Path) -> int:
    """How far a run has followed its stream."""
    time.sleep(0.05)
    try:
        return int(modyn.Run.open(run).totals["position"])
    except FileNotFoundError:
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pipeline", nargs="?", type=Path)
    parser.add_argument("--datasets", type=Path, default=Path("datasets"))
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--follow", action="store_true")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    # Kept when something differs, so that one can look at it.
    directory = Path(tempfile.mkdtemp(prefix="modyn-kill-"))
    began = time.monotonic()
    if options.follow:
        done = follow_campaign(directory, kills=options.kills, seed=options.seed)
    else:
        job = Job(options.pipeline, options.datasets) if options.pipeline else tiny_job(directory)
        done = campaign(job, directory, kills=options.kills, seed=options.seed, verbose=True)
    kinds = ", ".join(f"{count} at {kind}" for kind, count in sorted(done.by_kind.items()))
    print(
        f"{done.kills} kills ({kinds}) in {done.rounds} rounds, {done.resumed} resumed, "
        f"{time.monotonic() - began:.0f} s: every ledger, training set and model is equal"
    )


if __name__ == "__main__":
    main()
