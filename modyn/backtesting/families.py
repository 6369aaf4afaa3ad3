"""Schedules of whole families of policies at once, from the arrays of a tape.

Each is what the policy's own class would do, sample by sample; tests hold one against the other.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from modyn.backtesting.scripted import AtPositions
from modyn.backtesting.tape import Tape
from modyn.policies import DataAmountTrigger, TimeTrigger, Trigger
from modyn.policies.time import units_of

__all__ = ["FAMILIES", "amounts", "periods"]

Places = npt.NDArray[np.int64]


def amounts(policy: DataAmountTrigger, tape: Tape) -> Places:
    """Return where a trigger every so many samples fires."""
    return np.arange(policy.num_samples, len(tape) + 1, policy.num_samples, dtype=np.int64)


def periods(policy: TimeTrigger, tape: Tape) -> Places:
    """Return where a trigger every so often fires: before the first sample of a later period.

    A late sample counts for the period in which it comes, so that periods follow the newest
    timestamp so far, which ascends.
    """
    period, newest = units_of(policy.every, tape.unit), tape.newest
    begin, end = int(newest[0]), int(newest[-1])
    start = begin if policy.start_timestamp is None else policy.start_timestamp
    first = start + max((begin - start) // period + 1, 1) * period  # end of the first one occupied
    if first > end:
        return np.zeros(0, dtype=np.int64)
    if (end - first) // period < len(newest):
        ends = first + period * np.arange((end - first) // period + 1, dtype=np.int64)
        return np.unique(np.searchsorted(newest, ends, side="left"))
    numbers = np.maximum((newest - start) // period, 0)
    return np.flatnonzero(numbers[1:] > numbers[:-1]) + 1


def scripted(policy: AtPositions, tape: Tape) -> Places:
    """Return the places that are written down."""
    places = np.array(policy.positions, dtype=np.int64)
    last = np.searchsorted(places, len(tape)) + 1  # nobody is asked after the last sample
    return places[:last][places[:last] <= len(tape)]


FAMILIES: dict[type[Trigger], Callable[..., Places]] = {
    DataAmountTrigger: amounts,
    TimeTrigger: periods,
    AtPositions: scripted,
}
