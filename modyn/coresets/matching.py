"""Samples whose mean, or weighted sum, is that of all: herding and GradMatch."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.coresets.features import Features, features_of

__all__ = ["Herd", "Matching", "gradient_match", "herding"]


@dataclass(frozen=True, eq=False)
class Herd:
    """The answer of `herding`.

    Parameters
    ----------
    rows : uint64, shape (k,)
        In the order of choice.
    errors : float64, shape (k,)
        The distance of the mean of those chosen so far to the mean of all.
    """

    rows: npt.NDArray[np.uint64]
    errors: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Matching:
    """The answer of `gradient_match`.

    Parameters
    ----------
    rows : uint64, shape (m,)
        Ascending; fewer than asked for when no more were of use.
    weights : float64, shape (m,)
        All above 0.
    objectives : float64, shape (steps,)
        After each step; never ascending, up to rounding.
    residual : float
        The norm of (sum of weights * G - target).
    """

    rows: npt.NDArray[np.uint64]
    weights: npt.NDArray[np.float64]
    objectives: npt.NDArray[np.float64]
    residual: float


def herding(features: "Features | npt.ArrayLike", count: int, *, threads: int = 1) -> Herd:
    """Return `count` samples whose mean is near that of all, at every length.

    Parameters
    ----------
    features : Features, or numbers of shape (n, d)
        Embeddings.
    count : int
        0 to n.
    threads : int
        At least 1.

    Raises
    ------
    ValueError
        For features that are not finite, or a count out of range.

    References
    ----------
    M. Welling, "Herding dynamical weights to learn", ICML 2009; as a choice without repetition:
    S.-A. Rebuffi et al., "iCaRL", CVPR 2017. Embeddings are taken as they are, not made unit
    vectors.

    Examples
    --------
    >>> herding([[0.0], [1.0], [2.0], [3.0]], 4).errors.tolist()
    [0.5, 0.0, 0.5, 0.0]
    """
    given = features_of(features)
    if not 0 <= count <= len(given):
        raise ValueError(f"count must be 0 to {len(given)}, got {count}")
    return Herd(*_core.herding(given.rows, given.embeddings, count, threads))


def gradient_match(
    features: "Features | npt.ArrayLike",
    count: int,
    *,
    ridge: float = 0.5,
    target: npt.ArrayLike | None = None,
    threads: int = 1,
) -> Matching:
    """Return at most `count` samples and weights whose weighted sum is the mean of all.

    Minimises norm(sum over S of w_j G_j - target)^2 + ridge * m * norm(w)^2 over w >= 0, with m
    the mean of norm(G)^2, by orthogonal matching pursuit: the sample along which the residual
    points most comes in, and all weights are fitted anew; one whose weight becomes 0 goes out.

    Parameters
    ----------
    features : Features, or numbers of shape (n, d)
        Gradients.
    count : int
        0 to n.
    ridge : float
        At least 0. The scale of the gradients changes neither the choice nor the weights.
    target : float64, shape (d,), or (d, 1 + w) with embeddings; or None
        None: the mean of all. With embeddings: sums of [g, g x h], a row for each number of g.
    threads : int
        At least 1.

    Raises
    ------
    ValueError
        For features that are not finite, or what is out of range.

    References
    ----------
    K. Killamsetty et al., "GRAD-MATCH: gradient matching based data subset selection for
    efficient deep model training", ICML 2021. The least squares are those of Lawson and Hanson
    (not non-negative normal equations); samples of weight 0 make room for others.

    Examples
    --------
    >>> found = gradient_match([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], 2, ridge=0.0)
    >>> found.rows.tolist(), found.weights.round(3).tolist()
    ([2], [0.667])
    """
    given = features_of(features)
    if not 0 <= count <= len(given):
        raise ValueError(f"count must be 0 to {len(given)}, got {count}")
    if not 0 <= ridge < math.inf:
        raise ValueError(f"ridge must be at least 0 and finite, got {ridge}")
    wanted = None if target is None else np.asarray(target, dtype=np.float64).reshape(-1)
    rows, weights, objectives, residual = _core.match(
        given.rows, given.embeddings, wanted, ridge, count, threads
    )
    return Matching(rows, weights, objectives, float(residual[0]))
