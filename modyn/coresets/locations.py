"""Samples that all others are near to: k-center, facility location and CRAIG."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.coresets.features import Features, features_of
from modyn.coresets.greedy import Greedy

__all__ = ["Centers", "Facilities", "craig", "facility_location", "kcenter"]

_COSINE, _PLACE = 0, 1  # mdn_similarity


@dataclass(frozen=True, eq=False)
class Centers:
    """The answer of `kcenter`.

    Parameters
    ----------
    rows : uint64, shape (k,)
        In the order of choice.
    radii : float64, shape (k,)
        How far each was from those before it when it was chosen; descending, behind the first.
    distances : float64, shape (n,)
        Of each sample to the nearest one chosen.
    """

    rows: npt.NDArray[np.uint64]
    radii: npt.NDArray[np.float64]
    distances: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Facilities:
    """The answer of `facility_location` and `craig`.

    Parameters
    ----------
    rows : uint64, shape (k,)
        In the order of choice.
    gains : float64, shape (k,)
        How much each added to the objective.
    served : uint64, shape (k,)
        How many samples each is the most similar one of, itself included; they sum to n.
    evaluations : int
        How many gains were computed.
    """

    rows: npt.NDArray[np.uint64]
    gains: npt.NDArray[np.float64]
    served: npt.NDArray[np.uint64]
    evaluations: int


def kcenter(
    features: "Features | npt.ArrayLike",
    count: int,
    *,
    start: int | npt.ArrayLike = 0,
    threads: int = 1,
) -> Centers:
    """Return `count` samples, each the farthest from those before it.

    The largest distance of a sample to the nearest one chosen is at most twice as large as for
    the best choice of that size. Equal samples are chosen only when all distances are 0.

    Parameters
    ----------
    features : Features, or numbers of shape (n, d)
    count : int
        1 to n; with rows in `start` that are there already: 0 to what is left.
    start : int, or integers of shape (m,)
        The row to begin with; or different rows that were chosen before, which are not in the
        answer.
    threads : int
        At least 1.

    Raises
    ------
    ValueError
        For features that are not finite, a count or a start out of range.

    References
    ----------
    T. Gonzalez, "Clustering to minimize the maximum intercluster distance", 1985; for training:
    O. Sener and S. Savarese, "Active learning for convolutional neural networks: a core-set
    approach", ICLR 2018. One distance is kept for each sample.

    Examples
    --------
    >>> kcenter([[0.0], [1.0], [10.0], [11.0]], 2).rows.tolist()
    [0, 3]
    """
    given = features_of(features)
    begin = np.asarray(start)
    first = begin.reshape(-1).astype(np.uint64)
    if begin.size and int(begin.min()) < 0:
        raise ValueError(f"start must be rows, got {int(begin.min())}")
    if begin.ndim == 0 and count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    rest = count - 1 if begin.ndim == 0 else count
    rows, radii, distances = _core.kcenter(given.rows, given.embeddings, first, rest, threads)
    if begin.ndim == 0:
        rows, radii = np.concatenate([first, rows]), np.concatenate([[np.inf], radii])
    return Centers(rows, radii, distances)


def facility_location(
    features: "Features | npt.ArrayLike",
    count: int,
    *,
    greedy: Greedy | None = None,
    threads: int = 1,
) -> Facilities:
    """Return `count` samples such that each sample has a similar one among them.

    Maximises f(S) = sum over all i of max over j in S of s(i, j), with the similarity of
    directions s = (1 + cos) / 2; the cosine with a vector of zeros is 0, and a sample's
    similarity to itself 1.

    Parameters
    ----------
    features : Features, or numbers of shape (n, d)
    count : int
        0 to n.
    greedy : Greedy, or None
        None: lazy.
    threads : int
        At least 1.

    Raises
    ------
    ValueError
        For features that are not finite, or a count out of range.

    Examples
    --------
    >>> found = facility_location([[1, 0], [2, 0], [1, 0.1], [0, 1]], 2)
    >>> found.rows.tolist(), found.served.tolist()
    ([2, 3], [3, 1])
    """
    return _facility(features_of(features), count, _COSINE, greedy or Greedy(), threads)


def craig(
    features: "Features | npt.ArrayLike",
    count: int,
    *,
    greedy: Greedy | None = None,
    threads: int = 1,
) -> Facilities:
    """Return `count` samples whose gradients, times how many each serves, stand for all.

    Minimises the sum over all i of min over j in S of norm(G_i - G_j), which bounds the norm of
    sum over i of G_i - sum over j in S of served_j G_j. For CRAIG proper, call it for the samples
    of one class at a time.

    Parameters
    ----------
    features : Features, or numbers of shape (n, d)
        Gradients.
    count : int
        0 to n.
    greedy : Greedy, or None
        None: lazy.
    threads : int
        At least 1.

    Raises
    ------
    ValueError
        For features that are not finite, or a count out of range.

    References
    ----------
    B. Mirzasoleiman, J. Bilmes, J. Leskovec, "Coresets for data-efficient training of machine
    learning models", ICML 2020. The constant from which distances are subtracted is twice the
    largest norm, instead of the largest distance: the choice is the same.

    Examples
    --------
    >>> found = craig([[0.0], [0.1], [0.2], [5.0]], 2)
    >>> found.rows.tolist(), found.served.tolist()
    ([1, 3], [3, 1])
    """
    return _facility(features_of(features), count, _PLACE, greedy or Greedy(), threads)


def _facility(
    given: Features, count: int, similarity: int, greedy: Greedy, threads: int
) -> Facilities:
    if not 0 <= count <= len(given):
        raise ValueError(f"count must be 0 to {len(given)}, got {count}")
    rows, gains, served, evaluations = _core.facility(
        given.rows, given.embeddings, similarity, greedy.numbers, count, threads
    )
    return Facilities(rows, gains, served, int(evaluations[0]))
