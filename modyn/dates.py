"""Timestamps as people read them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST = (datetime(1, 1, 1, tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)
_LAST = (datetime(9999, 12, 31, tzinfo=UTC) - _EPOCH) // timedelta(seconds=1)


def is_date(timestamp: int, unit: str) -> bool:
    """Return whether a timestamp falls into the years 1 to 9999."""
    return _FIRST <= timestamp // PER_SECOND[unit] <= _LAST


def moment(timestamp: int, unit: str) -> str:
    """Return a timestamp as a date, with the time of day where there is one, in UTC.

    What falls outside the years 1 to 9999 stays a number with its unit.

    Examples
    --------
    >>> moment(-662688000, "s"), moment(1_357_017_300, "s"), moment(1_357_017_300_250, "ms")
    ('1949-01-01', '2013-01-01 05:15', '2013-01-01 05:15:00.250')
    >>> moment(2**62, "s")
    '4611686018427387904 s'
    """
    if not is_date(timestamp, unit):
        return f"{timestamp} {unit}"
    seconds, rest = divmod(timestamp, PER_SECOND[unit])
    date = _EPOCH + timedelta(seconds=seconds)
    if rest:
        digits = len(str(PER_SECOND[unit])) - 1
        return f"{_day(date)} {date:%H:%M:%S}.{rest:0{digits}d}"
    if seconds % 86_400 == 0:
        return _day(date)
    return f"{_day(date)} {date:%H:%M}" + (f":{date:%S}" if date.second else "")


def _day(date: datetime) -> str:
    """Return YYYY-MM-DD; strftime does not pad years before 1000."""
    return f"{date.year:04d}-{date:%m-%d}"


def axis(timestamps: Sequence[int], unit: str) -> list[str] | list[int]:
    """Return timestamps as a chart's axis takes them: ISO dates, or numbers if any is no date."""
    if not all(is_date(timestamp, unit) for timestamp in timestamps):
        return list(timestamps)
    found = []
    for timestamp in timestamps:
        seconds, rest = divmod(timestamp, PER_SECOND[unit])
        date = _EPOCH + timedelta(seconds=seconds)
        fraction = f".{rest * (1_000_000_000 // PER_SECOND[unit]):09d}" if rest else ""
        found.append(f"{_day(date)} {date:%H:%M:%S}{fraction}")
    return found


def duration(seconds: float) -> str:
    """Return a number of seconds in the largest fitting unit.

    Examples
    --------
    >>> duration(0.25), duration(75), duration(7300)
    ('0.2 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
