"""Stream order: which samples a run follows, one after the other."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modyn.dataset import Dataset
from modyn.errors import ConfigError
from modyn.pipelines.evaluate import is_ascending
from modyn.pipelines.times import timestamp

if TYPE_CHECKING:
    from modyn.pipelines.pipeline import Pipeline


@dataclass(frozen=True, kw_only=True)
class Stream:
    """The samples of a run in stream order.

    `order` holds their keys, or is None where all keys from 0 on are in order already.
    """

    count: int
    order: npt.NDArray[np.uint64] | None
    ascending: bool


def check_labels(pipeline: "Pipeline") -> None:
    """Find out now that a label fits neither the model nor a metric.

    Raises
    ------
    ConfigError
        Naming the dataset, the first such label and its key.
    """
    model, loss = pipeline.model, pipeline.training.optimization_criterion.name
    classes = model.config.get("num_classes", 1)
    if model.id == "MLP" and loss == "CrossEntropyLoss":
        _within(pipeline.dataset, classes, f"model.config.num_classes is {classes}")
    for data in pipeline.evaluation.datasets if pipeline.evaluation else ():
        for metric in data.metrics:
            if metric.classes is not None:
                _within(data.dataset, metric.classes, f"{metric.name} has {metric.classes} classes")


def _within(dataset: Dataset, classes: int, why: str) -> None:
    if dataset.labels is None:
        raise ConfigError(f"{dataset.path}: the dataset has no labels")
    wrong = (dataset.labels < 0) | (dataset.labels >= classes)
    if wrong.any():
        key = int(wrong.argmax())
        raise ConfigError(
            f"{dataset.path}: sample {key} has the label {dataset.labels[key]}; {why}"
        )


def stream_of(pipeline: "Pipeline", count: int) -> Stream:
    """Return the stream of a pipeline over the first `count` samples of its dataset."""
    times = pipeline.dataset.timestamps[:count]
    unit = pipeline.dataset.timestamp_unit
    start, stop = (
        None if moment is None else timestamp(moment, unit)
        for moment in (pipeline.start_replay_at, pipeline.stop_replay_at)
    )
    keys = None
    if start is not None or stop is not None:
        inside = np.ones(count, dtype=np.bool_)
        inside &= True if start is None else times >= start
        inside &= True if stop is None else times < stop
        keys = np.flatnonzero(inside).astype(np.uint64)
        times = times[keys]
    ascending = is_ascending(times)
    if pipeline.order == "time" and not ascending:
        by_time = np.argsort(times, kind="stable").astype(np.uint64)
        keys = by_time if keys is None else keys[by_time]
        ascending = True
    if keys is None and count < len(pipeline.dataset):
        keys = np.arange(count, dtype=np.uint64)
    if len(times) == 0:
        raise ConfigError(f"{pipeline.dataset.path}: no samples to follow ({count} in the dataset)")
    return Stream(count=len(times), order=keys, ascending=ascending)
