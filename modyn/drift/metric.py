"""What all metrics share: checks, principal components, permutation tests."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modyn.drift.base import Distance
from modyn.drift.windows import Floats, Window, checked, permuted, principal

__all__ = ["WindowMetric"]

# A permutation counts as at least as far where it differs by rounding only.
ROUNDING = 1e-10


@dataclass(frozen=True, kw_only=True)
class WindowMetric(ABC):
    """A metric of two windows.

    Parameters
    ----------
    num_pca_component : int or None
        Measure in that many principal components, fit on the reference alone.
    num_permutations : int or None
        Also test whether the windows come from one distribution: all rows are dealt out anew that
        often, and the p-value is the share of the deals, with the one at hand among them, in which
        the windows are at least as far apart.  It is exact for any number of rows, and at least
        1 / (num_permutations + 1).
    """

    num_pca_component: int | None = None
    num_permutations: int | None = None

    def __post_init__(self) -> None:
        for name in ("num_pca_component", "num_permutations"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))

    @property
    def least_rows(self) -> int:
        """From how many rows of each window on there is a distance; it is nan below."""
        return 1

    def distance(
        self,
        reference: npt.NDArray[np.floating],
        current: npt.NDArray[np.floating],
        /,
        *,
        seed: int = 0,
    ) -> Distance:
        """Return the distance of the current window from the reference.

        It is nan where what it is made of is not a number, as sums beyond float64.

        Parameters
        ----------
        reference, current : float32 or float64, shapes (n, d) and (m, d)
            Or (n,) and (m,), one feature.
        seed : int
            Of permutations, projections and splits, at least 0.

        Raises
        ------
        ValueError
            For windows without rows, of different width, or with values that are not finite.
        """
        one, two = checked(reference, current)
        with np.errstate(over="ignore", invalid="ignore"):
            try:
                return self._distance(one, two, seed)
            except np.linalg.LinAlgError:  # as of covariances beyond float64
                return Distance(value=float("nan"))

    def _distance(self, reference: Window, current: Window, seed: int) -> Distance:
        value, details = self._between(*self._components(reference, current), seed)
        p_value = None
        if self.num_permutations is not None and not np.isnan(value):
            values = self._permuted(reference, current, self.num_permutations, seed)
            p_value = share_at_least(value, values)
        return Distance(value=value, p_value=p_value, details=details)

    @abstractmethod
    def _between(
        self, reference: Window, current: Window, seed: int
    ) -> tuple[float, Mapping[str, float]]:
        """Return the value and what it depends on."""

    def _permuted(self, reference: Window, current: Window, count: int, seed: int) -> Floats:
        """Return the values of `count` permutations."""
        values = np.empty(count)
        for index in range(count):
            dealt = permuted(reference, current, seed=seed, index=index)
            values[index] = self._between(*self._components(*dealt), seed)[0]
        return values

    def _components(self, reference: Window, current: Window) -> tuple[Window, Window]:
        if self.num_pca_component is None:
            return reference, current
        return principal(reference, current, self.num_pca_component)


def check_count(name: str, value: object) -> None:
    """Refuse what is no int of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def share_at_least(value: float, values: Floats) -> float:
    """Return the p-value of a value among those of permutations."""
    least = value - ROUNDING * abs(value)
    return float((1 + np.count_nonzero(values >= least)) / (1 + len(values)))
