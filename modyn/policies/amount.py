"""A trigger for every so many samples."""

from dataclasses import dataclass

from modyn.arrivals import Arrivals
from modyn.policies.base import Context, Trigger
from modyn.policies.checked import check_integer

__all__ = ["DataAmountTrigger"]


@dataclass(kw_only=True)
class DataAmountTrigger(Trigger):
    """A trigger is due after every `num_samples` samples of the stream.

    Parameters
    ----------
    num_samples : int
        Samples from one trigger to the next, at least 1.

    Examples
    --------
    >>> from modyn.arrivals import example_arrivals
    >>> trigger = DataAmountTrigger(num_samples=3)
    >>> trigger.inform(example_arrivals(2), context=None)
    >>> trigger.inform(example_arrivals(5), context=None)
    1
    """

    num_samples: int

    def __post_init__(self) -> None:
        check_integer("num_samples", self.num_samples, 1)
        self._missing = self.num_samples

    def inform(self, arrivals: Arrivals, context: Context) -> int | None:
        """Return after how many of `arrivals` a trigger is due, or None."""
        if len(arrivals) < self._missing:
            self._missing -= len(arrivals)
            return None
        due, self._missing = self._missing, self.num_samples
        return due
