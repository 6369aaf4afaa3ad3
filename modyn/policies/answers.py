"""What a policy answered, read strictly: a wrong type is an error that names the policy."""

import operator

import numpy as np
import numpy.typing as npt

from modyn.policies.base import Selected

__all__ = ["due_after", "selected"]


def due_after(answer: object, policy: str) -> int | None:
    """Return the answer of `Trigger.inform` as an int or None; its range is not checked here.

    Raises
    ------
    TypeError
        Naming the policy and what it answered.
    """
    if answer is None:
        return None
    if not isinstance(answer, bool):
        try:
            return operator.index(answer)  # type: ignore[arg-type]
        except TypeError:
            pass
    raise TypeError(
        f"{policy}.inform answered {answer!r} ({type(answer).__name__}): return None, or an int, "
        "after how many of these samples a trigger is due"
    )


def selected(answer: object, policy: str) -> Selected:
    """Return the answer of `Selection.select`, with ascending keys and float64 weights.

    Takes a `Selected`, a bare array of keys, or a pair (keys, weights).

    Raises
    ------
    TypeError, ValueError
        Naming the policy and what is wrong with its keys or weights.
    """
    if isinstance(answer, Selected):
        given: tuple[object, object] = (answer.keys, answer.weights)
    elif isinstance(answer, tuple) and len(answer) == 2:
        given = answer
    else:
        given = (answer, None)
    keys = _keys(given[0], policy)
    weights = None if given[1] is None else _weights(given[1], len(keys), policy)
    if np.any(keys[1:] <= keys[:-1]):
        order = np.argsort(keys, kind="stable")
        keys, weights = keys[order], None if weights is None else weights[order]
    return Selected(np.ascontiguousarray(keys), weights)


def _keys(given: object, policy: str) -> npt.NDArray[np.uint64]:
    keys = np.asarray(given)
    if keys.ndim != 1:
        raise TypeError(
            f"{policy}.select answered {type(given).__name__}: return Selected(keys), with keys an "
            "array of one dimension"
        )
    if keys.size == 0:
        return np.empty(0, dtype=np.uint64)
    if keys.dtype.kind == "b":
        raise TypeError(
            f"{policy}.select answered a mask of bool: return candidates.keys[mask] instead"
        )
    if keys.dtype.kind not in "iu":
        raise TypeError(f"{policy}.select answered keys of {keys.dtype}, not of uint64")
    if keys.dtype.kind == "i" and keys.min() < 0:
        raise ValueError(f"{policy} chose key {keys.min()}, but keys are not negative")
    return keys.astype(np.uint64, copy=False)


def _weights(given: object, count: int, policy: str) -> npt.NDArray[np.float64]:
    weights = np.asarray(given)
    if weights.dtype.kind not in "iuf" and weights.size > 0:
        raise TypeError(f"{policy}.select answered weights of {weights.dtype}, not of float64")
    if weights.shape != (count,):
        raise ValueError(
            f"{policy}.select answered weights of shape {weights.shape} for {count} keys: "
            "there must be one weight per key"
        )
    return np.ascontiguousarray(weights, dtype=np.float64)
