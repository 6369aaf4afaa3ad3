"""DDM: an error rate that rises clearly above its minimum."""

import math
from dataclasses import dataclass
from typing import ClassVar

from modyn.drift.detectors.detector import Detector

__all__ = ["DDM"]


@dataclass(kw_only=True)
class DDM(Detector):
    """A drift shows where the rate of errors p is far above its lowest, p_min.

    With p the share of 1 among n values since the last drift and s = sqrt(p (1 - p) / n), p_min
    and s_min are those where p + s was least. There is a drift where
    p + s > p_min + drift_threshold * s_min, and a warning where the same holds for
    `warning_threshold`.

    Parameters
    ----------
    warm_start : int
        Of how many values at the start nothing is concluded, at least 1.
    warning_threshold, drift_threshold : float

    References
    ----------
    J. Gama, P. Medas, G. Castillo, P. Rodrigues, "Learning with drift detection", SBIA 2004. The
    parameters and each decision are those of `river.drift.binary.DDM`: where no error was seen
    at the minimum, s_min is 0, and the first error is a drift.

    Examples
    --------
    >>> DDM().drifts([0.0, 1.0] * 100 + [1.0] * 100)
    [233]
    """

    warm_start: int = 30
    warning_threshold: float = 2.0
    drift_threshold: float = 3.0

    binary: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.warm_start < 1:
            raise ValueError(f"warm_start must be at least 1, got {self.warm_start}")
        if not (math.isfinite(self.warning_threshold) and math.isfinite(self.drift_threshold)):
            raise ValueError("warning_threshold and drift_threshold must be finite")
        super().__post_init__()

    def reset(self) -> None:
        """Forget what was seen."""
        self.warning = False
        self._count = 0
        self._rate = 0.0
        self._least_rate, self._least_error, self._least_sum = 0.0, 0.0, math.inf

    def _take(self, values: list[float]) -> int | None:
        for taken, value in enumerate(values, start=1):
            self._count += 1
            self._rate += (1.0 / self._count) * (value - self._rate)
            error = math.sqrt(self._rate * (1 - self._rate) / self._count)
            if self._count <= self.warm_start:
                continue
            above = self._rate + error
            if above <= self._least_sum:
                self._least_rate, self._least_error, self._least_sum = self._rate, error, above
            self.warning = above > self._least_rate + self.warning_threshold * self._least_error
            if above > self._least_rate + self.drift_threshold * self._least_error:
                return taken
        return None
