"""Distances of two windows in plain loops, from their definitions; and windows of plain numbers."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence

Rows = Sequence[Sequence[float]]
Column = Sequence[float]


def windows(seed: int, kind: str, *, n: int = 50, m: int = 37, width: int = 3) -> tuple[Rows, Rows]:
    """Two windows, the same on every machine and with every library.

    kind: "normal", shifted and wider; "far", apart; "ties", the first rounded; "uniform", over
    the same range; "integers", five categories.
    """
    draws = random.Random(f"{seed} {kind}")

    def normal(center: float, deviation: float) -> float:
        radius = math.sqrt(-2 * math.log(1 - draws.random()))
        return center + deviation * radius * math.cos(2 * math.pi * draws.random())

    def number(current: bool) -> float:
        if kind == "normal":
            return normal(0.4, 1.3) if current else normal(0.0, 1.0)
        if kind == "far":
            return normal(9.0, 1.0) if current else normal(0.0, 1.0)
        if kind == "ties":
            return round(normal(0.3, 1.2) if current else normal(0.0, 1.0), 1)
        if kind == "uniform":
            return draws.random() ** (1.3 if current else 1.0)
        return float(int(5 * draws.random() ** (1.5 if current else 1.0)))

    return tuple(
        [[number(at == 1) for _ in range(width)] for _ in range((n, m)[at])] for at in (0, 1)
    )


def columns(rows: Rows) -> list[list[float]]:
    return [list(column) for column in zip(*rows, strict=True)]


def per_feature(x: Rows, y: Rows, function: Callable[[Column, Column], float]) -> float:
    """The mean over the features that vary."""
    values = [
        function(a, b)
        for a, b in zip(columns(x), columns(y), strict=True)
        if len(set(a) | set(b)) > 1
    ]
    return sum(values) / len(values) if values else 0.0


# Pairs of rows ------------------------------------------------------------------------------------


def square(a: Column, b: Column) -> float:
    return sum((s - t) ** 2 for s, t in zip(a, b, strict=True))


def gamma(x: Rows) -> float:
    """One over the lower median of the squared distances, or their mean where that is 0."""
    squares = sorted(square(x[i], x[j]) for i in range(len(x)) for j in range(i))
    middle = squares[(len(squares) - 1) // 2]
    return 1 / (middle or sum(squares) / len(squares))


def mmd(x: Rows, y: Rows, scale: float, *, unbiased: bool = True) -> float:
    def mean(one: Rows, two: Rows, same: bool) -> float:
        values = [
            math.exp(-scale * square(a, b))
            for i, a in enumerate(one)
            for j, b in enumerate(two)
            if not (same and unbiased and i == j)
        ]
        return math.fsum(values) / len(values)

    return mean(x, x, True) + mean(y, y, True) - 2 * mean(x, y, False)


def energy(x: Rows, y: Rows) -> float:
    def mean(one: Rows, two: Rows) -> float:
        return math.fsum(math.sqrt(square(a, b)) for a in one for b in two) / (len(one) * len(two))

    return 2 * mean(x, y) - mean(x, x) - mean(y, y)


# One feature --------------------------------------------------------------------------------------


def share_up_to(values: Column, bound: float) -> float:
    return sum(value <= bound for value in values) / len(values)


def ks(x: Column, y: Column, alternative: str = "two-sided") -> float:
    apart = [share_up_to(x, v) - share_up_to(y, v) for v in [*x, *y]]
    above, below = max(0.0, *apart), max(0.0, *(-a for a in apart))
    return {"two-sided": max(above, below), "greater": above, "less": below}[alternative]


def cvm(x: Column, y: Column) -> float:
    n, m, both = len(x), len(y), [*x, *y]

    def rank(value: float) -> float:
        return sum(v < value for v in both) + (sum(v == value for v in both) + 1) / 2

    u = n * sum((rank(v) - i) ** 2 for i, v in enumerate(sorted(x), 1))
    u += m * sum((rank(v) - i) ** 2 for i, v in enumerate(sorted(y), 1))
    return u / (n * m * (n + m)) - (4 * n * m - 1) / (6 * (n + m))


def area(x: Column, y: Column, power: int) -> float:
    """The integral of |F - G|^power."""
    points = sorted({*x, *y})
    return sum(
        (b - a) * abs(share_up_to(x, a) - share_up_to(y, a)) ** power
        for a, b in itertools.pairwise(points)
    )


def deviation(x: Column) -> float:
    center = sum(x) / len(x)
    return math.sqrt(sum((v - center) ** 2 for v in x) / len(x))


def normed_wasserstein(x: Column, y: Column) -> float:
    return area(x, y, 1) / max(deviation(x), 0.001)


# Bins ---------------------------------------------------------------------------------------------


def sturges_bins(x: Column, y: Column) -> tuple[list[float], list[float]]:
    distinct = sorted({*x, *y})
    count = math.ceil(math.log2(len(distinct)) + 1)
    low, high = distinct[0], distinct[-1]

    def shares(values: Column) -> list[float]:
        found = [0] * count
        for value in values:
            found[min(int((value - low) / (high - low) * count), count - 1)] += 1
        return [number / len(values) for number in found]

    return shares(x), shares(y)


def quantile_bins(x: Column, y: Column, count: int) -> tuple[list[float], list[float]]:
    """Shares between quantiles of x; a value on two of them has a bin of its own."""
    ordered = sorted(x)

    def quantile(share: float) -> float:
        at = share * (len(ordered) - 1)
        low = min(math.floor(at), len(ordered) - 2)
        return ordered[low] + (at - low) * (ordered[low + 1] - ordered[low])

    edges = [quantile(i / count) for i in range(1, count)]

    def bin_of(value: float) -> tuple[int, bool]:
        below = sum(edge <= value for edge in edges)
        return below, edges.count(value) > 1

    names = sorted({bin_of(value) for value in [*x, *y]})

    def shares(values: Column) -> list[float]:
        found = [bin_of(value) for value in values]
        return [found.count(name) / len(values) for name in names]

    return shares(x), shares(y)


def floored(p: Column, q: Column) -> list[tuple[float, float]]:
    """The shares in bins that either window uses, none of them 0."""
    used = [(a or 1e-4, b or 1e-4) for a, b in zip(p, q, strict=True) if a or b]
    sums = [sum(shares) for shares in zip(*used, strict=True)]
    return [(a / sums[0], b / sums[1]) for a, b in used]


def hellinger(p: Column, q: Column) -> float:
    return math.sqrt(max(0.0, 1 - sum(math.sqrt(a * b) for a, b in zip(p, q, strict=True))))


def kl(p: Column, q: Column) -> float:
    return sum(a * math.log(a / b) for a, b in floored(p, q))


def psi(p: Column, q: Column) -> float:
    return sum((a - b) * math.log(a / b) for a, b in floored(p, q))


def jensen_shannon(p: Column, q: Column) -> float:
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    total = sum(
        a * math.log2(a / c) for shares in (p, q) for a, c in zip(shares, middle, strict=True) if a
    )
    return math.sqrt(max(total, 0.0) / 2)


def total_variation(p: Column, q: Column) -> float:
    return sum(abs(a - b) for a, b in zip(p, q, strict=True)) / 2


# Categories, scores -------------------------------------------------------------------------------


def table(x: Column, y: Column, least: float) -> list[tuple[float, float]]:
    """Counts of each category in both windows, the rare ones together."""
    counts = [(list(x).count(v), list(y).count(v)) for v in sorted({*x, *y})]
    smaller = min(len(x), len(y)) / (len(x) + len(y))
    rare = [pair for pair in counts if sum(pair) * smaller < least]
    kept = [pair for pair in counts if sum(pair) * smaller >= least]
    if rare and sum(map(sum, rare)) * smaller < least and kept:
        rare.append(kept.pop(kept.index(min(kept, key=sum))))
    return kept + ([(sum(a for a, _ in rare), sum(b for _, b in rare))] if rare else [])


def chi_squared(x: Column, y: Column, least: float = 5.0) -> float:
    n, m = len(x), len(y)
    total = 0.0
    for pair in table(x, y, least):
        for seen, size in zip(pair, (n, m), strict=True):
            expected = sum(pair) * size / (n + m)
            total += (seen - expected) ** 2 / expected
    return total


def g(x: Column, y: Column, least: float = 5.0) -> float:
    n, m = len(x), len(y)
    return 2 * sum(
        seen * math.log(seen / (sum(pair) * size / (n + m)))
        for pair in table(x, y, least)
        for seen, size in zip(pair, (n, m), strict=True)
        if seen
    )


def auc(negative: Column, positive: Column) -> float:
    """The share of pairs in which the positive score is above, half of those with equal ones."""
    wins = sum((p > q) + (p == q) / 2 for p in positive for q in negative)
    return wins / (len(positive) * len(negative))
