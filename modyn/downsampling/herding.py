"""Samples whose embeddings have the mean of all."""

from dataclasses import dataclass

import numpy as np

from modyn.downsampling.base import Chosen, Context, Downsampler, Pool
from modyn.downsampling.vectors import embeddings_of

__all__ = ["Herding"]


@dataclass(kw_only=True)
class Herding(Downsampler):
    """One after the other the sample that brings the mean embedding nearest to that of all.

    Parameters
    ----------
    ratio, ratio_max, sample_then_batch, period, balance, normalise, pool_samples
        As in `Downsampler`.

    References
    ----------
    M. Welling, "Herding dynamical weights to learn", ICML 2009; `modyn.coresets.herding`.

    Examples
    --------
    >>> from modyn.downsampling.checks import example_pool
    >>> len(Herding(ratio=10).choose(example_pool(50), 5, Context()).rows)
    5
    """

    needs = ("embeddings",)

    def choose(self, pool: Pool, count: int, context: Context) -> Chosen:
        """Return on which `count` samples of the pool to train."""
        vectors = embeddings_of(pool, context)
        found = vectors.kernels.herding(vectors.features, count)
        return Chosen(np.sort(vectors.order[found.rows.astype(np.intp)]))
