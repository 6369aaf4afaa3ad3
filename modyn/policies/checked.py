"""The rules that parameters of several policies share."""

import math
import sys
from collections.abc import Mapping

__all__ = [
    "check_all_data",
    "check_flag",
    "check_integer",
    "check_limit",
    "check_named",
    "check_number",
    "check_ratio",
    "check_stands_for",
    "check_tail_triggers",
]


def check_integer(name: str, value: object, least: int | None = None) -> None:
    """Refuse what is no int of 64 bits, or less than `least`.

    Raises
    ------
    TypeError
        Also for bool, float and NumPy's integers: parameters are written to pipeline.yaml.
    ValueError
        For a number that is too small, or beyond 64 bits.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, got {value!r}")
    if least is not None and value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    if not -(2**63) <= value < 2**63:
        raise ValueError(f"{name} must be a number of 64 bits, got {value}")


def check_number(
    name: str, value: object, least: float = -math.inf, most: float = math.inf
) -> None:
    """Refuse what is no finite number from `least` to `most`.

    Raises
    ------
    TypeError
        Also for bool and NumPy's numbers: parameters are written to pipeline.yaml.
    ValueError
        For nan, infinities and numbers outside.
    """
    if not isinstance(value, int | float) or type(value) not in (int, float):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not -sys.float_info.max <= value <= sys.float_info.max:  # also nan, and integers beyond
        raise ValueError(f"{name} must be finite, got {value}")
    if value < least:
        raise ValueError(f"{name} must be at least {least:g}, got {value}")
    if value > most:
        raise ValueError(f"{name} must be at most {most:g}, got {value}")


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False: a text such as "no" would count as yes."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be a bool, got {value!r}")


def check_named(name: str, value: object) -> None:
    """Refuse what is no mapping of names to something."""
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be named, as a mapping, got {value!r:.80}")


def check_stands_for(name: str, value: object, method: str, example: str) -> None:
    """Refuse what has no such method, and classes of which none was made.

    Raises
    ------
    TypeError
        Naming what was expected, by an example.
    """
    if isinstance(value, type) or not callable(getattr(value, method, None)):
        raise TypeError(f"{name} must be such as {example}, got {value!r:.80}")


def check_tail_triggers(tail_triggers: int | None) -> None:
    """Refuse what is neither None nor a number of triggers."""
    if tail_triggers is None:
        return
    check_integer("tail_triggers", tail_triggers)
    if tail_triggers < 0:
        raise ValueError(f"tail_triggers must be at least 0, or None, got {tail_triggers}")


def check_limit(limit: int) -> None:
    """Refuse a limit of 0, which could be taken for none, and numbers below -1."""
    check_integer("limit", limit)
    if limit != -1 and limit < 1:
        raise ValueError(f"limit must be at least 1, or -1 for no limit, got {limit}")


def check_ratio(ratio: int, ratio_max: int) -> None:
    """Refuse a share outside 0 to 1."""
    check_integer("ratio_max", ratio_max, 1)
    check_integer("ratio", ratio)
    if not 0 <= ratio <= ratio_max:
        raise ValueError(f"ratio must be from 0 to ratio_max ({ratio_max}), got {ratio}")


def check_all_data(tail_triggers: int | None, why: str) -> None:
    """Refuse candidates of some triggers only, for policies that look at all data so far."""
    if tail_triggers is not None:
        raise ValueError(
            f"tail_triggers must be None, got {tail_triggers}: {why} is about all data so far"
        )
