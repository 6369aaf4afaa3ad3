"""Points in time as people write them, in the unit of a dataset.

An integer is in the dataset's own unit already; an ISO date (`"1950-01-01"`) is UTC.  Durations
(`"90s"`, `"1d"`, `"2w"`) are those of `modyn.policies.time`.

Examples
--------
>>> timestamp("1950-01-01", "s"), timestamp(-5, "s")
(-631152000, -5)
"""

from datetime import UTC, datetime, timedelta

from modyn.policies.time import PER_SECOND

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
