"""What a downsampler is: it chooses on which samples to train while a model is trained.

    batch-then-sample   of each batch that comes, with the weights of the moment, `ratio` is kept;
                        what is kept is collected until it fills a batch, which is trained on
    sample-then-batch   at every `period`-th epoch, `ratio` of the whole training set is chosen,
                        and trained on until the next choice

The training loop makes a pool of the samples among which to choose, and asks `choose`.  A subclass
overrides `score`, where each sample's score follows from the sample and the model alone, or
`choose`, where samples matter to each other, or both.

* With `score`, pools of any size are scored piece by piece, and `choose` sees keys, labels,
  `pool.scores`, and `pool.history` where it is needed; by default it takes the highest scores,
  ties by key.
* With `choose` alone, it sees of all samples at once what `needs` names; where that is more than
  a number per sample, of at most `pool_samples` at once.
* With no needs, or "history" alone, no model looks at the samples for it.

Each training works with a copy of its own, so that what is kept in private attributes
(`self._name`) lasts from choice to choice and begins anew with the next training.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from modyn.policies.checked import check_integer, check_ratio

if TYPE_CHECKING:
    import torch

__all__ = ["Chosen", "Context", "Downsampler", "Pool"]

NEEDS = (
    *("outputs", "losses", "gradients", "embeddings"),
    *("parameter_norms", "irreducible_losses", "history"),
)
WIDE = ("outputs", "gradients", "embeddings")  # more than a number for each sample


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
    def parameter_norms(self) -> "torch.Tensor":
        """The norm of each sample's gradient with respect to all parameters, shape (n,)."""

    @property
    def irreducible_losses(self) -> "torch.Tensor":
        """The losses of the model that was trained on the holdout, shape (n,) (RHO-LOSS)."""

    @property
    def history(self) -> Mapping[str, npt.NDArray[Any]]:
        """What the batches trained on said, in train mode, arrays of shape (n,).

        "losses", float64: of the last time that the sample was trained on; nan: it was not yet.
        "forgetting", int32: how often it was right and then wrong; NEVER_LEARNED of
        `modyn.signals`: it was never right.  It is there where the criterion knows right and wrong.
        """

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
        downsampling; None weighs all alike.  They are taken as they are: the loss of a batch is
        sum(weight * loss) / length.
    """

    rows: Any
    weights: Any = None


@dataclass(frozen=True, kw_only=True)
class Context:
    """Where a training is; `random` is the only source of random numbers.

    It does not say which trigger it is: a training that two pipelines ask for is done once.
    """

    epoch: int = 0
    epochs: int = 1
    step: int = 0  # which batch of the epoch, or which block of the training set
    seed: int = 0  # of the training

    def random(self, purpose: int = 0) -> np.random.Generator:
        """Return a generator of this choice's own: a function of all of the context."""
        numbers = [self.seed, self.epoch, self.step, purpose]
        return np.random.Generator(np.random.Philox(np.random.SeedSequence(numbers)))


@dataclass(kw_only=True)
class Downsampler:
    """Decides on which samples of a training set to train, with the model's help.

    Parameters
    ----------
    ratio : int
        The share to keep, in parts of `ratio_max`, from 1: max(floor(n * share), 1) of n samples.
    ratio_max : int
        How many parts make the whole; 100 for percent.
    sample_then_batch : bool
        Choose from the whole training set, instead of from each batch.
    period : int
        With `sample_then_batch`: choose anew every so many epochs; 0: once.
    balance : bool
        With `sample_then_batch`: choose within each class, the same share of each and at least
        one sample.  Where there are weights, a class counts as much as it has samples.
    normalise : bool
        Divide the weighted loss of a batch by the sum of the weights instead of by the length.
    pool_samples : int
        With `sample_then_batch`: how many samples `choose` sees at once, where it is given more
        of each than a number; more are cut into blocks, each of which has its share.

    Examples
    --------
    Ten lines suffice for one of your own:

    >>> class HardestOfAll(Downsampler):
    ...     needs = ("losses",)
    ...
    ...     def score(self, pool):
    ...         return pool.losses
    >>> HardestOfAll(ratio=50)
    HardestOfAll(ratio=50, ratio_max=100, sample_then_batch=False, period=1, balance=False, \
normalise=False, pool_samples=65536)
    """

    exact: ClassVar[bool] = True  # False: `choose` may answer with more or fewer than `count`

    ratio: int = 100
    ratio_max: int = 100
    sample_then_batch: bool = False
    period: int = 1
    balance: bool = False
    normalise: bool = False
    pool_samples: int = 65_536

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def needs(self) -> tuple[str, ...]:
        """What of a pool is looked at; a class attribute, or a property, of a subclass."""
        return ("outputs",)

    def share(self, count: int) -> int:
        """Return how many of `count` samples are kept: max(floor(count * ratio), 1)."""
        return max(count * self.ratio // self.ratio_max, 1)

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
        return Chosen(highest(pool.scores.detach().double().cpu().numpy(), pool.keys, count))


def highest(
    scores: npt.NDArray[np.float64], keys: npt.NDArray[np.uint64], count: int
) -> npt.NDArray[np.int64]:
    """Return the rows of the `count` highest scores, ascending; ties by key, nan last.

    Examples
    --------
    >>> highest(np.array([1.0, 3.0, 2.0, 2.0]), np.array([9, 8, 7, 6], dtype=np.uint64), 2)
    array([1, 3])
    """
    low = np.where(np.isnan(scores), np.inf, -scores)
    border = np.partition(low, count - 1)[count - 1]
    above, equal = np.flatnonzero(low < border), np.flatnonzero(low == border)
    missing = count - len(above)
    if missing < len(equal):
        equal = equal[np.argsort(keys[equal], kind="stable")[:missing]]
    return np.sort(np.concatenate([above, equal]))


def check_settings(downsampler: Downsampler) -> None:
    """Refuse what no downsampler can be told, and needs that there are not.

    Raises
    ------
    TypeError
        For numbers that are no int.
    ValueError
        Which names the parameter.
    """
    check_integer("ratio_max", downsampler.ratio_max, 1)
    check_integer("ratio", downsampler.ratio, 1)
    check_integer("period", downsampler.period, 0)
    check_integer("pool_samples", downsampler.pool_samples, 1)
    check_ratio(downsampler.ratio, downsampler.ratio_max)
    if downsampler.balance and not downsampler.sample_then_batch:
        raise ValueError("balance needs sample_then_batch: a batch has too few of each class")
    for name in downsampler.needs:
        if name not in NEEDS:
            raise ValueError(f"needs must be of {', '.join(NEEDS)}, got {name!r}")


def has_score(downsampler: Downsampler) -> bool:
    """Return whether a downsampler scores sample by sample."""
    return type(downsampler).score is not Downsampler.score
