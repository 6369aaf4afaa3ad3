"""What batch-then-sample costs beside the forward pass that it needs.

    python -m benchmarks.downsampling [--samples N] [--repetitions R] [--batch-size B ...]
                                      [--hidden H]

    forward    all samples go forward through the model, in eval mode, as the loader brings them
    half       plain training on half of the samples
    a method   batch-then-sample with it, at 50 percent, on all samples

The budget: a method takes no more than forward and half together, and 5 percent.  Ratios are those
of one repetition, of which the median is shown; seconds are those of the thread that trains, so
that others on the machine disturb little.  An MLP (64-H-H-10), float32, one
thread of torch; the smaller the model, the more what is fixed for each batch counts.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

import modyn
from benchmarks.machine import machine_line
from modyn.downsampling import Downsampler, GradNorm, Loss, Uncertainty, Uniform
from modyn.pipelines.calls import one_thread
from modyn.pipelines.jobs import Job
from modyn.pipelines.samples import ChosenSamples, loader_of
from modyn.pipelines.settings import Optimizer, ParamGroup, Training
from modyn.pipelines.train import train
from modyn.trainset import TrainingSet

WIDTH, CLASSES, BUDGET = 64, 10, 1.05
METHODS: dict[str, Downsampler] = {
    "Uniform (no forward pass)": Uniform(ratio=50),
    "Loss": Loss(ratio=50),
    "GradNorm": GradNorm(ratio=50),
    "Uncertainty, Margin": Uncertainty(ratio=50, score_metric="Margin"),
}


def mlp(hidden: int) -> nn.Module:
    """Return a fresh model."""
    layers = [nn.Linear(WIDTH, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, CLASSES))


class Ground:
    """A dataset, and trainings on it."""

    def __init__(self, folder: Path, samples: int, batch_size: int, hidden: int) -> None:
        self._hidden = hidden
        rng = np.random.default_rng(0)
        self._data = modyn.Dataset.create(folder / "d", schema={"x": f"float32[{WIDTH}]"})
        x = rng.normal(size=(samples, WIDTH)).astype(np.float32)
        labels = rng.integers(0, CLASSES, samples)
        self._data.append({"x": x}, labels=labels, timestamps=np.arange(samples))
        self._all = TrainingSet.write(folder, np.arange(samples))
        self._half = TrainingSet.write(folder, np.arange(0, samples, 2))
        sgd = Optimizer(algorithm="SGD", param_groups=(ParamGroup(config={"lr": 0.01}),))
        self._training = Training(batch_size=batch_size, optimizers=(sgd,))

    def forward(self) -> None:
        """Show all samples to a model."""
        model = mlp(self._hidden).eval()
        with torch.no_grad(), one_thread():
            for batch in loader_of(self._data, self._all, self._training, seed=1):
                model(batch["x"])

    def train(self, downsampler: Downsampler | None, *, half: bool = False) -> None:
        """Train a model for an epoch."""
        chosen = self._half if half else self._all
        job = Job(
            training=self._training,
            make_model=lambda: mlp(self._hidden),
            fields=("x",),
            batches=loader_of(self._data, chosen, self._training, seed=1),
            samples=len(chosen),
            seed=1,
            downsampling=downsampler,
            pool=ChosenSamples(self._data, chosen, self._training, 1),
        )
        train(job)


def seconds(work: Callable[[], None]) -> float:
    """Return the seconds that this thread works."""
    start = time.thread_time()
    work()
    return time.thread_time() - start


def measure(ground: Ground, repetitions: int) -> dict[str, list[float]]:
    """Return, for each method, its time over that of forward and half, by repetition."""
    found: dict[str, list[float]] = {}
    for repetition in range(repetitions + 1):  # the first warms up
        forward = seconds(ground.forward)
        half = seconds(lambda: ground.train(None, half=True))
        times = {"all samples, plain": seconds(lambda: ground.train(None))}
        for name, method in METHODS.items():
            times[name] = seconds(lambda method=method: ground.train(method))  # type: ignore[misc]
        for name, value in times.items() if repetition else ():
            needed = half if "no forward" in name else half + forward
            found.setdefault(name, []).append(value / needed)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--batch-size", type=int, nargs="+", default=[512, 4096])
    parser.add_argument("--hidden", type=int, default=1024)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(machine_line(Path(folder)))
        for size in given.batch_size:
            place = Path(folder) / str(size)
            place.mkdir()
            print(
                f"batches of {size}, hidden layers of {given.hidden}: "
                "time over forward and half, median [least, greatest]"
            )
            ground = Ground(place, given.samples, size, given.hidden)
            for name, ratios in measure(ground, given.repetitions).items():
                middle = statistics.median(ratios)
                met = "" if "plain" in name else ("  met" if middle <= BUDGET else "  MISSED")
                print(f"  {name:28s}{middle:.3f} [{min(ratios):.3f}, {max(ratios):.3f}]{met}")


if __name__ == "__main__":
    main()
