"""Times as people write them, in the unit of a dataset.

A duration is a number and a unit (`"90s"`, `"1d"`, `"2w"`); a year is 365 days.  A point in
time is an integer in the dataset's own unit, or an ISO date (`"1950-01-01"`), which is UTC.

Examples
--------
>>> duration("1d", "s"), duration("1d", "ms")
(86400, 86400000)
>>> timestamp("1950-01-01", "s"), timestamp(-5, "s")
(-631152000, -5)
"""

import re
from datetime import UTC, datetime, timedelta

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_536_000}
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_DURATION = re.compile(r"([0-9]{1,12})([smhdwy])")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def seconds(text: str) -> int:
    """Return the seconds of a duration, at least 1.

    Raises
    ------
    ValueError
        When `text` is not a positive number followed by one of s, m, h, d, w, y.
    """
    match = _DURATION.fullmatch(text)
    if match is None or int(match[1]) == 0:
        raise ValueError(f"expected a duration such as '30s', '1d' or '1y', got {text!r}")
    return int(match[1]) * SECONDS[match[2]]


def duration(text: str, unit: str) -> int:
    """Return a duration in `unit` (s, ms, us or ns)."""
    return seconds(text) * PER_SECOND[unit]


def microseconds(text: str) -> int:
    """Return an ISO date or date and time as microseconds since 1970; UTC where it names no zone.

    Raises
    ------
    ValueError
        When `text` is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"expected an integer or an ISO date such as '1950-01-01', got {text!r}"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // timedelta(microseconds=1)


def timestamp(value: int | str, unit: str) -> int:
    """Return a point in time in `unit`; an integer is in that unit already."""
    if isinstance(value, int):
        return value
    return microseconds(value) * PER_SECOND[unit] // 1_000_000
