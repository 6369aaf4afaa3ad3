"""Start processes that load, while threads of their parent do: none may hang or read wrong.

    python -m tests.loader.forks --cycles 1000 [--methods fork,forkserver,spawn] [--workers 0,4]

A cycle starts, for each method, a process that is given a loader, and a DataLoader with each
number of workers, and compares the keys and contents that come out with what is due.  Meanwhile
four threads of the parent fetch and iterate.  When nothing comes for as long as the watchdog waits,
it shows all stacks and ends the program; what it started ends with it.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import hashlib
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from torch.utils.data import DataLoader

import modyn
from modyn.loader import Loader

METHODS = ("fork", "forkserver", "spawn")
SAMPLES = 1500
SCHEMA = {"n": "int64", "text": "bytes"}


def fill(path: Path) -> Path:
    keys = np.arange(SAMPLES)
    texts = [b"%d" % key * (key % 5) for key in keys]
    with modyn.Dataset.create(path, schema=SCHEMA, compression="zstd") as writer:
        for part in np.array_split(keys, 5):
            writer.append(
                {"n": part * part, "text": [texts[key] for key in part]},
                labels=part % 7,
                timestamps=part,
            )
    return path


def loader_of(dataset: Any) -> Loader:
    return Loader(dataset, np.arange(SAMPLES), batch_size=64, shuffle="global", seed=3, threads=2)


class Watchdog:
    """Ends this process when it is not told in time that something has happened."""

    seconds = 60.0
    is_in_child = False  # faulthandler's own lock does not survive a fork

    @classmethod
    def tell(cls) -> None:
        if not cls.is_in_child:
            faulthandler.dump_traceback_later(cls.seconds, exit=True)

    @classmethod
    def in_child(cls) -> None:
        cls.is_in_child = True
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(cls.seconds))

    @staticmethod
    def rest() -> None:
        faulthandler.cancel_dump_traceback_later()


def digest(parts: Any) -> str:
    """Of keys and values, batch by batch."""
    total = hashlib.sha256()
    for keys, values, text in parts:
        Watchdog.tell()
        total.update(np.asarray(keys).tobytes())
        total.update(np.asarray(values).tobytes())
        total.update(np.asarray(text).tobytes())
    return total.hexdigest()


def of_loader(loader: Loader) -> str:
    return digest((b.numpy("keys"), b.numpy("n"), b.numpy("text").values) for b in loader)


def of_items(items: Any) -> str:
    return digest((item["keys"], item["n"], item["text"].values) for item in items)


def child(loader: Loader, pipe: Connection) -> None:
    """What a process does that is given a loader."""
    Watchdog.in_child()
    pipe.send(of_loader(loader))
    pipe.close()


def in_a_process(method: str, loader: Loader) -> str:
    context: Any = multiprocessing.get_context(method)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(loader, theirs))
    process.start()
    theirs.close()
    with contextlib.closing(ours):
        got: str = ours.recv()  # EOFError if it died
    process.join()
    return got


def in_workers(method: str, workers: int, loader: Loader) -> str:
    context = multiprocessing.get_context(method) if workers else None
    dataset = loader.torch_dataset()
    return of_items(
        DataLoader(dataset, batch_size=None, num_workers=workers, multiprocessing_context=context)
    )


@contextlib.contextmanager
def busy(path: Path, threads: int) -> Iterator[Counter[str]]:
    """Threads that fetch and iterate until the end; counts what they did."""
    stop = threading.Event()
    done: Counter[str] = Counter()
    shared = modyn.Dataset.open(path)

    def work(index: int) -> None:
        rng = np.random.default_rng(index)
        while not stop.is_set():
            if index % 2:
                keys = rng.integers(0, SAMPLES, 500)
                if not np.array_equal(shared.fetch(keys, threads=2)["n"], keys * keys):
                    done["wrong"] += 1
                done["fetches"] += 1
            else:
                with modyn.Dataset.open(path) as own:  # maps and verifies each time
                    for batch, _ in zip(loader_of(own), range(20), strict=False):
                        if int(batch.numpy("n")[0]) != int(batch.numpy("keys")[0]) ** 2:
                            done["wrong"] += 1
                done["epochs"] += 1
            time.sleep(0.005)

    crew = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(threads)]
    for thread in crew:
        thread.start()
    try:
        yield done
    finally:
        stop.set()
        for thread in crew:
            thread.join(60)
        shared.close()


def cycles(path: Path, *, count: int, methods: list[str], workers: list[int]) -> Counter[str]:
    done: Counter[str] = Counter()
    with busy(path, 4) as work:
        for number in range(count):
            with modyn.Dataset.open(path) as dataset:
                loader = loader_of(dataset)
                expected = of_loader(loader)
                under_way = iter(loader)  # its threads fill while we fork
                next(under_way)
                for method in methods:
                    Watchdog.tell()
                    done["processes"] += 1
                    done["wrong"] += in_a_process(method, loader) != expected
                    for each in workers:
                        done[f"{method} x {each}"] += 1
                        done["wrong"] += in_workers(method, each, loader) != expected
                under_way.close()
                Watchdog.rest()
            if number % 20 == 19:
                gc.collect()
                print(f"... {number + 1} cycles, {done['wrong']} wrong", flush=True)
    done["wrong"] += work["wrong"]
    return done + Counter({"fetches": work["fetches"], "epochs": work["epochs"]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--cycles", type=int, default=3)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--workers", default="0,4")
    parser.add_argument("--watchdog", type=float, default=60)
    given = parser.parse_args()
    Watchdog.seconds = given.watchdog
    # A cycle's children belong to this group, which ends as a whole if this process does badly.
    with contextlib.suppress(PermissionError):
        os.setpgid(0, 0)
    multiprocessing.set_forkserver_preload(["modyn.loader", "torch.utils.data"])
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = cycles(
                fill(Path(folder) / "data"),
                count=given.cycles,
                methods=given.methods.split(","),
                workers=[int(each) for each in given.workers.split(",")],
            )
        except BaseException:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.killpg(0, signal.SIGTERM)
            raise
    counts = ", ".join(f"{count} {name}" for name, count in sorted(done.items()))
    print(f"{given.cycles} cycles: {counts}; {done['wrong']} wrong, 0 hangs", flush=True)
    sys.exit(done["wrong"] > 0)


if __name__ == "__main__":
    main()
