"""What a model learns and forgets again is kept; what it knows once and for all is dropped."""

from dataclasses import dataclass

import numpy as np

from modyn.downsampling.base import Chosen, Context, Downsampler, Pool, highest
from modyn.downsampling.whole import check_whole

__all__ = ["Forgetting"]


@dataclass(kw_only=True)
class Forgetting(Downsampler):
    """Train on all for a while, then on the samples that were forgotten most often, unweighted.

    A sample is forgotten when it is wrong at one presentation and was right at the one before.
    One that was never right counts as forgotten more often than any other.

    Parameters
    ----------
    warmup : float
        For which part of the epochs of a training all samples are trained on; from 0 to 1, and
        one epoch at least.

    Raises
    ------
    ValueError
        When `sample_then_batch` is off, the period 0, or `warmup` no share.

    References
    ----------
    M. Toneva et al., "An empirical study of example forgetting during deep neural network
    learning", ICLR 2019, arXiv:1812.05159.  There events are counted in a whole training before;
    here in the first part of the same one.

    Examples
    --------
    >>> sampler = Forgetting(ratio=50, warmup=0.2)
    """

    needs = ("history",)
    exact = False

    sample_then_batch: bool = True
    warmup: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(self)
        if self.period == 0:
            raise ValueError("Forgetting needs a period of at least 1: at first nothing is known")
        if not 0.0 <= self.warmup <= 1.0:
            raise ValueError(f"warmup must be from 0 to 1, got {self.warmup}")

    def choose(self, pool: Pool, count: int, context: Context) -> Chosen:
        """Return the `count` samples with the highest counts, ties by key; at first, all."""
        if context.epoch < max(self.warmup * context.epochs, 1):
            return Chosen(np.arange(len(pool)))
        return Chosen(highest(pool.history["forgetting"].astype(np.float64), pool.keys, count))
