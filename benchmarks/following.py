"""How soon a run that follows sees what is committed, and what its training costs who commits.

    python -m benchmarks.following [--json] [--appends 200]

A process follows a dataset of small records with `Pipeline.follow`; this one appends ten samples at
a time, at random moments, and each append is durable when it returns.

    seen        seconds from that return to the moment at which the trigger policy is shown them
    backlog     the same for a million samples in one append
    append      milliseconds of an append: with nobody else, and while the other process trains all
                the time; on a machine with one processor the two share it
    after       seconds from the last batch of a training of some seconds to the moment at
                which the policy is shown all that was appended meanwhile; once more, with a model
                that is then measured on 100 windows of 20,000 samples

Quantiles over all appends, and over five trainings.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import machine_line
from modyn.arrivals import Arrivals
from modyn.dataset import Dataset
from modyn.pipelines import (
    Accuracy,
    EvalDataset,
    EvalHandler,
    Evaluation,
    Model,
    Optimizer,
    ParamGroup,
    Pipeline,
    SlicingEvalStrategy,
    Training,
)
from modyn.pipelines.progress import Silent
from modyn.policies import NewData, Trigger

FIELDS = {"dense": "float32[8]"}
BACKLOG = 1_000_000
BATCHES = 500  # of one sample
TRAININGS = 5
WINDOWS, OF_A_WINDOW = 100, 20_000
TRAINED = -1  # said in place of a count


class Tells(Trigger):
    """Says when it saw how many samples; fires after each with the label 1."""

    said: Connection  # of the process

    def inform(self, arrivals: Arrivals, context: Any) -> int | None:
        self.said.send((int(arrivals.keys[-1]) + 1, time.monotonic()))
        assert arrivals.labels is not None
        places = np.flatnonzero(arrivals.labels == 1)
        return int(places[0]) + 1 if len(places) else None


class Looks(Silent):
    """Says when the last batch was trained on."""

    def batch(self, done: int, total: int, /) -> None:
        if done == total:
            Tells.said.send((TRAINED, time.monotonic()))


def on_windows(path: Path) -> Evaluation:
    """Measure each model on windows of another dataset."""
    each = SlicingEvalStrategy(eval_every=f"{OF_A_WINDOW}s")
    handler = EvalHandler(strategy=each, models="matrix", execution_time="after_training")
    data = EvalDataset(dataset=Dataset.open(path), metrics=(Accuracy(),), batch_size=1000)
    return Evaluation(handlers=(handler,), datasets=(data,))


def follow(path: Path, out: Path, batches: int, measured: Path | None, said: Connection) -> None:
    """Follow until the other end of the pipe asks to stop."""
    Tells.said = said
    training = Training(
        batch_size=1,
        epochs_per_trigger=batches,
        optimizers=(Optimizer(algorithm="SGD", param_groups=(ParamGroup(config={"lr": 0.1}),)),),
    )
    pipeline = Pipeline(
        dataset=Dataset.open(path),
        model=Model(id="MLP", config={"num_classes": 2, "hidden": [8]}),
        trigger=Tells(),
        selection=NewData(tail_triggers=0, limit=1),
        training=training,
        evaluation=None if measured is None else on_windows(measured),
    )
    stop = threading.Event()
    threading.Thread(target=lambda: (said.recv(), stop.set()), daemon=True).start()
    pipeline.follow(out, Looks(), stop=stop.is_set)


class Followed:
    """A dataset, and a process that follows it; a training has so many batches."""

    def __init__(self, base: Path, *, batches: int = 1, measured: Path | None = None) -> None:
        self.dataset = Dataset.create(base / "stream", schema=FIELDS)
        self.append(1)
        self.said, theirs = multiprocessing.Pipe()
        arguments = base / "stream", base / "run", batches, measured, theirs
        self._process = multiprocessing.get_context("spawn").Process(target=follow, args=arguments)
        self._process.start()
        self.said.recv()

    def append(self, count: int, label: int = 0) -> tuple[float, float]:
        """Append samples; returns when that began, and when it was over."""
        fields = {"dense": np.zeros((count, 8), np.float32)}
        labels, times = np.full(count, label), np.zeros(count, np.int64)
        began = time.monotonic()
        self.dataset.append(fields, labels=labels, timestamps=times)
        return began, time.monotonic()

    def seen(self) -> float:
        """Wait until all samples were shown to the policy; returns when."""
        while True:
            count, moment = self.said.recv()
            if count == len(self.dataset):
                return float(moment)

    def end(self) -> None:
        self.said.send("stop")
        self._process.join()
        self.dataset.close()


def quantiles(values: list[float]) -> dict[str, float]:
    found = np.quantile(values, [0.5, 0.99, 1.0]).tolist()
    return dict(zip(("median", "p99", "most"), found, strict=True))


def measure_seen(base: Path, appends: int) -> dict[str, Any]:
    rand = np.random.default_rng(1)
    followed, waits = Followed(base), []
    for _ in range(appends):
        time.sleep(rand.uniform(0, 0.3))
        _, committed = followed.append(10)
        waits.append(max(followed.seen() - committed, 0.0))
    _, committed = followed.append(BACKLOG)
    backlog = followed.seen() - committed
    followed.end()
    return {"seen_s": quantiles(waits), "backlog_s": backlog}


def measure_appends(base: Path, appends: int) -> dict[str, Any]:
    alone = Dataset.create(base / "alone", schema=FIELDS)
    found = {}
    followed = Followed(base, batches=10**9)
    followed.append(1, label=1)  # which never ends
    for name, dataset in (("while_training_ms", followed.dataset), ("alone_ms", alone)):
        if name == "alone_ms":
            followed.end()
        followed.dataset = dataset
        spans = [followed.append(10) for _ in range(appends)]
        found[name] = quantiles([1000 * (end - began) for began, end in spans])
    alone.close()
    return found


def measure_after(base: Path, measured: Path | None) -> dict[str, float]:
    """Append all along a training, and see when that is shown to the policy after it."""
    base.mkdir()
    followed, waits = Followed(base, batches=BATCHES, measured=measured), []
    for _ in range(TRAININGS):
        followed.append(1, label=1)
        count = 0
        while count != TRAINED:
            followed.append(10)
            if followed.said.poll(0.02):
                count, trained = followed.said.recv()
        waits.append(followed.seen() - trained)
    followed.end()
    return quantiles(waits)


def windows_to_measure(path: Path) -> Path:
    """Make the dataset that models are measured on."""
    count = WINDOWS * OF_A_WINDOW
    with Dataset.create(path, schema=FIELDS) as dataset:
        fields = {"dense": np.zeros((count, 8), np.float32)}
        dataset.append(fields, labels=np.zeros(count, np.int64), timestamps=np.arange(count))
    return path


def measurements(base: Path, appends: int) -> Iterator[dict[str, Any]]:
    """Yield what is found, one by one."""
    for name in ("seen", "append"):
        (base / name).mkdir()
    yield measure_seen(base / "seen", appends)
    yield measure_appends(base / "append", appends)
    yield {"after_s": measure_after(base / "after", None)}
    measured = windows_to_measure(base / "measured")
    yield {"after_measured_s": measure_after(base / "both", measured)}


def show(found: dict[str, Any]) -> None:
    for name, values in found.items():
        shown = values if isinstance(values, dict) else {"once": values}
        print(f"{name:>20}", *(f"{key} {value:8.3f}" for key, value in shown.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--appends", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result: dict[str, Any] = {"machine": machine_line(Path(folder))}
        if not options.json:
            print(result["machine"])
        for found in measurements(Path(folder), options.appends):
            result |= found
            if not options.json:
                show(found)
    if options.json:
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
