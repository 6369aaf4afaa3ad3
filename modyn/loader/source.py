"""What a loader reads, in a form that other processes can be given.

A mapping belongs to the process that made it.  A child of a fork inherits it and reads on; any
other process is given names, and opens for itself when it first reads.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from modyn import _core
from modyn.trainset import TrainingSet

__all__ = ["Samples", "Source"]

PLACES_MAX = 4096  # of which the fingerprint of keys is made


class Source:
    """A view of a dataset.

    Pickled it is the path of the dataset, its uuid and how many samples the view shows.  What
    another process opens has these samples under these keys, less those erased since.
    """

    def __init__(self, view: _core.View) -> None:
        self._view: _core.View | None = view
        self._path = view.path
        self.uuid = view.uuid.hex()
        self._count = view.count

    @property
    def view(self) -> _core.View:
        """The view; the dataset is opened if this process has none."""
        if self._view is None:
            self._view = self._open()
        return self._view

    def _open(self) -> _core.View:
        from modyn.dataset import Dataset

        with Dataset.open(self._path) as dataset:
            view = dataset.view
        if view.uuid.hex() != self.uuid:
            raise ValueError(
                f"{self._path} is another dataset than when the loader was pickled: "
                f"uuid {view.uuid.hex()}, was {self.uuid}"
            )
        if view.count < self._count:
            raise ValueError(
                f"{self._path} has {view.count} samples, had {self._count} when the loader "
                "was pickled"
            )
        return view

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_view": None}


class Samples:
    """Keys and weights in the order of a loader.

    Pickled a training set is its path and digest; keys of a caller travel as they are.
    """

    def __init__(
        self,
        keys: npt.NDArray[np.uint64],
        weights: npt.NDArray[np.float64] | None,
        chosen: TrainingSet | None = None,
    ) -> None:
        self._arrays: _Arrays | None = keys, weights
        self._path = None if chosen is None else os.path.abspath(chosen.path)
        self._digest = None if chosen is None else chosen.digest
        self.ascending = chosen is not None  # as the keys of every training set are
        self.count = len(keys)

    @property
    def keys(self) -> npt.NDArray[np.uint64]:
        return self._own()[0]

    @property
    def weights(self) -> npt.NDArray[np.float64] | None:
        return self._own()[1]

    def fingerprint(self) -> str:
        """Return what tells these samples from others.

        That is the digest of a training set.  Of keys and weights of a caller it is one of up to
        4,096 of them, evenly spaced, so that it costs nothing.
        """
        if self._digest is None:
            self._digest = _digest_of(self.keys, self.weights)
        return self._digest

    def _own(self) -> _Arrays:
        if self._arrays is None:
            assert self._path is not None  # noqa: S101  only such are pickled without
            chosen = TrainingSet.open(self._path)
            if chosen.digest != self._digest:
                raise ValueError(
                    f"{self._path} is another training set than when the loader was pickled: "
                    f"digest {chosen.digest}, was {self._digest}"
                )
            self._arrays = chosen.keys, chosen.weights
        return self._arrays

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ if self._path is None else {**self.__dict__, "_arrays": None}


_Arrays = tuple[npt.NDArray[np.uint64], npt.NDArray[np.float64] | None]


def _digest_of(keys: npt.NDArray[np.uint64], weights: npt.NDArray[np.float64] | None) -> str:
    count = len(keys)
    places = np.arange(min(count, PLACES_MAX))
    if count > PLACES_MAX:
        places = places * (count - 1) // (PLACES_MAX - 1)
    hashed = hashlib.blake2b(count.to_bytes(8, "little"), digest_size=16)
    hashed.update(keys[places].astype("<u8").tobytes())
    if weights is not None:
        hashed.update(weights[places].astype("<f8").tobytes())
    return hashed.hexdigest()
