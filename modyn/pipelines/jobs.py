"""What a training is given: a job, its batches, and who looks on."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from modyn.downsampling import Downsampler
from modyn.pipelines.models import StoredModel
from modyn.pipelines.settings import Training

if TYPE_CHECKING:
    import torch

__all__ = ["Batch", "Batches", "Job", "Observer", "Samples", "Watch"]


class Batch(Protocol):
    """What training reads of a batch; arrays or tensors, one row per sample."""

    @property
    def keys(self) -> Any: ...
    @property
    def labels(self) -> Any: ...
    @property
    def weights(self) -> Any: ...
    def __len__(self) -> int: ...
    def __getitem__(self, field: str, /) -> Any: ...


class Batches(Protocol):
    """The batches of an epoch, in an order that depends on the epoch's number alone."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Batch]: ...
    def set_epoch(self, epoch: int, /) -> None: ...


class Samples(Protocol):
    """A training set of which any part can be had in batches, and as often as one likes."""

    @property
    def keys(self) -> npt.NDArray[np.uint64]:
        """Keys, ascending, shape (n,)."""

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """Labels, shape (n,)."""

    @property
    def weights(self) -> npt.NDArray[np.float64] | None:
        """Weights of the selection, shape (n,)."""

    def in_order(self, keys: npt.NDArray[np.uint64], /) -> Batches:
        """Return batches of these samples in this order, the last perhaps not full."""

    def to_train(
        self, keys: npt.NDArray[np.uint64], weights: npt.NDArray[np.float64] | None, /
    ) -> Batches:
        """Return batches of these samples, and these weights, as a training has them."""


class Watch(Protocol):
    """Somebody who looks on."""

    def epoch(self, index: int, epochs: int, /) -> None: ...
    def batch(self, done: int, total: int, /) -> None: ...


class Observer(Protocol):
    """Somebody who is shown what the model says of each batch, and changes nothing."""

    def epoch(self, index: int, /) -> None: ...
    def batch(
        self,
        batch: Batch,
        output: "torch.Tensor",
        labels: "torch.Tensor",
        each: "torch.nn.Module",
        /,
    ) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that decides the outcome of a training.

    Parameters
    ----------
    training : Training
        Settings.
    make_model : callable
        Makes a model with fresh weights.
    fields : tuple of str
        The fields of a sample; one goes to the model as it is, several go in by name.
    batches : Batches
        The training set.
    samples : int
        Its size.
    seed : int
        Below 2**63.
    to_pass : int, optional
        Samples to train on; then `batches` are those of so many, which is one round of them.
        Whole epochs if None.
    parent : StoredModel, optional
        Where to go on from.
    downsampling : Downsampler, optional
        Decides on which samples to train; on all if None.
    pool : Samples, optional
        The training set once more, for sample-then-batch.
    irreducible : callable, optional
        Returns the irreducible losses of samples, float32, shape (n,), by their keys.
    """

    training: Training
    make_model: Callable[[], "torch.nn.Module"]
    fields: tuple[str, ...]
    batches: Batches
    samples: int
    seed: int
    to_pass: int | None = None
    parent: StoredModel | None = None
    downsampling: Downsampler | None = None
    pool: Samples | None = None
    irreducible: Callable[[npt.NDArray[np.uint64]], npt.NDArray[np.float32]] | None = None

    @property
    def rounds(self) -> int:
        """How often all of `batches` are trained on."""
        return self.training.epochs_per_trigger if self.to_pass is None else 1

    @property
    def epochs(self) -> int:
        """How many epochs begin."""
        if self.to_pass is None:
            return self.training.epochs_per_trigger
        return -(-self.to_pass // self.samples)
