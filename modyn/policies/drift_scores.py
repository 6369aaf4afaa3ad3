"""How far two windows of the stream are apart: what drift triggers ask."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from modyn.drift.base import Distance, DriftMetric
from modyn.policies.base import Context
from modyn.policies.drawing import position_seed
from modyn.policies.window_rows import Look, WindowRows
from modyn.policies.windows import Windows

__all__ = ["Compared", "DriftScores"]


@dataclass(frozen=True, kw_only=True)
class Compared:
    """How far two windows are apart.

    Parameters
    ----------
    distances : sequence of Distance
        By each metric; nan where a window holds nothing that it could compare.
    counts : sequence of (int, int)
        How many samples of the reference and of the current window each of them saw.
    alone : bool
        Whether the reference holds no samples.
    """

    distances: Sequence[Distance]
    counts: Sequence[tuple[int, int]]
    alone: bool


@dataclass(frozen=True, kw_only=True)
class DriftScores:
    """The question how far two windows are apart, by some metrics.

    Parameters
    ----------
    metrics : tuple of (DriftMetric, Look)
        Distances, and what of the samples they compare.
    windows : Windows
    sample_size : int or None
        How many samples of a window are drawn.
    model : str
        Which model looks at them.
    known : int or None
        The position, where it decides which labels are known.
    names : tuple of str
        What errors call the metrics.
    rows : WindowRows
        The samples.
    """

    metrics: tuple[tuple[DriftMetric, Look], ...]
    windows: Windows
    sample_size: int | None
    model: str
    known: int | None
    names: tuple[str, ...]
    rows: WindowRows

    @property
    def key(self) -> Hashable:
        """All that decides on the answer."""
        sizes = self.sample_size, self.rows.interval
        return self.metrics, self.windows, sizes, self.model, self.known

    def answer(self, context: Context) -> Compared:
        """Return the distances."""
        for _, look in self.metrics:
            if look.of == "embeddings":  # whoever gives them gives predictions as well
                self.rows.of(self.windows.reference, look)
                self.rows.of(self.windows.current, look)
        distances, counts = [], []
        for name, (metric, look) in zip(self.names, self.metrics, strict=True):
            reference = self.rows.of(self.windows.reference, look)
            current = self.rows.of(self.windows.current, look)
            counts.append((len(reference), len(current)))
            if 0 in counts[-1]:
                distances.append(Distance(value=math.nan, p_value=math.nan))
                continue
            seed = position_seed(context, self.windows.reference.last)
            try:
                distances.append(metric.distance(reference, current, seed=seed))
            except ValueError as error:
                raise ValueError(f"metrics.{name}: {error}") from error
        alone = len(self.rows.keys(self.windows.reference)) == 0
        return Compared(distances=distances, counts=counts, alone=alone)
