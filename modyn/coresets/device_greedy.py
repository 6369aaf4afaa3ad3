"""The greedy loops of csrc/selector/greedy.c, over tensors."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modyn.coresets.greedy import Greedy

if TYPE_CHECKING:
    import torch

__all__ = ["Objective", "choose", "first_largest"]

_FIRST_BATCH = 8
_STREAM_GREEDY = 30  # csrc/base/random.h
_WORD = 2**64 - 1

Found = tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64], int]
Next = tuple[int, float]


@dataclass(frozen=True, eq=False)
class Objective:
    """What is maximised: the gains of some rows, and that one is taken."""

    count: int
    device: "torch.device"
    evaluate: Callable[["torch.Tensor"], "torch.Tensor"]
    take: Callable[[int], None]


def choose(objective: Objective, count: int, greedy: Greedy) -> Found:
    """Return rows in the order of choice, what each added, and how many gains were computed."""
    if not 0 <= count <= objective.count:
        raise ValueError(f"count must be 0 to {objective.count}, got {count}")
    loops = {
        "NaiveGreedy": _Naive,
        "LazyGreedy": _Lazy,
        "StochasticGreedy": _Stochastic,
        "ApproximateLazyGreedy": _Approximate,
    }
    loop = loops[greedy.how](objective, count, greedy)
    rows, gains = [], []
    for step in range(count):
        row, gain = loop.next(step)
        objective.take(row)
        rows.append(row)
        gains.append(gain)
    return np.array(rows, dtype=np.uint64), np.array(gains, dtype=np.float64), loop.evaluations


def first_largest(values: "torch.Tensor") -> int:
    """Return the first row with the largest value."""
    return int((values == values.max()).nonzero()[0, 0])


class _Loop:
    def __init__(self, objective: Objective, count: int, greedy: Greedy) -> None:
        import torch

        self.objective, self.count, self.greedy = objective, count, greedy
        self.evaluations = 0
        self.all = torch.arange(objective.count, device=objective.device)

    def evaluate(self, rows: "torch.Tensor") -> "torch.Tensor":
        self.evaluations += len(rows)
        return self.objective.evaluate(rows)

    def next(self, step: int) -> Next:
        raise NotImplementedError


class _Naive(_Loop):
    def next(self, step: int) -> Next:
        gains = self.evaluate(self.all)
        at = first_largest(gains)
        found = int(self.all[at]), float(gains[at])
        self.all = self.all[self.all != found[0]]
        return found


class _Lazy(_Loop):
    """Bounds of all rows, -inf of those taken; `fresh` says at which step each was a gain."""

    def __init__(self, objective: Objective, count: int, greedy: Greedy) -> None:
        import torch

        super().__init__(objective, count, greedy)
        self.bounds = self.evaluate(self.all) if count > 0 else torch.zeros(objective.count)
        self.fresh = torch.zeros(objective.count, dtype=torch.int64, device=objective.device)

    def taken(self, row: int) -> Next:
        gain = float(self.bounds[row])
        self.bounds[row] = -math.inf
        return row, gain

    def next(self, step: int) -> Next:
        batch = min(_FIRST_BATCH, self.greedy.batch)
        while True:
            row = first_largest(self.bounds)
            if int(self.fresh[row]) == step:
                return self.taken(row)
            stale = self.bounds.masked_fill(self.fresh == step, -math.inf)
            rows = stale.topk(min(batch, self.objective.count)).indices
            rows = rows[stale[rows] > -math.inf]
            self.bounds[rows] = self.evaluate(rows)
            self.fresh[rows] = step
            batch = min(2 * batch, self.greedy.batch)


class _Approximate(_Lazy):
    def next(self, step: int) -> Next:
        while True:
            row = first_largest(self.bounds)
            if int(self.fresh[row]) == step:
                return self.taken(row)
            bound = float(self.bounds[row])
            self.bounds[row] = self.evaluate(self.all[row : row + 1])[0]
            self.fresh[row] = step
            if float(self.bounds[row]) >= self.greedy.beta * bound:
                return self.taken(row)


class _Stochastic(_Loop):
    """The draws are those of C: a shuffle's beginning, f(seed, stream, step, number)."""

    def __init__(self, objective: Objective, count: int, greedy: Greedy) -> None:
        super().__init__(objective, count, greedy)
        self.left = list(range(objective.count))
        self.start = _stream(greedy.seed)

    def next(self, step: int) -> Next:
        import torch

        wanted = math.ceil(self.objective.count / self.count * math.log(1.0 / self.greedy.epsilon))
        size, left = min(wanted, len(self.left)), self.left
        for r in range(size):
            number = _draw(self.start, (step << 32) + r) >> 32
            other = r + (number * (len(left) - r) >> 32)
            left[r], left[other] = left[other], left[r]
        rows = torch.tensor(left[:size], device=self.objective.device)
        gains = self.evaluate(rows)
        best = int(rows[gains == gains.max()].min())
        at = left.index(best)
        gain = float(gains[at])
        left[at] = left[-1]
        left.pop()
        return best, gain


def _mix(x: int) -> int:
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & _WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & _WORD
    return x ^ (x >> 31)


def _stream(seed: int) -> int:
    return _mix(
        _mix(seed + 0x9E3779B97F4A7C15 & _WORD) ^ (_STREAM_GREEDY * 0xD1B54A32D192ED03 & _WORD)
    )


def _draw(start: int, index: int) -> int:
    return _mix(_mix(start + index * 0x9E3779B97F4A7C15 & _WORD))
