"""The active set of csrc/selector/fit.c, for tensors that are fitted on the host."""

import numpy as np
import numpy.typing as npt

__all__ = ["Fit"]

_INDEPENDENT = 1e-12  # of a column's square must be its own


class Fit:
    """Weights w >= 0 that minimise norm(A w - b)^2 + ridge norm(w)^2; columns come one by one."""

    def __init__(self, ridge: float) -> None:
        self.ridge = ridge
        self.names: list[int] = []
        self.weights: npt.NDArray[np.float64] = np.empty(0)
        self._gram = np.empty((0, 0))
        self._target = np.empty(0)

    @property
    def penalty(self) -> float:
        """What the ridge adds to the objective."""
        return self.ridge * float(self.weights @ self.weights)

    def add(self, name: int, inner: npt.NDArray[np.float64], square: float, target: float) -> bool:
        """Take a column in and fit; False when it is of no use, and nothing has changed."""
        k = len(self.names)
        gram = np.empty((k + 1, k + 1))
        gram[:k, :k], gram[k, :k], gram[:k, k] = self._gram, inner, inner
        gram[k, k] = square + self.ridge
        own = gram[k, k] - (inner @ np.linalg.solve(self._gram, inner) if k else 0.0)
        if not own > _INDEPENDENT * gram[k, k]:
            return False
        targets = np.append(self._target, target)
        wanted = np.asarray(np.linalg.solve(gram, targets), dtype=np.float64)
        if not wanted[k] > 0:
            return False
        self._gram, self._target = gram, targets
        self.names.append(name)
        self.weights = np.append(self.weights, 0.0)
        self._settle(wanted)
        return True

    def _settle(self, wanted: npt.NDArray[np.float64]) -> None:
        """Go towards what is wanted; a weight that becomes 0 on the way leaves."""
        while (wanted <= 0).any():
            away = np.flatnonzero(wanted <= 0)
            shares = self.weights[away] / (self.weights[away] - wanted[away])
            first = int(away[np.argmin(shares)])
            self.weights += float(shares.min()) * (wanted - self.weights)
            keep = np.arange(len(self.names)) != first
            self.names.pop(first)
            self.weights, self._target = self.weights[keep], self._target[keep]
            self._gram = self._gram[np.ix_(keep, keep)]
            wanted = np.asarray(np.linalg.solve(self._gram, self._target), dtype=np.float64)
        self.weights = wanted
