"""What callers hand over, as the arrays that the core takes, or a clear refusal."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "Field",
    "Ragged",
    "as_column",
    "as_int64",
    "as_keys",
    "as_timestamps",
    "check_names",
    "schema_text",
    "segment_shift",
]

INT64 = np.iinfo(np.int64)


@dataclass(frozen=True, eq=False)
class Ragged:
    """Payloads of a bytes field, back to back.

    Parameters
    ----------
    values : uint8, shape (offsets[-1],)
        All payloads, one after the other.
    offsets : int64, shape (n + 1,), ascending from 0
        Payload i is `values[offsets[i]:offsets[i + 1]]`.

    Examples
    --------
    >>> words = Ragged.pack([b"ab", b"", b"c"])
    >>> len(words), words[0], list(words)
    (3, b'ab', [b'ab', b'', b'c'])
    """

    values: npt.NDArray[np.uint8]
    offsets: npt.NDArray[np.int64]

    @classmethod
    def pack(cls, payloads: Sequence[bytes]) -> Ragged:
        """Return the payloads laid back to back."""
        lengths = np.fromiter((len(p) for p in payloads), np.int64, len(payloads))
        offsets = np.zeros(len(payloads) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return cls(np.frombuffer(b"".join(payloads), np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        if not -len(self) <= index < len(self):
            raise IndexError(f"payload {index} of {len(self)}")
        index %= len(self)
        return self.values[self.offsets[index] : self.offsets[index + 1]].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True)
class Field:
    """One field of a schema; dtype is None for bytes."""

    name: str
    type: str
    dtype: np.dtype[Any] | None
    shape: tuple[int, ...]

    @classmethod
    def parse(cls, line: str) -> Field:
        """Read a line of the core's canonical schema text."""
        name, kind = line.split(": ")
        scalar, _, extents = kind.rstrip("]").partition("[")
        shape = tuple(int(extent) for extent in extents.split(",")) if extents else ()
        return cls(name, kind, None if kind == "bytes" else np.dtype(scalar), shape)


def schema_text(schema: Mapping[str, str]) -> str:
    """Return a schema as the core reads it: a line per field."""
    for name, kind in schema.items():
        if not isinstance(name, str) or not isinstance(kind, str):
            raise TypeError(f"schema: field {name!r} and its type {kind!r} must be str")
        if "\n" in name + kind or "\0" in name + kind:
            raise ValueError(f"schema: field {name!r}: {kind!r} holds a line end or NUL")
    return "".join(f"{name}: {kind}\n" for name, kind in schema.items())


def segment_shift(records: int | None) -> int:
    """Return the binary logarithm of the records per file; 0 leaves it to the core."""
    if records is None:
        return 0
    shift = records.bit_length() - 1
    if not 13 <= shift <= 30 or records != 1 << shift:
        raise ValueError(
            f"segment_records must be a power of two from 8192 to 2**30, got {records}"
        )
    return shift


def check_names(schema: Sequence[Field], given: Mapping[str, Any]) -> None:
    """Refuse values of fields that there are not, and fields without values."""
    names = [field.name for field in schema]
    for name in given:
        if name not in names:
            raise ValueError(f"field {name!r} is not in the schema; it has {names}")
    for name in names:
        if name not in given:
            raise ValueError(f"field {name!r} is missing; got {list(given)}")


def _as_array(name: str, value: Any) -> npt.NDArray[Any]:
    """Return `value` as an array, without a copy where it has memory of its own."""
    if isinstance(value, np.ndarray):
        return value
    try:
        if hasattr(value, "__dlpack__"):
            return np.from_dlpack(value)
        return np.asarray(value)
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise TypeError(f"{name} cannot be read as an array: {error}") from error


def _has_dtype(value: Any) -> bool:
    """Whether the values have a type of their own, or are Python numbers."""
    return not isinstance(value, list | tuple | range)


def _first(wrong: npt.NDArray[np.bool_]) -> int:
    """Return the first row in which something is wrong."""
    return int(np.flatnonzero(wrong.reshape(len(wrong), -1).any(axis=1))[0])


def as_column(
    field: Field, value: Any, count: int
) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64] | None]:
    """Return one column of an append, as the core takes it."""
    if field.dtype is None:
        ragged = _ragged(field.name, value)
        if len(ragged) != count:
            raise ValueError(f"field {field.name!r}: {len(ragged)} payloads for {count} timestamps")
        return ragged.values, ragged.offsets
    array = _as_array(f"field {field.name!r}", value)
    if array.size == 0 and count == 0 and not _has_dtype(value):
        array = np.empty((0, *field.shape), field.dtype)
    if array.shape != (count, *field.shape):
        raise ValueError(
            f"field {field.name!r}: expected shape {(count, *field.shape)} for {count} "
            f"timestamps, got {array.shape}"
        )
    cast = _cast(field.name, field.dtype, array, _has_dtype(value))
    return np.ascontiguousarray(cast), None


def _cast(
    name: str, dtype: np.dtype[Any], array: npt.NDArray[Any], has_dtype: bool
) -> npt.NDArray[Any]:
    if array.dtype == dtype and array.dtype.isnative:
        return array
    if np.can_cast(array.dtype, dtype, "safe"):
        return array.astype(dtype)
    if not has_dtype and array.dtype.kind in "iuf" and dtype.kind in "iufc":
        return _cast_numbers(name, dtype, array)
    raise TypeError(
        f"field {name!r}: {array.dtype} does not cast safely to {dtype}; "
        f"convert it first, if that is meant"
    )


def _cast_numbers(name: str, dtype: np.dtype[Any], array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Turn Python numbers into what the schema says, if they have that value."""
    with np.errstate(all="ignore"):
        cast = array.astype(dtype)
    if dtype.kind in "iu" and array.dtype.kind in "iu":
        limits = np.iinfo(dtype)
        same = (array >= limits.min) & (array <= limits.max)
    elif dtype.kind in "iu":
        same = np.zeros(array.shape, np.bool_)  # a float is not meant as an integer
    elif array.dtype.kind == "f":
        same = np.isfinite(cast) | ~np.isfinite(array)  # rounding is what floats do
    else:
        same = cast == array
    if not same.all():
        row = _first(~same)
        raise ValueError(f"field {name!r}, row {row}: {array[row].tolist()} is no {dtype}")
    return cast


def _ragged(name: str, value: Any) -> Ragged:
    """Return the payloads of a bytes field, in whatever form they come."""
    if isinstance(value, Ragged):
        return Ragged(
            np.ascontiguousarray(value.values, np.uint8),
            np.ascontiguousarray(value.offsets, np.int64),
        )
    if isinstance(value, (str, bytes, bytearray, memoryview)):
        raise TypeError(f"field {name!r} needs a sequence of bytes, got {type(value).__name__}")
    if isinstance(value, np.ndarray) and value.dtype.kind != "O":
        raise TypeError(
            f"field {name!r} needs a sequence of bytes or a Ragged, got an array of {value.dtype}"
        )
    payloads = []
    for row, payload in enumerate(value):
        if not isinstance(payload, (bytes, bytearray, memoryview)):
            raise TypeError(
                f"field {name!r}, row {row}: expected bytes, got {type(payload).__name__}"
            )
        payloads.append(bytes(payload))
    return Ragged.pack(payloads)


def as_timestamps(value: Any, unit: str) -> npt.NDArray[np.int64]:
    """Return timestamps in this unit, of integers or of datetime64."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "M":
        if np.isnat(value).any():
            raise ValueError(f"timestamps, row {_first(np.isnat(value))}: not a time")
        cast = value.astype(f"datetime64[{unit}]")
        if not (cast == value).all():
            row = _first(cast != value)
            raise ValueError(f"timestamps, row {row}: {value[row]} is no whole number of {unit}")
        value = cast.astype(np.int64)
    return as_int64("timestamps", value)


def as_int64(name: str, value: Any) -> npt.NDArray[np.int64]:
    """Return labels or timestamps, refusing what int64 does not hold exactly."""
    array = _as_array(name, value)
    if array.ndim != 1:
        raise ValueError(f"{name}: expected shape (n,), got {array.shape}")
    if not _has_dtype(value) and (array.size == 0 or _has_rounded(array)):
        array = np.array(value, object)
    if array.dtype.kind == "O":
        array = _from_objects(name, array)
    if array.dtype.kind == "f":
        wrong = ~(np.isfinite(array) & (np.abs(array) < 2.0**53) & (np.trunc(array) == array))
    elif array.dtype.kind == "u":
        wrong = array > np.uint64(INT64.max)
    elif array.dtype.kind == "i" or (array.dtype.kind == "b" and name == "labels"):
        wrong = np.zeros(0, np.bool_)
    else:
        raise TypeError(f"{name}: expected integers, got {array.dtype}")
    if wrong.any():
        row = _first(wrong)
        raise ValueError(f"{name}, row {row}: {array[row]} is no integer of 64 bits")
    return np.ascontiguousarray(array, np.int64)


def _has_rounded(array: npt.NDArray[Any]) -> bool:
    """Return whether Python integers may have become floats of another value."""
    return array.dtype.kind == "f" and bool((np.abs(array) >= 2.0**53).any())


def _from_objects(name: str, array: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Convert Python numbers that no dtype holds together, or refuse what is none."""
    for row, number in enumerate(array.tolist()):
        if not isinstance(number, int | float):
            raise TypeError(f"{name}, row {row}: {number!r} is no integer")
        whole = isinstance(number, int) or (abs(number) < 2.0**53 and number.is_integer())
        if not whole or not INT64.min <= number <= INT64.max:
            raise ValueError(f"{name}, row {row}: {number} is no integer of 64 bits")
    return array.astype(np.int64)


def _has_floats(values: Sequence[Any]) -> bool:
    return any(isinstance(value, float | np.floating) for value in values)


def as_keys(value: npt.ArrayLike, name: str = "keys") -> npt.NDArray[np.uint64]:
    """Return keys as uint64; a negative one is as unknown as one too large."""
    array = _as_array(name, value)
    if array.ndim != 1:
        raise ValueError(f"{name}: expected shape (n,), got {array.shape}")
    if array.size == 0:
        return np.empty(0, np.uint64)
    if array.dtype.kind == "f" and isinstance(value, list | tuple) and not _has_floats(value):
        # Python's numbers beside NumPy's, or beyond int64: together they became float64.
        numbers = [operator.index(key) for key in value]
        array = np.asarray(numbers, np.int64 if min(numbers) < 0 else np.uint64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name}: expected integers, got {array.dtype}")
    if array.dtype.kind == "i" and array.min() < 0:
        raise KeyError(f"no sample has {name[:-1]} {array.min()}")
    return np.ascontiguousarray(array, np.uint64)
