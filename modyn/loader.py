"""Feed chosen samples to a training loop, batch by batch, at memory speed.

A `Loader` is a plan: these samples of this dataset, in this order, so many to a
batch.  Iterating over it carries out one epoch: worker threads fill batches
ahead of the loop, and the loop sees them in an order that depends on the seed
and the epoch alone.

A batch is memory of its own, filled once.  It belongs to whoever took it: its
tensors may be written to, and stay valid as long as any of them is referred
to, also when the loader and the dataset are gone.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import numpy.typing as npt

from modyn import _core

if TYPE_CHECKING:
    import torch

    from modyn.dataset import Dataset, Ragged
    from modyn.trainset import TrainingSet

__all__ = ["Batch", "Batches", "Loader", "RaggedTensor"]

THREADS_MAX = 1024
PREFETCH_MAX = 4096


@dataclass(frozen=True)
class RaggedTensor:
    """A bytes field of a batch: all payloads back to back, and where they end.

    Attributes
    ----------
    values : torch.Tensor, uint8, shape (total,)
        The payloads, one after the other.
    offsets : torch.Tensor, int64, shape (n + 1,)
        Payload i is ``values[offsets[i]:offsets[i + 1]]``.
    """

    values: torch.Tensor
    offsets: torch.Tensor

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> torch.Tensor:
        """Return payload `index`, a view of `values`."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"payload {index} of {len(self)}")
        first = index % len(self)
        return self.values[int(self.offsets[first]) : int(self.offsets[first + 1])]

    def __iter__(self) -> Iterator[torch.Tensor]:
        return (self[index] for index in range(len(self)))


class Batch:
    """The samples of one training step: one tensor per field.

    ``batch["dense"]`` is a torch tensor over the memory of the batch, without a
    copy; a bytes field is a `RaggedTensor`.  ``len(batch)`` is how many samples
    it holds.  Batches come from a `Loader`.
    """

    __slots__ = ("_core", "_parts", "_tensors")

    def __init__(self, core: _core.Batch, parts: _Parts) -> None:
        self._core = core
        self._parts = parts
        self._tensors: dict[int, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self._core)

    def __repr__(self) -> str:
        return f"Batch({len(self)} samples: {', '.join(self.fields)})"

    @property
    def fields(self) -> tuple[str, ...]:
        """The names of the fields, in the order of the loader."""
        return tuple(self._parts.fields)

    def __contains__(self, name: object) -> bool:
        return name in self._parts.fields

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts.fields)

    def __getitem__(self, name: str) -> torch.Tensor | RaggedTensor:
        """Return a field as a tensor: n rows of the shape of the field."""
        part, is_bytes = self._parts.field(name)
        if is_bytes:
            return RaggedTensor(self._tensor(part), self._tensor(part + 1))
        return self._tensor(part)

    def tensors(self) -> dict[str, torch.Tensor | RaggedTensor]:
        """Return all fields by name, as for ``model(**batch.tensors())``."""
        return {name: self[name] for name in self}

    @property
    def keys(self) -> torch.Tensor:
        """The keys of the samples, uint64, shape (n,)."""
        return self._tensor(self._parts.own["keys"])

    @property
    def labels(self) -> torch.Tensor | None:
        """The labels, int64, shape (n,); None if the dataset has none."""
        part = self._parts.own.get("labels")
        return None if part is None else self._tensor(part)

    @property
    def weights(self) -> torch.Tensor | None:
        """The weights, float64, shape (n,); None if the loader has none."""
        part = self._parts.own.get("weights")
        return None if part is None else self._tensor(part)

    def numpy(self, name: str) -> npt.NDArray[Any] | Ragged:
        """Return a field as an array, without torch and without a copy.

        Parameters
        ----------
        name : str
            A field; or "keys", "labels" or "weights", unless a field has that
            name.

        Returns
        -------
        ndarray, or modyn.dataset.Ragged for a bytes field
        """
        if name not in self._parts.fields and name in self._parts.own:
            return np.asarray(self._core.part(self._parts.own[name]))
        part, is_bytes = self._parts.field(name)
        array = np.asarray(self._core.part(part))
        if not is_bytes:
            return array
        from modyn.dataset import Ragged

        return Ragged(array, np.asarray(self._core.part(part + 1)))

    def _tensor(self, part: int) -> torch.Tensor:
        tensor = self._tensors.get(part)
        if tensor is None:
            tensor = self._tensors[part] = _from_dlpack(self._core.part(part))
        return tensor


class Batches:
    """The batches of one epoch, in order: an iterator that holds threads.

    They are released when it is exhausted, closed, or no longer referred to.
    """

    def __init__(self, core: _core.Epoch, parts: _Parts) -> None:
        self._core = core
        self._parts = parts

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        return Batch(next(self._core), self._parts)

    def close(self) -> None:
        """Stop and join the worker threads; any number of times."""
        self._core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Loader:
    """Chosen samples of a dataset, in batches, for a training loop.

    ``for batch in loader`` runs the epoch `epoch`; `set_epoch` chooses another.
    The order of the samples depends on (the samples, seed, epoch) and on nothing
    else: threads and prefetch change the speed only.

    Parameters
    ----------
    dataset : Dataset or its view
        What it shows now is what the loader reads, also when it grows later.
    samples : TrainingSet, or integers of shape (n,)
        Keys, in the order in which they are to come; repeats are allowed.  A
        training set is read where it is mapped, anything else is copied.
    batch_size : int
        Samples per batch, at least 1; the last batch may have fewer.
    fields : sequence of str, optional
        Which fields a batch has, in which order; by default all of them.
    shuffle : "global" or False
        "global": the samples of an epoch come in an order drawn from all of them
        by a keyed permutation, a new one each epoch.
    seed, epoch : int
        Choose the permutation; 0 to 2**64 - 1.
    threads : int
        Workers that fill batches, at least 1.
    drop_last : bool
        Leave out a last batch of fewer samples.
    prefetch : int
        Batches filled or being filled ahead of the loop, at least 1.
    weights : float64, shape (n,), optional
        Travel with their samples; a training set brings its own.

    Raises
    ------
    KeyError
        While iterating, in place of the batch with a key that the dataset has
        not got, and after all batches before it.
    modyn.errors.CorruptError
        Likewise, for a sample whose stored bytes are damaged.
    modyn.errors.ClosedError
        In a forked child: threads and mappings belong to the process that made
        them.  Open the dataset and make a loader there.

    Examples
    --------
    >>> import numpy as np, tempfile, modyn
    >>> folder = tempfile.TemporaryDirectory()
    >>> schema = {"x": "float32[2]"}
    >>> clicks = modyn.Dataset.create(folder.name + "/clicks", schema=schema)
    >>> x = np.arange(10, dtype=np.float32).reshape(5, 2)
    >>> keys = clicks.append({"x": x}, labels=[0, 1, 0, 1, 1], timestamps=range(5))
    >>> loader = modyn.Loader(clicks, [4, 0, 2], batch_size=2)
    >>> [batch.numpy("x").tolist() for batch in loader]
    [[[8.0, 9.0], [0.0, 1.0]], [[4.0, 5.0]]]
    >>> [batch.numpy("labels").tolist() for batch in loader]
    [[1, 0], [0]]
    >>> clicks.close(); folder.cleanup()
    """

    def __init__(
        self,
        dataset: Dataset | _core.View,
        samples: TrainingSet | npt.ArrayLike,
        *,
        batch_size: int,
        fields: Sequence[str] | None = None,
        shuffle: Literal["global", False] = False,
        seed: int = 0,
        epoch: int = 0,
        threads: int = 2,
        drop_last: bool = False,
        prefetch: int = 4,
        weights: npt.ArrayLike | None = None,
    ) -> None:
        if shuffle is not False and shuffle != "global":
            raise ValueError(f'shuffle must be "global" or False, got {shuffle!r}')
        view = dataset if isinstance(dataset, _core.View) else dataset.view
        names = _field_names(view)
        keys, weights = _samples(samples, weights)
        self._threads = _number("threads", threads, 1, THREADS_MAX)
        self._prefetch = _number("prefetch", prefetch, 1, PREFETCH_MAX)
        self.set_epoch(epoch)
        self._core = _core.Loader(
            view,
            keys,
            weights,
            fields=_field_indices(fields, names),
            batch_size=_number("batch_size", batch_size, 1, 2**63 - 1),
            drop_last=bool(drop_last),
            shuffle=shuffle == "global",
            seed=_number("seed", seed, 0, 2**64 - 1),
        )
        self._parts = _Parts.of(self._core, names)

    def __len__(self) -> int:
        """Return how many batches an epoch has."""
        return len(self._core)

    @property
    def epoch(self) -> int:
        """The epoch that the next iteration runs."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration run this epoch; the one under way goes on."""
        self._epoch = _number("epoch", epoch, 0, 2**64 - 1)

    def __iter__(self) -> Batches:
        return self.batches()

    def batches(self, first: int = 0) -> Batches:
        """Return the batches of the epoch from number `first` on.

        An interrupted epoch goes on at its next batch without reading those
        before it.
        """
        core = self._core.begin(
            epoch=self._epoch,
            first=_number("first", first, 0, len(self)),
            threads=self._threads,
            depth=self._prefetch,
        )
        return Batches(core, self._parts)


@dataclass(frozen=True)
class _Parts:
    """Where the arrays of a batch are: its part numbers by name."""

    own: dict[str, int]  # keys, labels, weights
    fields: dict[str, tuple[int, bool]]  # of the first part; whether it is bytes

    @classmethod
    def of(cls, core: _core.Loader, names: list[str]) -> _Parts:
        parts = cls({}, {})
        for index, (kind, field) in enumerate(core.parts):
            if kind in ("field", "payloads"):
                parts.fields[names[field]] = index, kind == "payloads"
            elif kind != "offsets":  # they follow their payloads
                parts.own[kind] = index
        return parts

    def field(self, name: str) -> tuple[int, bool]:
        if name not in self.fields:
            raise KeyError(f"no field {name!r} in this batch; it has {', '.join(self.fields)}")
        return self.fields[name]


def _from_dlpack(part: _core.Tensor) -> torch.Tensor:
    try:
        from torch.utils.dlpack import from_dlpack
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "torch is needed for the tensors of a batch (pip install 'modyn[torch]'); "
            "batch.numpy(name) gives arrays without it",
            name="torch",
        ) from error
    tensor: torch.Tensor = from_dlpack(part)
    return tensor


def _number(name: str, value: int, low: int, high: int) -> int:
    """Return value as an int of this range; anything else is an error."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, got {value!r}") from None
    if not low <= number <= high:
        bounds = f"at least {low}" if number < low else f"at most {high}"
        raise ValueError(f"{name} must be {bounds}, got {number}")
    return number


def _field_names(view: _core.View) -> list[str]:
    return [line.partition(":")[0] for line in view.schema.splitlines()]


def _field_indices(fields: Sequence[str] | None, names: list[str]) -> tuple[int, ...]:
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


def _samples(
    samples: TrainingSet | npt.ArrayLike, weights: npt.ArrayLike | None
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64] | None]:
    """Return keys and weights that nobody will change."""
    from modyn.trainset import TrainingSet

    if isinstance(samples, TrainingSet):
        if weights is not None:
            raise ValueError("weights cannot be given for a training set, which has its own")
        return samples.keys, samples.weights
    keys = _own_keys(np.asarray(samples))
    return keys, None if weights is None else _own_weights(np.asarray(weights), len(keys))


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
