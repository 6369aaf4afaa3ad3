"""A uniform share: what every other way to choose has to beat."""

from dataclasses import dataclass

import numpy as np

from modyn.downsampling.base import Chosen, Context, Downsampler, Pool

__all__ = ["Uniform"]


@dataclass(kw_only=True)
class Uniform(Downsampler):
    """Keep a uniform draw without replacement, unweighted; no forward pass is made for it.

    Examples
    --------
    >>> sampler = Uniform(ratio=50)
    """

    needs = ()

    def choose(self, pool: Pool, count: int, context: Context) -> Chosen:
        """Return the draw."""
        return Chosen(np.sort(context.random().choice(len(pool), count, replace=False)))
