"""Stream order: which samples a run follows, one after the other."""

import os
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
    dataset = pipeline.dataset
    times = dataset.timestamps[:count]
    start, stop = (
        None if moment is None else timestamp(moment, dataset.timestamp_unit)
        for moment in (pipeline.start_replay_at, pipeline.stop_replay_at)
    )
    by_time = dataset.time_order(threads=os.cpu_count() or 1) if pipeline.order == "time" else None
    if by_time is not None:
        keys, ascending = _by_time(by_time, times, start, stop)
    else:
        keys, ascending = _by_arrival(times, start, stop)
    if keys is None and count < len(dataset):
        keys = np.arange(count, dtype=np.uint64)
    length = count if keys is None else len(keys)
    if length == 0:
        raise ConfigError(f"{dataset.path}: no samples to follow ({count} in the dataset)")
    return Stream(count=length, order=keys, ascending=ascending)


def _by_arrival(
    times: npt.NDArray[np.int64], start: int | None, stop: int | None
) -> tuple[npt.NDArray[np.uint64] | None, bool]:
    """Return the keys with start <= time < stop, ascending, and whether their times ascend."""
    if start is None and stop is None:
        return None, is_ascending(times)
    inside = np.ones(len(times), dtype=np.bool_)
    inside &= True if start is None else times >= start
    inside &= True if stop is None else times < stop
    keys = np.flatnonzero(inside).astype(np.uint64)
    return keys, is_ascending(times[keys])


def _by_time(
    order: npt.NDArray[np.uint64],
    times: npt.NDArray[np.int64],
    start: int | None,
    stop: int | None,
) -> tuple[npt.NDArray[np.uint64] | None, bool]:
    """Return the keys below len(times) with start <= time < stop, in time order."""
    if len(order) > len(times):
        order = order[order < len(times)]
    # The times in this order ascend; a search looks at few of them and gathers none.
    sorter = order.view(np.int64)
    first = 0 if start is None else int(np.searchsorted(times, start, sorter=sorter))
    last = len(order) if stop is None else int(np.searchsorted(times, stop, sorter=sorter))
    return order[first : max(first, last)], True
