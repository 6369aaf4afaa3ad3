"""How soon a run that follows sees what is committed, and what its training costs who commits.

    python -m benchmarks.following [--json] [--appends 200]

A process follows a dataset of small records with `Pipeline.follow`; this one appends ten samples at
a time, at random moments, and each append is durable when it returns.

    seen        seconds from that return to the moment at which the trigger policy is shown them
    backlog     the same for a million samples in one append
    append      milliseconds of an append: with nobody else, and while the other process trains all
                the time; on a machine with one processor the two share it
    after       seconds from the last batch of a training of about two seconds to the moment at
                which the policy is shown all that was appended meanwhile; once more, with a model
                that is then measured on 100 windows of 20,000 samples

Quantiles over all appends, and over ten trainings.  The trigger never fires for `seen`, at once and
for ever for `append`, and at once for `after`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
import threading
import time
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
BATCHES = 6_000  # of one sample: about two seconds
TRAININGS = 10
WINDOWS, OF_A_WINDOW = 100, 20_000
TRAINED = -1  # said in place of a count


class Tells(Trigger):
    """Says when it saw how many samples; fires after the first one, if it is to."""

    said: Connection  # of the process

    def __init__(self, *, fires: bool) -> None:
        self.fires = fires
        self._fired = False

    def inform(self, arrivals: Arrivals, context: Any) -> int | None:
        self.said.send((int(arrivals.keys[-1]) + 1, time.monotonic()))
        if self.fires and not self._fired:
            self._fired = True
            return 1
        return None


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
        epochs_per_trigger=max(batches, 1),
        optimizers=(Optimizer(algorithm="SGD", param_groups=(ParamGroup(config={"lr": 0.1}),)),),
    )
    pipeline = Pipeline(
        dataset=Dataset.open(path),
        model=Model(id="MLP", config={"num_classes": 2, "hidden": [8]}),
        trigger=Tells(fires=batches > 0),
        selection=NewData(tail_triggers=0),
        training=training,
        evaluation=None if measured is None else on_windows(measured),
    )
    stop = threading.Event()
    threading.Thread(target=lambda: (said.recv(), stop.set()), daemon=True).start()
    pipeline.follow(out, Looks(), stop=stop.is_set)


class Followed:
    """A dataset, and a process that follows it, and trains for so many batches at once."""

    def __init__(self, base: Path, *, batches: int = 0, measured: Path | None = None) -> None:
        self.dataset = Dataset.create(base / "stream", schema=FIELDS)
        self.append(1)
        self.said, theirs = multiprocessing.Pipe()
        arguments = base / "stream", base / "run", batches, measured, theirs
        self._process = multiprocessing.get_context("spawn").Process(target=follow, args=arguments)
        self._process.start()
        self.said.recv()

    def append(self, count: int) -> tuple[float, float]:
        """Append samples; returns when that began, and when it was over."""
        fields = {"dense": np.zeros((count, 8), np.float32)}
        labels, times = np.zeros(count, np.int64), np.zeros(count, np.int64)
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
    waits = []
    for number in range(TRAININGS):
        (base / str(number)).mkdir(parents=True)
        followed = Followed(base / str(number), batches=BATCHES, measured=measured)
        while not followed.said.poll(0.02):
            followed.append(10)
        count, trained = followed.said.recv()
        assert count == TRAINED
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--appends", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        found = measure_seen(Path(one), options.appends)
        found |= measure_appends(Path(two), options.appends)
        found["after_s"] = measure_after(Path(two, "after"), None)
        measured = windows_to_measure(Path(two, "measured"))
        found["after_measured_s"] = measure_after(Path(two, "both"), measured)
        machine = machine_line(Path(one))
    if options.json:
        print(json.dumps({"machine": machine, **found}, indent=2))
        return
    print(machine)
    for name, values in found.items():
        shown = values if isinstance(values, dict) else {"once": values}
        print(f"{name:>20}", *(f"{key} {value:8.3f}" for key, value in shown.items()))


if __name__ == "__main__":
    main()
