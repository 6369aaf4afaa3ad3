"""Small real streams for tests of pipelines: two classes whose border drifts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import modyn
from modyn.pipelines import (
    Accuracy,
    EvalDataset,
    EvalHandler,
    Evaluation,
    Model,
    Optimizer,
    ParamGroup,
    Pipeline,
    RocAuc,
    Run,
    SlicingEvalStrategy,
    Training,
)
from modyn.policies import DataAmountTrigger, NewData
from modyn.signals import SIGNALS, Signals
from modyn.trainset import TrainingSet


def drifting(path: Path, *, count: int = 600, seed: int = 1, order: str = "time") -> modyn.Dataset:
    """Make a dataset of `count` samples, one per second; "late" times come in no order."""
    rng = np.random.default_rng(seed)
    times = np.arange(count) - 100
    if order == "late":
        times = times + rng.integers(-40, 40, count)
    x = rng.normal(size=(count, 4)).astype(np.float32)
    labels = (x[:, 0] + x[:, 1] * (times / count) > 0).astype(np.int64)
    dataset = modyn.Dataset.create(path, schema={"dense": "float32[4]"})
    dataset.append({"dense": x}, labels=labels, timestamps=times)
    dataset.close()
    return modyn.Dataset.open(path)


@pytest.fixture
def stream(tmp_path: Path) -> modyn.Dataset:
    return drifting(tmp_path / "stream")


@pytest.fixture
def late(tmp_path: Path) -> modyn.Dataset:
    return drifting(tmp_path / "late", order="late")


def sgd(**more: Any) -> tuple[Optimizer, ...]:
    group = ParamGroup(config={"lr": 0.1, "momentum": 0.9, **more})
    return (Optimizer(algorithm="SGD", param_groups=(group,)),)


def training(**changes: Any) -> Training:
    """A training that keeps all signals."""
    given = {"batch_size": 32, "epochs_per_trigger": 2, "optimizers": sgd(), "signals": SIGNALS}
    return Training(**{**given, **changes})


def slices(**changes: Any) -> Evaluation:
    """Every model on slices of 100 seconds."""
    handler = {
        "strategy": SlicingEvalStrategy(eval_every="100s"),
        "models": "matrix",
        **changes,
    }
    return Evaluation(
        handlers=(EvalHandler(**handler),),
        datasets=(EvalDataset(metrics=(Accuracy(), RocAuc()), batch_size=128),),
    )


def pipeline(dataset: modyn.Dataset, **changes: Any) -> Pipeline:
    """A pipeline with a trigger every 150 samples, all of it changeable."""
    settings: dict[str, Any] = {
        "dataset": dataset,
        "model": Model(id="MLP", config={"num_classes": 2, "hidden": [8]}),
        "trigger": DataAmountTrigger(num_samples=150),
        "selection": NewData(tail_triggers=0),
        "training": Training(batch_size=32, epochs_per_trigger=2, optimizers=sgd()),
        "evaluation": slices(),
        "seed": 3,
        **changes,
    }
    return Pipeline(**settings)


def keys_of(run: Run, trigger: int) -> list[int]:
    """The training set of a trigger."""
    digest = run.triggers["digest"][trigger]
    return TrainingSet.open(run.path / "trainsets" / f"{digest}.set").keys.tolist()


def tuples(found: Signals) -> list[tuple[Any, ...]]:
    """The rows: key, epoch, and what was measured."""
    columns = [column.tolist() for column in found.columns.values()]
    return list(zip(found.keys.tolist(), found.epoch.tolist(), *columns, strict=True))
