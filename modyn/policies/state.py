"""A policy's private attributes as JSON values, and back without a loss.

What JSON holds by itself travels as it is: None, bool, int, finite float, str, lists, and dicts
with str keys. NumPy numbers and arrays come back as NumPy numbers and arrays of the same dtype, and
floats such as nan and inf come back too; for these, JSON gets an object with a `$` name:

    {"$float": "inf"}
    {"$scalar": "<i8", "data": base64}
    {"$array": "<f4", "shape": [2, 3], "data": base64}

Anything else (tuples, sets, deques, generators, models) would come back as something different, so
it is refused with a message that names the attribute.
"""

import base64
import math
from typing import Any

import numpy as np

__all__ = ["decode", "encode"]

ADVICE = (
    "keep None, bool, int, float, str, lists, dicts with str keys, or NumPy numbers and arrays in "
    "private attributes, or override state_dict and load_state_dict"
)


def encode(value: object, name: str) -> Any:
    """Return `value` as new JSON values; `name` says in errors where it was found."""
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if type(value) is list:
        return [encode(item, f"{name}[{i}]") for i, item in enumerate(value)]
    if type(value) is dict:
        return {_key(key, name): encode(item, f"{name}[{key!r}]") for key, item in value.items()}
    if isinstance(value, np.generic) or type(value) is np.ndarray:
        return _encode_numpy(np.asarray(value), name, scalar=isinstance(value, np.generic))
    raise TypeError(f"{name} is a {type(value).__name__}, which JSON cannot hold: {ADVICE}")


def decode(value: Any) -> Any:
    """Return what `encode` was given."""
    if isinstance(value, list):
        return [decode(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "$float" in value:
        return float(value["$float"])
    for tag in ("$scalar", "$array"):
        if tag in value:
            data = base64.b64decode(value["data"])
            flat = np.frombuffer(data, dtype=np.dtype(value[tag]))
            return flat[0] if tag == "$scalar" else flat.reshape(value["shape"]).copy()
    return {key: decode(item) for key, item in value.items()}


def _key(key: object, name: str) -> str:
    if type(key) is not str or key.startswith("$"):
        raise TypeError(
            f"{name} has the key {key!r}: JSON needs keys that are str, and those with a leading $ "
            "are taken"
        )
    return key


def _encode_numpy(array: np.ndarray, name: str, *, scalar: bool) -> dict[str, Any]:
    if array.dtype.kind not in "biufcmM":
        raise TypeError(f"{name} has dtype {array.dtype}, which does not travel: {ADVICE}")
    data = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
    if scalar:
        return {"$scalar": array.dtype.str, "data": data}
    return {"$array": array.dtype.str, "shape": list(array.shape), "data": data}
