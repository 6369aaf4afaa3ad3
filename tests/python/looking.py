"""A policy that looks, and what it has seen."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

import modyn
from modyn.pipelines import Training
from modyn.policies.batched import BatchedTrigger, Interval
from modyn.policies.context import Context
from tests.python.streams import pipeline, sgd

COUNT = 330


def some(*keys: int) -> np.ndarray:
    return np.array(keys, dtype=np.uint64)


def erase(dataset: modyn.Dataset, keys: list[int], *, compact: bool) -> None:
    with modyn.Dataset.open(dataset.path, mode="w") as writer:
        writer.erase(keys, reason="asked for")
        if compact:
            writer.compact()
    dataset.refresh()


class Looking(BatchedTrigger):
    """Fires where the mean loss is above a border, and keeps what it saw."""

    seen: ClassVar[list[tuple[Any, ...]]] = []

    def decide(self, interval: Interval, context: Context) -> bool:
        samples = context.samples(interval.first, interval.last)
        embeddings = context.embeddings(samples.keys)
        predictions = context.predictions(samples.keys)
        losses = context.losses(samples.keys)
        assert np.allclose(predictions.sum(axis=1), 1, atol=1e-6)
        labels = context.labels(samples.keys)
        chosen = predictions[np.arange(len(labels)), labels]
        assert np.allclose(losses, -np.log(chosen), atol=1e-5)
        assert embeddings.shape == (len(samples), 8)
        last = context.models[-1]
        self.seen.append((context.position, context.clock, last.model, embeddings.tobytes()))
        return bool(losses.mean() > 0.6) and context.position - context.triggered_at >= 60


def looking(dataset: modyn.Dataset, **changes: Any) -> Any:
    trigger = Looking(evaluation_interval_data_points=30)
    training = Training(batch_size=32, optimizers=sgd())
    settings = {"trigger": trigger, "training": training, "evaluation": None, **changes}
    return pipeline(dataset, **settings)
