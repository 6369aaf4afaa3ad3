"""Samples whose embeddings span the most."""

from dataclasses import dataclass

import numpy as np

from modyn.downsampling.base import Chosen, Context, Downsampler, Pool
from modyn.downsampling.vectors import embeddings_of

__all__ = ["DOptimal"]


@dataclass(kw_only=True)
class DOptimal(Downsampler):
    """The samples from whose embeddings a linear last layer would learn most.

    Parameters
    ----------
    ridge : float
        Above 0, in units of the mean of norm(embedding)^2, so that the scale of the embeddings
        does not matter.
    ratio, ratio_max, sample_then_batch, period, balance, normalise, pool_samples
        As in `Downsampler`.

    References
    ----------
    F. Pukelsheim, "Optimal design of experiments", 1993; `modyn.coresets.d_optimal`.

    Examples
    --------
    >>> from modyn.downsampling.checks import example_pool
    >>> len(DOptimal(ratio=10).choose(example_pool(50), 5, Context()).rows)
    5
    """

    needs = ("embeddings",)

    ridge: float = 0.01

    def __post_init__(self) -> None:
        if not self.ridge > 0:
            raise ValueError(f"ridge must be above 0, got {self.ridge}")
        super().__post_init__()

    def choose(self, pool: Pool, count: int, context: Context) -> Chosen:
        """Return on which `count` samples of the pool to train."""
        vectors = embeddings_of(pool, context)
        mean = float(pool.embeddings.detach().double().square().sum()) / len(pool)
        ridge = self.ridge * mean if mean > 0 else 1.0
        found = vectors.kernels.d_optimal(vectors.features, count, ridge=ridge)
        return Chosen(np.sort(vectors.order[found.rows.astype(np.intp)]))
