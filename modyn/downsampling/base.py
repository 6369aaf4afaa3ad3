"""What a downsampler is: it chooses on which samples to train while a model is trained.

    batch-then-sample   of each batch that comes, with the weights of the moment, `ratio` is kept;
                        what is kept is collected until it fills a batch, which is trained on
    sample-then-batch   at every `period`-th epoch, `ratio` of the whole training set is chosen,
                        and trained on until the next choice

The training loop makes a pool of the samples among which to choose, and asks `choose`.  A subclass
overrides `score`, where each sample's score follows from the sample and the model alone, or
`choose`, where samples matter to each other, or both.

* With `score`, pools of any size are scored piece by piece, and `choose` sees keys, labels and
  `pool.scores` only; by default it takes the highest scores, ties by key.
* With `choose` alone, it sees of all samples at once what `needs` names.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import torch

__all__ = ["Chosen", "Context", "Downsampler", "Pool"]

NEEDS = ("outputs", "losses", "gradients", "embeddings", "irreducible_losses", "history")


class Pool(Protocol):
    """Samples among which to choose, and what the model says of them, in eval mode.

    Tensors lie on the device of the training and belong to no graph.  What `needs` does not name
    is not there: asking for it is a ValueError that says so.
    """

    @property
    def keys(self) -> npt.NDArray[np.uint64]:
        """Keys, shape (n,)."""

    @property
    def labels(self) -> "torch.Tensor":
        """Labels, shape (n,)."""

    @property
    def outputs(self) -> "torch.Tensor":
        """What the model returns, shape (n, classes) or (n,)."""

    @property
    def losses(self) -> "torch.Tensor":
        """The loss of each sample, shape (n,)."""

    @property
    def gradients(self) -> "torch.Tensor":
        """Of each sample's loss with respect to its row of the outputs, shape (n, classes)."""

    @property
    def embeddings(self) -> "torch.Tensor":
        """What goes into the model's last linear layer, shape (n, width)."""

    @property
    def irreducible_losses(self) -> "torch.Tensor":
        """The losses of the model that was trained on the holdout, shape (n,) (RHO-LOSS)."""

    @property
    def history(self) -> Mapping[str, npt.NDArray[Any]]:
        """Of the batches trained on so far: "losses" (nan: none yet), "forgetting", shape (n,)."""

    @property
    def scores(self) -> "torch.Tensor":
        """What `score` answered, shape (n,)."""

    def __len__(self) -> int: ...


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The answer of `choose`.

    Parameters
    ----------
    rows : integers, shape (k,)
        Rows of the pool; one that is there twice is trained on twice as much.
    weights : float, shape (k,), or None
        How much each counts in the loss, so scaled that 1 is what a sample would count without
        downsampling; None weighs all alike.
    """

    rows: Any
    weights: Any = None


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where a training is; `random` is the only source of random numbers."""

    trigger: int = 0
    epoch: int = 0
    epochs: int = 1
    step: int = 0  # in batch-then-sample: which batch of the epoch
    seed: int = 0

    def random(self, purpose: int = 0) -> np.random.Generator:
        """Return a generator of this choice's own: a function of all of the context."""
        numbers = [self.seed, self.trigger, self.epoch, self.step, purpose]
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(numbers)))


@dataclass(kw_only=True)
class Downsampler:
    """Decides on which samples of a training set to train, with the model's help.

    Parameters
    ----------
    ratio : int
        The share to keep, in parts of `ratio_max`, from 1; of n samples max(floor(share * n), 1).
    ratio_max : int
        How many parts make the whole; 100 for percent.
    sample_then_batch : bool
        Choose from the whole training set, instead of from each batch.
    period : int
        With `sample_then_batch`: choose anew every so many epochs; 0: once.

    Examples
    --------
    Ten lines suffice for one of your own:

    >>> class HardestOfAll(Downsampler):
    ...     needs = ("losses",)
    ...
    ...     def score(self, pool):
    ...         return pool.losses
    """

    needs: ClassVar[tuple[str, ...]] = ("outputs",)

    ratio: int = 100
    ratio_max: int = 100
    sample_then_batch: bool = False
    period: int = 1

    def score(self, pool: Pool) -> "torch.Tensor":
        """Return one number for each sample, shape (n,); the highest are kept."""
        raise NotImplementedError(f"{type(self).__name__} does not define score()")

    def choose(self, pool: Pool, count: int, context: Context) -> Chosen:
        """Return on which `count` samples of the pool to train.

        Parameters
        ----------
        pool : Pool
            At least one sample.
        count : int
            1 <= count <= len(pool).
        context : Context
            Where the training is.
        """
        scores = pool.scores.detach().double().cpu().numpy()
        order = np.lexsort((pool.keys, -np.nan_to_num(scores, nan=-np.inf)))
        return Chosen(np.sort(order[:count]))
