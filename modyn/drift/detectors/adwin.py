"""ADWIN: a window that is as long as its mean stands still."""

import math
from dataclasses import dataclass

from modyn.drift.detectors.detector import Detector

__all__ = ["ADWIN"]


@dataclass(kw_only=True)
class ADWIN(Detector):
    """A drift shows where two parts of the window have means that chance does not explain.

    The window is kept as buckets of 1, 2, 4, ... values, newest first, at most `max_buckets` of
    each size. Each cut between two buckets, n0 older and n1 newer values, is a drift where the
    means differ by more than sqrt(2 v d / m) + 2 d / (3 m), with v the variance of the window,
    d = ln(2 ln(n) / delta), and 1/m = 1/(n0 - l + 1) + 1/(n1 - l + 1), l = `min_window_length`.

    Parameters
    ----------
    delta : float
        The level of confidence, above 0 and below 1.
    clock : int
        After how many values cuts are tried, at least 1.
    max_buckets : int
        At least 1.
    min_window_length : int
        Cuts that leave fewer values on one side are not tried; at least 1.
    grace_period : int
        Up to how many values there is no drift.

    References
    ----------
    A. Bifet, R. Gavalda, "Learning from time-changing data with adaptive windowing", SDM 2007.
    The parameters and each decision are those of `river.drift.ADWIN`: after a drift the window
    begins anew, while in the paper it keeps its newer part.

    Examples
    --------
    >>> ADWIN().drifts([n % 5 for n in range(500)] + [n % 5 + 1 for n in range(500)])
    [575]
    """

    delta: float = 0.002
    clock: int = 32
    max_buckets: int = 5
    min_window_length: int = 5
    grace_period: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.delta < 1:
            raise ValueError(f"delta must be above 0 and below 1, got {self.delta}")
        for name, least in (("clock", 1), ("max_buckets", 1), ("min_window_length", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.grace_period < 0:
            raise ValueError(f"grace_period must be at least 0, got {self.grace_period}")
        super().__post_init__()

    def reset(self) -> None:
        """Forget what was seen."""
        self._sums: list[list[float]] = [[]]  # of buckets of 2**row values, oldest first
        self._squares: list[list[float]] = [[]]  # of their deviations from their means
        self._width, self._total, self._variance = 0, 0.0, 0.0  # of the window
        self._ticks = 0

    def _take(self, values: list[float]) -> int | None:
        for taken, value in enumerate(values, start=1):
            self._insert(value)
            self._ticks += 1
            if self._ticks % self.clock == 0 and self._width > self.grace_period and self._cut():
                return taken
        return None

    def _insert(self, value: float) -> None:
        """Put a value into the window as a bucket of its own."""
        self._sums[0].append(value)
        self._squares[0].append(0.0)
        before = self._width
        self._width += 1
        if before:
            away = value - self._total / before
            self._variance += before * away * away / self._width
        self._total += value
        if len(self._sums[0]) > self.max_buckets:
            self._merge()

    def _merge(self) -> None:
        """Merge the two oldest buckets of each size of which there are too many."""
        row, size = 0, 1.0
        while len(self._sums[row]) > self.max_buckets:
            sums, squares = self._sums[row], self._squares[row]
            if row + 1 == len(self._sums):
                self._sums.append([])
                self._squares.append([])
            apart = sums[0] / size - sums[1] / size
            self._sums[row + 1].append(sums[0] + sums[1])
            self._squares[row + 1].append(squares[0] + squares[1] + size * 0.5 * apart * apart)
            del sums[:2], squares[:2]
            row, size = row + 1, 2 * size

    def _cut(self) -> bool:
        """Return whether there is a cut with a drift, going through them from the oldest."""
        count0, count1, sum0, sum1 = 0, self._width, 0.0, self._total
        least = self.min_window_length
        if self._width < 2 * least:
            return False
        spread = self._variance / self._width
        surprise = math.log(2.0 * math.log(self._width) / self.delta)
        for row in range(len(self._sums) - 1, -1, -1):
            size = 1 << row
            for total in self._sums[row]:
                count0, count1 = count0 + size, count1 - size
                sum0, sum1 = sum0 + total, sum1 - total
                if count0 < least or count1 < least:
                    continue
                weight = 1.0 / (count0 - least + 1.0) + 1.0 / (count1 - least + 1.0)
                chance = 2.0 * weight * spread * surprise
                if chance < 0:  # by rounding
                    continue
                bound = math.sqrt(chance) + 2.0 / 3.0 * surprise * weight
                if abs(sum0 / count0 - sum1 / count1) > bound:
                    return True
        return False
