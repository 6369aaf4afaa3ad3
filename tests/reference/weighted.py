"""Weighted sampling, ranks and bands, as plainly as they can be written.

The rings of clocks, the exact inclusion probabilities and the systematic draw of
csrc/selector/weighted.h and systematic.h, with all candidates at hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from tests.reference.permutation import draw, stream

WEIGHTED, AGAIN, ORDER, RACE, SYSTEMATIC = 9, 10, 11, 12, 13  # csrc/base/random.h
BELOW_ONE = 1 - 2.0**-53
ROOT_HALF = float.fromhex("0x1.6a09e667f3bcdp-1")
ONE = 2**63
LONGEST = int(float.fromhex("0x1.ffffep62"))
Drawn = tuple[list[int], list[float]]


def minus_log1m(x: float) -> float:
    """-log(1 - x), in the same steps as in C."""
    f, e = -x, 0
    if x > 1 - ROOT_HALF:
        m, e = math.frexp(1 - x)
        if m < ROOT_HALF:
            m, e = 2 * m, e - 1
        f = m - 1
    s = f / (2 + f)
    z = s * s
    series = 0.0
    for k in range(21, 2, -2):
        series = (series + 1.0 / k) * z
    return -(e * float.fromhex("0x1.62e42fefa39efp-1") + 2 * (s + s * series))


def fraction(number: int) -> float:
    return min(float(number) * 2.0**-64, BELOW_ONE)


def _ring(seed: int, key: int) -> float:
    return minus_log1m(fraction(draw(stream(seed, WEIGHTED), key)))


def sequential(keys: Sequence[int], weights: Sequence[float], count: int, seed: int) -> list[int]:
    """The keys whose clocks ring first; those of weight 0 behind all others, by their draws."""
    start = stream(seed, WEIGHTED)
    entries = [
        (0, _ring(seed, key) / weight, key) if weight else (1, draw(start, key) >> 1, key)
        for key, weight in zip(keys, weights, strict=True)
    ]
    return sorted(key for _, _, key in sorted(entries)[:count])


def priority(keys: Sequence[int], weights: Sequence[float], count: int, seed: int) -> Drawn:
    start = stream(seed, WEIGHTED)
    entries = sorted(
        (0, fraction(draw(start, key)) / weight, key, weight)
        if weight
        else (1, draw(start, key) >> 1, key, weight)
        for key, weight in zip(keys, weights, strict=True)
    )
    if len(entries) <= count:
        return sorted(keys), [1.0] * len(keys)
    chosen, (never, behind, _, _) = entries[:count], entries[count]
    made = {}
    for zero, _, key, weight in chosen:
        if zero:
            probability = fraction(int(behind) << 1)
        else:
            probability = 1.0 if never else min(weight * behind, 1.0)
        made[key] = count / (len(keys) * probability)
    return sorted(made), [made[key] for key in sorted(made)]


def with_replacement(keys: Sequence[int], weights: Sequence[float], count: int, seed: int) -> Drawn:
    """The first `count` rings of all clocks."""
    again = stream(seed, AGAIN)
    rings = []
    for key, weight in zip(keys, weights, strict=True):
        number, time = draw(stream(seed, WEIGHTED), key), 0.0
        for _ in range(count if weight else 0):
            time += minus_log1m(fraction(number))
            rings.append((time / weight, key, weight))
            number = draw(again, number)
    mean = math.fsum(weights) / len(weights)
    made: dict[int, float] = {}
    for _, key, weight in sorted(rings)[:count]:
        made[key] = made.get(key, 0.0) + mean / weight
    return sorted(made), [made[key] for key in sorted(made)]


def inclusion(weights: Sequence[float], count: int) -> list[float]:
    """min(1, c * weight) with the c for which they add up to `count`; without rounding, nearly."""
    positive = [weight for weight in weights if weight]
    if len(positive) <= count:
        zeros = len(weights) - len(positive)
        rest = min(count, len(weights)) - len(positive)
        return [1.0 if weight else rest / zeros for weight in weights]
    certain: set[int] = set()
    while True:
        left = [i for i in range(len(weights)) if i not in certain]
        c = (count - len(certain)) / sum(Fraction(weights[i]) for i in left)
        more = {i for i in left if c * Fraction(weights[i]) >= 1}
        if not more:
            break
        certain |= more
    rest = math.fsum(weights[i] for i in left)
    factor = (count - len(certain)) / rest
    return [
        1.0 if i in certain else min(weight * factor, BELOW_ONE) for i, weight in enumerate(weights)
    ]


def light_bound(
    weights: Sequence[float], pis: Sequence[float], thin_from: float
) -> tuple[float, float]:
    """Below which weight candidates are light, and the sum of their weights in units of it."""
    uncertain = [
        weight for weight, pi in zip(weights, pis, strict=True) if weight > 0 and 0 < pi < 1
    ]
    if not uncertain:
        return 0.0, 0.0
    points = round(math.fsum(pi for pi in pis if pi < 1))
    total = math.fsum(uncertain)
    most = max(4 * points, thin_from)
    exponent = math.frexp(0.5 * total / points)[1]
    light_sum = heavy = 0.0
    while light_sum < thin_from and heavy <= most:
        exponent -= 1
        bound = math.ldexp(1, exponent)
        light_sum = math.fsum(weight for weight in uncertain if weight < bound) / bound
        heavy = math.fsum(weight for weight in uncertain if weight >= bound) / bound
    return (bound, light_sum) if heavy <= most else (0.0, 0.0)


def systematic(
    keys: Sequence[int],
    weights: Sequence[float],
    count: int,
    seed: int,
    thin_from: float = 2**20,
) -> Drawn:
    count = min(count, len(keys))
    pis = inclusion(weights, count)
    bound, light_sum = light_bound(weights, pis, thin_from)
    chosen = thinned(keys, weights, pis, count, seed, bound, light_sum) if bound else None
    if chosen is None:
        chosen = by_buckets(keys, pis, count, seed)
    made = {key: count / (len(keys) * pi) for key, pi in chosen}
    return sorted(made), [made[key] for key in sorted(made)]


def thinned(
    keys: Sequence[int],
    weights: Sequence[float],
    pis: Sequence[float],
    count: int,
    seed: int,
    bound: float,
    light_sum: float,
) -> list[tuple[int, float]] | None:
    """Heavy ones side by side, and some of the light ones that stay; None: too few stay."""
    start, race = stream(seed, ORDER), stream(seed, RACE)
    point, end = draw(stream(seed, SYSTEMATIC), 0) >> 1, 0
    heavy, light, chosen = [], [], []
    for key, weight, pi in zip(keys, weights, pis, strict=True):
        v = weight / bound
        if v >= 1:
            heavy.append((draw(start, key), key, pi))
        elif float(draw(race, key)) * 2.0**-64 < v - v * v / light_sum:
            light.append((draw(start, key), key, pi))
    for _, key, pi in sorted(heavy):
        if pi < 1:
            end += int(pi * ONE)
            if point >= end:
                continue
            point += ONE
        chosen.append((key, pi))
    left = count - len(chosen)
    if len(light) < left:
        return None
    return chosen + [(key, pi) for _, key, pi in sorted(light)[:left]]


def by_buckets(
    keys: Sequence[int], pis: Sequence[float], count: int, seed: int
) -> list[tuple[int, float]]:
    """Buckets, who stands for each, and the points that fall on them."""
    buckets = count + count // 2 + 16
    members: list[list[tuple[int, float, int]]] = [[] for _ in range(buckets)]
    alone = []
    start, race = stream(seed, ORDER), stream(seed, RACE)
    for key, pi in zip(keys, pis, strict=True):
        place = draw(start, key)
        if pi > 0.25:
            alone.append((place, pi, key))
        elif pi > 0:
            members[place * buckets >> 64].append((place, pi, key))
    units = []
    for bucket in members:
        length = sum(max(1, int(pi * ONE)) for _, pi, _ in bucket)
        if length > LONGEST:
            alone += bucket
        elif bucket:
            rings = [
                (minus_log1m((draw(race, place) >> 11) * 2.0**-53) / pi, place, pi, key)
                for place, pi, key in bucket
            ]
            _, _, pi, key = min(rings)
            units.append((length, pi, key))
    alone.sort()
    certain = sum(pi == 1 for _, pi, _ in alone)
    chosen = [(key, pi) for _, pi, key in alone if pi == 1]
    units += [(int(pi * ONE), pi, key) for _, pi, key in alone if pi < 1]
    total, points = sum(length for length, _, _ in units), count - certain
    step, rest = divmod(total, points) if points else (0, 0)
    first = step * draw(stream(seed, SYSTEMATIC), 0) >> 64
    end = taken = 0
    for length, pi, key in units:
        end += length
        if taken < points and first + step * taken + rest * taken // points < end:
            chosen.append((key, pi))
            taken += 1
    return chosen


def ranked(keys: Sequence[int], values: Sequence[float]) -> list[int]:
    """The keys by value, of equal values the smaller key first."""
    return [key for _, key in sorted(zip(values, keys, strict=True))]


def top(
    keys: Sequence[int], values: Sequence[float], count: int, *, largest: bool = True
) -> list[int]:
    signed = [-value for value in values] if largest else values
    return sorted(ranked(keys, signed)[:count])


def newest(keys: Sequence[int], timestamps: Sequence[int], count: int) -> list[int]:
    return sorted(ranked(keys, timestamps)[::-1][:count])
