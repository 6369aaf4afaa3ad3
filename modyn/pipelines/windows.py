"""Evaluation windows: which half-open intervals [start, end) of time models are measured on.

Each window has an anchor, the moment at which its samples are thought to arrive: a model is
*currently active* for a window when it was trained on nothing at or after the anchor.

The strategies carry the names that pipeline.yaml uses.  Their arithmetic needs three numbers of
the dataset (first timestamp, last timestamp, unit) and, for some, the time spans of the trainings.

Examples
--------
>>> span = Span(first=0, last=25, unit="s")
>>> slices = SlicingEvalStrategy(eval_every="10s", eval_start_from=0, eval_end_at=26)
>>> [(w.start, w.end) for w in slices.windows(span)]
[(0, 10), (10, 20), (20, 26)]
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from modyn.pipelines.times import timestamp
from modyn.policies.time import PER_SECOND, SECONDS, seconds_of, units_of

Moment = int | str  # an integer in the dataset's unit, or an ISO date

WINDOWS_MAX = 1_000_000


@dataclass(frozen=True, kw_only=True, order=True)
class Window:
    """The samples with start <= timestamp < end."""

    start: int
    end: int
    anchor: int


@dataclass(frozen=True, kw_only=True)
class Span:
    """From the first to the last timestamp of a dataset (both inclusive), and their unit."""

    first: int
    last: int
    unit: str


@dataclass(frozen=True, kw_only=True)
class TrainingSpan:
    """The time from the first to the last sample of a trigger, both inclusive."""

    trigger: int
    first: int
    last: int


def _window(start: int, end: int, anchor: int) -> list[Window]:
    return [Window(start=start, end=end, anchor=anchor)] if start < end else []


@dataclass(frozen=True, kw_only=True)
class SlicingEvalStrategy:
    """Consecutive slices of `eval_every`; the last may be shorter.  Anchor: the slice's start.

    Parameters
    ----------
    eval_every : str
        Length of a slice, such as "1y".
    eval_start_from, eval_end_at : int or str, optional
        First moment (inclusive) and last (exclusive); those of the dataset if None.
    """

    eval_every: str
    eval_start_from: Moment | None = None
    eval_end_at: Moment | None = None

    def __post_init__(self) -> None:
        seconds_of(self.eval_every)
        _check_order("eval_end_at", self.eval_start_from, self.eval_end_at)

    def windows(self, span: Span, trainings: Sequence[TrainingSpan] = ()) -> list[Window]:
        """Return the windows of this strategy over a dataset."""
        start = _moment(self.eval_start_from, span, default=span.first)
        end = _moment(self.eval_end_at, span, default=span.last + 1)
        every = units_of(self.eval_every, span.unit)
        count = max(-(-(end - start) // every), 0)
        _check_count(count, self.eval_every)
        cuts = [start + i * every for i in range(count)]
        return [Window(start=cut, end=min(cut + every, end), anchor=cut) for cut in cuts]


@dataclass(frozen=True, kw_only=True)
class StaticEvalStrategy:
    """The intervals [start, end) as given; an end of None is open.  Anchor: the start."""

    intervals: tuple[tuple[Moment, Moment | None], ...]

    def __post_init__(self) -> None:
        if not self.intervals:
            raise ValueError("intervals needs at least one entry")
        for start, end in self.intervals:
            _check_order("the end of an interval", start, end)

    def windows(self, span: Span, trainings: Sequence[TrainingSpan] = ()) -> list[Window]:
        """Return the windows of this strategy over a dataset."""
        found = []
        for left, right in self.intervals:
            start = _moment(left, span, default=span.first)
            end = _moment(right, span, default=max(span.last + 1, start + 1))
            found += _window(start, end, start)
        return found


@dataclass(frozen=True, kw_only=True)
class BetweenTwoTriggersEvalStrategy:
    """The time of each training, and what comes after the last.  Anchor: the start."""

    def windows(self, span: Span, trainings: Sequence[TrainingSpan] = ()) -> list[Window]:
        """Return the windows between the trainings, ends included."""
        found = []
        for training in trainings:
            found += _window(training.first, training.last + 1, training.first)
        if trainings:
            rest = trainings[-1].last + 1
            found += _window(rest, span.last + 1, rest)
        return found


@dataclass(frozen=True, kw_only=True)
class OffsetEvalStrategy:
    """Intervals relative to the training [a, b] of each model.

    Parameters
    ----------
    offsets : tuple of str
        "-inf" is everything before a, "inf" everything after b, "-2d" the two days before a,
        "2d" the two days after b, "0d" the training's own time.
    """

    offsets: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.offsets:
            raise ValueError("offsets needs at least one entry")
        for offset in self.offsets:
            _offset_seconds(offset)

    def windows(self, span: Span, trainings: Sequence[TrainingSpan] = ()) -> list[Window]:
        """Return the windows around the trainings."""
        found = []
        for training in trainings:
            for offset in self.offsets:
                start, end = self._interval(offset, training, span)
                found += _window(start, end, start)
        return found

    def _interval(self, offset: str, training: TrainingSpan, span: Span) -> tuple[int, int]:
        length = _offset_seconds(offset)
        if length == 0:
            return training.first, training.last + 1
        if length is None and offset.startswith("-"):
            return span.first, training.first
        if length is None:
            return training.last + 1, span.last + 1
        distance = length * PER_SECOND[span.unit]
        if distance < 0:
            return max(training.first + distance, span.first), training.first
        return training.last + 1, training.last + 1 + distance


@dataclass(frozen=True, kw_only=True)
class PeriodicEvalStrategy:
    """An interval around each of the points start, start + every, ... up to the end.

    Parameters
    ----------
    every : str
        From one point to the next, such as "1d".
    interval : str
        Such as "[-2d; +2d]" or "(-inf, 0]"; the point itself is the anchor.  A square bracket
        includes its moment; a round one does not.
    start_timestamp, end_timestamp : int or str
        The first point, and the last possible one.
    """

    every: str
    interval: str
    start_timestamp: Moment
    end_timestamp: Moment

    def __post_init__(self) -> None:
        seconds_of(self.every)
        parse_interval(self.interval)
        _check_order("end_timestamp", self.start_timestamp, self.end_timestamp, equal=True)

    def windows(self, span: Span, trainings: Sequence[TrainingSpan] = ()) -> list[Window]:
        """Return the windows around the points."""
        left, right = parse_interval(self.interval)
        first = timestamp(self.start_timestamp, span.unit)
        last = timestamp(self.end_timestamp, span.unit)
        every = units_of(self.every, span.unit)
        _check_count((last - first) // every + 1, self.every)
        found = []
        for point in range(first, last + 1, every):
            start = left.at(point, span.unit, end=span.first)
            end = right.at(point, span.unit, end=span.last + 1)
            found += _window(start + left.open, end + (not right.open), point)
        return found


@dataclass(frozen=True)
class _Bound:
    """A side of an interval: seconds from a point (None: without end), and whether it is open."""

    seconds: int | None
    open: bool

    def at(self, point: int, unit: str, *, end: int) -> int:
        """Return the moment, or `end` where there is none."""
        return end if self.seconds is None else point + self.seconds * PER_SECOND[unit]


Strategy = (
    SlicingEvalStrategy
    | StaticEvalStrategy
    | BetweenTwoTriggersEvalStrategy
    | OffsetEvalStrategy
    | PeriodicEvalStrategy
)

_BOUND = r"([+-]?(?:inf|[0-9]{1,12}[smhdwy]?))"
_INTERVAL = re.compile(rf"([\[(]){_BOUND}[;,]{_BOUND}([\])])")
_OFFSET = re.compile(r"([+-]?)(?:(inf)|([0-9]{1,12})([smhdwy]))")


def _offset_seconds(text: str) -> int | None:
    """Return the signed seconds of an offset, or None for `inf` and `-inf`."""
    match = _OFFSET.fullmatch(text)
    if match is None:
        raise ValueError(f"expected an offset such as '-inf', '-2d', '0d' or '1w', got {text!r}")
    if match[2]:
        return None
    return int(match[1] + match[3]) * SECONDS[match[4]]


def parse_interval(text: str) -> tuple[_Bound, _Bound]:
    """Return both bounds of an interval around a point.

    Examples
    --------
    >>> parse_interval("[-2d; +1d)")
    (_Bound(seconds=-172800, open=False), _Bound(seconds=86400, open=True))
    """
    match = _INTERVAL.fullmatch("".join(text.split()))
    if match is None:
        raise ValueError(f"expected an interval such as '[-2d; +2d]', got {text!r}")
    if match[2] == "+inf" or match[3] == "-inf":
        raise ValueError(f"interval {text!r} ends before it starts")
    left, right = _signed_seconds(match[2], text), _signed_seconds(match[3], text)
    if left is not None and right is not None and left > right:
        raise ValueError(f"interval {text!r} ends before it starts")
    # An open bracket at infinity takes nothing away, and a closed one adds nothing.
    return (
        _Bound(left, left is not None and match[1] == "("),
        _Bound(right, right is None or match[4] == ")"),
    )


def _signed_seconds(bound: str, text: str) -> int | None:
    if bound.endswith("inf"):
        return None
    if bound[-1].isdigit():
        if int(bound) != 0:
            raise ValueError(f"bound {bound!r} of interval {text!r} has no unit")
        return 0
    return int(bound[:-1]) * SECONDS[bound[-1]]


def _moment(value: Moment | None, span: Span, *, default: int) -> int:
    return default if value is None else timestamp(value, span.unit)


def _check_order(
    what: str, start: Moment | None, end: Moment | None, *, equal: bool = False
) -> None:
    """Refuse an end before its start where both are written in the same way."""
    values = [timestamp(value, "s") for value in (start, end) if value is not None]
    if type(start) is not type(end) or len(values) != 2:
        return
    if values[1] < values[0] or (values[1] == values[0] and not equal):
        raise ValueError(f"{what} must come after the start {start!r}, got {end!r}")


def _check_count(count: int, every: str) -> None:
    if count > WINDOWS_MAX:
        raise ValueError(f"every {every} gives {count} windows; at most {WINDOWS_MAX} are allowed")
