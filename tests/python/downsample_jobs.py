"""Trainings with downsampling on arrays, without a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from modyn.downsampling import Chosen, Downsampler
from modyn.pipelines.jobs import Job
from modyn.pipelines.settings import Optimizer, ParamGroup, Training

COUNT = 150
SIZE = 16


@dataclass(frozen=True)
class ArrayBatch:
    keys: np.ndarray
    x: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, name: str) -> np.ndarray:
        return self.x


@dataclass
class ArrayBatches:
    """Rows of arrays in batches; shuffled by epoch if there is one."""

    data: ArrayBatch
    size: int = SIZE
    shuffled: bool = True
    drop_last: bool = False
    epoch: int = 0

    def __len__(self) -> int:
        count = len(self.data)
        return count // self.size if self.drop_last else -(-count // self.size)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[ArrayBatch]:
        count = len(self.data)
        rows = np.arange(count)
        if self.shuffled:
            rows = np.random.default_rng([self.epoch, count]).permutation(count)
        for i in range(len(self)):
            yield part_of(self.data, rows[i * self.size : (i + 1) * self.size])


def part_of(data: ArrayBatch, rows: np.ndarray) -> ArrayBatch:
    weights = None if data.weights is None else data.weights[rows]
    return ArrayBatch(data.keys[rows], data.x[rows], data.labels[rows], weights)


@dataclass
class ArraySamples:
    """The same for sample-then-batch."""

    data: ArrayBatch
    size: int = SIZE
    drop_last: bool = False
    trained: list[np.ndarray] = field(default_factory=list)

    @property
    def keys(self) -> np.ndarray:
        return self.data.keys

    @property
    def labels(self) -> np.ndarray:
        return self.data.labels

    @property
    def weights(self) -> np.ndarray | None:
        return self.data.weights

    def in_order(self, keys: np.ndarray) -> ArrayBatches:
        rows = np.searchsorted(self.keys, keys)
        return ArrayBatches(replace(part_of(self.data, rows), weights=None), self.size, False)

    def to_train(self, keys: np.ndarray, weights: np.ndarray | None) -> ArrayBatches:
        self.trained.append(keys)
        rows = np.searchsorted(self.keys, keys)
        data = replace(part_of(self.data, rows), weights=weights)
        drop = self.drop_last and len(keys) >= self.size
        return ArrayBatches(data, self.size, drop_last=drop)


class Noisy(nn.Module):
    """With dropout and batch normalisation: what a model looks at changes neither."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


def linear() -> nn.Module:
    return nn.Linear(3, 3)


class HighestLoss(Downsampler):
    needs = ("losses",)

    def score(self, pool: Any) -> torch.Tensor:
        return pool.losses


class Blind(Downsampler):
    """A uniform draw, which looks at nothing."""

    needs = ()

    def choose(self, pool: Any, count: int, context: Any) -> Chosen:
        return Chosen(context.random().permutation(len(pool))[:count])


def made(seed: int = 0, count: int = COUNT, weights: bool = False) -> ArrayBatch:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count)
    x = (rng.normal(size=(count, 3)) + 2 * np.eye(3)[labels]).astype(np.float32)
    own = rng.uniform(0.2, 3.0, count) if weights else None
    return ArrayBatch(10 + 3 * np.arange(count, dtype=np.uint64), x, labels, own)


def job_of(
    data: ArrayBatch, downsampling: Downsampler | None, *, drop_last: bool = False, **changes: Any
) -> Job:
    names = set(Training.__dataclass_fields__)
    sgd = Optimizer(algorithm="SGD", param_groups=(ParamGroup(config={"lr": 0.1}),))
    settings = {"batch_size": SIZE, "epochs_per_trigger": 3, "optimizers": (sgd,)}
    settings |= {"drop_last_batch": drop_last}
    settings |= {k: changes.pop(k) for k in list(changes) if k in names}
    training = Training(**settings)
    size = training.batch_size
    return replace(
        Job(
            training=training,
            make_model=linear,
            fields=("x",),
            batches=ArrayBatches(data, size, drop_last=drop_last and len(data) >= size),
            samples=len(data),
            seed=7,
            downsampling=downsampling,
            pool=ArraySamples(data, size, drop_last),
        ),
        **changes,
    )


def same(one: Any, other: Any) -> bool:
    return one.weights.keys() == other.weights.keys() and all(
        torch.equal(one.weights[name], other.weights[name]) for name in one.weights
    )


@dataclass
class Seen:
    """Who looks on: what each batch was trained on."""

    keys: list[list[int]] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    done: tuple[int, int] = (0, 0)

    def epoch(self, index: int, epochs: int = 0) -> None:
        if epochs == 0:
            self.epochs.append(index)

    def batch(self, first: Any, *rest: Any) -> None:
        if len(rest) == 1:
            self.done = first, rest[0]
        else:
            self.keys.append(np.asarray(first.keys).tolist())


class Multiples(Downsampler):
    """Keeps the lowest keys of each batch; looks at nothing."""

    needs = ()

    def choose(self, pool: Any, count: int, context: Any) -> Chosen:
        return Chosen(np.argsort(pool.keys)[:count])
