"""How well a classifier tells two windows apart."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modyn.drift.metric import WindowMetric
from modyn.drift.windows import Floats, Window, blocks, mean, rng

__all__ = ["ClassifierAUC"]

STEPS = 25  # of Newton's method, at most
SMALL = 1e-8  # a step that ends it


@dataclass(frozen=True, kw_only=True)
class ClassifierAUC(WindowMetric):
    """The classifier two-sample test: the ROC-AUC of a logistic model, on rows it has not seen.

    Half of each window, drawn by the seed, fits the model, whose features are standardised; the
    other half is ranked by it.  The value is max(AUC, 1 - AUC): 0.5 where nothing tells the
    windows apart, 1 where everything does; nan where a window has less than 2 rows.

    Parameters
    ----------
    ridge : float
        How much half the squared length of the weights counts beside the mean loss, above 0.
    num_pca_component, num_permutations
        As in `WindowMetric`.

    References
    ----------
    D. Lopez-Paz and M. Oquab, "Revisiting classifier two-sample tests", ICLR 2017, with the AUC
    instead of the accuracy.  Evidently's model drift of embeddings is the same with a classifier
    trained by stochastic gradients, and without max(AUC, 1 - AUC); here the minimum is found by
    Newton's method, so that the value does not depend on the order of the rows in a half.

    Examples
    --------
    >>> import numpy as np
    >>> ClassifierAUC().distance(np.arange(10.0), np.arange(10.0) + 20).value
    1.0
    """

    ridge: float = 1e-3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.ridge < np.inf:
            raise ValueError(f"ridge must be above 0, got {self.ridge}")

    @property
    def least_rows(self) -> int:
        """Two: one to fit the model, and one to rank."""
        return 2

    def _between(
        self, reference: Window, current: Window, seed: int
    ) -> tuple[float, Mapping[str, float]]:
        if min(len(reference), len(current)) < self.least_rows:
            return float("nan"), {}
        halves = [_halves(len(rows), seed, at) for at, rows in enumerate((reference, current))]
        fit = [rows[half[0]] for rows, half in zip((reference, current), halves, strict=True)]
        scale = _Scale.of(fit)
        weights = _logistic(fit, scale, self.ridge)
        del fit
        scores = [
            _scores(rows, half[1], scale, weights)
            for rows, half in zip((reference, current), halves, strict=True)
        ]
        found = auc(np.sort(scores[0]), np.sort(scores[1]))
        return max(found, 1 - found), {"auc": found}


def _halves(count: int, seed: int, window: int) -> tuple[npt.NDArray[np.int64], ...]:
    """Return the rows that fit the model, and the others; ascending."""
    order = rng(seed, "split", window).permutation(count)
    return np.sort(order[: count // 2]), np.sort(order[count // 2 :])


@dataclass(frozen=True, eq=False)
class _Scale:
    center: Floats
    deviation: Floats

    @classmethod
    def of(cls, windows: list[Window]) -> "_Scale":
        """Means and standard deviations of all rows; 1 for a feature that is constant."""
        count = sum(map(len, windows))
        center = np.zeros(windows[0].shape[1])
        for rows in windows:
            center += len(rows) / count * mean(rows)
        squares = np.zeros(len(center))
        for rows in windows:
            for block in blocks(rows):
                squares += np.sum((block - center) ** 2, axis=0)
        deviation = np.sqrt(squares / count)
        return cls(center, np.where(deviation > 0, deviation, 1.0))

    def __call__(self, rows: Window) -> Floats:
        """Standardised rows with a last column of 1, for the intercept."""
        scaled = (rows - self.center) / self.deviation
        return np.concatenate([scaled, np.ones((len(rows), 1))], axis=1)


def _examples(windows: list[Window], scale: _Scale) -> Iterator[tuple[Floats, float]]:
    for label, rows in enumerate(windows):
        for block in blocks(rows):
            yield scale(block), float(label)


def _logistic(windows: list[Window], scale: _Scale, ridge: float) -> Floats:
    """Return the weights, and the intercept last, that tell the second window from the first."""
    width = windows[0].shape[1] + 1
    count = sum(map(len, windows))
    penalty = np.append(np.full(width - 1, ridge), 0.0)
    weights = np.zeros(width)
    for _ in range(STEPS):
        gradient, curvature = penalty * weights, np.diag(penalty)
        for rows, label in _examples(windows, scale):
            chance = sigmoid(rows @ weights)
            gradient += rows.T @ (chance - label) / count
            curvature += (rows.T * (chance * (1 - chance) / count)) @ rows
        # Where the windows come apart all chances are certain, and the curvature vanishes.
        curvature[np.diag_indices(width)] += 1e-10
        step = np.linalg.solve(curvature, gradient)
        step *= min(1.0, 10.0 / max(float(np.abs(step).max()), 1e-300))
        weights -= step
        if float(np.abs(step).max()) < SMALL:
            break
    return weights


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), of any size of x."""
    small = np.exp(-np.abs(x))
    chances: Floats = np.where(x >= 0, 1.0, small) / (1 + small)
    return chances


def _scores(rows: Window, which: npt.NDArray[np.int64], scale: _Scale, weights: Floats) -> Floats:
    found = [scale(block) @ weights for block in blocks(rows)]
    return np.concatenate(found)[which]


def auc(negative: Floats, positive: Floats) -> float:
    """Return the chance that a positive score is above a negative one; both ascending."""
    below = negative.searchsorted(positive, "left") + negative.searchsorted(positive, "right")
    return float(below.sum() / 2 / (len(negative) * len(positive)))
