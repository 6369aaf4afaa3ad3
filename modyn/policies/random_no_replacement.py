"""A uniform share of the candidates that takes each sample once before it takes any twice."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modyn.policies.base import Context, Selected, seed_of
from modyn.policies.drawing import Draw, uniform_of
from modyn.policies.share import Share
from modyn.policies.used import Used, of_pass

if TYPE_CHECKING:
    from modyn.sampling import Candidates

__all__ = ["RandomNoReplacement"]


@dataclass(kw_only=True)
class RandomNoReplacement(Share):
    """A uniform draw from the candidates that were not used in this pass over the data.

    Where fewer are left than are wanted, all of them are taken and a new pass begins, whose first
    draw fills up from the others; what the old pass left last can come again later in the new one.
    So data that stay the same are used equally often, but for one time.

    What a pass has used follows from the training sets of the run and is no state: it is a bit per
    key in memory, and is read again after a crash.

    Parameters
    ----------
    ratio, ratio_max : int
        The share to keep: floor(n * ratio / ratio_max) of n candidates.
    limit : int
        How many at most, at least 1; -1 for no limit.
    tail_triggers : int or None
        Candidates are the data of this trigger (0), of the n before it too (n), or all so far
        (None). With 0 nothing was used before.

    Examples
    --------
    >>> from modyn.arrivals import example_arrivals
    >>> from modyn.policies.base import PlainContext
    >>> from modyn.sampling import Candidates
    >>> arrivals = example_arrivals(10)
    >>> candidates = Candidates.from_arrays(arrivals.keys, arrivals.timestamps)
    >>> policy = RandomNoReplacement(ratio=50, tail_triggers=None)
    >>> first = policy.select(candidates, PlainContext())
    >>> second = policy.select(candidates, PlainContext(trigger=1, training_sets={0: first}))
    >>> sorted(first.keys.tolist() + second.keys.tolist())
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
    """

    tail_triggers: int | None = None

    def select(self, candidates: "Candidates", context: Context) -> Selected:
        """Return the draw for this trigger."""
        if getattr(self, "_cached_used", None) is None:
            self._cached_used = Used(of_pass)
        used = self._cached_used.before(context)
        count, seed = self.target(len(candidates)), seed_of(context)
        draw = Draw(count, seed=seed)
        for block in candidates.blocks():
            draw.offer(block.keys[~used.contains(block.keys)])
        left = draw.keys()
        if len(left) == count:
            return Selected(left)
        again = uniform_of(candidates, count - len(left), seed=seed, among=used.contains)
        return Selected(np.sort(np.concatenate((left, again))))
