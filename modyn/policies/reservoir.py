"""A buffer of fixed size that holds each sample of the stream with the same chance."""

from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from modyn import sampling
from modyn.policies.base import Context, Selected, Selection
from modyn.policies.checked import check_all_data, check_integer
from modyn.policies.drawing import steady_seed

if TYPE_CHECKING:
    from modyn.sampling import Candidates

__all__ = ["Reservoir"]


@dataclass(kw_only=True)
class Reservoir(Selection):
    """A reservoir of `size` samples of all data so far, every set of them equally likely.

    Each sample has one draw for the whole run, and the smallest are in the reservoir. So what is in
    stays until a new sample takes the place of one of them, each of them equally likely: from
    trigger to trigger it follows the law of the classical algorithm. Beyond that, neither the order
    of the stream matters nor where the triggers fall; and where samples were erased, those that
    would have been in without them come in.

    What is in is what the last trigger chose, so the state holds no more than its fingerprint. Only
    new data are read, but for the first time and after an erasure from the reservoir.

    Parameters
    ----------
    size : int
        Samples in the reservoir, at least 1.
    tail_triggers : None
        All data so far.

    References
    ----------
    J. S. Vitter, "Random Sampling with a Reservoir", ACM TOMS 11(1), 1985: algorithm R, in which a
    sample t > k takes a random place with probability k / t. Here the choice is made by fixed
    draws: with these, a new sample enters with the same probability, and the one that goes is any
    of the k, since their order by draws does not depend on which they are.

    Examples
    --------
    >>> from modyn.arrivals import example_arrivals
    >>> from modyn.policies.base import PlainContext
    >>> from modyn.sampling import Candidates
    >>> policy, stream = Reservoir(size=4), example_arrivals(40)
    >>> for n in (10, 20, 40):
    ...     candidates = Candidates.from_arrays(stream.keys[:n], stream.timestamps[:n])
    ...     print(policy.select(candidates, PlainContext(seed=1)).keys.tolist())
    [0, 4, 6, 9]
    [4, 9, 13, 18]
    [9, 13, 18, 25]
    """

    size: int
    tail_triggers: int | None = None

    def __post_init__(self) -> None:
        check_integer("size", self.size, 1)
        check_all_data(self.tail_triggers, "a reservoir")
        self._last: list[int | str] | None = None  # trigger and fingerprint

    def select(self, candidates: "Candidates", context: Context) -> Selected:
        """Return what is in the reservoir."""
        seed, kept = steady_seed(context), self._kept(candidates, context)
        if kept is None:
            chosen = sampling.uniform(candidates, self.size, seed=seed)
        else:
            trigger, keys = kept
            fresh = [
                sampling.uniform(part, self.size, seed=seed)
                for one, part in candidates.parts
                if one > trigger
            ]
            chosen = sampling.uniform(np.concatenate((keys, *fresh)), self.size, seed=seed)
        self._last = [context.trigger, _fingerprint(chosen)]
        return Selected(chosen)

    def _kept(
        self, candidates: "Candidates", context: Context
    ) -> tuple[int, npt.NDArray[np.uint64]] | None:
        """Return the last trigger and what is in since; None where that has to be found anew."""
        if self._last is None:
            return None
        trigger = int(self._last[0])
        if trigger >= context.trigger:
            return None
        keys = context.training_set(trigger).keys
        same = _fingerprint(keys) == self._last[1]
        return (trigger, keys) if same and candidates.living(keys).all() else None


def _fingerprint(keys: npt.NDArray[np.uint64]) -> str:
    return blake2b(np.ascontiguousarray(keys).tobytes(), digest_size=16).hexdigest()
