"""Choosing by what a model said of the samples while it was trained."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from modyn.policies.base import Context, Selected, Selection, seed_of
from modyn.policies.checked import check_integer, check_limit, check_tail_triggers
from modyn.policies.drawing import Draw
from modyn.policies.share import Share

if TYPE_CHECKING:
    from modyn.sampling import Candidates

__all__ = ["QuantileBand", "TopBySignal"]

SignalName = Literal["loss", "gradient_norm", "prediction", "forgetting"]
Unseen = Literal["first", "last"]
Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of samples, and which of them are candidates.

    Parameters
    ----------
    keys : uint64, shape (n,), ascending
    values : float64, shape (n,)
        No nan.
    """

    keys: Keys
    values: npt.NDArray[np.float64]

    def has(self, keys: Keys) -> npt.NDArray[np.bool_]:
        """Return of which of these keys a value is known."""
        if len(self.keys) == 0:
            return np.zeros(len(keys), dtype=bool)
        found: npt.NDArray[np.bool_] = self.keys[self._places(keys)] == keys
        return found

    def of(self, keys: Keys, otherwise: float) -> npt.NDArray[np.float64]:
        """Return the value of each key, and that one where none is known."""
        there, values = self.has(keys), np.full(len(keys), otherwise)
        values[there] = self.values[np.searchsorted(self.keys, keys[there])]
        return values

    def among(self, candidates: "Candidates") -> "Known":
        """Return what is known of candidates."""
        there = np.zeros(len(self.keys), dtype=bool)
        for block in candidates.blocks():
            known = block.keys[self.has(block.keys)]
            there[np.searchsorted(self.keys, known)] = True
        return Known(self.keys[there], self.values[there])

    def ranked(self) -> Keys:
        """Return the keys from the smallest value to the largest, ties by key."""
        return self.keys[np.lexsort((self.keys, self.values))]

    def _places(self, keys: Keys) -> npt.NDArray[np.intp]:
        return np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)


def known_of(context: Context, signal: str, trainings: int) -> Known:
    """Return the last value of each sample in the latest trainings; the latest of them counts."""
    keys, values = np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.float64)
    found = context.signals(names=[signal])
    latest = -1 if found.trigger is None else found.trigger
    for trigger in range(latest, -1, -1):
        if trigger < latest:
            try:
                found = context.signals(trigger, [signal])
            except ValueError:
                continue  # there was nothing to train on
        last = found.last()
        fresh = ~np.isin(last.keys, keys) & ~np.isnan(last.columns[signal])
        keys = np.concatenate((keys, last.keys[fresh]))
        values = np.concatenate((values, last.columns[signal][fresh]))
        trainings -= 1
        if trainings == 0:
            break
    order = np.argsort(keys, kind="stable")
    return Known(keys[order], values[order])


def _check(signal: str, unseen: str, others: tuple[str, ...], trainings: int) -> None:
    if signal not in get_args(SignalName):
        raise ValueError(f"signal must be one of {', '.join(get_args(SignalName))}, got {signal!r}")
    if unseen not in others:
        raise ValueError(f"unseen must be one of {', '.join(others)}, got {unseen!r}")
    check_integer("trainings", trainings, 1)


@dataclass(kw_only=True)
class TopBySignal(Share):
    """The candidates with the largest, or smallest, value of a stored signal, ties by key.

    The value of a sample is the last one that was recorded in the latest training that had it
    (docs/signals.md). Samples without one are taken first, or last, and drawn uniformly: so the
    first trigger draws uniformly.

    Parameters
    ----------
    signal : {"loss", "gradient_norm", "prediction", "forgetting"}
        One that `training.signals` names.
    largest : bool
        Whether the largest values win, or the smallest.
    unseen : {"first", "last"}
        Where samples without a value stand.
    trainings : int
        In how many of the latest trainings to look for a value, at least 1. Their signals are in
        memory for the choice.
    ratio, ratio_max : int
        The share to keep: floor(n * ratio / ratio_max) of n candidates.
    limit : int
        How many at most, at least 1; -1 for no limit.
    tail_triggers : int or None
        Candidates are the data of this trigger (0: none of which was trained on), of the n before
        it too (n), or all so far (None).

    Examples
    --------
    >>> from modyn.policies.base import PlainContext
    >>> from modyn.sampling import Candidates
    >>> from modyn.signals import Kept, example_signals
    >>> signals = example_signals(np.arange(50, dtype=np.uint64))
    >>> context = PlainContext(trigger=1, recorded=Kept({0: signals}))
    >>> candidates = Candidates.from_arrays(range(60), range(60))
    >>> policy = TopBySignal(signal="loss", ratio=25, tail_triggers=None)
    >>> policy.select(candidates, context).keys.tolist()
    [4, 35, 39, 45, 47, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59]
    """

    signal: SignalName
    tail_triggers: int | None = None
    largest: bool = True
    unseen: Unseen = "first"
    trainings: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        _check(self.signal, self.unseen, ("first", "last"), self.trainings)

    def select(self, candidates: "Candidates", context: Context) -> Selected:
        """Return the choice for this trigger."""
        known = known_of(context, self.signal, self.trainings)
        count = self.target(len(candidates))
        draw = Draw(count, seed=seed_of(context))
        for block in candidates.blocks():
            draw.offer(block.keys[~known.has(block.keys)])
        known = known.among(candidates)
        if self.largest:
            known = Known(known.keys, -known.values)
        fresh = min(draw.offered, count)
        if self.unseen == "last":
            fresh = count - min(len(known.keys), count)
        seen = known.ranked()[: count - fresh]
        return Selected(np.sort(np.concatenate((seen, draw.keys(fresh)))))


@dataclass(kw_only=True)
class QuantileBand(Selection):
    """The candidates whose stored signal lies between two quantiles of all that have one.

    Of n candidates with a value, in ascending order with ties by key, those from place
    floor(n * low) to floor(n * high) - 1 are chosen; so bands that meet share no sample and leave
    none out. With `limit`, a uniform draw of them.

    Parameters
    ----------
    signal : {"loss", "gradient_norm", "prediction", "forgetting"}
        One that `training.signals` names; see `TopBySignal`.
    low, high : float
        0 <= low < high <= 1.
    unseen : {"all", "none"}
        What becomes of samples without a value. With "none", the first trigger still takes all:
        nobody has a value then.
    trainings : int
        In how many of the latest trainings to look for a value, at least 1.
    limit : int
        How many at most, at least 1; -1 for no limit.
    tail_triggers : int or None
        As for `TopBySignal`.

    Examples
    --------
    >>> from modyn.policies.base import PlainContext
    >>> from modyn.sampling import Candidates
    >>> from modyn.signals import Kept, example_signals
    >>> signals = example_signals(np.arange(50, dtype=np.uint64))
    >>> context = PlainContext(trigger=1, recorded=Kept({0: signals}))
    >>> candidates = Candidates.from_arrays(range(50), range(50))
    >>> middle = QuantileBand(signal="loss", low=0.45, high=0.55)
    >>> len(middle.select(candidates, context).keys)
    5
    """

    signal: SignalName
    low: float
    high: float
    unseen: Literal["all", "none"] = "all"
    trainings: int = 1
    limit: int = -1
    tail_triggers: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.low < self.high <= 1:
            raise ValueError(f"low and high must be 0 <= low < high <= 1: {self.low}, {self.high}")
        _check(self.signal, self.unseen, ("all", "none"), self.trainings)
        check_limit(self.limit)
        check_tail_triggers(self.tail_triggers)

    def select(self, candidates: "Candidates", context: Context) -> Selected:
        """Return the choice for this trigger."""
        known = known_of(context, self.signal, self.trainings).among(candidates)
        ranked, n = known.ranked(), len(known.keys)
        limit = len(candidates) if self.limit == -1 else self.limit
        draw = Draw(limit, seed=seed_of(context))
        draw.offer(ranked[int(n * self.low) : int(n * self.high)])
        if n == 0 or self.unseen == "all":
            for block in candidates.blocks():
                draw.offer(block.keys[~known.has(block.keys)])
        return Selected(draw.keys())
