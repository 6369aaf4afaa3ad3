"""Decision criteria, aggregation and forecasts, over exact fractions or by the textbook."""

from __future__ import annotations

from fractions import Fraction


def quantile(scores: list[float], q: float) -> float:
    """Linear interpolation between neighbours, exact until the end."""
    ordered = [Fraction(score) for score in sorted(scores)]
    place = (len(ordered) - 1) * Fraction(q)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (ordered[above] - ordered[below]) * (place - below))


def mean(scores: list[float]) -> float:
    return float(sum(map(Fraction, scores)) / len(scores))


def ridge_line(x: list[float], y: list[float], alpha: float, at: float) -> float:
    """The ridge regression of y on x with a free intercept, by the normal equations."""
    xs, ys, a = [*map(Fraction, x)], [*map(Fraction, y)], Fraction(alpha)
    n, sx, sy = len(xs), sum(xs), sum(ys)
    sxx = sum(v * v for v in xs) + a
    sxy = sum(v * w for v, w in zip(xs, ys, strict=True))
    slope = (n * sxy - sx * sy) / (n * sxx - sx * sx)
    return float((sy - slope * sx) / n + slope * Fraction(at))
