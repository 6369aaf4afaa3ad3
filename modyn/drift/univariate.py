"""Distances of one feature at a time, from its two distribution functions; means over features."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from modyn.drift.metric import WindowMetric
from modyn.drift.windows import Floats, Window, sorted_columns

__all__ = ["CVM", "KS", "DriftedRatio", "PerFeature", "Wasserstein"]


@dataclass(frozen=True, kw_only=True)
class PerFeature(WindowMetric):
    """The mean over all features that vary; 0 where none does.

    A feature with one value in both windows is skipped: it says nothing.
    """

    def _between(
        self, reference: Window, current: Window, seed: int
    ) -> tuple[float, Mapping[str, float]]:
        values = [self._feature(x, y) for x, y in varying(reference, current)]
        return float(np.mean(values)) if values else 0.0, {"features": float(len(values))}

    @abstractmethod
    def _feature(self, x: Floats, y: Floats) -> float:
        """Return the distance of one feature, from its values in both windows, ascending."""


def varying(reference: Window, current: Window) -> Iterator[tuple[Floats, Floats]]:
    """Yield the features with more than one value in both windows together."""
    for x, y in sorted_columns(reference, current):
        if not x[0] == x[-1] == y[0] == y[-1]:
            yield x, y


def steps(x: Floats, y: Floats) -> tuple[Floats, npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """All values, ascending, and how many of x and of y come up to each place.

    Of equal values only the last place counts them all; the gap behind the others is 0.
    """
    both = np.concatenate([x, y])
    order = np.argsort(both, kind="stable")  # merges two runs
    of_x = np.cumsum(order < len(x), dtype=np.int64)
    return both[order], of_x, np.arange(1, len(both) + 1) - of_x


@dataclass(frozen=True, kw_only=True)
class KS(PerFeature):
    """Kolmogorov and Smirnov: the largest distance of two distribution functions.

    Parameters
    ----------
    alternative : str
        "two-sided": of either sign; "greater": where the reference's function F is above the
        current one's, G (the current values are the larger ones); "less": where it is below.
    num_pca_component, num_permutations
        As in `WindowMetric`.

    References
    ----------
    sup |F - G| is the statistic of scipy.stats.ks_2samp, and of alibi-detect's KSDrift for each
    feature; that library then tests every feature and corrects for their number, here the
    distances are averaged.

    Examples
    --------
    >>> import numpy as np
    >>> KS().distance(np.array([1.0, 2.0, 3.0, 4.0]), np.array([3.0, 4.0, 5.0, 6.0])).value
    0.5
    """

    alternative: Literal["two-sided", "less", "greater"] = "two-sided"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alternative not in ("two-sided", "less", "greater"):
            raise ValueError(
                f"alternative must be two-sided, less or greater, got {self.alternative!r}"
            )

    def _feature(self, x: Floats, y: Floats) -> float:
        values, of_x, of_y = steps(x, y)
        last = np.append(values[1:] > values[:-1], True)
        apart = of_x[last] / len(x) - of_y[last] / len(y)
        above, below = max(float(apart.max()), 0.0), max(float(-apart.min()), 0.0)
        return {"two-sided": max(above, below), "greater": above, "less": below}[self.alternative]


@dataclass(frozen=True, kw_only=True)
class CVM(PerFeature):
    """Cramer, von Mises and Smirnov: the squared distance of two distribution functions.

    T = U / (n m (n + m)) - (4 n m - 1) / (6 (n + m)), where U sums n times the squares of the
    reference's ranks less their places, and likewise m times those of the current window; equal
    values share the mean of their ranks.

    Parameters
    ----------
    scaled : bool
        T grows with the windows; T (n + m) / (n m) does not.
    num_pca_component, num_permutations
        As in `WindowMetric`.

    References
    ----------
    T. W. Anderson, Ann. Math. Stat. 33(3), 1962; scipy.stats.cramervonmises_2samp.

    Examples
    --------
    >>> import numpy as np
    >>> CVM().distance(np.array([1.0, 2.0, 3.0, 4.0]), np.array([5.0, 6.0, 7.0, 8.0])).value
    0.6875
    """

    scaled: bool = False

    def _feature(self, x: Floats, y: Floats) -> float:
        n, m = len(x), len(y)
        values, of_x, _ = steps(x, y)
        ranks, from_x = _ranks(values), np.diff(of_x, prepend=0) == 1
        u = n * _off_place(ranks[from_x]) + m * _off_place(ranks[~from_x])
        value = u / (n * m * (n + m)) - (4 * n * m - 1) / (6 * (n + m))
        return value * (n + m) / (n * m) if self.scaled else value


def _ranks(values: Floats) -> Floats:
    """Return the ranks, from 1 on, of values in ascending order; equal ones share their mean."""
    ends = np.append(np.flatnonzero(values[1:] > values[:-1]), len(values) - 1) + 1
    starts = np.append(0, ends[:-1])
    return np.repeat((starts + ends + 1) / 2, ends - starts)


def _off_place(ranks: Floats) -> float:
    """Return the sum of the squares of ranks among all less places among themselves."""
    return float(np.sum((ranks - np.arange(1, len(ranks) + 1)) ** 2))


@dataclass(frozen=True, kw_only=True)
class Wasserstein(PerFeature):
    """How far the values of a feature have moved, on average: the area between F and G.

    Parameters
    ----------
    normed : bool
        In standard deviations of the reference, or in thousandths where it has less than 0.001.
    num_pca_component, num_permutations
        As in `WindowMetric`.

    References
    ----------
    scipy.stats.wasserstein_distance; normed, it is Evidently's "wasserstein" of a column.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([1.0, 3.0])
    >>> Wasserstein(normed=False).distance(x, x + 2.5).value, Wasserstein().distance(x, x + 2).value
    (2.5, 2.0)
    """

    normed: bool = True

    def _feature(self, x: Floats, y: Floats) -> float:
        return normed_wasserstein(x, y) if self.normed else wasserstein(x, y)


def wasserstein(x: Floats, y: Floats) -> float:
    """Return the area between the distribution functions of values in ascending order."""
    values, of_x, of_y = steps(x, y)
    apart = np.abs(of_x[:-1] / len(x) - of_y[:-1] / len(y))
    return float(np.sum(apart * np.diff(values)))


def normed_wasserstein(x: Floats, y: Floats) -> float:
    """Return the same in standard deviations of x, which count as 0.001 at least."""
    return wasserstein(x, y) / max(float(np.std(x)), 0.001)


@dataclass(frozen=True, kw_only=True)
class DriftedRatio(WindowMetric):
    """The share of features that have moved by more than a threshold.

    Parameters
    ----------
    component_stattest_threshold : float
        A feature has drifted where its normed Wasserstein distance is at least this, above 0.
    num_pca_component, num_permutations
        As in `WindowMetric`.

    References
    ----------
    Evidently's ratio of drifted components with the stattest "wasserstein".

    Examples
    --------
    >>> import numpy as np
    >>> before = np.array([[1.0, 1.0], [3.0, 3.0]])
    >>> DriftedRatio().distance(before, before + [0.0, 0.5]).value
    0.5
    """

    component_stattest_threshold: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.component_stattest_threshold < np.inf:
            raise ValueError(
                "component_stattest_threshold must be above 0, got "
                f"{self.component_stattest_threshold}"
            )

    def _between(
        self, reference: Window, current: Window, seed: int
    ) -> tuple[float, Mapping[str, float]]:
        moved = [normed_wasserstein(x, y) for x, y in sorted_columns(reference, current)]
        drifted = sum(distance >= self.component_stattest_threshold for distance in moved)
        return drifted / len(moved), {"drifted": float(drifted)}
