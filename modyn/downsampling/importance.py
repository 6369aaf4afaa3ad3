"""Importance sampling: more often what the model gets wrong, and weighed so that no bias comes in.

Without weights a model that sees hard samples more often learns another distribution than that of
its data.  Weights that make up for the probabilities leave the expected gradient as it is, and
its variance is least where probabilities are proportional to the norms of the gradients.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from modyn.downsampling import drawing
from modyn.downsampling.base import Chosen, Context, Downsampler, Pool

if TYPE_CHECKING:
    import torch

__all__ = ["Approximation", "GradNorm", "Importance", "Loss"]

Approximation = Literal["LastLayer", "LastLayerWithEmbedding"]

MOMENTUM = 0.9  # of the start gate


@dataclass(kw_only=True)
class Importance(Downsampler):
    """Draws samples by their scores, and weighs them; subclasses say what a score is.

    Parameters
    ----------
    scheme : {"pps", "with_replacement"}
        Draw each sample at most once, with probability min(1, c * share) and weight
        k / (n * probability); or k independent draws with weight 1 / (n * share).
    floor : float
        The part of what is uniform in the shares, from 0 to 1.  No weight is more than
        1 / floor, and samples with score 0 are drawn as well.
    upstream_weights : bool
        Draw without replacement and weigh as if with, as is often done: biased, to compare with.

    Raises
    ------
    ValueError
        For a scheme that is not known, and a floor that is no share.
    """

    scheme: Literal["pps", "with_replacement"] = "pps"
    floor: float = 0.1
    upstream_weights: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scheme not in ("pps", "with_replacement"):
            raise ValueError(f"scheme must be 'pps' or 'with_replacement', got {self.scheme!r}")
        if not 0.0 <= self.floor <= 1.0:
            raise ValueError(f"floor must be from 0 to 1, got {self.floor}")
        if self.upstream_weights and self.scheme != "pps":
            raise ValueError(f"upstream_weights are a scheme of their own, got {self.scheme!r}")

    def choose(self, pool: Pool, count: int, context: Context) -> Chosen:
        """Return a draw by `pool.scores`, with weights that make it unbiased."""
        shares = drawing.shares(_numbers(pool.scores), self.floor)
        random = context.random()
        if self.upstream_weights:
            drawn = drawing.successive(shares, count, random)
        elif self.scheme == "with_replacement":
            drawn = drawing.with_replacement(shares, count, random)
        else:
            drawn = drawing.pps(shares, count, random)
        return Chosen(drawn.rows, drawn.weights)


@dataclass(kw_only=True)
class Loss(Importance):
    """Draw samples with probabilities that follow their losses.

    Parameters
    ----------
    scheme, floor, upstream_weights
        As in `Importance`.

    References
    ----------
    A. Katharopoulos and F. Fleuret, "Not all samples are created equal", ICML 2018,
    arXiv:1803.00942, where the loss is what the norm of the gradient is compared with.

    Examples
    --------
    >>> sampler = Loss(ratio=50)
    """

    needs = ("losses",)

    def score(self, pool: Pool) -> "torch.Tensor":
        """Return the losses, shape (n,)."""
        return pool.losses


@dataclass(kw_only=True)
class GradNorm(Importance):
    """Draw samples with probabilities that follow the norms of their gradients (DLIS).

    Parameters
    ----------
    scheme, floor, upstream_weights
        As in `Importance`.
    full_grad_approximation : {"LastLayer", "LastLayerWithEmbedding"}
        The gradient with respect to the model's output, g; or to the weights and the bias of its
        last linear layer, whose norm is ||g|| * sqrt(1 + ||h||^2) with what goes into it, h.
    start_gate : bool
        In batch-then-sample, draw uniformly until importance sampling is worth its forward pass:
        while the average of tau = sqrt(B * sum of p^2) over the batches of a training, which
        starts at 1, is not above (B + 3 k) / (3 k).

    References
    ----------
    A. Katharopoulos and F. Fleuret, "Not all samples are created equal: deep learning with
    importance sampling", ICML 2018, arXiv:1803.00942.  There: draws with replacement, shares
    without a uniform part, and the gate always.

    Examples
    --------
    >>> GradNorm(ratio=25, full_grad_approximation="LastLayerWithEmbedding").needs
    ('gradients', 'embeddings')
    """

    full_grad_approximation: Approximation = "LastLayer"
    start_gate: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_approximation(self.full_grad_approximation)
        if self.start_gate and self.sample_then_batch:
            raise ValueError("start_gate is an average over batches: not with sample_then_batch")
        self._gate = Gate()

    @property
    def needs(self) -> tuple[str, ...]:
        """Gradients, and embeddings where they go into the norm."""
        if self.full_grad_approximation == "LastLayer":
            return ("gradients",)
        return ("gradients", "embeddings")

    def score(self, pool: Pool) -> "torch.Tensor":
        """Return the norms, shape (n,)."""
        norms = row_norms(pool.gradients)
        if self.full_grad_approximation == "LastLayer":
            return norms
        return norms * (1.0 + row_norms(pool.embeddings).square()).sqrt()

    def choose(self, pool: Pool, count: int, context: Context) -> Chosen:
        """Return a draw by `pool.scores`; while the gate is shut, a uniform one."""
        if self.start_gate:
            alike = drawing.shares(_numbers(pool.scores), floor=0.0)
            if not self._gate.opens(alike, count):
                rows = context.random().choice(len(pool), count, replace=False)
                return Chosen(np.sort(rows))
        return super().choose(pool, count, context)


@dataclass
class Gate:
    """Whether importance sampling pays yet: a running average within one training.

    Examples
    --------
    >>> gate = Gate()
    >>> one_of_many = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    >>> for _ in range(7):
    ...     print(gate.opens(one_of_many, 4), end=" ")
    False False False False True True True
    """

    average: float = 1.0

    def opens(self, shares: npt.NDArray[np.float64], count: int) -> bool:
        """Take in the shares of a batch, and return whether to draw by them."""
        tau = math.sqrt(len(shares) * float(np.square(shares).sum()))
        self.average = MOMENTUM * self.average + (1.0 - MOMENTUM) * tau
        return self.average > (len(shares) + 3 * count) / (3 * count)


def check_approximation(name: str) -> None:
    """Refuse what is no approximation of the full gradient."""
    if name not in ("LastLayer", "LastLayerWithEmbedding"):
        raise ValueError(
            f"full_grad_approximation must be 'LastLayer' or 'LastLayerWithEmbedding', got {name!r}"
        )


def row_norms(rows: "torch.Tensor") -> "torch.Tensor":
    """Return the norm of each row, float64, shape (n,)."""
    import torch

    norms: torch.Tensor = torch.linalg.vector_norm(rows.flatten(1), dim=1, dtype=torch.float64)
    return norms


def _numbers(scores: "torch.Tensor") -> Any:
    return scores.detach().double().cpu().numpy()
