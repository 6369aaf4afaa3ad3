"""A pool of arrays: what the training loop makes, and tests and notebooks by hand."""

import copy
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn.downsampling.base import NEEDS

if TYPE_CHECKING:
    import torch

__all__ = ["ArrayPool"]


class ArrayPool:
    """A pool of given arrays or tensors; what is not given is not there.

    Parameters
    ----------
    keys : integers, shape (n,)
    labels : numbers, shape (n,), optional
    outputs, losses, gradients, embeddings, parameter_norms, irreducible_losses, scores : optional
        As in `Pool`; n rows each.
    history : mapping of str to array, optional
        Each of shape (n,).

    Raises
    ------
    ValueError
        When they differ in length; later, when something is asked for that was not given.

    Examples
    --------
    >>> pool = ArrayPool(keys=[4, 7], labels=[0, 1], losses=[0.5, 0.25])
    >>> len(pool), pool.losses.tolist()
    (2, [0.5, 0.25])
    >>> pool.outputs
    Traceback (most recent call last):
    ...
    ValueError: this pool has no outputs: name them in needs
    """

    def __init__(
        self,
        *,
        keys: npt.ArrayLike,
        labels: Any = None,
        outputs: Any = None,
        losses: Any = None,
        gradients: Any = None,
        embeddings: Any = None,
        parameter_norms: Any = None,
        irreducible_losses: Any = None,
        scores: Any = None,
        history: Mapping[str, npt.NDArray[Any]] | None = None,
    ) -> None:
        self._keys = np.asarray(keys, dtype=np.uint64)
        self._given = {
            "labels": labels,
            "outputs": outputs,
            "losses": losses,
            "gradients": gradients,
            "embeddings": embeddings,
            "parameter_norms": parameter_norms,
            "irreducible_losses": irreducible_losses,
            "scores": scores,
        }
        self._history = history
        for name, value in self._all().items():
            if value is not None and len(value) != len(self._keys):
                raise ValueError(f"{name} has {len(value)} rows, keys has {len(self._keys)}")

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def keys(self) -> npt.NDArray[np.uint64]:
        """Keys, shape (n,)."""
        return self._keys

    @property
    def labels(self) -> "torch.Tensor":
        """Labels, shape (n,)."""
        return self._tensor("labels")

    @property
    def outputs(self) -> "torch.Tensor":
        """What the model returns, shape (n, classes) or (n,)."""
        return self._tensor("outputs")

    @property
    def losses(self) -> "torch.Tensor":
        """The loss of each sample, shape (n,)."""
        return self._tensor("losses")

    @property
    def gradients(self) -> "torch.Tensor":
        """Of each sample's loss with respect to its row of the outputs, shape (n, classes)."""
        return self._tensor("gradients")

    @property
    def embeddings(self) -> "torch.Tensor":
        """What goes into the model's last linear layer, shape (n, width)."""
        return self._tensor("embeddings")

    @property
    def parameter_norms(self) -> "torch.Tensor":
        """The norm of each sample's gradient with respect to all parameters, shape (n,)."""
        return self._tensor("parameter_norms")

    @property
    def irreducible_losses(self) -> "torch.Tensor":
        """The losses of the model that was trained on the holdout, shape (n,)."""
        return self._tensor("irreducible_losses")

    @property
    def scores(self) -> "torch.Tensor":
        """What `score` answered, shape (n,)."""
        return self._tensor("scores")

    @property
    def history(self) -> Mapping[str, npt.NDArray[Any]]:
        """What the batches trained on said; see `Pool`."""
        if self._history is None:
            raise ValueError("this pool has no history: name it in needs")
        return MappingProxyType(dict(self._history))

    def part(self, first: int, last: int) -> "ArrayPool":
        """Return a pool of the rows from `first` to before `last`."""
        rows = slice(first, last)
        given = {n: None if v is None else v[rows] for n, v in self._given.items()}
        history = None if self._history is None else {n: v[rows] for n, v in self._history.items()}
        return ArrayPool(keys=self._keys[rows], history=history, **given)

    @classmethod
    def joined(cls, pools: "Sequence[ArrayPool]") -> "ArrayPool":
        """Return one pool of several that have the same."""
        import torch

        first = pools[0]
        names = [name for name, value in first._given.items() if value is not None]
        history = None
        if first._history is not None:
            history = {n: np.concatenate([p.history[n] for p in pools]) for n in first._history}
        return cls(
            keys=np.concatenate([pool.keys for pool in pools]),
            history=history,
            **{name: torch.cat([pool._tensor(name) for pool in pools]) for name in names},
        )

    def only(self, names: Collection[str]) -> "ArrayPool":
        """Return a pool with keys, labels and these needs alone."""
        given = {n: v for n, v in self._given.items() if n == "labels" or n in names}
        return ArrayPool(
            keys=self._keys, history=self._history if "history" in names else None, **given
        )

    def scored(self, scores: "torch.Tensor") -> "ArrayPool":
        """Return a pool as `choose` sees it after `score`: keys, labels, history and scores."""
        return ArrayPool(
            keys=self._keys,
            labels=self._given["labels"],
            scores=scores,
            history=self._history,
        )

    def copy(self) -> "ArrayPool":
        """Return a pool with arrays of its own."""
        return copy.deepcopy(self)

    def same(self, other: "ArrayPool") -> bool:
        """Return whether all that this pool has is as another one has it."""
        mine, theirs = self._all(), other._all()
        return all(
            np.array_equal(np.asarray(value), np.asarray(theirs[name]), equal_nan=name != "keys")
            for name, value in mine.items()
            if value is not None
        )

    def _all(self) -> dict[str, Any]:
        history = {f"history {name}": value for name, value in (self._history or {}).items()}
        return {"keys": self._keys, **self._given, **history}

    def _tensor(self, name: str) -> "torch.Tensor":
        import torch

        value = self._given[name]
        if value is None:
            if name not in NEEDS:
                raise ValueError(f"this pool has no {name}")
            raise ValueError(f"this pool has no {name}: name them in needs")
        if not isinstance(value, torch.Tensor):
            value = self._given[name] = torch.as_tensor(value)
        return value
