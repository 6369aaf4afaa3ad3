"""EDDM: errors that come closer to each other than they once did."""

from dataclasses import dataclass
from typing import ClassVar

from modyn.drift.detectors.detector import Detector

__all__ = ["EDDM"]


@dataclass(kw_only=True)
class EDDM(Detector):
    """A drift shows where the distances between errors have become short.

    With p and s the mean and standard deviation of the distances between errors since the last
    drift, q is (p + 2 s) over its greatest value so far. There is a drift at an error where
    q < beta, and a warning where q < alpha.

    Parameters
    ----------
    warm_start : int
        Before so many errors, and so many values, nothing is concluded; at least 1.
    alpha, beta : float
        From 0 to 1, beta not above alpha.

    References
    ----------
    M. Baena-Garcia et al., "Early drift detection method", IWKDDS 2006. The parameters and each
    decision are those of `river.drift.binary.EDDM`: with the published beta = 0.9 it is easily
    alarmed, also where nothing drifts.

    Examples
    --------
    >>> EDDM(warm_start=10).drifts(([0.0] * 9 + [1.0]) * 20 + [1.0] * 60)
    [224]
    """

    warm_start: int = 30
    alpha: float = 0.95
    beta: float = 0.9

    binary: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.warm_start < 1:
            raise ValueError(f"warm_start must be at least 1, got {self.warm_start}")
        if not 0 <= self.beta <= self.alpha <= 1:
            raise ValueError(
                f"0 <= beta <= alpha <= 1 must hold, got alpha {self.alpha}, beta {self.beta}"
            )
        super().__post_init__()

    def reset(self) -> None:
        """Forget what was seen."""
        self.warning = False
        self._count = 0
        self._errors, self._last_error = 0, 0
        self._mean, self._squares = 0.0, 0.0  # of the distances, and of their deviations
        self._greatest = -1.0

    def _take(self, values: list[float]) -> int | None:
        for taken, value in enumerate(values, start=1):
            self._count += 1
            if value == 1 and self._error():
                return taken
        return None

    def _error(self) -> bool:
        """Take note of an error; return whether it shows a drift."""
        distance, self._last_error = self._count - self._last_error, self._count
        self._errors += 1
        before = self._mean
        self._mean += (1.0 / self._errors) * (distance - self._mean)
        self._squares += (distance - before) * (distance - self._mean)
        if self._count <= self.warm_start:
            return False
        variance = self._squares / (self._errors - 1) if self._errors > 1 else 0.0
        reach = self._mean + 2 * variance**0.5
        if reach > self._greatest:
            self._greatest = reach
            return False
        if self._errors <= self.warm_start:
            return False
        level = reach / self._greatest
        if level < self.beta:
            return True
        self.warning = level < self.alpha
        return False
