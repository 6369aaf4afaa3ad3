"""KSWIN: the newest values of a window beside a draw of the older ones."""

import math
import random
from dataclasses import dataclass
from functools import cache

import numpy as np

from modyn.drift.detectors.detector import Detector

__all__ = ["KSWIN", "least_distance"]

LEAST = 0.1  # a distance that is not above it is no drift, however certain
MOST = 10_000  # beyond that the level of the test is no longer computed exactly


@dataclass(kw_only=True)
class KSWIN(Detector):
    """A drift shows where a Kolmogorov-Smirnov test tells new values from older ones.

    Of a window of the last `window_size` values, the newest `stat_size` are tested against as
    many that are drawn from the others, at each value anew. There is a drift where the exact
    p-value is at most `alpha` and the distance is above 0.1.

    Parameters
    ----------
    alpha : float
        The level of each single test, from 0 to 1. There is one for every value, so take it
        small: below 0.01.
    window_size : int
        At least twice `stat_size`.
    stat_size : int
        From 1 to 10,000.
    seed : int
        Of what is drawn. The draws begin anew after each drift.

    References
    ----------
    C. Raab, M. Heusinger, F.-M. Schleif, "Reactive soft prototype computing for concept drift
    streams", Neurocomputing (2020). The parameters and each decision are those of
    `river.drift.KSWIN` with the same seed, less the cost of a p-value: both samples have the same
    size, so there is one distance from which on it is at most alpha. Without a seed river draws
    differently each time; here the seed is 0.

    Examples
    --------
    >>> still, up = [n % 7 / 7 for n in range(200)], [n % 7 / 7 + 0.5 for n in range(100)]
    >>> KSWIN(alpha=0.0001).drifts(still + up)
    [222]
    """

    alpha: float = 0.005
    window_size: int = 100
    stat_size: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be from 0 to 1, got {self.alpha}")
        if not 1 <= self.stat_size <= MOST:
            raise ValueError(f"stat_size must be from 1 to {MOST}, got {self.stat_size}")
        if self.window_size < 2 * self.stat_size:
            raise ValueError(
                f"window_size must be at least twice stat_size ({self.stat_size}), "
                f"got {self.window_size}"
            )
        super().__post_init__()

    def reset(self) -> None:
        """Forget what was seen."""
        self._window: list[float] = []
        self._draws: list[int] = []  # how the generator was left, if it was used

    def _take(self, values: list[float]) -> int | None:
        draws = self._generator()
        least = least_distance(self.stat_size, self.alpha)
        older = range(self.window_size - self.stat_size)
        window = self._window
        for taken, value in enumerate(values, start=1):
            window.append(value)
            if len(window) > self.window_size:
                del window[0]
            if len(window) < self.window_size:
                continue
            drawn = [window[place] for place in draws.sample(older, self.stat_size)]
            if _steps_apart(drawn, window[-self.stat_size :], least):
                return taken
        version, words, _ = draws.getstate()
        self._draws = [version, *words]
        return None

    def _generator(self) -> random.Random:
        """Return the generator as it was left."""
        draws = random.Random(self.seed)  # noqa: S311  (a test is no secret)
        if self._draws:
            draws.setstate((self._draws[0], tuple(self._draws[1:]), None))
        return draws


def _steps_apart(one: list[float], other: list[float], least: int) -> bool:
    """Return whether two samples of equal size are so many steps apart, and above `LEAST`."""
    count = len(one)
    sides = np.array([sorted(one), sorted(other)])
    places = np.concatenate(sides)
    shares = [np.searchsorted(side, places, side="right") / count for side in sides]
    apart = shares[0] - shares[1]
    distance = float(max(-apart.min(), apart.max()))
    return round(distance * count) >= least and distance > LEAST


@cache
def least_distance(count: int, alpha: float) -> int:
    """Return from which distance on two samples of `count` values differ at level alpha.

    The distance is counted in steps of 1 / count; where none is enough, it is count + 1. The
    p-value of h steps is exactly 2 sum_k (-1)^(k-1) C(2n, n - kh) / C(2n, n), k = 1, 2, ...

    Examples
    --------
    >>> least_distance(30, 0.005)  # where the p-value is 0.0025; for 13 steps it is 0.0065
    14
    """
    low, high = 1, count + 1
    while low < high:
        middle = (low + high) // 2
        if _p_value(count, middle) <= alpha:
            high = middle
        else:
            low = middle + 1
    return low


def _p_value(count: int, steps: int) -> float:
    if steps > count:
        return 0.0
    total, sign = 0.0, 1
    for k in range(1, count // steps + 1):
        total += sign * _ratio(count, k * steps)
        sign = -sign
    return min(2 * total, 1.0)


def _ratio(count: int, shift: int) -> float:
    """Return C(2n, n - shift) / C(2n, n)."""
    return math.prod((count - shift + i) / (count + i) for i in range(1, shift + 1))
