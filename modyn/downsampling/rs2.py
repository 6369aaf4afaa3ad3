"""RS2: another random subset in every epoch, which is ordinary training in fewer epochs."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from modyn.downsampling.base import Chosen, Context, Downsampler, Pool
from modyn.downsampling.whole import check_each_epoch, check_whole

__all__ = ["RS2"]

PASSES = 1  # the purpose of the draws that shuffle a pass

Order = npt.NDArray[np.int64]


@dataclass(kw_only=True)
class RS2(Downsampler):
    """Train on a random subset, drawn anew in every epoch; no forward pass is made for it.

    Parameters
    ----------
    with_replacement : bool
        Draw each epoch's subset from all samples, whatever was drawn before (within an epoch no
        sample comes twice).  Otherwise go through all samples in a random order, an epoch's
        subset after the other, and begin a new pass where one ends: the last samples of a pass
        come with the first of the next, and how often two samples were trained on never differs
        by more than one.

    Raises
    ------
    ValueError
        When `sample_then_batch` is off, or the period is not 1.

    References
    ----------
    P. Okanovic et al., "Repeated random sampling for minimizing the time-to-accuracy of learning",
    ICLR 2024, arXiv:2305.18424.  There, without replacement, what is left over at the end of a
    pass is shuffled into the next one without having been trained on.

    Examples
    --------
    >>> sampler = RS2(with_replacement=False, ratio=25)
    """

    needs = ()

    sample_then_batch: bool = True
    with_replacement: bool

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(self)
        check_each_epoch(self)
        self._passes: dict[int, _Passes] = {}  # by what Context.step tells apart

    def choose(self, pool: Pool, count: int, context: Context) -> Chosen:
        """Return the subset of an epoch."""
        size = len(pool)
        if self.with_replacement:
            return Chosen(np.sort(context.random().choice(size, count, replace=False)))
        passes = self._passes.get(context.step)
        if passes is None or not passes.leads_to(size, count, context):
            passes = self._passes[context.step] = _Passes(size, count, context)
        ranks = passes.subset(context.epoch)
        return Chosen(np.sort(np.argsort(pool.keys, kind="stable")[ranks]))


class _Passes:
    """The order of one pass after the other, each a function of the seed and its number.

    An epoch's subset that begins in one pass and ends in the next holds no sample twice: the next
    order begins with samples that are not among the last of the one before.
    """

    def __init__(self, size: int, count: int, context: Context) -> None:
        self._size = size
        self._count = count
        self._context = context
        self._number = 0
        self._order = self._shuffled(0)

    def leads_to(self, size: int, count: int, context: Context) -> bool:
        """Return whether the subset of that context is of these passes, and not behind them."""
        same = (self._size, self._count, self._context.seed) == (size, count, context.seed)
        return same and self._number * size <= context.epoch * count

    def subset(self, epoch: int) -> Order:
        """Return the subset of an epoch, of samples by the rank of their keys."""
        number, first = divmod(epoch * self._count, self._size)
        while self._number < number:
            self._next()
        head = self._order[first : first + self._count]
        missing = self._count - len(head)
        if missing == 0:
            return head
        self._next()
        return np.concatenate([head, self._order[:missing]])

    def _next(self) -> None:
        """Go on to the next pass."""
        end = (self._number + 1) * self._size
        last = self._order[self._size - end % self._count :]  # of the subset that goes on
        self._number += 1
        order = self._shuffled(self._number)
        if len(last):
            free = np.ones(self._size, dtype=np.bool_)
            free[last] = False
            places = np.flatnonzero(free[order])[: self._count - len(last)]
            order = np.concatenate([order[places], np.delete(order, places)])
        self._order = order

    def _shuffled(self, number: int) -> Order:
        return replace(self._context, epoch=number).random(PASSES).permutation(self._size)
