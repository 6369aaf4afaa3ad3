"""Page-Hinkley: a sum of deviations from the mean that strays too far from its extreme."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from modyn.drift.detectors.detector import Detector

__all__ = ["PageHinkley"]

Mode = Literal["up", "down", "both"]


@dataclass(kw_only=True)
class PageHinkley(Detector):
    """A drift shows where the faded sum of deviations is more than `threshold` from its extreme.

    With m the mean since the last drift, up to and with x, the sums are
    U = alpha * U + (x - m) - delta and D = alpha * D + (x - m) + delta. There is a drift where
    U - min U > threshold (up) or max D - D > threshold (down).

    Parameters
    ----------
    min_instances : int
        How many values there must be before a drift is seen, at least 1.
    delta : float
        How large a deviation is tolerated at every value.
    threshold : float
        In the unit of the values, summed.
    alpha : float
        With which the sums fade, from 0 to 1.
    mode : {"up", "down", "both"}
        Which changes of the mean count.

    References
    ----------
    E. S. Page, "Continuous inspection schemes", Biometrika 41 (1954). The parameters, the fading
    and each decision are those of `river.drift.PageHinkley`.

    Examples
    --------
    >>> PageHinkley(threshold=10.0, mode="down").drifts([1.0] * 50 + [0.0] * 50)
    [61]
    """

    min_instances: int = 30
    delta: float = 0.005
    threshold: float = 50.0
    alpha: float = 1 - 0.0001
    mode: Mode = "both"

    def __post_init__(self) -> None:
        if self.min_instances < 1:
            raise ValueError(f"min_instances must be at least 1, got {self.min_instances}")
        if not 0 <= self.alpha <= 1:
            raise ValueError(f"alpha must be from 0 to 1, got {self.alpha}")
        if not (math.isfinite(self.delta) and math.isfinite(self.threshold)):
            raise ValueError("delta and threshold must be finite")
        if self.mode not in get_args(Mode):
            raise ValueError(f"mode must be up, down or both, got {self.mode!r}")
        super().__post_init__()

    def reset(self) -> None:
        """Forget what was seen."""
        self._count = 0
        self._mean = 0.0
        self._up, self._least_up = 0.0, math.inf
        self._down, self._most_down = 0.0, -1.0

    def _take(self, values: list[float]) -> int | None:
        for taken, value in enumerate(values, start=1):
            self._count += 1
            self._mean += (1.0 / self._count) * (value - self._mean)
            deviation = value - self._mean
            self._up = self.alpha * self._up + deviation - self.delta
            self._down = self.alpha * self._down + deviation + self.delta
            self._least_up = min(self._least_up, self._up)
            self._most_down = max(self._most_down, self._down)
            if self._count >= self.min_instances and self._strayed():
                return taken
        return None

    def _strayed(self) -> bool:
        up = self._up - self._least_up > self.threshold
        down = self._most_down - self._down > self.threshold
        return (up and self.mode != "down") or (down and self.mode != "up")
