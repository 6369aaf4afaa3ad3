"""What a loader is given, checked before anything starts."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.loader.source import Samples

if TYPE_CHECKING:
    from modyn.trainset import TrainingSet

__all__ = [
    "ENDLESS",
    "as_number",
    "bucket_field",
    "field_indices",
    "field_names",
    "pass_rows",
    "read_samples",
]

ENDLESS = 2**64 - 1  # MDN_ENDLESS of csrc/prefetch/cut.h


def as_number(name: str, value: int, low: int, high: int) -> int:
    """Return value as an int of this range; anything else is an error."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if not low <= number <= high:
        bounds = f"at least {low}" if number < low else f"at most {high}"
        raise ValueError(f"{name} must be {bounds}, got {number}")
    return number


def field_names(view: _core.View) -> list[str]:
    """Return the names of the fields of a record, in the order of the schema."""
    return [line.partition(":")[0] for line in view.schema.splitlines()]


def field_indices(fields: Sequence[str] | None, names: list[str]) -> tuple[int, ...]:
    """Return where in the schema these fields are; all of them for None."""
    if fields is None:
        return tuple(range(len(names)))
    if isinstance(fields, str):
        raise TypeError(f"fields must be a sequence of names, got the string {fields!r}")
    for name in fields:
        if name not in names:
            raise ValueError(f"no field {name!r} in the dataset; it has {', '.join(names)}")
    if len(set(fields)) != len(fields):
        raise ValueError(f"fields names a field twice: {list(fields)}")
    return tuple(names.index(name) for name in fields)


def pass_rows(num_samples_to_pass: float | None) -> int:
    """Return the rows of a pass as the core has them: 0 is one epoch."""
    if num_samples_to_pass is None:
        return 0
    if num_samples_to_pass == math.inf:
        return ENDLESS
    # An int, or as_number says that it is none.
    return as_number("num_samples_to_pass", cast("int", num_samples_to_pass), 1, 2**63 - 1)


def bucket_field(bucket_by: str, view: _core.View) -> int:
    """Return where in the schema the field is whose length decides."""
    names = field_names(view)
    if bucket_by not in names:
        raise ValueError(f"no field {bucket_by!r} in the dataset; it has {', '.join(names)}")
    index = names.index(bucket_by)
    kind = view.schema.splitlines()[index].partition(":")[2].strip()
    if kind != "bytes":
        raise ValueError(f"bucket_by must name a field of bytes; {bucket_by!r} is {kind}")
    return index


def read_samples(samples: TrainingSet | npt.ArrayLike, weights: npt.ArrayLike | None) -> Samples:
    """Return keys and weights that nobody will change."""
    from modyn.trainset import TrainingSet

    if isinstance(samples, TrainingSet):
        if weights is not None:
            raise ValueError("weights cannot be given for a training set, which has its own")
        return Samples(samples.keys, samples.weights, samples)
    keys = _own_keys(np.asarray(samples))
    return Samples(keys, None if weights is None else _own_weights(np.asarray(weights), len(keys)))


def _own_keys(array: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    if array.ndim != 1:
        raise ValueError(f"samples must be keys of shape (n,), got shape {array.shape}")
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"samples must be keys, which are integers, got {array.dtype}")
    if array.dtype.kind == "i" and array.size and array.min() < 0:
        at = int(np.argmax(array < 0))
        raise ValueError(f"samples must be keys, which are not negative, got {array[at]} at {at}")
    return array.astype(np.uint64)


def _own_weights(array: npt.NDArray[Any], count: int) -> npt.NDArray[np.float64]:
    if array.shape != (count,):
        raise ValueError(f"weights must have shape ({count},) as the keys, got {array.shape}")
    if array.size and array.dtype.kind not in "iuf":
        raise TypeError(f"weights must be real numbers, got {array.dtype}")
    own = array.astype(np.float64)
    if not np.isfinite(own).all():
        at = int(np.argmin(np.isfinite(own)))
        raise ValueError(f"weights must be finite, got {own[at]} at {at}")
    return own
