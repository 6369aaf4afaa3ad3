"""InfoBatch: skip some of what is learned already, and let what is left of it count for more."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modyn.downsampling.base import Chosen, Context, Downsampler, Pool
from modyn.downsampling.whole import check_each_epoch, check_whole

__all__ = ["InfoBatch"]


@dataclass(kw_only=True)
class InfoBatch(Downsampler):
    """Each epoch, drop a random part of the samples whose loss is below the mean.

    The losses are those of each sample's last presentation, so there is no forward pass for them.
    Of the m samples below the mean, ceil((1 - prune) * m) are kept, with weight m / (that many);
    all others are kept with weight 1.  The expected sum of weight * loss is the sum over all
    samples.  How many that is follows from the losses: `ratio` is not looked at.

    Parameters
    ----------
    prune : float
        Which part of the samples below the mean to drop, from 0 to below 1.
    delta : float
        After this part of the epochs all samples are trained on, from 0 to 1.
    start_loss : float
        The loss of a sample that was not trained on yet.

    Raises
    ------
    ValueError
        When `sample_then_batch` is off, the period is not 1, or a setting is no share.

    References
    ----------
    Z. Qin et al., "InfoBatch: lossless training speed up by unbiased dynamic data pruning", ICLR
    2024, arXiv:2303.04947.  There floor((1 - prune) * m) are kept with weight 1 / (1 - prune),
    which differs where m is small, and is then biased.

    Examples
    --------
    >>> sampler = InfoBatch(prune=0.5)
    """

    needs = ("history",)
    exact = False

    sample_then_batch: bool = True
    prune: float = 0.5
    delta: float = 0.875
    start_loss: float = 3.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(self)
        check_each_epoch(self)
        if not 0.0 <= self.prune < 1.0:
            raise ValueError(f"prune must be from 0 to below 1, got {self.prune}")
        if not 0.0 <= self.delta <= 1.0:
            raise ValueError(f"delta must be from 0 to 1, got {self.delta}")

    def choose(self, pool: Pool, count: int, context: Context) -> Chosen:
        """Return which samples are kept; how many does not depend on `count`."""
        if context.epoch >= self.delta * context.epochs:
            return Chosen(np.arange(len(pool)))
        learned = np.flatnonzero(self._below_mean(pool.history["losses"]))
        weights = np.ones(len(pool))
        if len(learned):
            stay = int(np.ceil((1.0 - self.prune) * len(learned)))
            weights[learned] = 0.0
            drawn = context.random().choice(learned, stay, replace=False)
            weights[drawn] = len(learned) / stay
        rows = np.flatnonzero(weights)
        return Chosen(rows, weights[rows])

    def _below_mean(self, losses: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
        """Return which losses are below the mean."""
        known = np.where(np.isnan(losses), self.start_loss, losses).astype(np.float64)
        below: npt.NDArray[np.bool_] = known < known.mean()
        return below
