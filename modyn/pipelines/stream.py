"""Stream order: which samples a run follows, one after the other.

It is found out when a run begins, and kept in the directory of the run: what is erased later
keeps its position, and is passed over, so that all positions of the ledger stay what they are.

    stream.npy    two arrays as NumPy saves them: how many samples, whether times ascend, and 1
                  for a file with a seal (uint64); their keys in stream order (uint64).  Then the
                  seal, 32 bytes: the BLAKE2b of all before it

Files without the 1 are of earlier versions: they end there, and only what shows is noticed.
"""

import io
import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from modyn.dataset import Dataset
from modyn.errors import ConfigError, RunCorruptError
from modyn.pipelines import durable
from modyn.pipelines.evaluate import is_ascending
from modyn.pipelines.fit_trigger import judged_metrics
from modyn.pipelines.rundir import MODELS
from modyn.pipelines.sealed import SEAL_BYTES, is_whole, seal_of
from modyn.pipelines.times import timestamp

if TYPE_CHECKING:
    from modyn.metadata.source import Source
    from modyn.pipelines.pipeline import Pipeline

SEALED = 1
# What NumPy raises for a file that it cannot read.
UNREADABLE = (ValueError, EOFError, SyntaxError, TokenError, TypeError, MemoryError)


@dataclass(frozen=True, kw_only=True)
class Stream:
    """The samples of a run in stream order.

    `order` holds their keys, or is None where all keys from 0 on are in order already.  `source`
    is where a database has them, None where the columns of the dataset are read.
    """

    count: int
    order: npt.NDArray[np.uint64] | None
    ascending: bool
    source: "Source | None" = None


def check_labels(pipeline: "Pipeline", first: int = 0) -> None:
    """Find out now that a label fits neither the model nor a metric.

    Parameters
    ----------
    pipeline : Pipeline
    first : int
        If above 0, only the samples from this key on of the dataset that is followed.

    Raises
    ------
    ConfigError
        Naming the dataset, the first such label and its key.
    """
    model, loss = pipeline.model, pipeline.training.optimization_criterion.name
    classes = model.config.get("num_classes", 1)
    if model.id == "MLP" and loss == "CrossEntropyLoss":
        _within(pipeline.dataset, classes, f"model.config.num_classes is {classes}", first)
    for metric in judged_metrics(pipeline.trigger):
        if metric.classes is not None:
            why = f"{metric.name} of the trigger has {metric.classes} classes"
            _within(pipeline.dataset, metric.classes, why, first)
    for data in pipeline.evaluation.datasets if pipeline.evaluation else ():
        if first and data.dataset.uuid != pipeline.dataset.uuid:
            continue
        for metric in data.metrics:
            if metric.classes is not None:
                why = f"{metric.name} has {metric.classes} classes"
                _within(data.dataset, metric.classes, why, first)


def _within(dataset: Dataset, classes: int, why: str, first: int) -> None:
    view = dataset.view
    labels = view.columns(first, view.count - first)[1]
    if labels is None:
        raise ConfigError(f"{dataset.path}: the dataset has no labels")
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        key = int(wrong.argmax())
        raise ConfigError(
            f"{dataset.path}: sample {first + key} has the label {labels[key]}; {why}"
        )


def keep(stream: Stream, path: Path) -> None:
    """Put the order of a stream down, durably, if there is anything to say."""
    if stream.order is None:
        return
    content = io.BytesIO()
    facts = (stream.count, int(stream.ascending), SEALED)
    np.save(content, np.asarray(facts, dtype=np.uint64))
    np.save(content, stream.order)
    content.write(seal_of(content.getbuffer()))
    durable.replace(path, content.getbuffer())


def kept(path: Path) -> Stream | None:
    """Return the stream that was put down, or None if keys are in order.

    Raises
    ------
    RunCorruptError
        When the file is damaged; names it.
    """
    if not path.exists():
        return None
    try:
        with open(path, "rb") as file:
            return _read(file)
    except UNREADABLE as error:
        raise _damaged(path, str(error)) from None


def _read(file: BinaryIO) -> Stream:
    size = os.fstat(file.fileno()).st_size
    count, ascending, *sealed = np.load(file, allow_pickle=False).tolist()
    begin = file.tell()
    if sealed and not is_whole(file, size):
        raise ValueError("the bytes do not match the checksum")
    file.seek(begin)
    order = np.load(file, allow_pickle=False)
    if order.dtype != np.uint64 or order.shape != (count,):
        raise ValueError(f"it does not hold the keys of {count} samples")
    rest = size - file.tell()
    if rest != (SEAL_BYTES if sealed else 0):
        raise ValueError(f"{rest} bytes behind the keys")
    return Stream(count=count, order=order, ascending=bool(ascending))


def _damaged(path: Path, what: str) -> RunCorruptError:
    return RunCorruptError(
        f"{path}: damaged ({what}); restore it from a copy, or run the pipeline again in another "
        f"output directory: with --models {shlex.quote(str(path.parent / MODELS))} no model of "
        "this one is trained again"
    )


def stream_of(pipeline: "Pipeline", count: int) -> Stream:
    """Return the stream of a pipeline over the first `count` samples of its dataset."""
    dataset = pipeline.dataset
    view = dataset.view
    start, stop = bounds(pipeline)
    if pipeline.order == "time":
        keys, ascending = _by_time(dataset, count, start, stop), True
    else:
        keys, ascending = by_arrival(dataset, count, start, stop)
    if keys is None and count < view.count:
        keys = np.arange(count, dtype=np.uint64)
    length = count if keys is None else len(keys)
    if length == 0:
        raise ConfigError(f"{view.path}: no samples to follow ({count} in the dataset)")
    return Stream(count=length, order=keys, ascending=ascending)


def in_key_order(pipeline: "Pipeline", count: int, path: Path) -> Stream:
    """Return the stream of a run of which no order was put down: all keys from 0 on.

    Whether the times of erased samples ascend is not looked at again: a compaction takes them away.

    Parameters
    ----------
    pipeline : Pipeline
    count : int
        Of the first samples, which the stream is of.
    path : Path
        Where an order would be.

    Raises
    ------
    RunCorruptError
        When these keys are not in the order of the pipeline, so that there was a file.
    """
    dataset = pipeline.dataset
    keys = np.arange(count, dtype=np.uint64) if count < dataset.view.count else None
    ascending = by_arrival(dataset, count, None, None)[1]
    if bounds(pipeline) != (None, None) or (pipeline.order == "time" and not ascending):
        raise _damaged(path, "it is missing")
    return Stream(count=count, order=keys, ascending=ascending)


def bounds(pipeline: "Pipeline") -> tuple[int | None, int | None]:
    """Return the timestamps between which a pipeline follows its dataset, in the dataset's unit."""
    unit = pipeline.dataset.timestamp_unit
    start, stop = (
        None if moment is None else timestamp(moment, unit)
        for moment in (pipeline.start_replay_at, pipeline.stop_replay_at)
    )
    return start, stop


def by_arrival(
    dataset: Dataset, count: int, start: int | None, stop: int | None
) -> tuple[npt.NDArray[np.uint64] | None, bool]:
    """Return the keys with start <= time < stop, ascending, and whether their times ascend."""
    times, erased = dataset.timestamps[:count], dataset.erased[:count]
    if start is None and stop is None:
        return None, is_ascending(times[~erased] if erased.any() else times)
    inside = ~erased
    inside &= True if start is None else times >= start
    inside &= True if stop is None else times < stop
    if erased.any():  # they stay where they were; their times are not shown, but their order is
        by_time = _by_time(dataset, count, start, stop)
        if by_time is not None:
            inside[by_time[erased[by_time]]] = True
    keys = np.flatnonzero(inside).astype(np.uint64)
    return keys, is_ascending(times[inside & ~erased])


def _by_time(
    dataset: Dataset, count: int, start: int | None, stop: int | None
) -> npt.NDArray[np.uint64] | None:
    """Return the keys with start <= time < stop in time order; None for all keys from 0 on.

    Erased samples stay in it, where they were, so that erasing moves no position; who reads
    the stream leaves them out.
    """
    view = dataset.view
    order = view.time_order(os.cpu_count() or 1)
    if order is None and start is None and stop is None:
        return None
    if order is None:
        order = np.arange(count, dtype=np.uint64)
    elif count < view.count:
        order = order[order < count]
    first = 0 if start is None else view.time_position(order, start)
    last = len(order) if stop is None else view.time_position(order, stop)
    return order[first : max(first, last)]
