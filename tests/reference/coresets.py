"""Greedy methods over feature vectors, as plainly as they can be written.

Sums run in the order of csrc/selector: over the numbers of a row from the first, and over rows in
eight lanes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tests.reference.permutation import draw, stream

GREEDY = 30  # stream of a seed: csrc/base/random.h
LANES = 8

Vector = Sequence[float]


def dot(a: Vector, b: Vector) -> float:
    total = 0.0
    for x, y in zip(a, b, strict=True):
        total += x * y
    return total


class Space:
    """Inner products of samples, with embeddings or without."""

    def __init__(self, rows: Sequence[Vector], embeddings: Sequence[Vector] | None = None) -> None:
        self.rows, self.embeddings = rows, embeddings
        self.squares = [self.product(i, i) for i in range(len(rows))]

    def __len__(self) -> int:
        return len(self.rows)

    def product(self, i: int, j: int) -> float:
        found = dot(self.rows[i], self.rows[j])
        if self.embeddings is not None:
            found *= 1.0 + dot(self.embeddings[i], self.embeddings[j])
        return found

    def distance(self, i: int, j: int) -> float:
        return math.sqrt(max(self.squares[i] + self.squares[j] - 2.0 * self.product(i, j), 0.0))

    def cosine(self, i: int, j: int) -> float:
        """In terms of inverse norms, as C has it."""
        a, b = (1.0 / math.sqrt(s) if s > 0 else 0.0 for s in (self.squares[i], self.squares[j]))
        return self.product(i, j) * (a * b)

    def direction(self, i: int, j: int) -> float:
        return 1.0 if i == j else min(0.5 + 0.5 * self.cosine(i, j), 1.0)

    def place(self, i: int, j: int) -> float:
        far = 2.0 * math.sqrt(max(self.squares))
        return far if i == j else far - self.distance(i, j)


def kcenter(space: Space, start: Sequence[int], count: int) -> tuple[list[int], list[float]]:
    """Each the farthest from those before it, the lowest row of equals."""
    chosen = list(start)
    for _ in range(count):
        left = [i for i in range(len(space)) if i not in chosen]
        away = {i: min(space.distance(i, j) for j in chosen) for i in left}
        chosen.append(max(left, key=lambda i: (away[i], -i)))
    distances = [min(space.distance(i, j) for j in chosen) for i in range(len(space))]
    return chosen[len(start) :], distances


def lane_sum(terms: Sequence[float]) -> float:
    lanes = [0.0] * LANES
    for i, term in enumerate(terms):
        lanes[i % LANES] += term
    a, b, c, d, e, f, g, h = lanes
    return ((a + b) + (c + d)) + ((e + f) + (g + h))


class Facility:
    """The sum over all rows of the similarity to the best one chosen."""

    def __init__(self, space: Space, similarity: Callable[[int, int], float]) -> None:
        self.size, self.similarity = len(space), similarity
        self.current, self.server = [0.0] * self.size, [0] * self.size
        self.chosen: list[int] = []

    def gain(self, x: int) -> float:
        pairs = enumerate(self.current)
        return lane_sum([max(0.0, self.similarity(i, x) - now) for i, now in pairs])

    def take(self, x: int) -> None:
        for i in range(self.size):
            if self.similarity(i, x) > self.current[i] or i == x:
                self.current[i], self.server[i] = self.similarity(i, x), len(self.chosen)
        self.chosen.append(x)

    @property
    def served(self) -> list[int]:
        return [self.server.count(k) for k in range(len(self.chosen))]


def naive(objective: Facility, count: int) -> list[float]:
    gains = []
    for _ in range(count):
        left = [i for i in range(objective.size) if i not in objective.chosen]
        found = {i: objective.gain(i) for i in left}
        best = max(left, key=lambda i: (found[i], -i))
        gains.append(found[best])
        objective.take(best)
    return gains


def stochastic(objective: Facility, count: int, *, epsilon: float, seed: int) -> list[float]:
    left, gains, start = list(range(objective.size)), [], stream(seed, GREEDY)
    for step in range(count):
        size = min(math.ceil(objective.size / count * math.log(1.0 / epsilon)), len(left))
        for r in range(size):
            number = draw(start, (step << 32) + r) >> 32
            other = r + (number * (len(left) - r) >> 32)
            left[r], left[other] = left[other], left[r]
        found = [objective.gain(i) for i in left[:size]]
        at = max(range(size), key=lambda p: (found[p], -left[p]))
        gains.append(found[at])
        objective.take(left[at])
        left[at] = left[-1]
        left.pop()
    return gains


def approximate(objective: Facility, count: int, *, beta: float) -> list[float]:
    bounds = {i: (objective.gain(i), 0) for i in range(objective.size)}
    gains = []
    for step in range(count):
        while True:
            best = max(bounds, key=lambda i: (bounds[i][0], -i))
            bound, when = bounds[best]
            if when == step:
                break
            bounds[best] = (objective.gain(best), step)
            if bounds[best][0] >= beta * bound:
                break
        gains.append(bounds.pop(best)[0])
        objective.take(best)
    return gains
