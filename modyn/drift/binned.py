"""Distances of one feature at a time, from two histograms; means over features."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np

from modyn.drift.univariate import PerFeature
from modyn.drift.windows import Floats

__all__ = ["KL", "PSI", "Binned", "Hellinger", "JensenShannon", "TotalVariation"]

FLOOR = 1e-4  # of an empty bin, where its logarithm is taken


@dataclass(frozen=True, kw_only=True)
class Binned(PerFeature):
    """A distance of the shares p and q of the two windows in the same bins.

    Parameters
    ----------
    bins : int or "sturges"
        A number, at least 2: bins that hold equal shares of the reference, the first and the last
        without an end; a value that fills a whole bin gets one of its own.  "sturges": bins of
        equal width, log2(k) + 1 of them, over the k distinct values of both windows.
    """

    bins: int | Literal["sturges"] = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.bins != "sturges" and (not isinstance(self.bins, int) or self.bins < 2):
            raise ValueError(f"bins must be at least 2, or 'sturges', got {self.bins!r}")

    def _feature(self, x: Floats, y: Floats) -> float:
        edges = _sturges(x, y) if self.bins == "sturges" else _quantiles(x, self.bins)
        p, q = _shares(x, edges), _shares(y, edges)
        used = (p > 0) | (q > 0)
        return self._divergence(p[used], q[used])

    @abstractmethod
    def _divergence(self, p: Floats, q: Floats) -> float:
        """Return the distance of two lists of shares, each of sum 1."""


def _quantiles(x: Floats, count: int) -> Floats:
    """Return the inner edges of bins of equal shares; a bin holds its left edge."""
    edges = np.quantile(x, np.arange(1, count) / count)
    heavy = edges[:-1][edges[1:] == edges[:-1]]
    return np.unique(np.concatenate([edges, np.nextafter(heavy, np.inf)]))


def _sturges(x: Floats, y: Floats) -> Floats:
    """Return the inner edges of bins of equal width over the distinct values."""
    distinct = np.unique(np.concatenate([x, y]))
    try:
        edges: Floats = np.histogram_bin_edges(distinct, bins="sturges")[1:-1]
    except ValueError:  # the values are neighbours, and no float lies between them
        edges = distinct[1:]
    return edges


def _shares(values: Floats, edges: Floats) -> Floats:
    """Return the shares of values (ascending) in each bin."""
    ends = np.concatenate([[0], values.searchsorted(edges, "left"), [len(values)]])
    shares: Floats = np.diff(ends) / len(values)
    return shares


def _floored(shares: Floats) -> Floats:
    """Shares of sum 1 without zeros."""
    filled: Floats = np.where(shares == 0, FLOOR, shares)
    filled /= filled.sum()
    return filled


def _divergence_of(p: Floats, q: Floats) -> float:
    return float(np.sum(p * np.log(p / q)))


@dataclass(frozen=True, kw_only=True)
class Hellinger(Binned):
    """sqrt(1 - sum of sqrt(p q)): 0 for equal shares, 1 where no bin is shared.

    Parameters
    ----------
    bins, num_pca_component, num_permutations
        As in `Binned` and `WindowMetric`.

    References
    ----------
    With bins="sturges" the distance is that of Evidently's "hellinger" for a numerical column.

    Examples
    --------
    >>> import numpy as np
    >>> round(Hellinger().distance(np.arange(10.0), np.arange(10.0) + 100).value, 4)
    0.8269
    """

    def _divergence(self, p: Floats, q: Floats) -> float:
        # The same as 1 - sum sqrt(p q), and exactly 0 for equal shares.
        return float(np.sqrt(np.sum((np.sqrt(p) - np.sqrt(q)) ** 2) / 2))


@dataclass(frozen=True, kw_only=True)
class JensenShannon(Binned):
    """The root of the Jensen-Shannon divergence, with logarithms to base 2: at most 1.

    Parameters
    ----------
    bins, num_pca_component, num_permutations
        As in `Binned` and `WindowMetric`.

    References
    ----------
    D. M. Endres and J. E. Schindelin, IEEE Trans. Inf. Theory 49(7), 2003;
    scipy.spatial.distance.jensenshannon with base=2.

    Examples
    --------
    >>> import numpy as np
    >>> JensenShannon().distance(np.arange(10.0), np.arange(10.0)).value
    0.0
    """

    def _divergence(self, p: Floats, q: Floats) -> float:
        middle = (p + q) / 2
        halves = (
            np.sum(shares[shares > 0] * np.log2(shares[shares > 0] / middle[shares > 0]))
            for shares in (p, q)
        )
        return float(np.sqrt(max(sum(halves), 0.0) / 2))


@dataclass(frozen=True, kw_only=True)
class KL(Binned):
    """Kullback and Leibler: sum of p log(p / q), of the reference from the current window.

    A bin that is empty in one window counts there as a share of 0.0001, and the shares then sum to
    1 again; natural logarithms.

    Parameters
    ----------
    bins, num_pca_component, num_permutations
        As in `Binned` and `WindowMetric`.

    References
    ----------
    S. Kullback and R. A. Leibler, Ann. Math. Stat. 22(1), 1951; scipy.stats.entropy(p, q).

    Examples
    --------
    >>> import numpy as np
    >>> round(KL(bins=2).distance(np.array([0, 1]), np.array([0, 1, 1, 1])).value, 4)
    0.1438
    """

    def _divergence(self, p: Floats, q: Floats) -> float:
        return _divergence_of(_floored(p), _floored(q))


@dataclass(frozen=True, kw_only=True)
class PSI(Binned):
    """The population stability index: sum of (p - q) log(p / q).

    It is KL of either window from the other, added up, with the same rule for empty bins.

    Parameters
    ----------
    bins, num_pca_component, num_permutations
        As in `Binned` and `WindowMetric`.

    Examples
    --------
    >>> import numpy as np
    >>> round(PSI(bins=2).distance(np.array([0, 1]), np.array([0, 1, 1, 1])).value, 4)
    0.2747
    """

    def _divergence(self, p: Floats, q: Floats) -> float:
        p, q = _floored(p), _floored(q)
        return _divergence_of(p, q) + _divergence_of(q, p)


@dataclass(frozen=True, kw_only=True)
class TotalVariation(Binned):
    """Half the sum of |p - q|: the share of samples that would have to change their bin.

    Parameters
    ----------
    bins, num_pca_component, num_permutations
        As in `Binned` and `WindowMetric`.

    Examples
    --------
    >>> import numpy as np
    >>> TotalVariation(bins=2).distance(np.array([0, 1]), np.array([0, 1, 1, 1])).value
    0.25
    """

    def _divergence(self, p: Floats, q: Floats) -> float:
        return float(np.sum(np.abs(p - q)) / 2)
