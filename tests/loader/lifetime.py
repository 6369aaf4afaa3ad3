"""Hold batches long after their loader, and look whether a byte of them changes.

    python -m tests.loader.lifetime --batches 1000000 [--seed N]

Each batch is digested when it comes and again when it is let go.  In between it is held, with up to
four times as many others as the loader prefetches, in one of the forms that consumers have: torch
tensors, NumPy arrays, arrays through DLPack, memoryviews, some of them twice, or not at all.  It is
let go by this thread or another one, while the loader runs, after it and its dataset were closed,
or with the interpreter.  Before it is let go its memory is overwritten, so that whoever shares it
sees a change.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import queue
import random
import secrets
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

import modyn
from modyn.loader import Batch, Loader

ROOT = Path(__file__).parents[2]
SAMPLES = 3000
ROUND = 500  # batches of one loader
LOST = 0xA5  # what memory is overwritten with


@dataclass
class Held:
    """What a consumer keeps of a batch, as bytes that can be read and written."""

    form: str
    owners: list[Any]  # what keeps the memory
    views: list[np.ndarray]  # over it
    digest: bytes

    def changed(self) -> bool:
        return digest(self.views) != self.digest

    def overwrite(self) -> None:
        for view in self.views:
            view.view(np.uint8).reshape(-1)[:] = LOST


@dataclass
class Outcome:
    """What was done."""

    batches: int = 0
    changed: int = 0
    most_held: int = 0
    how: Counter[str] = field(default_factory=Counter)  # forms, and who let go

    def __str__(self) -> str:
        how = ", ".join(f"{count} {name}" for name, count in sorted(self.how.items()))
        return (
            f"{self.batches} batches, up to {self.most_held} held ({how}): {self.changed} changed"
        )


def digest(views: list[np.ndarray]) -> bytes:
    total = blake2b(digest_size=8)
    for view in views:
        total.update(view)
    return total.digest()


# Forms in which a batch is held ------------------------------------------------------------------


def as_tensors(batch: Batch) -> tuple[list[Any], list[np.ndarray]]:
    owners = [batch["x"], batch["text"].values, batch["text"].offsets, batch.keys]
    return owners, [tensor.numpy() for tensor in owners]


def as_arrays(batch: Batch) -> tuple[list[Any], list[np.ndarray]]:
    text = batch.numpy("text")
    views = [batch.numpy("x"), text.values, text.offsets, batch.numpy("keys")]
    return views, views


def as_views(batch: Batch) -> tuple[list[Any], list[np.ndarray]]:
    owners = [memoryview(batch._core.part(part)) for part in range(4)]
    return owners, [np.asarray(owner) for owner in owners]


def as_dlpack(batch: Batch) -> tuple[list[Any], list[np.ndarray]]:
    owners = [np.from_dlpack(batch._core.part(part)) for part in range(4)]
    return owners, owners


def as_batch(batch: Batch) -> tuple[list[Any], list[np.ndarray]]:
    """Never consumed: only looked at, at either end."""
    return [batch], []


def twice(batch: Batch) -> tuple[list[Any], list[np.ndarray]]:
    owners, views = as_tensors(batch)
    more, _ = as_dlpack(batch)
    _ = batch._core.part(0).__dlpack__()  # a capsule that nobody takes
    return [*owners, *more], views


FORMS: dict[str, Callable[[Batch], tuple[list[Any], list[np.ndarray]]]] = {
    "as tensors": as_tensors,
    "as arrays": as_arrays,
    "as memoryviews": as_views,
    "by DLPack": as_dlpack,
    "unconsumed": as_batch,
    "consumed twice": twice,
}


def hold(batch: Batch, form: str) -> Held:
    owners, views = FORMS[form](batch)
    looked_at = views or as_arrays(batch)[1]
    return Held(form, owners, views, digest(looked_at))


def let_go(held: Held) -> bool:
    """Return whether it has changed; its memory is somebody else's afterwards."""
    if not held.views:
        held.views = as_arrays(held.owners[0])[1]
    changed = held.changed()
    held.overwrite()
    held.views.clear()
    held.owners.clear()
    return changed


# The campaign ------------------------------------------------------------------------------------


class Releasers:
    """Threads that let go of what they are given."""

    def __init__(self, count: int) -> None:
        self.channel: queue.SimpleQueue[Held | None] = queue.SimpleQueue()
        self.changed = [0] * count
        self.threads = [
            threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(count)
        ]
        for thread in self.threads:
            thread.start()

    def _run(self, index: int) -> None:
        while (held := self.channel.get()) is not None:
            self.changed[index] += let_go(held)
            del held

    def finish(self) -> int:
        for _ in self.threads:
            self.channel.put(None)
        for thread in self.threads:
            thread.join(600)
        return sum(self.changed)


def fill(path: Path) -> Path:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2**32, (SAMPLES, 3), dtype=np.uint32)
    texts = [bytes(rng.integers(0, 256, key % 40, dtype=np.uint8)) for key in range(SAMPLES)]
    with modyn.Dataset.create(path, schema={"x": "uint32[3]", "text": "bytes"}, labels=False) as d:
        d.append({"x": x, "text": texts}, timestamps=np.arange(SAMPLES))
    return path


def campaign(path: Path, *, batches: int, seed: int, verbose: bool = False) -> Outcome:
    rng = random.Random(seed)
    done = Outcome()
    releasers = Releasers(2)
    held: list[Held] = []

    def release(count: int, when: str) -> None:
        for _ in range(count):
            item = held.pop(rng.randrange(len(held)))
            if rng.random() < 0.5:
                done.how[f"let go by a thread {when}"] += 1
                releasers.channel.put(item)
            else:
                done.how[f"let go here {when}"] += 1
                done.changed += let_go(item)

    while done.batches < batches:
        dataset = modyn.Dataset.open(path)
        prefetch = rng.randint(1, 8)
        most = rng.randint(1, 4 * prefetch)
        loader = Loader(
            dataset,
            [rng.randrange(SAMPLES) for _ in range(ROUND * 2)],
            batch_size=rng.randint(1, 8),
            threads=rng.randint(1, 3),
            prefetch=prefetch,
        )
        until = min(ROUND, batches - done.batches)  # mostly fewer than there are: it is left early
        for _, batch in zip(range(until), loader, strict=False):
            form = rng.choice(list(FORMS))
            held.append(hold(batch, form))
            del batch
            done.how[form] += 1
            done.batches += 1
            done.most_held = max(done.most_held, len(held))
            if len(held) > most:
                release(rng.randint(1, len(held)), "while it ran")
        dataset.close()
        del loader, dataset
        release(len(held), "after it was closed")
        if verbose and done.batches % (100 * ROUND) < ROUND:
            print(f"... {done.batches} batches, {done.changed} changed", flush=True)
    done.changed += releasers.finish()
    return done


def at_exit(path: Path) -> None:
    """Leave batches to the end of the interpreter: to its exit handlers, its modules, a thread."""
    loader = Loader(modyn.Dataset.open(path), np.arange(SAMPLES), batch_size=7, threads=2)
    iterator = iter(loader)
    held = [hold(next(iterator), form) for form in FORMS for _ in range(20)]
    early, late, thread = held[::3], held[1::3], held[2::3]
    atexit.register(lambda: print(sum(map(let_go, early)), "changed at exit", flush=True))
    sys.modules["kept_by_tests"] = late  # type: ignore[assignment]
    stuck = threading.Event()
    threading.Thread(target=lambda _: stuck.wait(600), args=(thread,), daemon=True).start()
    sys.modules["kept_too"] = [iterator, loader]  # type: ignore[assignment]


def run_to_its_exit(path: Path) -> str:
    """What a process says that ends with batches in its hands; it has to end well."""
    command = [sys.executable, "-m", "tests.loader.lifetime", "--at-exit", str(path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    if done.returncode != 0 or done.stderr:
        raise AssertionError(f"ended with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--batches", type=int, default=10_000)
    parser.add_argument("--exits", type=int, default=5)
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--at-exit", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.at_exit:
        return at_exit(given.at_exit)
    print(f"--seed {given.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        path = fill(Path(folder) / "data")
        done = campaign(path, batches=given.batches, seed=given.seed, verbose=True)
        gc.collect()
        for _ in range(given.exits):
            if run_to_its_exit(path) != "0 changed at exit\n":
                done.changed += 1
    print(f"{done}; {given.exits} processes ended with batches held", flush=True)
    sys.exit(done.changed > 0)


if __name__ == "__main__":
    main()
