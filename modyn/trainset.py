"""Trigger training sets: which samples one trigger trains on, in a file that never changes."""

import os
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from modyn import _core

__all__ = ["TrainingSet"]


class TrainingSet:
    """The samples of one trigger and their weights, ascending by key, named by a digest.

    The file `<digest>.set` is mapped, and all of it was verified when it was opened. Equal
    choices have equal digests: what a model was trained on is told by 64 digits.

    Attributes
    ----------
    keys : uint64, shape (n,), ascending
        Read-only, over the mapped file.
    weights : float64, shape (n,), or None
        The same; None when every sample counts as 1.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> chosen = TrainingSet.write(folder, [9, 2, 5], weights=[1.0, 2.0, 0.5])
    >>> chosen.keys.tolist(), chosen.weights.tolist()
    ([2, 5, 9], [2.0, 0.5, 1.0])
    >>> chosen.digest[:8]
    'd2c0108c'
    >>> TrainingSet.open(chosen.path) == chosen
    True
    """

    def __init__(self, core: _core.TrainingSet) -> None:
        self._core = core
        self.keys: npt.NDArray[np.uint64] = core.keys
        self.weights: npt.NDArray[np.float64] | None = core.weights

    @classmethod
    def write(
        cls,
        directory: str | os.PathLike[str],
        keys: npt.ArrayLike,
        weights: npt.ArrayLike | None = None,
        *,
        dataset_uuid: str | None = None,
    ) -> "TrainingSet":
        """Write a training set into a directory, all or nothing and durably, and open it.

        When the directory holds that set already, and whole, nothing is written.

        Parameters
        ----------
        directory : path
            It exists.
        keys : integers >= 0, shape (n,)
            Each once, in any order; the file has them ascending.
        weights : float64, shape (n,), or None
            Of the keys as given; finite and not negative.
        dataset_uuid : str, 32 hexadecimal digits, or None
            Which dataset the keys name samples of; part of the digest.

        Raises
        ------
        TypeError
            For keys that are not integers.
        ValueError
            For a key that comes twice or is negative, a weight that is negative or not finite,
            and arrays of different length.
        OSError
            When the disk is full, the directory missing, and so on; no file is left behind.
        """
        key_array = _keys(keys)
        weight_array = None if weights is None else np.ascontiguousarray(weights, dtype=np.float64)
        if weight_array is not None and weight_array.shape != key_array.shape:
            raise ValueError(
                f"weights must have shape {key_array.shape} as keys, got {weight_array.shape}"
            )
        if np.any(key_array[1:] <= key_array[:-1]):
            order = np.argsort(key_array, kind="stable")
            key_array = key_array[order]
            weight_array = None if weight_array is None else weight_array[order]
        uuid = None if dataset_uuid is None else bytes.fromhex(dataset_uuid)
        digest = _core.TrainingSet.write(directory, key_array, weight_array, uuid)
        return cls.open(os.path.join(directory, f"{digest}.set"))

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "TrainingSet":
        """Map a training set file and verify all of it.

        Raises
        ------
        CorruptError
            For a file that is damaged, is not a training set, has another set's name, or is of a
            later version; the message names the file and what is wrong.
        OSError
            For a file that cannot be read.
        """
        return cls(_core.TrainingSet.open(path))

    @property
    def digest(self) -> str:
        """BLAKE2b-256 of identity, keys and weights: 64 hexadecimal digits."""
        return self._core.digest

    def choice(self) -> str:
        """Return BLAKE2b-256 of keys and weights alone: equal for copies of a dataset."""
        hashed = blake2b(self.keys.tobytes(), digest_size=32)
        if self.weights is not None:
            hashed.update(self.weights.tobytes())
        return hashed.hexdigest()

    @property
    def dataset_uuid(self) -> str | None:
        """The dataset's uuid, 32 hexadecimal digits; None when it was not given."""
        return self._core.uuid.hex() if any(self._core.uuid) else None

    @property
    def path(self) -> str:
        """Where the file was opened."""
        return self._core.path

    def __len__(self) -> int:
        return len(self._core)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TrainingSet) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        weighted = "" if self.weights is None else ", weighted"
        return f"TrainingSet({self.digest[:12]}, {len(self)} samples{weighted})"


def _keys(keys: npt.ArrayLike) -> npt.NDArray[np.uint64]:
    array: npt.NDArray[Any] = np.asarray(keys)
    if array.ndim != 1:
        raise ValueError(f"keys must have one dimension, got shape {array.shape}")
    if array.size == 0:
        return np.empty(0, dtype=np.uint64)
    if array.dtype.kind not in "iu":
        raise TypeError(f"keys must be integers, got {array.dtype}")
    if array.dtype.kind == "i" and array.min() < 0:
        raise ValueError(f"keys must not be negative, got {array.min()}")
    return np.ascontiguousarray(array, dtype=np.uint64)
