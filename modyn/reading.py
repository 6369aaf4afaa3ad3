"""Samples by key: into new arrays, into those of the caller, or where they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.inputs import Field, Ragged, as_keys

if TYPE_CHECKING:
    from modyn.dataset import Dataset

__all__ = ["fetch", "views"]

Place = npt.NDArray[Any] | Ragged


def fetch(
    dataset: Dataset,
    keys: npt.ArrayLike,
    *,
    fields: Sequence[str] | None = None,
    out: Mapping[str, Place] | None = None,
    threads: int = 1,
) -> dict[str, Place]:
    """Return the samples of `keys`, one array per field, in the order asked for.

    Parameters
    ----------
    keys : uint64, shape (n,)
        In any order; repeats are allowed.
    fields : sequence of str, optional
        Fields to read; all by default.
    out : mapping of field name to array or Ragged, optional
        Arrays to fill instead of new ones: C-contiguous, of the dtype of
        the field and shape (n, *shape of the field). For a bytes field a
        Ragged: n + 1 offsets, and values with room for the payloads, or
        more; the answer is a Ragged over the part that was filled.
    threads : int
        How many threads copy; the result is the same for any number.

    Raises
    ------
    KeyError
        There is no sample with a key.
    CorruptError
        Stored bytes that were asked for are damaged.
    """
    numbers = as_keys(keys)
    view, schema = dataset.view, dataset._fields
    result: dict[str, Place] = {}
    targets: list[tuple[int, npt.NDArray[Any], npt.NDArray[np.int64] | None]] = []
    for field in _chosen(schema, fields, out):
        index = schema.index(field)
        given = None if out is None else out.get(field.name)
        if field.dtype is None:
            ragged = _place_payloads(view, index, field.name, numbers, given)
            result[field.name] = ragged
            targets.append((index, ragged.values, ragged.offsets))
        else:
            array = _place_array(field, field.dtype, len(numbers), given)
            result[field.name] = array
            targets.append((index, array, None))
    view.fetch(numbers, tuple(targets), None, None, threads)
    return result


def views(dataset: Dataset, keys: npt.ArrayLike, field: str) -> list[npt.NDArray[np.uint8]]:
    """Return the payloads of a bytes field where they are, without a copy.

    Worth it for payloads of many kilobytes, which are decoded or looked at once: a copy
    costs more than the look. An array stays what it is as long as somebody holds it,
    whatever becomes of the dataset and its handles, and keeps the mapped files alive;
    also when its sample is erased later, which no view made after that shows.

    Parameters
    ----------
    keys : uint64, shape (n,)
        In any order; repeats are allowed.
    field : str
        A field of bytes, of a dataset that is not compressed.

    Returns
    -------
    list of uint8 arrays, read-only, one per key

    Raises
    ------
    KeyError
        There is no sample with a key.
    CorruptError
        Stored bytes that were asked for are damaged.
    ValueError
        The field is not bytes, or payloads are compressed.

    Examples
    --------
    >>> import tempfile
    >>> from modyn import Dataset
    >>> dataset = Dataset.create(tempfile.mkdtemp(), schema={"x": "bytes"}, labels=False)
    >>> keys = dataset.append({"x": [b"one", b"three"]}, timestamps=[1, 2])
    >>> [bytes(view) for view in dataset.views([1, 0], "x")]
    [b'three', b'one']
    """
    numbers = as_keys(keys)
    schema = dataset._fields
    (chosen,) = _chosen(schema, [field], None)
    if chosen.dtype is not None:
        raise ValueError(f"field {field!r} is {chosen.dtype}, not bytes: fetch copies it")
    return dataset.view.payloads(numbers, schema.index(chosen))


def _chosen(
    schema: Sequence[Field], names: Sequence[str] | None, out: Mapping[str, Place] | None
) -> list[Field]:
    """Return the fields that are to be read, all of which there are."""
    by_name = {field.name: field for field in schema}
    chosen = list(by_name) if names is None else list(dict.fromkeys(names))
    for name in [*chosen, *(out or ())]:
        if name not in by_name:
            raise ValueError(f"field {name!r} is not in the schema; it has {list(by_name)}")
    for name in out or ():
        if name not in chosen:
            raise ValueError(f"out has field {name!r}, which is not among those to be read")
    return [by_name[name] for name in chosen]


def _place_array(field: Field, dtype: np.dtype[Any], count: int, given: object) -> npt.NDArray[Any]:
    """Return where the values of a field go that are all of one size."""
    shape = (count, *field.shape)
    if given is None:
        return np.empty(shape, dtype)
    if not isinstance(given, np.ndarray):
        raise TypeError(f"out[{field.name!r}] must be a NumPy array, got {type(given)}")
    if given.dtype != dtype or given.shape != shape:
        raise ValueError(
            f"out[{field.name!r}] must be {dtype}{list(shape)}, "
            f"got {given.dtype}{list(given.shape)}"
        )
    if not given.flags.c_contiguous or not given.flags.writeable:
        raise ValueError(f"out[{field.name!r}] must be C-contiguous and writable")
    return given


def _place_payloads(
    view: _core.View, index: int, name: str, keys: npt.NDArray[np.uint64], given: object
) -> Ragged:
    """Return where the payloads of a bytes field go: their offsets are there already."""
    count = len(keys) + 1
    if given is None:
        offsets = np.empty(count, np.int64)
        view.offsets(keys, index, offsets)
        return Ragged(np.empty(offsets[-1], np.uint8), offsets)
    if not isinstance(given, Ragged):
        raise TypeError(f"out[{name!r}] must be a Ragged for a bytes field, got {type(given)}")
    _check_room(f"out[{name!r}].values", given.values, np.uint8, None)
    _check_room(f"out[{name!r}].offsets", given.offsets, np.int64, count)
    view.offsets(keys, index, given.offsets)
    needed = int(given.offsets[-1])
    if needed > len(given.values):
        raise ValueError(
            f"out[{name!r}].values has room for {len(given.values)} bytes, "
            f"the payloads of these keys are {needed}"
        )
    return Ragged(given.values[:needed], given.offsets)


def _check_room(what: str, array: object, dtype: type[np.generic], count: int | None) -> None:
    """Refuse an array that cannot be filled in place."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{what} must be a NumPy array, got {type(array)}")
    length = "n" if count is None else str(count)
    if array.dtype != dtype or array.ndim != 1 or count not in (None, len(array)):
        raise ValueError(
            f"{what} must be {np.dtype(dtype)}[{length}], got {array.dtype}{list(array.shape)}"
        )
    if not array.flags.c_contiguous or not array.flags.writeable:
        raise ValueError(f"{what} must be C-contiguous and writable")
