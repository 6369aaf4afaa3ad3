"""The Wasserstein distance of whole rows, from random directions."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from modyn.drift.metric import WindowMetric, check_count
from modyn.drift.univariate import wasserstein
from modyn.drift.windows import Floats, Window, blocks, rng

__all__ = ["SlicedWasserstein"]

TOGETHER = 16  # directions


@dataclass(frozen=True, kw_only=True)
class SlicedWasserstein(WindowMetric):
    """The mean, over random directions, of how far the windows have moved in a direction.

    Parameters
    ----------
    num_projections : int
        Directions, uniform over the sphere, drawn by the seed; at least 1.
    num_pca_component, num_permutations
        As in `WindowMetric`.

    References
    ----------
    J. Rabin et al., "Wasserstein barycenter and its application to texture mixing", SSVM 2011;
    of order 1.

    Examples
    --------
    >>> import numpy as np
    >>> metric = SlicedWasserstein(num_projections=8)
    >>> x = np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 3.0]])
    >>> metric.distance(x, x).value
    0.0
    >>> metric.distance(x, x + 5, seed=1) == metric.distance(x, x + 5, seed=1)
    True
    """

    num_projections: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("num_projections", self.num_projections)

    def _between(
        self, reference: Window, current: Window, seed: int
    ) -> tuple[float, Mapping[str, float]]:
        directions = rng(seed, "projection").standard_normal(
            (self.num_projections, reference.shape[1])
        )
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        total = 0.0
        for first in range(0, len(directions), TOGETHER):
            some = directions[first : first + TOGETHER]
            pairs = zip(_places(reference, some), _places(current, some), strict=True)
            total += sum(wasserstein(x, y) for x, y in pairs)
        return total / self.num_projections, {}


def _places(rows: Window, directions: Floats) -> Floats:
    """Where the rows stand in each direction, ascending."""
    out = np.empty((len(directions), len(rows)))
    first = 0
    for block in blocks(rows):
        out[:, first : first + len(block)] = directions @ block.T.astype(np.float64, copy=False)
        first += len(block)
    out.sort(axis=1)
    return out
