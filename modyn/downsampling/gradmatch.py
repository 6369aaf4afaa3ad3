"""Weighted samples whose gradient is that of all."""

import logging
from dataclasses import dataclass

import numpy as np

from modyn.downsampling.base import Chosen, Context, Downsampler, Pool
from modyn.downsampling.vectors import (
    APPROXIMATIONS,
    check_one_of,
    gradient_needs,
    gradients_of,
)

__all__ = ["GradMatch"]

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class GradMatch(Downsampler):
    """The samples whose gradients, weighted, sum to the mean gradient of all.

    They are found by orthogonal matching pursuit with weights of at least 0, which are then
    scaled such that their mean is 1. Where fewer samples than asked for are of use (there are as
    many independent gradients as the model has outputs, or as its last layer has weights), the
    others are drawn, with weight 1, and a line is logged.

    Parameters
    ----------
    full_grad_approximation : str
        "LastLayer": gradients with respect to the model's outputs. "LastLayerWithEmbedding": with
        respect to bias and weights of the last layer.
    ridge : float
        How strongly large weights are held down, in units of the mean of norm(gradient)^2; at
        least 0.
    ratio, ratio_max, sample_then_batch, period, balance, normalise, pool_samples
        As in `Downsampler`.

    References
    ----------
    K. Killamsetty et al., "GRAD-MATCH: gradient matching based data subset selection for
    efficient deep model training", ICML 2021; `modyn.coresets.gradient_match`.

    Examples
    --------
    >>> from modyn.downsampling.checks import example_pool
    >>> found = GradMatch(ratio=10, ridge=0.5).choose(example_pool(50), 5, Context())
    >>> len(found.rows), round(float(found.weights.mean()), 9)
    (5, 1.0)
    """

    full_grad_approximation: str = "LastLayer"
    ridge: float = 0.5

    def __post_init__(self) -> None:
        check_one_of("full_grad_approximation", self.full_grad_approximation, APPROXIMATIONS)
        if not self.ridge >= 0:
            raise ValueError(f"ridge must be at least 0, got {self.ridge}")
        super().__post_init__()

    @property
    def needs(self) -> tuple[str, ...]:
        """Gradients, and embeddings where they are asked for."""
        return gradient_needs(self.full_grad_approximation)

    def choose(self, pool: Pool, count: int, context: Context) -> Chosen:
        """Return on which `count` samples of the pool to train, and their weights."""
        vectors = gradients_of(pool, self.full_grad_approximation, context)
        found = vectors.kernels.gradient_match(vectors.features, count, ridge=self.ridge)
        chosen = found.rows.astype(np.intp)
        weights = np.ones(count)
        if len(chosen) > 0:
            weights[: len(chosen)] = found.weights / found.weights.mean()
        if len(chosen) < count:
            logger.info("gradient matching had use for %d of %d samples", len(chosen), count)
            left = np.setdiff1d(np.arange(len(pool)), chosen)
            more = context.random().choice(left, count - len(chosen), replace=False)
            chosen = np.concatenate([chosen, more])
        rows = vectors.order[chosen]
        order = np.argsort(rows)
        return Chosen(rows[order], weights[order])
