"""How many arrivals per second go through the loop of a pipeline.

    python -m benchmarks.orchestrator [--json] [--samples 20000000] [--repetitions 5]

A dataset of one-byte records with labels and ascending timestamps, all of it in the page cache.
In each repetition every contender goes along the whole stream once, in an order that rotates:

    floor         NumPy over the mapped timestamps alone: is there one at or after the end?
    time          TimeTrigger that never fires, in arrival order
    python        a policy in Python that counts labels and averages times of each block
    time order    TimeTrigger that never fires, with an array of keys as stream order
    run           TimeTrigger that never fires, with the steps, the ledger and the context of a run
    looks back    the same with a policy that asks for the samples of the block before, too
    triggers      TimeTrigger that fires 100 times; each trigger chooses one sample

A figure is the median over the repetitions: millions of arrivals per second on the wall, and per
second of processor time (all threads), for machines on which others run, too. `triggers` is told
in milliseconds per trigger beyond `time`: most of it is the disk, since the training set is durable
before the trigger is committed. What a ledger adds is not in it. The columns are verified
before the first repetition; `first pass` is that of a process which still has to verify them.
`run` and `looks back` are whole runs in a new directory, from `Pipeline.replay` to its return.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.machine import machine_line
from modyn.arrivals import Arrivals
from modyn.dataset import Dataset
from modyn.orchestrator import Orchestrator, Transition
from modyn.policies import Context, NewData, PlainContext, TimeTrigger, Trigger
from modyn.sampling import Candidates

APPEND = 1 << 20  # records per append
BLOCK = 65_536  # arrivals
NEVER = "30000y"
TRIGGERS = 100


class Counts(Trigger):
    """Looks at every label and every timestamp."""

    def __init__(self) -> None:
        self._counts = np.zeros(10)
        self._mean = 0.0

    def inform(self, arrivals: Arrivals, context: object) -> int | None:
        self._counts += np.bincount(arrivals.labels, minlength=10)
        self._mean = float(arrivals.timestamps.mean())
        return None


class LooksBack(Trigger):
    """Compares the mean label of a block with that of the samples before it."""

    def inform(self, arrivals: Arrivals, context: Context) -> int | None:
        before = context.samples(max(0, context.position - BLOCK), context.position)
        if len(before) and abs(arrivals.labels.mean() - before.labels.mean()) > 9:
            return 0
        return None


@dataclass
class Steps:
    """Asks the trigger and chooses one sample; commits nowhere."""

    trigger: Trigger
    loop: Orchestrator | None = None

    def inform(self, arrivals: Arrivals) -> int | None:
        assert self.loop is not None
        at = self.loop
        context = PlainContext(clock=at.clock, position=at.position, trigger=at.trigger)
        return self.trigger.inform(arrivals, context)

    def select(self, transition: Transition, candidates: Candidates) -> object:
        return next(candidates.blocks()).keys[:1]

    def commit(self, transition: Transition) -> None:
        pass

    def advance(self, position: int) -> None:
        pass


def make_dataset(path: Path, count: int) -> Dataset:
    rng = np.random.default_rng(0)
    with Dataset.create(path, schema={"x": "uint8"}) as dataset:
        for first in range(0, count, APPEND):
            times = np.arange(first, min(first + APPEND, count))
            labels = rng.integers(0, 10, size=len(times))
            dataset.append({"x": np.zeros(len(times), np.uint8)}, labels=labels, timestamps=times)
    return Dataset.open(path)


def go_along(dataset: Dataset, trigger: Trigger, order: np.ndarray | None = None) -> int:
    """Return the number of triggers."""
    steps = Steps(trigger)
    with tempfile.TemporaryDirectory(dir=Path(dataset.path).parent) as folder:
        steps.loop = Orchestrator(
            dataset, order=order, steps=steps, tail_triggers=0, trainset_directory=folder
        )
        return sum(1 for _ in iter(steps.loop.next, None))


def go_along_as_run(dataset: Dataset, trigger: Trigger) -> int:
    """Do the same in a run that nobody set out on before; return the number of triggers."""
    from modyn.pipelines import Optimizer, ParamGroup, Pipeline, Training

    optimizer = Optimizer(algorithm="SGD", param_groups=(ParamGroup(config={"lr": 0.1}),))
    pipeline = Pipeline(
        dataset=dataset,
        model=model_of_nothing,
        trigger=trigger,
        selection=NewData(),
        training=Training(batch_size=32, optimizers=(optimizer,)),
        order="arrival",
    )
    with tempfile.TemporaryDirectory(dir=Path(dataset.path).parent) as folder:
        return len(pipeline.replay(Path(folder) / "run").triggers["trigger"])


def model_of_nothing() -> object:
    """Return what is never trained."""
    import torch

    return torch.nn.Linear(1, 1)


def floor(dataset: Dataset) -> int:
    times = dataset.timestamps
    return sum(
        bool((times[first : first + BLOCK] >= 2**60).any()) for first in range(0, len(times), BLOCK)
    )


def measure(
    contenders: dict[str, Callable[[], int]], repetitions: int
) -> dict[str, tuple[float, float]]:
    """Return median seconds, on the wall and of the processor, per contender."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    names = list(contenders)
    for repetition in range(repetitions):
        turn = repetition % len(names)
        for name in names[turn:] + names[:turn]:
            wall, processor = time.perf_counter(), time.process_time()
            fired = contenders[name]()
            taken[name].append((time.perf_counter() - wall, time.process_time() - processor))
            assert fired == (TRIGGERS if name == "triggers" else 0)
    return {
        name: (statistics.median(t[0] for t in times), statistics.median(t[1] for t in times))
        for name, times in taken.items()
    }


def report(dataset: Dataset, repetitions: int) -> dict[str, object]:
    count = len(dataset)
    order = np.arange(count, dtype=np.uint64)
    every = f"{-(-count // (TRIGGERS + 1))}s"
    started = time.perf_counter()
    go_along(dataset, TimeTrigger(every=NEVER))
    first_pass = time.perf_counter() - started
    taken = measure(
        {
            "floor": lambda: floor(dataset),
            "time": lambda: go_along(dataset, TimeTrigger(every=NEVER)),
            "python": lambda: go_along(dataset, Counts()),
            "run": lambda: go_along_as_run(dataset, TimeTrigger(every=NEVER)),
            "looks back": lambda: go_along_as_run(dataset, LooksBack()),
            "time order": lambda: go_along(dataset, TimeTrigger(every=NEVER), order),
            "triggers": lambda: go_along(dataset, TimeTrigger(every=every)),
        },
        repetitions,
    )
    beyond = (taken["triggers"][0] - taken["time"][0]) / TRIGGERS
    millions = {
        name: {"wall": round(count / wall / 1e6, 1), "processor": round(count / cpu / 1e6, 1)}
        for name, (wall, cpu) in taken.items()
        if name != "triggers"
    }
    return {
        "machine": machine_line(Path(dataset.path)),
        "samples": count,
        "million_arrivals_per_second": millions,
        "first_pass": round(count / first_pass / 1e6, 1),
        "milliseconds_per_trigger": round(1e3 * beyond, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--samples", type=int, default=20_000_000)
    parser.add_argument("--repetitions", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = report(make_dataset(Path(folder) / "stream", given.samples), given.repetitions)
    if given.json:
        print(json.dumps(found, indent=1))
        return
    print(found["machine"])
    for name, row in found["million_arrivals_per_second"].items():
        print(f"{name:12s} {row['wall']:8.1f} M/s   by processor {row['processor']:8.1f} M/s")
    print(f"first pass   {found['first_pass']:8.1f} M/s")
    print(f"per trigger  {found['milliseconds_per_trigger']:8.2f} ms")


if __name__ == "__main__":
    main()
