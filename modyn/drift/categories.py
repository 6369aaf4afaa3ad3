"""Distances of one feature of categories at a time; means over features."""

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from modyn.drift.univariate import PerFeature
from modyn.drift.windows import Floats

__all__ = ["ChiSquared", "Contingency", "GTest"]


@dataclass(frozen=True, kw_only=True)
class Contingency(PerFeature):
    """A statistic of the table of categories: one row a window, one column a category.

    Values are integers, also where they come as floats.  Categories of which less than
    `least_expected` samples are expected in either window, were there no drift, count as one; if
    that one is still too small, the smallest of the others joins it.  A feature with one category
    left counts 0.

    Parameters
    ----------
    scaled : bool
        The statistic grows with the windows; divided by the number of samples, n + m, it does not,
        and is at most 1 (for chi2, the square of Cramer's V).
    least_expected : float
        At least 0.
    num_pca_component : None
        There is nothing to project.
    """

    scaled: bool = False
    least_expected: float = 5.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_pca_component is not None:
            raise ValueError(
                f"{type(self).__name__} compares categories, which principal components are not: "
                f"leave num_pca_component out, got {self.num_pca_component}"
            )
        if not 0 <= self.least_expected < np.inf:
            raise ValueError(f"least_expected must be at least 0, got {self.least_expected}")

    def _feature(self, x: Floats, y: Floats) -> float:
        table = _merged(_table(x, y), self.least_expected)
        value = self._statistic(table, _expected(table))
        return value / (len(x) + len(y)) if self.scaled else value

    @abstractmethod
    def _statistic(self, table: Floats, expected: Floats) -> float:
        """Return the statistic of counts, given those expected."""


def _table(x: Floats, y: Floats) -> Floats:
    categories = np.unique(np.concatenate([x, y]))
    if not np.all(np.floor(categories) == categories):
        odd = categories[np.floor(categories) != categories][0]
        raise ValueError(f"categories must be integers, got {odd}")
    ends = [np.append(v.searchsorted(categories, "left"), len(v)) for v in (x, y)]
    return np.diff(np.array(ends, np.float64), axis=1)


def _expected(table: Floats) -> Floats:
    rows, columns = table.sum(axis=1), table.sum(axis=0)
    expected: Floats = np.outer(rows, columns) / table.sum()
    return expected


def _merged(table: Floats, least: float) -> Floats:
    """Return the table with its rare columns as one; equal columns in the order of categories."""
    rare = _expected(table).min(axis=0) < least
    if not rare.any():
        return table
    other, kept = table[:, rare].sum(axis=1, keepdims=True), table[:, ~rare]
    needed = least * table.sum() / table.sum(axis=1).min()  # samples of a category
    if other.sum() < needed and kept.shape[1] > 0:
        smallest = int(np.argmin(kept.sum(axis=0)))
        other += kept[:, [smallest]]
        kept = np.delete(kept, smallest, axis=1)
    return np.concatenate([kept, other], axis=1)


@dataclass(frozen=True, kw_only=True)
class ChiSquared(Contingency):
    """Pearson's chi2: the sum of (observed - expected)^2 / expected.

    Parameters
    ----------
    scaled, least_expected, num_permutations
        As in `Contingency` and `WindowMetric`.

    References
    ----------
    scipy.stats.chi2_contingency(table, correction=False), after the merging of rare categories.

    Examples
    --------
    >>> import numpy as np
    >>> before, after = np.array([0] * 20 + [1] * 20), np.array([0] * 10 + [1] * 30)
    >>> round(ChiSquared().distance(before, after).value, 6)
    5.333333
    """

    def _statistic(self, table: Floats, expected: Floats) -> float:
        return float(np.sum((table - expected) ** 2 / expected))


@dataclass(frozen=True, kw_only=True)
class GTest(Contingency):
    """The G statistic: twice the sum of observed * log(observed / expected).

    Parameters
    ----------
    scaled, least_expected, num_permutations
        As in `Contingency` and `WindowMetric`.

    References
    ----------
    scipy.stats.chi2_contingency(table, correction=False, lambda_="log-likelihood"), after the
    merging of rare categories.

    Examples
    --------
    >>> import numpy as np
    >>> before, after = np.array([0] * 20 + [1] * 20), np.array([0] * 10 + [1] * 30)
    >>> round(GTest().distance(before, after).value, 6)
    5.411532
    """

    def _statistic(self, table: Floats, expected: Floats) -> float:
        seen = table > 0
        return float(2 * np.sum(table[seen] * np.log(table[seen] / expected[seen])))
