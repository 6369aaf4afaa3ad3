"""The samples of a training set as a training reads them."""

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from modyn.dataset import Dataset
from modyn.loader import Loader, Waits
from modyn.pipelines.settings import Training
from modyn.trainset import TrainingSet

__all__ = ["ChosenSamples", "loader_of"]

PREFETCH = 4  # batches; more of small ones, whose workers would sleep and wake all the time
SMALL_BATCH = 4096


def loader_of(
    dataset: Dataset,
    samples: TrainingSet | npt.NDArray[np.uint64],
    training: Training,
    *,
    seed: int,
    to_pass: int | None = None,
    weights: npt.NDArray[np.float64] | None = None,
) -> Loader:
    """Return the batches of a training: shuffled, and cut, as its settings say."""
    rows = len(samples) if to_pass is None else to_pass
    return Loader(
        dataset,
        samples,
        shuffle="global" if training.shuffle is True else training.shuffle,
        partition_size=training.partition_size,
        num_samples_to_pass=to_pass,
        seed=seed,
        drop_last=training.drop_last_batch and rows >= training.batch_size,
        weights=weights,
        **_reading(training),
    )


def _reading(training: Training) -> dict[str, Any]:
    """Return what of a loader decides how fast it is, and the size of its batches."""
    return {
        "batch_size": training.batch_size,
        "threads": training.dataloader_workers,
        "num_prefetched_partitions": training.num_prefetched_partitions,
        "parallel_prefetch_requests": training.parallel_prefetch_requests,
        "prefetch": PREFETCH if training.batch_size > SMALL_BATCH else 4 * PREFETCH,
    }


class ChosenSamples:
    """A training set of which any part can be had in batches.

    Parameters
    ----------
    dataset : Dataset
    chosen : TrainingSet
    training : Training
        Size and order of batches.
    seed : int
        Of their order.
    """

    def __init__(
        self, dataset: Dataset, chosen: TrainingSet, training: Training, seed: int
    ) -> None:
        self._dataset = dataset
        self._training = training
        self._seed = seed
        self._loader: Loader | None = None  # the newest; those before it are done
        self._waits = Waits()  # of those
        self.keys = chosen.keys
        self.weights = chosen.weights

    @cached_property
    def labels(self) -> npt.NDArray[np.int64]:
        """Labels, shape (n,)."""
        labels = self._dataset.labels
        if labels is None:
            raise ValueError(f"{self._dataset.path}: the dataset has no labels")
        return np.asarray(labels[self.keys])

    def in_order(self, keys: npt.NDArray[np.uint64]) -> Loader:
        """Return batches of these samples in this order."""
        return self._noted(Loader(self._dataset, keys, **_reading(self._training)))

    def to_train(
        self, keys: npt.NDArray[np.uint64], weights: npt.NDArray[np.float64] | None
    ) -> Loader:
        """Return batches of these samples, and these weights, as a training has them."""
        loader = loader_of(self._dataset, keys, self._training, seed=self._seed, weights=weights)
        return self._noted(loader)

    @property
    def waits(self) -> Waits:
        """Who waited for whom in all of these batches."""
        return self._waits if self._loader is None else self._waits + self._loader.waits

    def _noted(self, loader: Loader) -> Loader:
        self._waits = self.waits
        self._loader = loader
        return loader
