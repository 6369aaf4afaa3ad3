"""Kill a training three times at random moments; it ends with the weights of an undisturbed one.

    python -m tests.loader.training --runs 500 [--seed N]

The trainer is a child that was forked before any thread was started.  It trains a small network on
the CPU and writes a checkpoint behind every step and every epoch: weights, optimiser, loader, and a
running digest of the keys it was given.  It dies by SIGKILL: at a step, before or after that step's
checkpoint, or from outside at a random time.  The next one goes on from the last checkpoint, with
other threads and another prefetch.  In the end weights and key stream have to be the same, bit for
bit.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import os
import pickle
import random
import secrets
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import modyn
from modyn.loader import Batch, Loader

SAMPLES = 330
EPOCHS = 3
ORDERS: list[dict[str, Any]] = [
    {"shuffle": "global"},
    {"shuffle": False},
    {"shuffle": "partition", "partition_size": 50},
    {"shuffle": "global", "drop_last": True},
    {"shuffle": "global", "bucket_by": "text", "bucket_batches": 3},
    {"shuffle": "global", "num_samples_to_pass": 500},
]
DEADLINE = 120


@dataclass(frozen=True)
class Plan:
    """When a trainer dies: at a step, or after some seconds; and how it loads."""

    threads: int
    prefetch: int
    step: int | None = None
    after_save: bool = False
    seconds: float | None = None


def fill(path: Path) -> Path:
    rng = np.random.default_rng(11)
    x = rng.normal(size=(SAMPLES, 6)).astype(np.float32)
    texts = [bytes(int(n)) for n in rng.integers(0, 50, SAMPLES)]
    with modyn.Dataset.create(path, schema={"x": "float32[6]", "text": "bytes"}) as writer:
        labels = (x.sum(axis=1) > 0).astype(np.int64)
        writer.append({"x": x, "text": texts}, labels=labels, timestamps=np.arange(SAMPLES))
    return path


class Trainer:
    """A training that can be killed at any moment."""

    def __init__(self, data: Path, home: Path, order: dict[str, Any], plan: Plan) -> None:
        torch.manual_seed(5)
        self.home, self.plan, self.step = home, plan, 0
        self.model = torch.nn.Sequential(
            torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2)
        )
        self.optimiser = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.keys = b""  # digest of all keys until now
        self.loader = Loader(
            modyn.Dataset.open(data),
            np.arange(SAMPLES),
            batch_size=32,
            seed=9,
            weights=np.linspace(0.5, 1, SAMPLES),
            threads=plan.threads,
            prefetch=plan.prefetch,
            **order,
        )
        self._restore()

    def run(self) -> None:
        for epoch in range(self.loader.epoch, EPOCHS):
            self.loader.set_epoch(epoch)
            for batch in self.loader:
                self._train(batch)
                self._die_at_step(after_save=False)
                self._save()
                self._die_at_step(after_save=True)
                self.step += 1
            self._save()

    def _train(self, batch: Batch) -> None:
        self.optimiser.zero_grad()
        losses = torch.nn.functional.cross_entropy(
            self.model(batch["x"]), batch.labels, reduction="none"
        )
        (losses * batch.weights).mean().backward()
        self.optimiser.step()
        self.keys = hashlib.sha256(self.keys + batch.numpy("keys").tobytes()).digest()

    def _die_at_step(self, *, after_save: bool) -> None:
        if self.step == self.plan.step and after_save == self.plan.after_save:
            os.kill(os.getpid(), signal.SIGKILL)

    def _save(self) -> None:
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "loader": self.loader.state_dict(),
            "keys": self.keys,
            "step": self.step + 1,
        }
        new = self.home / "checkpoint.new"
        new.write_bytes(pickle.dumps(state))
        new.rename(self.home / "checkpoint")

    def _restore(self) -> None:
        file = self.home / "checkpoint"
        if not file.exists():
            return
        state = pickle.loads(file.read_bytes())
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.loader.load_state_dict(state["loader"])
        self.keys, self.step = state["keys"], state["step"]

    def outcome(self) -> str:
        total = hashlib.sha256(self.keys)
        for tensor in self.model.state_dict().values():
            total.update(tensor.numpy().tobytes())
        return total.hexdigest()


def warm_up() -> None:
    """Import what torch imports at the first step, here and not in each child."""
    model = torch.nn.Linear(1, 1)
    optimiser = torch.optim.Adam(model.parameters())
    model(torch.zeros(1, 1)).sum().backward()
    optimiser.step()
    optimiser.zero_grad()


def attempt(data: Path, home: Path, order: dict[str, Any], plan: Plan) -> bool:
    """Train in a child until its end, or until it dies as planned; whether it came to its end."""
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(DEADLINE)
            trainer = Trainer(data, home, order, plan)
            trainer.run()
            (home / "outcome").write_text(trainer.outcome())
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    if plan.seconds is not None:
        time.sleep(plan.seconds)
        os.kill(pid, signal.SIGKILL)  # not waited for yet, so it is the child's
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code not in (0, -signal.SIGKILL):
        raise AssertionError(f"a trainer ended with {code}")
    return code == 0


def steps_of(order: dict[str, Any]) -> int:
    rows = order.get("num_samples_to_pass", SAMPLES)
    return EPOCHS * (rows // 32 if order.get("drop_last") else -(-rows // 32))


def run(data: Path, home: Path, order: dict[str, Any], rng: random.Random) -> Counter[str]:
    """One training with three kills."""
    done: Counter[str] = Counter()
    ends = steps_of(order)
    edges = [0, ends // EPOCHS - 1, ends // EPOCHS, ends - 1]
    for _ in range(3):
        how: dict[str, Any] = {"threads": rng.randint(1, 4), "prefetch": rng.randint(1, 6)}
        kind = rng.choice(["step", "edge", "time"])
        if kind == "time":
            how["seconds"] = rng.random() * 0.5
        else:
            how["step"] = rng.choice(edges) if kind == "edge" else rng.randrange(ends)
            how["after_save"] = rng.random() < 0.5
        if not attempt(data, home, order, Plan(**how)):
            done[f"killed at a {kind}"] += 1
    if not attempt(data, home, order, Plan(rng.randint(1, 4), rng.randint(1, 6))):
        raise AssertionError("a trainer died unasked")
    return done


def campaign(folder: Path, *, runs: int, seed: int, verbose: bool = False) -> Counter[str]:
    torch.set_num_threads(1)
    warm_up()
    rng = random.Random(seed)
    data = fill(folder / "data")
    done: Counter[str] = Counter()
    undisturbed: dict[int, str] = {}
    for number, which in zip(range(runs), itertools.cycle(range(len(ORDERS))), strict=False):
        if which not in undisturbed:
            home = folder / f"quiet{which}"
            home.mkdir()
            attempt(data, home, ORDERS[which], Plan(1, 2))
            undisturbed[which] = (home / "outcome").read_text()
        home = folder / f"run{number}"
        home.mkdir()
        done += run(data, home, ORDERS[which], rng)
        done["runs"] += 1
        done["different"] += (home / "outcome").read_text() != undisturbed[which]
        if verbose and number % 50 == 49:
            print(f"... {number + 1} runs, {done['different']} different", flush=True)
    done["orders"] = len(set(undisturbed.values()))
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    given = parser.parse_args()
    print(f"--seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        done = campaign(Path(folder), runs=given.runs, seed=given.seed, verbose=True)
    counts = ", ".join(f"{count} {name}" for name, count in sorted(done.items()))
    print(f"{counts}; {done['different']} different", flush=True)
    sys.exit(done["different"] > 0)


if __name__ == "__main__":
    main()
