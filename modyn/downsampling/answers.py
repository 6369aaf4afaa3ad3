"""What a downsampler answers, checked and put into one form."""

from typing import Any

import numpy as np
import numpy.typing as npt

from modyn.downsampling.base import Chosen, Downsampler

__all__ = ["chosen", "scored"]


def chosen(downsampler: Downsampler, answer: object, size: int, count: int) -> Chosen:
    """Return an answer of `choose` as rows, ascending, and weights, None where all are 1.

    Parameters
    ----------
    downsampler : Downsampler
        Whose answer it is.
    answer : Chosen
    size : int
        Samples of the pool.
    count : int
        How many were asked for.

    Returns
    -------
    Chosen
        rows int64, shape (k,), k >= 1; weights float64, shape (k,), or None.

    Raises
    ------
    TypeError, ValueError
        Which name the class and say what is wrong.
    """
    name = type(downsampler).__name__
    if not isinstance(answer, Chosen):
        raise TypeError(f"{name}.choose must return Chosen(rows, weights), got {answer!r:.80}")
    rows = _array(answer.rows)
    if rows.ndim != 1 or rows.size == 0 or rows.dtype.kind not in "iu":
        raise TypeError(
            f"{name} must choose rows of the pool, integers of shape (k,), at least one; "
            f"got {rows.dtype} of shape {rows.shape}"
        )
    if rows.min() < 0 or rows.max() >= size:
        raise ValueError(f"{name} chose a row that is none of the {size} of the pool: {rows.max()}")
    if downsampler.exact and len(rows) != count:
        raise ValueError(f"{name} chose {len(rows)} of {size} samples, and was asked for {count}")
    rows = rows.astype(np.int64)
    order = None if np.all(rows[1:] >= rows[:-1]) else np.argsort(rows, kind="stable")
    weights = _weights(name, answer.weights, len(rows))
    if order is not None:
        rows, weights = rows[order], None if weights is None else weights[order]
    return Chosen(rows, weights)


def scored(downsampler: Downsampler, scores: Any, size: int) -> Any:
    """Return what `score` answered, detached, when it is a tensor of shape (size,).

    Raises
    ------
    TypeError
        Which names the class.
    """
    import torch

    if not isinstance(scores, torch.Tensor) or scores.shape != (size,):
        got = tuple(scores.shape) if isinstance(scores, torch.Tensor) else f"{scores!r:.80}"
        raise TypeError(
            f"{type(downsampler).__name__}.score must return a tensor of shape ({size},), got {got}"
        )
    return scores.detach()


def _weights(name: str, given: Any, count: int) -> npt.NDArray[np.float64] | None:
    if given is None:
        return None
    weights: npt.NDArray[np.float64] = _array(given).astype(np.float64)
    if weights.shape != (count,):
        raise ValueError(f"{name} chose {count} rows and gave weights of shape {weights.shape}")
    if not (np.isfinite(weights) & (weights >= 0)).all():
        wrong = weights[~(np.isfinite(weights) & (weights >= 0))][0]
        raise ValueError(f"{name} gave the weight {wrong}; weights are finite and at least 0")
    return None if (weights == 1.0).all() else weights


def _array(values: Any) -> npt.NDArray[Any]:
    if hasattr(values, "detach"):  # a tensor
        values = values.detach().cpu()
    return np.asarray(values)
