"""One number for each candidate, wherever it comes from: what C reads of it."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from modyn.arrivals import Arrivals
from modyn.sampling.numbers import column

__all__ = ["CoreValues", "Values", "core_values"]

Values: TypeAlias = str | npt.ArrayLike | Callable[[Arrivals], npt.ArrayLike]
_Asked: TypeAlias = Callable[
    [npt.NDArray[np.uint64], npt.NDArray[np.int64], npt.NDArray[np.int64] | None],
    npt.NDArray[np.float64],
]
CoreValues: TypeAlias = str | npt.NDArray[np.float64] | npt.NDArray[np.int64] | _Asked | None


def core_values(name: str, values: Values | None) -> CoreValues:
    """Return values as C reads them.

    Parameters
    ----------
    name : str
        For messages.
    values : numbers of shape (n,), "timestamp", "label", callable, or None
        A row for each candidate, a column, or a function from a block of candidates (`Arrivals`)
        to a number for each of them.

    Raises
    ------
    TypeError
        For values that are no numbers.
    ValueError
        For more than one dimension, and integers beyond 64 bits.
    """
    if values is None or isinstance(values, str):
        return values
    if not callable(values):
        return _numbers(name, values)

    def asked(
        keys: npt.NDArray[np.uint64],
        timestamps: npt.NDArray[np.int64],
        labels: npt.NDArray[np.int64] | None,
    ) -> npt.NDArray[np.float64]:
        found = _numbers(name, values(Arrivals(keys, timestamps, labels)))
        return found.astype(np.float64, copy=False)

    return asked


def _numbers(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float64] | npt.NDArray[np.int64]:
    array = np.asarray(values)
    if array.dtype.kind in "iu" and array.size:
        return column(name, array, np.dtype(np.int64))
    if array.dtype.kind not in "iufb":
        raise TypeError(f"{name} must be numbers, got {array.dtype}")
    if array.ndim != 1:
        raise ValueError(f"{name} must have one dimension, got shape {array.shape}")
    return np.ascontiguousarray(array, dtype=np.float64)
