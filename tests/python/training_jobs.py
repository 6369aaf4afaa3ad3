"""Trainings on arrays, without a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from modyn.pipelines.settings import (
    Optimizer,
    ParamGroup,
    Training,
)
from modyn.pipelines.train import Job


@dataclass(frozen=True)
class ArrayBatch:
    """A batch of arrays, as a loader would give it."""

    fields: dict[str, Any]
    labels: Any
    weights: Any = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]


@dataclass
class ArrayBatches:
    """Batches of a few arrays, in another order each epoch."""

    x: np.ndarray
    labels: np.ndarray
    size: int
    weights: np.ndarray | None = None
    names: tuple[str, ...] = ("dense",)
    epochs: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return -(-len(self.labels) // self.size)

    def set_epoch(self, epoch: int) -> None:
        self.epochs.append(epoch)

    def __iter__(self) -> Iterator[ArrayBatch]:
        order = np.random.default_rng(self.epochs[-1]).permutation(len(self.labels))
        for first in range(0, len(order), self.size):
            rows = order[first : first + self.size]
            weights = None if self.weights is None else self.weights[rows]
            fields = dict.fromkeys(self.names, self.x[rows])
            yield ArrayBatch(fields, self.labels[rows], weights)


def two_blobs(rand: Any, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    labels = rand.numpy.integers(0, 2, count)
    x = rand.numpy.normal(size=(count, 3)) + 3 * labels[:, None]
    return x.astype(np.float32), labels.astype(np.int64)


def linear() -> nn.Module:
    return nn.Linear(3, 2)


def sgd(rate: float = 0.1, **more: Any) -> tuple[Optimizer, ...]:
    group = ParamGroup(config={"lr": rate, **more})
    return (Optimizer(algorithm="SGD", param_groups=(group,)),)


def job(batches: ArrayBatches, **changes: Any) -> Job:
    names = set(Training.__dataclass_fields__) - {"seed"}  # which a job has itself
    settings = {k: changes.pop(k) for k in list(changes) if k in names}
    training = Training(**{"batch_size": batches.size, "optimizers": sgd(), **settings})
    made = Job(
        training=training,
        make_model=linear,
        fields=batches.names,
        batches=batches,
        samples=len(batches.labels),
        seed=5,
    )
    return replace(made, **changes)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)
