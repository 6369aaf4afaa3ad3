"""The best schedule there is, by dynamic programming over recorded models: an upper bound.

    best[k][m]   the most that windows before model m's can be worth when m is the k-th model
    gain(m, n)   what the windows are worth in which m is active until n is

    best[k + 1][n] = max over m before n of best[k][m] + gain(m, n)

Windows are in the order of their anchors, so a model is active from its first window on, and the
gain is a difference of running sums.  The schedule knows the future: no policy can, so what it
scores with k trainings bounds what policies score with k of the recorded models.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Best", "frontier", "oracle", "together"]

Places = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Best:
    """The best schedules by how many trainings they have.

    Parameters
    ----------
    score : float64, shape (k,)
        With at most 1, 2, ... k trainings.
    models : sequence of int64 arrays
        Which models, in order; no more than that many.
    """

    score: Floats
    models: tuple[Places, ...]


def oracle(values: Floats, start: Places, weight: Floats, most: int) -> Best:
    """Return the best choices of at most 1, 2, ..., `most` of some models.

    Parameters
    ----------
    values : float64, shape (m, w)
        What each model scores in each window; models in the order of their trainings, windows in
        that of their anchors.
    start : int64, shape (m,)
        The first window in which each could be active, w where in none.
    weight : float64, shape (w,)
        What windows count; a window without a model is worth 0.
    most : int
        Trainings, at least 1.

    Examples
    --------
    >>> values = np.array([[0.9, 0.5, 0.4], [0.9, 0.6, 0.5], [0.8, 0.7, 0.9]])
    >>> best = oracle(values, np.array([0, 1, 2]), np.full(3, 1 / 3), most=3)
    >>> best.score.round(3).tolist(), [models.tolist() for models in best.models]
    ([0.6, 0.767, 0.8], [[0], [0, 2], [0, 1, 2]])
    """
    models, windows = values.shape
    if most < 1:
        raise ValueError(f"most must be at least 1, got {most}")
    most = min(most, models)
    sums = np.zeros((models, windows + 1))
    np.cumsum(values * weight, axis=1, out=sums[:, 1:])
    begun = sums[np.arange(models), start]
    # gain[m, n]: of m, from its own first window to that of a later n; no model comes back.
    gain = sums[:, start] - begun[:, None]
    rest = sums[:, -1] - begun
    later = np.triu(np.ones((models, models), dtype=np.bool_), 1) & (start[None] >= start[:, None])
    gain = np.where(later, gain, -np.inf)
    best, before = np.zeros(models), []
    score, chosen = np.zeros(most), []
    for k in range(most):
        if k > 0:
            reached = best[:, None] + gain
            before.append(reached.argmax(axis=0))
            best = reached[before[-1], np.arange(models)]
        ends = best + rest
        last = int(ends.argmax())
        score[k] = ends[last]
        chosen.append(_path(before, last))
        if k > 0 and score[k] <= score[k - 1]:  # one more brings nothing
            score[k], chosen[k] = score[k - 1], chosen[k - 1]
    return Best(score=score, models=tuple(chosen))


def _path(before: list[Places], last: int) -> Places:
    found = [last]
    for choices in reversed(before):
        found.append(int(choices[found[-1]]))
    return np.array(found[::-1], dtype=np.int64)


def frontier(values: Floats, start: Places, weight: Floats, price: Floats) -> tuple[Floats, Floats]:
    """Return the corners of the highest score at each cost: costs and scores, both ascending.

    They are the schedules that are best for some exchange rate of cost against score.  At a cost
    between two of them no schedule is above the line that joins them (weak duality), and below
    the first, at no cost, there is no model and the score is 0.

    Parameters
    ----------
    values, start, weight
        As for `oracle`.
    price : float64, shape (m,)
        What each model costs.

    Examples
    --------
    >>> values = np.array([[0.9, 0.5, 0.4], [0.9, 0.6, 0.5], [0.8, 0.7, 0.9]])
    >>> corners = frontier(values, np.array([0, 1, 2]), np.full(3, 1 / 3), np.array([1.0, 2, 3]))
    >>> [corner.round(3).tolist() for corner in corners]
    [[0.0, 1.0, 4.0, 6.0], [0.0, 0.6, 0.767, 0.8]]
    """
    best = _Exchange(values, start, weight, price)
    found = {(0.0, 0.0), best.at(0.0)}
    pairs = [(min(found), max(found))]
    while pairs:
        (cost, score), (more, higher) = pairs.pop()
        if more <= cost or higher <= score:
            continue
        rate = (higher - score) / (more - cost)
        corner = best.at(rate)
        gain = (corner[1] - rate * corner[0]) - (score - rate * cost)
        if gain <= 1e-12 or corner in found:
            continue
        found.add(corner)
        pairs += [((cost, score), corner), (corner, (more, higher))]
    corners = np.array(sorted(found))
    rising = np.concatenate(([True], np.maximum.accumulate(corners[:, 1])[:-1] < corners[1:, 1]))
    return corners[rising, 0], corners[rising, 1]


def together(frontiers: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Return the corners of the highest mean score at each mean cost, over several recordings.

    A policy may spend more on one recording than on another, so a bound in the mean spends where
    it brings most: of concave functions, the steepest pieces of all come first.

    Parameters
    ----------
    frontiers : sequence of (costs, scores)
        As from `frontier`, one per recording.

    Examples
    --------
    >>> dear, free = (np.array([0.0, 10]), np.array([0.0, 1])), (np.array([0.0]), np.array([1.0]))
    >>> together([dear, free])
    (array([0., 5.]), array([0.5, 1. ]))
    """
    pieces = np.concatenate([np.diff(np.stack(corners)) for corners in frontiers], axis=1)
    with np.errstate(divide="ignore"):  # what costs nothing comes first
        steep = np.argsort(-pieces[1] / pieces[0], kind="stable")
    start = np.array([[costs[0], scores[0]] for costs, scores in frontiers]).sum(axis=0)
    corners = np.concatenate([start[:, None], pieces[:, steep]], axis=1).cumsum(axis=1)
    costs, scores = corners / len(frontiers)
    last = np.append(costs[1:] > costs[:-1], True)
    return costs[last], scores[last]


class _Exchange:
    """The schedule that is best at a rate of score for cost."""

    def __init__(self, values: Floats, start: Places, weight: Floats, price: Floats) -> None:
        models, windows = values.shape
        sums = np.zeros((models, windows + 1))
        np.cumsum(values * weight, axis=1, out=sums[:, 1:])
        begun = sums[np.arange(models), start]
        self._order = np.argsort(start, kind="stable")
        gain = (sums[:, start] - begun[:, None])[np.ix_(self._order, self._order)]
        self._gain = np.where(self._order[:, None] < self._order, gain, -np.inf)
        self._rest = (sums[:, -1] - begun)[self._order]
        self._price = price[self._order]

    def at(self, rate: float) -> tuple[float, float]:
        """Return cost and score of the schedule with the highest score - rate * cost."""
        models = len(self._price)
        best, before = np.zeros(models), np.full(models, -1)
        for n in range(models):
            if n:
                reached = best[:n] + self._gain[:n, n]
                m = int(reached.argmax())
                if reached[m] > 0.0:
                    best[n], before[n] = reached[m], m
            best[n] -= rate * self._price[n]
        ends = best + self._rest
        last = int(ends.argmax())
        if ends[last] <= 0.0:
            return 0.0, 0.0
        cost, score, after = 0.0, float(self._rest[last]), last
        while after >= 0:
            cost += float(self._price[after])
            if before[after] >= 0:
                score += float(self._gain[before[after], after])
            after = int(before[after])
        return cost, score
