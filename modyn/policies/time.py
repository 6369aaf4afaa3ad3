"""A trigger for every period of sample time."""

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modyn.arrivals import Arrivals
from modyn.policies.base import Context, Trigger
from modyn.policies.checked import check_integer

__all__ = ["TimeTrigger", "seconds_of", "units_of"]

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
FIRST_LOOK = 4096  # samples


def seconds_of(duration: str) -> int:
    """Return the seconds of a time string: an integer and one of s m h d w y (y is 365 days).

    Raises
    ------
    ValueError
        Naming the text, when it is no time string or shorter than a second.

    Examples
    --------
    >>> seconds_of("90s"), seconds_of("2w"), seconds_of("1y")
    (90, 1209600, 31536000)
    """
    match = re.fullmatch(r"([0-9]{1,12})([smhdwy])", str(duration))
    if match is None:
        raise ValueError(
            f"expected an integer and one of s m h d w y, such as '1d' or '12h', got {duration!r}"
        )
    seconds = int(match[1]) * SECONDS[match[2]]
    if seconds < 1:
        raise ValueError(f"expected at least one second, got {duration!r}")
    return seconds


def units_of(duration: str, timestamp_unit: str) -> int:
    """Return a time string in units of a dataset's timestamps.

    Examples
    --------
    >>> units_of("2m", "ms")
    120000
    """
    if timestamp_unit not in PER_SECOND:
        raise ValueError(f"expected a timestamp unit of s, ms, us, ns, got {timestamp_unit!r}")
    return seconds_of(duration) * PER_SECOND[timestamp_unit]


@dataclass(kw_only=True)
class TimeTrigger(Trigger):
    """A trigger is due whenever a period of sample time is over.

    The first period starts at `start_timestamp`, or else at the first sample, and every period has
    the same length. The first sample at or after the end of its period fires, whatever comes
    later, and opens the next period; it is not part of the data it ends. However many periods
    passed without a sample, the data before them cause one trigger, and a period without samples
    causes none. Samples that come late count for the period in which they come.

    Parameters
    ----------
    every : str
        The length of a period: an integer and one of s m h d w y (a year has 365 days).
    start_timestamp : int or None
        Where the first period starts, in the unit of the dataset; None for the first sample.

    Examples
    --------
    >>> from modyn.arrivals import example_arrivals
    >>> from modyn.policies.base import PlainContext
    >>> trigger = TimeTrigger(every="10s")
    >>> arrivals = example_arrivals(20, step=4)  # at 0, 4, 8, 12, ...
    >>> trigger.inform(arrivals, PlainContext())
    3
    >>> trigger.inform(arrivals[3:], PlainContext())  # at 12, 16, 20: the next period ends at 20
    2
    """

    every: str
    start_timestamp: int | None = None

    def __post_init__(self) -> None:
        try:
            seconds_of(self.every)
        except ValueError as error:
            raise ValueError(f"every: {error}") from None
        if self.start_timestamp is not None:
            check_integer("start_timestamp", self.start_timestamp)
        self._end: int | None = None  # of the current period
        self._occupied = False  # whether it has samples

    def inform(self, arrivals: Arrivals, context: Context) -> int | None:
        """Return after how many of `arrivals` a trigger is due, or None."""
        if len(arrivals) == 0:
            return None
        period = units_of(self.every, context.timestamp_unit)
        first = int(arrivals.timestamps[0])
        if self._end is None:
            start = first if self.start_timestamp is None else self.start_timestamp
            self._end = start + period
        if not self._occupied and first >= self._end:
            self._end += ((first - self._end) // period + 1) * period
        due = _first_at_or_after(arrivals.timestamps, self._end)
        self._occupied = due is None
        return due


def _first_at_or_after(timestamps: npt.NDArray[np.int64], end: int) -> int | None:
    """Return the index of the first timestamp >= end, in whatever order they are.

    Looks at pieces of doubling size, so that many triggers in one block cost no more than one.
    """
    first, size = 0, FIRST_LOOK
    while first < len(timestamps):
        found = timestamps[first : first + size] >= end
        index = int(found.argmax())
        if found[index]:
            return first + index
        first, size = first + size, 2 * size
    return None
