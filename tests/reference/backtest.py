"""Plain twins of the backtest: what is slow and plainly right."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np


def fired(policy, arrivals, context=None) -> list[int]:
    """Where a policy that looks at samples alone fires: informed of all, then of the rest."""
    found, place = [], 0
    while place < len(arrivals):
        due = policy.inform(arrivals[place:], context)
        if due is None:
            break
        place += due
        found.append(place)
    return found


def worth(values, starts, weight, chosen: Sequence[int]) -> float:
    """What a choice of models, in their order, is worth: the newest that has begun counts."""
    total = 0.0
    for j, counts in enumerate(weight):
        active = [m for m in chosen if starts[m] <= j]
        total += counts * values[active[-1]][j] if active else 0.0
    return total


def choices(models: int):
    """Every choice of at least one of some models."""
    for size in range(1, models + 1):
        yield from itertools.combinations(range(models), size)


def best(values, starts, weight, most: int) -> float:
    """The most that a choice of at most so many models is worth."""
    few = [chosen for chosen in choices(len(values)) if len(chosen) <= most]
    return max(0.0, *(worth(values, starts, weight, chosen) for chosen in few))


def undominated(costs, scores) -> list[int]:
    """Which points no other dominates; of equal ones the first."""

    def beats(i: int, j: int) -> bool:
        if costs[i] > costs[j] or scores[i] < scores[j]:
            return False
        return costs[i] < costs[j] or scores[i] > scores[j] or i < j

    points = range(len(costs))
    found = [j for j in points if not any(beats(i, j) for i in points if i != j)]
    return sorted(found, key=lambda j: costs[j])


def active(until, anchor: int) -> int:
    """Which model is active: the last that learned from nothing at or after the anchor."""
    found = [i for i, last in enumerate(until) if last < anchor]
    return found[-1] if found else -1


def random_case(rng: np.random.Generator, models: int, windows: int):
    """Values, first windows in which models can be active, and weights."""
    values = rng.integers(0, 6, size=(models, windows)) / 5
    starts = np.sort(rng.integers(0, windows + 1, size=models))
    weight = rng.integers(1, 4, size=windows).astype(np.float64)
    return values, starts, weight / weight.sum()
