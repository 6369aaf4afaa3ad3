"""What a training is predicted to take, and whether what waits is worth it.

All numbers here may be arrays with an entry per policy: what holds for one holds for many.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from modyn.policies.context import PastModel
from modyn.policies.forecast import TrainingTime

__all__ = ["RECENT", "UNKNOWN", "Conversion", "NextTraining", "Price", "predicted_samples", "sized"]

Conversion = Literal["divide", "multiply"]
Number = Any  # a float, or float64 of shape (p,)
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
RECENT = 20  # trainings from whose sizes the next is predicted
UNKNOWN = TrainingTime(slope=0.0, samples=0.0, seconds=0.0)


@dataclass(frozen=True, kw_only=True)
class NextTraining:
    """How large the next training will be and how long it will take, by those before it.

    Its size is a share of the samples since the trigger before, or of all samples so far, or
    always the same: whichever of the three held best for the last trainings, by the relative
    spread of what it takes for constant.  Its seconds are on a line through those of earlier ones.

    Parameters
    ----------
    share : float
        Of `per_position * position + offset`.
    per_position, offset : int
        1 and minus the last trigger's position, 1 and 0, or 0 and 1.
    line : TrainingTime
        Seconds by size.
    """

    share: Number
    per_position: Number
    offset: Number
    line: TrainingTime

    @classmethod
    def after(cls, models: Sequence[PastModel], window: int | None = None) -> "NextTraining":
        """Return what follows from the trainings so far, at least one.

        Parameters
        ----------
        models : sequence of PastModel
        window : int, optional
            From how many of the last ones the seconds are predicted; they are not, if None.
        """
        last = models[-RECENT:]
        before = models[-RECENT - 1].position if len(models) > RECENT else 0
        ends = np.zeros((1, RECENT + 1), dtype=np.int64)
        sizes = np.zeros((1, RECENT), dtype=np.int64)
        ends[0, -len(last) - 1 :] = [before, *(model.position for model in last)]
        sizes[0, -len(last) :] = [model.samples for model in last]
        share, per_position, offset = sized(ends, sizes, np.array([len(last)]))
        line = UNKNOWN
        if window is not None:
            tracked = models[-window:]
            line = TrainingTime.of([m.samples for m in tracked], [m.seconds for m in tracked])
        return cls(
            share=float(share[0]),
            per_position=int(per_position[0]),
            offset=int(offset[0]),
            line=line,
        )

    def samples(self, position: int) -> Number:
        """Return the size, if there were a trigger at a position."""
        return self.share * (self.per_position * position + self.offset)


def sized(ends: Integers, sizes: Integers, count: Integers) -> tuple[Floats, Integers, Integers]:
    """Return how the sizes of the next trainings follow from the last ones.

    Parameters
    ----------
    ends : int64, shape (p, RECENT + 1)
        The positions of the last trainings, the newest at the right; 0 before the first.
    sizes : int64, shape (p, RECENT)
        The sizes of their training sets.
    count : int64, shape (p,)
        How many there are, at least 1.

    Returns
    -------
    share, per_position, offset : arrays of shape (p,)
        See `NextTraining`.
    """
    missing = np.arange(RECENT) < RECENT - count[:, None]
    zero, one = np.zeros_like(count), np.ones_like(count)
    rules = [  # what the sizes are shares of, and what the next is a share of
        (np.diff(ends, axis=1), one, -ends[:, -1]),
        (ends[:, 1:], one, zero),
        (np.ones_like(sizes), zero, one),
    ]
    shares = np.stack([sizes / np.maximum(bases, 1) for bases, _, _ in rules])
    most = np.where(missing, -np.inf, shares).max(axis=2)
    least = np.where(missing, np.inf, shares).min(axis=2)
    best = ((most - least) / np.maximum(most, 1e-300)).argmin(axis=0)
    which = np.arange(len(count))
    per_position, offset = (np.stack([rule[i] for rule in rules])[best, which] for i in (1, 2))
    return shares[best, which, -1], per_position, offset


def predicted_samples(models: Sequence[PastModel], position: int) -> float:
    """Return the size of the training set, if there were a trigger at a position.

    Parameters
    ----------
    models : sequence of PastModel
        At least one; see `NextTraining`.
    position : int

    Examples
    --------
    A selection of half of all samples so far:

    >>> half = [
    ...     PastModel(
    ...         trigger=i, model="a", position=p, last_timestamp=None, samples=p // 2, seconds=1.0
    ...     )
    ...     for i, p in enumerate([100, 300, 700])
    ... ]
    >>> predicted_samples(half, 1000)
    500.0
    """
    return float(NextTraining.after(models).samples(position))


@dataclass(frozen=True, kw_only=True)
class Price:
    """What regrets that wait are held against.

    Parameters
    ----------
    worth : float
        How many regret-seconds a second of training is worth.
    divide : bool
        Whether it is so many, or one over that.
    rate : float
        Samples per second at which trainings go; nan to go by the seconds that they took.
    """

    worth: Number
    divide: Number
    rate: Number

    def converted(self, latency: Number) -> Number:
        """Return how many seconds of training a latency is worth."""
        return np.where(self.divide, latency / self.worth, latency * self.worth)

    def seconds(self, training: NextTraining, samples: Number) -> Number:
        """Return how long a training on so many samples takes."""
        line = training.line
        by_line = np.maximum(line.seconds + line.slope * (samples - line.samples), 0.0)
        return np.where(np.isnan(self.rate), by_line, samples / self.rate)
