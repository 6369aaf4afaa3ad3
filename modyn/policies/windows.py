"""Which samples drift is looked for between: a reference and a current window, as positions.

Both follow from the position reached and from that of the last trigger alone, so that policies
keep no samples.  The current window ends with the newest sample; the reference ends where the last
trigger fell, which is where the model's data ended.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from modyn.arrivals import Arrivals
from modyn.policies.base import Context
from modyn.policies.checked import check_flag, check_integer
from modyn.policies.time import seconds_of, units_of

__all__ = [
    "OLDEST",
    "AmountWindowingStrategy",
    "TimeWindowingStrategy",
    "Window",
    "WindowingStrategy",
    "Windows",
    "last_timestamp",
]

BLOCK = 1 << 18  # samples that are looked at together
OLDEST = -(2**63)  # of all timestamps

State = list[int | None]


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the stream that was reached.

    Parameters
    ----------
    first, last : int
        Positions, the last exclusive.
    since : int or None
        Samples with an earlier timestamp are left out; in time order there are none.

    Examples
    --------
    >>> from modyn.arrivals import example_arrivals
    >>> from modyn.policies import HeldHistory, PlainContext
    >>> context = PlainContext(position=9, history=HeldHistory(example_arrivals(9)))
    >>> [block.keys.tolist() for block in Window(2, 9, since=5).blocks(context)]
    [[5, 6, 7, 8]]
    """

    first: int
    last: int
    since: int | None = None

    def blocks(self, context: Context) -> Iterator[Arrivals]:
        """Return its samples in pieces, less those that were erased; no piece is empty."""
        for first in range(self.first, self.last, BLOCK):
            block = context.samples(first, min(first + BLOCK, self.last))
            if self.since is not None:
                block = _where(block, block.timestamps >= self.since)
            if len(block) > 0:
                yield block

    def state(self) -> State:
        """Return it as JSON values."""
        return [self.first, self.last, self.since]

    @classmethod
    def of(cls, state: State) -> "Window":
        """Return the window that `state` gave."""
        first, last, since = state
        if first is None or last is None:
            raise ValueError(f"this is no window: {state}")
        return cls(first, last, since)


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """What is compared with what.

    Parameters
    ----------
    reference, current : Window
    """

    reference: Window
    current: Window


class WindowingStrategy(Protocol):
    """Cuts both windows; a frozen dataclass of its parameters."""

    def windows(self, context: Context, since: int, /) -> Windows:
        """Return the windows as of a context.

        Parameters
        ----------
        context : Context
            As of the end of an interval.
        since : int
            The position of the last trigger, or where windows were cut anew since.
        """


@dataclass(frozen=True, kw_only=True)
class AmountWindowingStrategy:
    """Windows of so many samples.

    With T the position of the last trigger and P the position reached, the reference is the last
    `amount_ref` samples before T, [T - amount_ref, T), and the current window the newest
    `amount_cur` samples since T, [max(T, P - amount_cur), P), or regardless of T where they may
    overlap.  Samples that are erased leave gaps; windows do not reach farther back for them.

    Parameters
    ----------
    amount_ref, amount_cur : int
        At least 1.
    allow_overlap : bool
        Whether the current window may reach back beyond the last trigger.

    Examples
    --------
    >>> from modyn.policies import PlainContext
    >>> strategy = AmountWindowingStrategy(amount_ref=100, amount_cur=50)
    >>> found = strategy.windows(PlainContext(position=420), 400)
    >>> found.reference, found.current
    (Window(first=300, last=400, since=None), Window(first=400, last=420, since=None))
    """

    amount_ref: int = 1000
    amount_cur: int = 1000
    allow_overlap: bool = False

    def __post_init__(self) -> None:
        check_integer("amount_ref", self.amount_ref, 1)
        check_integer("amount_cur", self.amount_cur, 1)
        check_flag("allow_overlap", self.allow_overlap)

    def windows(self, context: Context, since: int, /) -> Windows:
        """Return the windows as of a context; see `WindowingStrategy`."""
        begin = 0 if self.allow_overlap else since
        return Windows(
            reference=Window(max(0, since - self.amount_ref), since),
            current=Window(max(begin, context.position - self.amount_cur), context.position),
        )


@dataclass(frozen=True, kw_only=True)
class TimeWindowingStrategy:
    """Windows of so much sample time.

    With t the timestamp of the last sample before the last trigger, the reference holds the samples
    before the trigger with timestamps >= t - `limit_ref`; with t that of the newest sample, the
    current window holds those since the trigger with timestamps >= t - `limit_cur`, or regardless
    of the trigger where they may overlap.

    Parameters
    ----------
    limit_ref, limit_cur : str
        Time strings, such as "30d": an integer and one of s m h d w y.
    allow_overlap : bool
        Whether the current window may reach back beyond the last trigger.

    Examples
    --------
    >>> from modyn.arrivals import example_arrivals
    >>> from modyn.policies import HeldHistory, PlainContext
    >>> stream = HeldHistory(example_arrivals(20, step=60))
    >>> strategy = TimeWindowingStrategy(limit_ref="3m", limit_cur="2m")
    >>> found = strategy.windows(PlainContext(clock=19 * 60, position=20, history=stream), 10)
    >>> found.reference, found.current
    (Window(first=6, last=10, since=360), Window(first=17, last=20, since=1020))
    """

    limit_ref: str
    limit_cur: str
    allow_overlap: bool = False

    def __post_init__(self) -> None:
        for name in ("limit_ref", "limit_cur"):
            try:
                seconds_of(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        check_flag("allow_overlap", self.allow_overlap)

    def windows(self, context: Context, since: int, /) -> Windows:
        """Return the windows as of a context; see `WindowingStrategy`."""
        begin = 0 if self.allow_overlap else since
        return Windows(
            reference=_newest(context, 0, since, self.limit_ref),
            current=_newest(context, begin, context.position, self.limit_cur),
        )


def _newest(context: Context, begin: int, end: int, limit: str) -> Window:
    """Return the samples from `begin` to `end` that are at most so much older than the last."""
    last = last_timestamp(context, end)
    if last is None:
        return Window(end, end)
    since = max(OLDEST, last - units_of(limit, context.timestamp_unit))
    return Window(min(max(begin, context.first_at(since)), end), end, since)


def last_timestamp(context: Context, end: int) -> int | None:
    """Return the timestamp of the last sample before a position that was not erased."""
    if end == context.position:
        return context.clock
    count = 1
    while end > 0:
        found = context.samples(max(0, end - count), end)
        if len(found) > 0:
            return int(found.timestamps[-1])
        end, count = max(0, end - count), min(2 * count, BLOCK)
    return None


def _where(block: Arrivals, kept: npt.NDArray[np.bool_]) -> Arrivals:
    """Return some of the samples."""
    if kept.all():
        return block
    labels = None if block.labels is None else block.labels[kept]
    return Arrivals(block.keys[kept], block.timestamps[kept], labels)
