"""Performance and cost triggers and ensembles, sample by sample over lists: the plain twins.

A world is what a policy could ask for: `timestamps` and `labels` of the stream, and
`guess(trigger, position)`, the class that the model of a trigger predicts for a sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np


@dataclass
class World:
    """A stream, what models say of it, and what they cost."""

    timestamps: list[int]
    labels: list[int]
    guess: Callable[[int, int], int]
    delay: int = 0
    fired: list[int] = field(default_factory=list)

    def intervals(self, size: int) -> list[tuple[int, int]]:
        """All whole intervals."""
        return [(end - size, end) for end in range(size, len(self.labels) + 1, size)]

    def start_of(self, trigger: int) -> int:
        """The position at which a trigger's model came."""
        return self.fired[trigger]

    def known(self, first: int, last: int, now: int) -> bool:
        """Whether all labels of an interval are known when so many samples were seen."""
        latest = max(self.timestamps[first:last])
        return self.delay == 0 or latest + self.delay <= self.timestamps[now - 1]

    def accuracy(self, trigger: int, first: int, last: int) -> float:
        hits = [self.guess(trigger, p) == self.labels[p] for p in range(first, last)]
        return sum(hits) / len(hits)


def quantile(values: list[float], q: float) -> float:
    return float(np.quantile(values, q))


def ridge(values: list[float], alpha: float = 0.5) -> float:
    """The next value by the normal equations, with an intercept that costs nothing."""
    n = len(values)
    if n < 5:
        return float(np.mean(values))
    x = np.stack([np.ones(n), np.arange(n)], axis=1)
    weights = np.linalg.solve(x.T @ x + np.diag([0.0, alpha]), x.T @ np.array(values))
    return float(weights @ [1, n])


def performance_positions(
    world: World, size: int, rules: list[dict[str, Any]], *, warm: int = 0, few: int = 10
) -> list[int]:
    """Where a performance trigger fires; in the first `warm` intervals it does at the ends of all.

    A rule is {"kind": "static", "threshold"}, {"kind": "quantile", "window", "q"},
    {"kind": "rolling", "window", "deviation", "absolute"} or {"kind": "budget", "budget",
    "expected", "reduction", "lookahead"}.
    """
    waiting: list[tuple[int, int, int]] = []
    histories: list[list[float]] = [[] for _ in rules]
    sums = [0.0 for _ in rules]
    fresh: list[float] = []
    recent: list[float] = []
    judged_of = None
    for index, (first, end) in enumerate(world.intervals(size)):
        if not world.fired:
            world.fired.append(end)
            continue
        now_at = world.fired[-1]
        if now_at == first:
            sums, recent = [0.0 for _ in rules], []
        waiting.append((first, end, len(world.fired) - 1))
        due = [one for one in waiting if world.known(one[0], one[1], end)]
        waiting = [one for one in waiting if one not in due]
        fires = False
        for one in due:
            start, last, trigger = one
            accuracy, stale = world.accuracy(trigger, start, last), last <= now_at
            for i, rule in enumerate(rules):
                if rule["kind"] == "budget":
                    expected = rule["expected"]
                    if expected is None:
                        expected = ridge(fresh[-few:]) if fresh else None
                    if expected is None:
                        continue
                    expected = min(max(expected, 0.0), 1.0)
                    if not stale:
                        more = (last - start) * (expected - accuracy)
                        more = more if rule["reduction"] else max(more, 0.0)
                        sums[i] = max(0.0, sums[i] + more)
                    coming = 0.0
                    if rule["lookahead"] and one is due[-1]:
                        likely = min(max(ridge([*recent, accuracy][-few:]), 0.0), 1.0)
                        coming = max(0.0, expected - likely) * (size + end - last)
                    fires |= not stale and sums[i] + coming >= rule["budget"] - 1e-8
                    continue
                fires |= below(rule, accuracy, histories[i]) and not stale
                histories[i].append(accuracy)
            if trigger != judged_of:
                fresh.append(accuracy)
            judged_of = trigger
            if not stale:
                recent.append(accuracy)
        if index < warm:
            fires = True
        if fires:
            world.fired.append(end)
    return world.fired


def below(rule: dict[str, Any], score: float, history: list[float]) -> bool:
    """Whether a score is worse than what a rule allows."""
    if rule["kind"] == "static":
        return bool(score <= rule["threshold"])
    last = history[-rule["window"] :]
    if not last:
        return True
    if rule["kind"] == "quantile":
        return score < quantile(last, rule["q"])
    mean = float(np.mean(last))
    return bool(mean - score >= rule["deviation"] * (1 if rule["absolute"] else abs(mean)))


def incorporation_positions(
    timestamps: list[int], size: int, worth: Fraction, seconds: Callable[[list[int], int], float]
) -> list[int]:
    """Where a latency cost trigger fires: all waits are added up anew at each decision.

    `seconds(fired, position)` is what a training at a position is predicted to take.
    """
    fired: list[int] = []
    for end in range(size, len(timestamps) + 1, size):
        start = fired[-1] if fired else 0
        waits = sum(timestamps[end - 1] - timestamps[p] for p in range(start, end))
        if not fired or waits >= worth * Fraction(seconds(fired, end)):
            fired.append(end)
    return fired


def avoidable_positions(
    world: World,
    size: int,
    *,
    worth: float,
    expected: float,
    seconds: Callable[[list[int], int], float],
) -> list[int]:
    """Where a trigger by avoidable misclassifications fires, without late labels.

    Each of them waits from the middle of its interval on.
    """
    regrets: list[tuple[float, float]] = []  # how many, since when
    for first, end in world.intervals(size):
        now = world.timestamps[end - 1]
        if not world.fired:
            world.fired.append(end)
            continue
        if world.fired[-1] == first:
            regrets = []
        accuracy = world.accuracy(len(world.fired) - 1, first, end)
        began = world.timestamps[first - 1]
        regrets.append((max(0.0, size * (expected - accuracy)), (began + now) / 2))
        latency = sum(count * (now - since) for count, since in regrets)
        count = sum(count for count, _ in regrets)
        if count > 0 and latency / worth >= seconds(world.fired, end):
            world.fired.append(end)
    return world.fired


def ensemble_positions(
    count: int, votes: dict[str, Callable[[list[int], int], bool]], rule: Callable[[dict], bool]
) -> list[int]:
    """Where an ensemble fires: every sub-policy is asked after every single sample.

    `votes[name](fired, position)` says whether that sub-policy votes after so many samples.
    """
    fired: list[int] = []
    voted = dict.fromkeys(votes, False)
    for position in range(1, count + 1):
        new = {name for name, votes_at in votes.items() if votes_at(fired, position)}
        voted = {name: voted[name] or name in new for name in votes}
        if new and rule(voted):
            fired.append(position)
            voted = dict.fromkeys(votes, False)
    return fired
