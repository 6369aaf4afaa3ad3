"""Samples that make a submodular function of their gradients large."""

from dataclasses import dataclass

import numpy as np

from modyn.coresets import GREEDY
from modyn.downsampling.base import Chosen, Context, Downsampler, Pool
from modyn.downsampling.vectors import (
    APPROXIMATIONS,
    check_one_of,
    gradient_needs,
    gradients_of,
    greedy_of,
)
from modyn.policies.checked import check_integer

__all__ = ["Submodular"]

FUNCTIONS = {
    "FacilityLocation": "facility_location",
    "GraphCut": "graph_cut",
    "LogDeterminant": "log_determinant",
}


@dataclass(kw_only=True)
class Submodular(Downsampler):
    """The samples whose gradients' directions cover, or span, those of all.

    Parameters
    ----------
    submodular_function : str
        "FacilityLocation": each sample has a similar one among those chosen. "GraphCut": those
        chosen are similar to all and not to each other. "LogDeterminant": they differ as much as
        can be. The similarity is (1 + cosine) / 2.
    submodular_optimizer : str
        "NaiveGreedy", "LazyGreedy" (the same choice; both look lazily), "StochasticGreedy" or
        "ApproximateLazyGreedy": see `modyn.coresets.Greedy`.
    selection_batch : int
        How many samples are evaluated at once, at most; the choice does not depend on it.
    full_grad_approximation : str
        "LastLayer": gradients with respect to the model's outputs. "LastLayerWithEmbedding": with
        respect to bias and weights of the last layer.
    ratio, ratio_max, sample_then_batch, period, balance, normalise, pool_samples
        As in `Downsampler`.

    References
    ----------
    R. Iyer et al., "Submodular combinatorial information measures", ALT 2021;
    `modyn.coresets.facility_location`, `graph_cut` and `log_determinant`.

    Examples
    --------
    >>> from modyn.downsampling.checks import example_pool
    >>> sampler = Submodular(submodular_function="FacilityLocation", ratio=10)
    >>> len(sampler.choose(example_pool(50), 5, Context()).rows)
    5
    """

    submodular_function: str
    submodular_optimizer: str = "NaiveGreedy"
    selection_batch: int = 64
    full_grad_approximation: str = "LastLayer"

    def __post_init__(self) -> None:
        check_one_of("submodular_function", self.submodular_function, tuple(FUNCTIONS))
        check_one_of("submodular_optimizer", self.submodular_optimizer, GREEDY)
        check_one_of("full_grad_approximation", self.full_grad_approximation, APPROXIMATIONS)
        check_integer("selection_batch", self.selection_batch, 1)
        super().__post_init__()

    @property
    def needs(self) -> tuple[str, ...]:
        """Gradients, and embeddings where they are asked for."""
        return gradient_needs(self.full_grad_approximation)

    def choose(self, pool: Pool, count: int, context: Context) -> Chosen:
        """Return on which `count` samples of the pool to train."""
        vectors = gradients_of(pool, self.full_grad_approximation, context)
        greedy = greedy_of(self.submodular_optimizer, self.selection_batch, context)
        kernel = getattr(vectors.kernels, FUNCTIONS[self.submodular_function])
        found = kernel(vectors.features, count, greedy=greedy)
        return Chosen(np.sort(vectors.order[found.rows.astype(np.intp)]))
