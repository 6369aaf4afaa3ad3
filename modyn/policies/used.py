"""Which samples earlier triggers chose, from their training sets: one bit per key of memory."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from modyn import sampling
from modyn.policies.base import Context

__all__ = ["Used", "of_pass"]

Keys = npt.NDArray[np.uint64]
Step = Callable[["sampling.KeySet", Keys], "sampling.KeySet"]


def _add(used: "sampling.KeySet", chosen: Keys) -> "sampling.KeySet":
    used.add(chosen)
    return used


def of_pass(used: "sampling.KeySet", chosen: Keys) -> "sampling.KeySet":
    """Return what is used up of the pass that is under way after a trigger chose these keys.

    A trigger that chose any key a second time has begun a new pass with these.
    """
    again = chosen[used.contains(chosen)]
    return sampling.KeySet(again) if len(again) > 0 else _add(used, chosen)


class Used:
    """What the triggers of a run have used so far, carried on from one to the next.

    Nothing of it has to be saved: a new object reads the training sets from the first one on.

    Parameters
    ----------
    step : callable
        Returns the set after a trigger, given that before it, which it may change, and the keys
        that the trigger chose; by default all keys are collected.
    """

    def __init__(self, step: Step = _add) -> None:
        self._step = step
        self._begin()

    def _begin(self) -> None:
        self._trigger = 0  # the first whose choice is not in it
        self._keys = sampling.KeySet()

    def before(self, context: Context) -> "sampling.KeySet":
        """Return the set as it is before the trigger of the context."""
        if self._trigger > context.trigger:
            self._begin()
        while self._trigger < context.trigger:
            chosen = context.training_set(self._trigger).keys
            self._keys = self._step(self._keys, chosen)
            self._trigger += 1
        return self._keys
