"""Samples that no other is far from."""

from dataclasses import dataclass

import numpy as np

from modyn.downsampling.base import Chosen, Context, Downsampler, Pool
from modyn.downsampling.vectors import embeddings_of

__all__ = ["KcenterGreedy"]


@dataclass(kw_only=True)
class KcenterGreedy(Downsampler):
    """Always the sample whose embedding is farthest from those of the samples before it.

    The first is drawn. The largest distance of any sample to the nearest one chosen is at most
    twice that of the best choice; equal samples are chosen only when nothing else is left.

    Parameters
    ----------
    ratio, ratio_max, sample_then_batch, period, balance, normalise, pool_samples
        As in `Downsampler`.

    References
    ----------
    O. Sener and S. Savarese, "Active learning for convolutional neural networks: a core-set
    approach", ICLR 2018; `modyn.coresets.kcenter`.

    Examples
    --------
    >>> from modyn.downsampling.checks import example_pool
    >>> KcenterGreedy(ratio=10).choose(example_pool(50), 5, Context()).rows.tolist()
    [11, 15, 39, 41, 47]
    """

    needs = ("embeddings",)

    def choose(self, pool: Pool, count: int, context: Context) -> Chosen:
        """Return on which `count` samples of the pool to train."""
        vectors = embeddings_of(pool, context)
        start = int(context.random().integers(len(pool)))
        found = vectors.kernels.kcenter(vectors.features, count, start=start)
        return Chosen(np.sort(vectors.order[found.rows.astype(np.intp)]))
