"""Measuring models: each goes once over the samples of all windows that it is measured on.

Windows are half-open intervals of timestamps, in whatever order the samples arrived.  A window's
result is made of counts of batches that can be added, so it does not depend on how its samples
were cut into batches; an undefined metric is None.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn.loader import Loader
from modyn.pipelines.calls import call_model, device_of, one_thread
from modyn.pipelines.metrics import Counts, Labels, Metric, Part, Scores
from modyn.pipelines.windows import Span, Window

if TYPE_CHECKING:
    import torch

    from modyn.dataset import Dataset

Timestamps = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One metric of one window."""

    window: Window
    metric: str
    count: int
    counts: Counts
    value: float | None


@dataclass(frozen=True, kw_only=True)
class Source:
    """Samples to measure on: the first `count` keys of a dataset, as of the run's start.

    Parameters
    ----------
    dataset : Dataset
        With labels.
    count : int
        Samples of it that take part.
    fields : tuple of str
        What goes to the model.
    batch_size, threads : int
        How samples are read.
    """

    dataset: "Dataset"
    count: int
    fields: tuple[str, ...]
    batch_size: int
    threads: int

    @cached_property
    def timestamps(self) -> Timestamps:
        """The timestamps by key."""
        return self.dataset.timestamps[: self.count]

    @cached_property
    def living(self) -> npt.NDArray[np.bool_] | None:
        """Which samples are not erased, by key; None where all are there."""
        view = self.dataset.view
        return ~view.erased(0, self.count) if view.erased_count else None

    @cached_property
    def sorted_timestamps(self) -> Timestamps:
        """The timestamps of samples that are not erased, in ascending order."""
        times = self.timestamps if self.living is None else self.timestamps[self.living]
        return times if is_ascending(times) else np.sort(times)

    def keys_of(self, windows: Sequence[Window]) -> npt.NDArray[np.uint64]:
        """Return the keys of all samples in any of the windows, ascending."""
        keys = keys_of(self.timestamps, windows)
        return keys if self.living is None else keys[self.living[keys]]

    def span(self) -> Span:
        """Return the first and the last timestamp; there must be samples."""
        times = self.sorted_timestamps
        return Span(first=int(times[0]), last=int(times[-1]), unit=self.dataset.timestamp_unit)

    def size(self, windows: Sequence[Window]) -> int:
        """Return how many samples are in any of the windows."""
        edges = np.array(_merged(windows), dtype=np.int64).reshape(-1)
        places = np.searchsorted(self.sorted_timestamps, edges, side="left")
        return int((places[1::2] - places[::2]).sum())


def is_ascending(timestamps: Timestamps) -> bool:
    """Return whether no timestamp is smaller than the one before.

    Examples
    --------
    >>> is_ascending(np.array([1, 1, 2])), is_ascending(np.array([2, 1]))
    (True, False)
    """
    return bool((timestamps[1:] >= timestamps[:-1]).all())


def keys_of(timestamps: Timestamps, windows: Sequence[Window]) -> npt.NDArray[np.uint64]:
    """Return the keys of all samples in any of the windows, ascending.

    Examples
    --------
    >>> both = [Window(start=0, end=2, anchor=0), Window(start=1, end=3, anchor=1)]
    >>> keys_of(np.array([0, 5, 1, 2]), both)
    array([0, 2, 3], dtype=uint64)
    """
    chosen = np.zeros(len(timestamps), dtype=np.bool_)
    for start, end in _merged(windows):
        chosen |= (timestamps >= start) & (timestamps < end)
    return np.flatnonzero(chosen).astype(np.uint64)


def evaluate(
    model: "torch.nn.Module",
    source: Source,
    windows: Sequence[Window],
    metrics: Sequence[Metric],
    *,
    device: str = "cpu",
    progress: Callable[[int], None] = lambda samples: None,
) -> list[Measured]:
    """Return every metric of every window, windows first.

    Parameters
    ----------
    model : torch.nn.Module
        Is put into evaluation mode and moved to the device.
    source : Source
        Where samples come from.
    windows, metrics : sequence
        What is measured.
    device : str
        "cpu" or "cuda:N".
    progress : callable
        Is told how many samples were seen after each batch.
    """
    parts: list[list[list[Part]]] = [[[] for _ in metrics] for _ in windows]
    counts = [0] * len(windows)
    keys = source.keys_of(windows)
    for batch in _forward(model, source, keys, device):
        times = source.timestamps[batch.keys]
        for i in _touched(windows, times):
            inside = _inside(times, windows[i])
            counts[i] += int(np.count_nonzero(inside))
            for j, metric in enumerate(metrics):
                parts[i][j].append(metric.measure(batch.scores[inside], batch.labels[inside]))
        progress(len(batch.keys))
    found = []
    for i, window in enumerate(windows):
        for j, metric in enumerate(metrics):
            joined = metric.join(parts[i][j])
            found.append(
                Measured(
                    window=window,
                    metric=metric.name,
                    count=counts[i],
                    counts=joined,
                    value=metric.value(joined),
                )
            )
    return found


@dataclass(frozen=True, kw_only=True)
class _Scored:
    """A batch after the model."""

    keys: npt.NDArray[np.uint64]
    labels: Labels
    scores: Scores


def _forward(
    model: "torch.nn.Module", source: Source, keys: npt.NDArray[np.uint64], device: str
) -> Iterator[_Scored]:
    """Yield the model's scores of all keys, in key order."""
    import torch

    place = device_of(device, "evaluation.device")
    model.to(place).eval()
    if len(keys) == 0:
        return
    loader = Loader(
        source.dataset,
        keys,
        batch_size=source.batch_size,
        fields=source.fields,
        threads=source.threads,
    )
    with one_thread(), torch.inference_mode():
        for batch in loader:
            labels: Any = batch.labels
            output = call_model(model, batch, source.fields, place).float().cpu()
            scores = output.reshape(len(batch), -1).numpy()
            yield _Scored(keys=np.asarray(batch.keys), labels=np.asarray(labels), scores=scores)


def _inside(timestamps: Timestamps, window: Window) -> npt.NDArray[np.bool_]:
    inside: npt.NDArray[np.bool_] = (timestamps >= window.start) & (timestamps < window.end)
    return inside


def _touched(windows: Sequence[Window], timestamps: Timestamps) -> list[int]:
    """Return which windows may hold some of these samples."""
    first, last = int(timestamps.min()), int(timestamps.max())
    return [i for i, window in enumerate(windows) if window.start <= last and window.end > first]


def _merged(windows: Sequence[Window]) -> list[tuple[int, int]]:
    """Return the union of the windows as few intervals."""
    merged: list[tuple[int, int]] = []
    for window in sorted(windows):
        if merged and window.start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], window.end))
        else:
            merged.append((window.start, window.end))
    return merged
