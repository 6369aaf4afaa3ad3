"""What all policies have in common that keep a share of their candidates."""

from dataclasses import dataclass

from modyn import sampling
from modyn.policies.base import Selection
from modyn.policies.checked import check_limit, check_ratio, check_tail_triggers

__all__ = ["Share"]


@dataclass(kw_only=True)
class Share(Selection):
    """A selection of floor(n * ratio / ratio_max) of n candidates, and at most `limit`.

    Parameters
    ----------
    ratio : int
        The share to keep, in parts of `ratio_max`; from 0 to `ratio_max`.
    ratio_max : int
        How many parts make the whole; 100 for percent.
    limit : int
        How many at most, over all candidates; at least 1, or -1 for no limit.
    tail_triggers : int or None
        Candidates are the data of this trigger (0), of the n before it too (n), or all so far
        (None).
    """

    ratio: int
    ratio_max: int = 100
    limit: int = -1
    tail_triggers: int | None = 0

    def __post_init__(self) -> None:
        check_ratio(self.ratio, self.ratio_max)
        check_limit(self.limit)
        check_tail_triggers(self.tail_triggers)

    def target(self, n: int) -> int:
        """Return how many of `n` candidates to choose."""
        return sampling.target_size(n, self.ratio, self.ratio_max, self.limit)
