"""Distances of the means and covariances of two windows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from modyn.drift.metric import WindowMetric
from modyn.drift.windows import Floats, Window, covariance, mean

__all__ = ["Frechet", "MeanDistance"]

DISTANCES = ("euclidean", "cosine", "cityblock", "chebyshev")


@dataclass(frozen=True, kw_only=True)
class MeanDistance(WindowMetric):
    """The distance of the means of two windows; drift that keeps the mean is not seen.

    Parameters
    ----------
    distance_metric : str
        "euclidean"; "cosine", 1 less the cosine, nan where a mean is 0; "cityblock", the sum, or
        "chebyshev", the largest of the absolute differences.
    num_pca_component, num_permutations
        As in `WindowMetric`.

    References
    ----------
    Evidently's distance drift of embeddings.

    Examples
    --------
    >>> import numpy as np
    >>> MeanDistance().distance(np.array([[0.0, 1.0]]), np.array([[3.0, 5.0]])).value
    5.0
    """

    distance_metric: Literal["euclidean", "cosine", "cityblock", "chebyshev"] = "euclidean"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.distance_metric not in DISTANCES:
            raise ValueError(
                f"distance_metric must be one of {', '.join(DISTANCES)}, "
                f"got {self.distance_metric!r}"
            )

    def _between(
        self, reference: Window, current: Window, seed: int
    ) -> tuple[float, Mapping[str, float]]:
        return self._apart(mean(reference), mean(current)), {}

    def _apart(self, one: Floats, two: Floats) -> float:
        if self.distance_metric == "euclidean":
            return float(np.linalg.norm(one - two))
        if self.distance_metric == "cityblock":
            return float(np.abs(one - two).sum())
        if self.distance_metric == "chebyshev":
            return float(np.abs(one - two).max())
        lengths = float(np.linalg.norm(one)) * float(np.linalg.norm(two))
        return 1 - float(one @ two) / lengths if lengths > 0 else float("nan")


@dataclass(frozen=True, kw_only=True)
class Frechet(WindowMetric):
    """The Frechet distance of two Gaussians with the windows' means and covariances.

    |mu1 - mu2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

    Parameters
    ----------
    shrinkage : float
        0 to 1: each covariance S becomes (1 - shrinkage) S + shrinkage tr(S) / d I, so that few
        rows do not make it singular.
    num_pca_component, num_permutations
        As in `WindowMetric`.

    References
    ----------
    D. C. Dowson and B. V. Landau, J. Multivar. Anal. 12(3), 1982.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    >>> round(Frechet().distance(x, x + [3.0, 4.0]).value, 9)
    25.0
    """

    shrinkage: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.shrinkage <= 1:
            raise ValueError(f"shrinkage must be between 0 and 1, got {self.shrinkage}")

    def _between(
        self, reference: Window, current: Window, seed: int
    ) -> tuple[float, Mapping[str, float]]:
        one, two = mean(reference), mean(current)
        first = self._shrunk(covariance(reference, one))
        second = self._shrunk(covariance(current, two))
        root = _root(first)
        values = np.linalg.eigvalsh(root @ second @ root)
        overlap = np.sum(np.sqrt(np.maximum(values, 0.0)))
        spread = np.trace(first) + np.trace(second) - 2 * overlap
        return float(np.sum((one - two) ** 2) + max(spread, 0.0)), {}

    def _shrunk(self, matrix: Floats) -> Floats:
        width = len(matrix)
        ridge = self.shrinkage * np.trace(matrix) / width
        shrunk: Floats = (1 - self.shrinkage) * matrix + ridge * np.eye(width)
        return shrunk


def _root(matrix: Floats) -> Floats:
    """Return the symmetric root of a symmetric matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(matrix)
    root: Floats = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root
