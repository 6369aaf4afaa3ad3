"""A share of the candidates, drawn with probabilities that follow a weight of each."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from modyn import sampling
from modyn.arrivals import Arrivals
from modyn.policies.base import Context, Selected, seed_of
from modyn.policies.by_signal import known_of
from modyn.policies.share import Share
from modyn.policies.time import seconds_of, units_of

if TYPE_CHECKING:
    from modyn.sampling import Candidates

__all__ = ["Weighted"]

COLUMNS = ("timestamp", "label")
Name = Literal["timestamp", "label", "loss", "gradient_norm", "prediction", "forgetting"]
Scheme = Literal["pps", "sequential", "priority", "with_replacement"]
By = Name | Callable[[Arrivals], npt.ArrayLike]
HALVINGS = 400  # at most: weights may be 2**-500 to 2**500


@dataclass(kw_only=True)
class Weighted(Share):
    """A draw with probabilities that follow the weight `by` of each candidate.

    Training samples get weights with which a mean over the choice estimates the mean over all
    candidates without a bias, where `scheme` gives such; see `modyn.sampling.weighted`.

    Parameters
    ----------
    by : str or callable
        "timestamp" or "label": that column, at least 0. "loss", "gradient_norm", "prediction" or
        "forgetting": that signal of the latest training, and for candidates without one the mean
        of those that have one; alike for all before the first training. Or a function from a
        block of candidates (`Arrivals`) to numbers that are at least 0, which pipeline.yaml
        cannot say.
    half_life : str or None
        With "timestamp": the weight is not the time but halves for each of these periods of age,
        such as "30d".
    scheme : {"pps", "sequential", "priority", "with_replacement"}
        How keys are drawn; "sequential" gives no weights.
    floor : float
        The share of chance that is spread evenly, at least 0 and below 1: with "pps" no sample
        weighs more than 1 / floor.
    ratio, ratio_max : int
        The share to keep: floor(n * ratio / ratio_max) of n candidates.
    limit : int
        How many at most, at least 1; -1 for no limit.
    tail_triggers : int or None
        Candidates are the data of this trigger (0), of the n before it too (n), or all so far
        (None).

    Examples
    --------
    >>> from modyn.policies.base import PlainContext
    >>> from modyn.sampling import Candidates
    >>> candidates = Candidates.from_arrays(range(1000), range(1000))
    >>> policy = Weighted(ratio=10, by="timestamp", half_life="2m", tail_triggers=None)
    >>> chosen = policy.select(candidates, PlainContext(clock=999))
    >>> len(chosen.keys), float(np.median(chosen.keys)) > 800
    (100, True)
    """

    by: By
    half_life: str | None = None
    scheme: Scheme = "pps"
    floor: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        names = ", ".join(get_args(Name))
        if not callable(self.by) and self.by not in get_args(Name):
            raise ValueError(f"by must be a function or one of {names}, got {self.by!r}")
        if self.half_life is not None:
            if self.by != "timestamp":
                raise ValueError(f"half_life is for by='timestamp', not for {self.by!r}")
            try:
                seconds_of(self.half_life)
            except ValueError as error:
                raise ValueError(f"half_life: {error}") from None
        if self.scheme not in get_args(Scheme):
            raise ValueError(
                f"scheme must be one of {', '.join(get_args(Scheme))}, got {self.scheme!r}"
            )
        if not 0 <= self.floor < 1:
            raise ValueError(f"floor must be at least 0 and below 1, got {self.floor}")

    def select(self, candidates: "Candidates", context: Context) -> Selected:
        """Return the draw for this trigger, with weights where the scheme has any."""
        drawn = sampling.weighted(
            candidates,
            self.target(len(candidates)),
            weights=self._weights(candidates, context),
            seed=seed_of(context),
            scheme=self.scheme,
            floor=self.floor,
        )
        return Selected(drawn.keys, drawn.weights)

    def _weights(
        self, candidates: "Candidates", context: Context
    ) -> str | Callable[[Arrivals], npt.ArrayLike]:
        if self.half_life is not None:
            now = context.clock
            if now is None:
                now = max(int(block.timestamps.max()) for block in candidates.blocks())
            return _halving(now, units_of(self.half_life, context.timestamp_unit))
        if callable(self.by) or self.by in COLUMNS:
            return self.by
        known = known_of(context, self.by, 1).among(candidates)
        usual = float(known.values.mean()) if len(known.keys) > 0 else 1.0
        return lambda block: known.of(block.keys, usual)


def _halving(now: int, half_life: int) -> Callable[[Arrivals], npt.NDArray[np.float64]]:
    def weights(block: Arrivals) -> npt.NDArray[np.float64]:
        age = (now - block.timestamps.astype(np.float64)) / half_life
        return np.exp2(-np.clip(age, -HALVINGS, HALVINGS))

    return weights
