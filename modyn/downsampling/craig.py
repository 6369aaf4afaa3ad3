"""Samples whose gradients stand for those of all others of their class."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

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

if TYPE_CHECKING:
    import torch

__all__ = ["Craig", "class_shares", "classes_of"]


@dataclass(kw_only=True)
class Craig(Downsampler):
    """For each class the samples that its other samples' gradients are nearest to.

    A sample that is chosen stands for all of its class that are nearer to it than to any other
    one chosen. Their number is its weight; the numbers sum to that of all samples, and are
    scaled such that their mean is 1. Classes get a number of samples in proportion to their size,
    and at least one; where there are more classes than samples to choose, all are one class.

    Parameters
    ----------
    greedy : str
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
    B. Mirzasoleiman, J. Bilmes, J. Leskovec, "Coresets for data-efficient training of machine
    learning models", ICML 2020; `modyn.coresets.craig`.

    Examples
    --------
    >>> from modyn.downsampling.checks import example_pool
    >>> found = Craig(ratio=10).choose(example_pool(50), 5, Context())
    >>> len(found.rows), float(found.weights.sum())
    (5, 5.0)
    """

    greedy: str = "NaiveGreedy"
    selection_batch: int = 64
    full_grad_approximation: str = "LastLayer"

    def __post_init__(self) -> None:
        check_one_of("greedy", self.greedy, GREEDY)
        check_one_of("full_grad_approximation", self.full_grad_approximation, APPROXIMATIONS)
        check_integer("selection_batch", self.selection_batch, 1)
        super().__post_init__()

    @property
    def needs(self) -> tuple[str, ...]:
        """Gradients, and embeddings where they are asked for."""
        return gradient_needs(self.full_grad_approximation)

    def choose(self, pool: Pool, count: int, context: Context) -> Chosen:
        """Return on which `count` samples of the pool to train, and their weights."""
        vectors = gradients_of(pool, self.full_grad_approximation, context)
        labels = classes_of(pool.labels)[vectors.order]
        greedy = greedy_of(self.greedy, self.selection_batch, context)
        rows, served = [], []
        for which, share in class_shares(labels, count):
            part = vectors.part(which)
            found = part.kernels.craig(part.features, share, greedy=greedy)
            rows.append(part.order[found.rows.astype(np.intp)])
            served.append(found.served.astype(np.float64))
        chosen, numbers = np.concatenate(rows), np.concatenate(served)
        order = np.argsort(chosen)
        return Chosen(chosen[order], numbers[order] * count / len(pool))


def classes_of(labels: "torch.Tensor") -> npt.NDArray[np.int64]:
    """Return a class for each sample; the same for all where labels are no classes."""
    if labels.ndim == 1 and not labels.is_floating_point():
        return np.asarray(labels.cpu().numpy(), dtype=np.int64)
    return np.zeros(len(labels), dtype=np.int64)


def class_shares(
    labels: npt.NDArray[np.int64], count: int
) -> list[tuple[npt.NDArray[np.intp], int]]:
    """Return the samples of each class, and how many of them to choose; together `count`.

    Each has its share rounded down, and at least one; what is left goes to the largest remainders,
    ties to the lowest label. With more classes than `count` all samples are one class.

    Examples
    --------
    >>> shares = class_shares(np.array([0] * 10 + [1] * 50 + [2] * 30), 45)
    >>> [(len(rows), share) for rows, share in shares]
    [(10, 5), (50, 25), (30, 15)]
    >>> [share for _, share in class_shares(np.array([0] * 97 + [1, 2, 3]), 10)]
    [7, 1, 1, 1]
    """
    names, inverse, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(names) > count:
        return [(np.arange(len(labels)), count)]
    whole = np.maximum(count * sizes // len(labels), 1)
    remainder = count * sizes - whole * len(labels)  # of a share, in parts of len(labels)
    while whole.sum() != count:
        up = 1 if whole.sum() < count else -1
        open_to = whole < sizes if up > 0 else whole > 1
        best = np.flatnonzero(open_to)[np.argmax(up * remainder[open_to])]
        whole[best] += up
        remainder[best] -= up * len(labels)
    by_class = np.split(np.argsort(inverse, kind="stable"), np.cumsum(sizes)[:-1])
    return list(zip(by_class, whole.tolist(), strict=True))
