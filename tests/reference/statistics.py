"""How likely a statistic is, without a library."""

from __future__ import annotations

import math


def chi_square_p(statistic: float, freedom: int) -> float:
    """The chance of a chi square of at least that much, by Wilson and Hilferty's cube root."""
    spread = 2 / (9 * freedom)
    z = ((statistic / freedom) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)
    return math.erfc(z / math.sqrt(2)) / 2
