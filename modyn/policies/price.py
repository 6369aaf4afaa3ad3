"""What a training is predicted to take, and whether what waits is worth it.

All numbers here may be arrays with an entry per policy: what holds for one holds for many.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from modyn.policies.context import PastModel
from modyn.policies.forecast import TrainingTime

__all__ = ["Conversion", "NextTraining", "Price", "predicted_samples"]

Conversion = Literal["divide", "multiply"]
Number = Any  # a float, or float64 of shape (p,)
RECENT = 20  # trainings from whose sizes the next is predicted


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
    def after(cls, models: Sequence[PastModel], window: int = RECENT) -> "NextTraining":
        """Return what follows from the trainings so far, at least one.

        Parameters
        ----------
        models : sequence of PastModel
        window : int
            From how many of the last ones the seconds are predicted.
        """
        last = models[-RECENT:]
        before = models[-RECENT - 1].position if len(models) > RECENT else 0
        ends = [before, *(model.position for model in last)]
        sizes = [model.samples for model in last]
        rules = [  # what the sizes are shares of, and what the next is a share of
            ([new - old for old, new in pairwise(ends)], 1, -ends[-1]),
            (ends[1:], 1, 0),
            ([1] * len(last), 0, 1),
        ]
        found = []
        for bases, per_position, offset in rules:
            shares = [size / max(of, 1) for size, of in zip(sizes, bases, strict=True)]
            spread = (max(shares) - min(shares)) / max(*shares, 1e-300)
            found.append((spread, shares[-1], per_position, offset))
        _, share, per_position, offset = min(found, key=lambda one: one[0])
        tracked = models[-window:]
        line = TrainingTime.of([m.samples for m in tracked], [m.seconds for m in tracked])
        return cls(share=share, per_position=per_position, offset=offset, line=line)

    def samples(self, position: int) -> Number:
        """Return the size, if there were a trigger at a position."""
        return self.share * (self.per_position * position + self.offset)


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
