"""Numbers and columns as callers give them, checked and made what C reads."""

import operator
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["column", "number", "time"]


def number(name: str, value: int) -> int:
    """Return an integer that fits into 64 bits without a sign."""
    found = operator.index(value)
    if not 0 <= found < 2**64:
        raise ValueError(f"{name} must be 0 to 2**64 - 1, got {found}")
    return found


def time(name: str, value: int | None) -> int | None:
    """Return a timestamp that fits into 64 bits, or None."""
    if value is None:
        return None
    found = operator.index(value)
    if not -(2**63) <= found < 2**63:
        raise ValueError(f"{name} must be -2**63 to 2**63 - 1, got {found}")
    return found


def column(name: str, values: npt.ArrayLike, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """Return values as a contiguous array of that integer dtype; no value may change."""
    array = np.asarray(values)
    if array.size == 0 and array.dtype.kind == "f":
        array = array.astype(dtype)  # an empty list
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {array.shape}")
    if array.dtype != dtype and array.size:
        least, most = int(array.min()), int(array.max())
        bounds = np.iinfo(dtype)
        if least < bounds.min or most > bounds.max:
            wrong = least if least < bounds.min else most
            raise ValueError(f"{name} must be {dtype} numbers, got {wrong}")
    return np.ascontiguousarray(array, dtype=dtype)
