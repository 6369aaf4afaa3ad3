"""What the batches of one training said of its samples, the last time each was trained on.

It costs no pass of its own: the numbers follow from the output that is trained on anyway.  They
wait where they are, on the device, and are taken together, a chunk at a time.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn.pipelines.settings import BORDERS, NUMERIC, Training
from modyn.signals import NEVER_LEARNED

if TYPE_CHECKING:
    import torch

__all__ = ["History"]

CHUNK = 65_536  # rows that are taken together


class History:
    """The last loss of each sample, and how often it was forgotten.

    Parameters
    ----------
    keys : uint64, shape (n,), ascending
        The training set.
    training : Training
        Whose criterion says what is right.
    """

    def __init__(self, keys: npt.NDArray[np.uint64], training: Training) -> None:
        criterion = training.optimization_criterion.name
        self._keys = keys
        self._border = BORDERS.get(criterion)
        self._counts = criterion not in NUMERIC or self._border is not None
        self._losses = np.full(len(keys), np.nan, dtype=np.float32)
        # -1 until a sample was right once, then twice the count, plus 1 while it is right.
        self._state = np.full(len(keys), -1, dtype=np.int32)
        self._waiting: list[tuple[npt.NDArray[np.uint64], torch.Tensor, torch.Tensor]] = []
        self._rows = 0  # that wait

    def note(
        self,
        keys: npt.NDArray[np.uint64],
        output: "torch.Tensor",
        labels: "torch.Tensor",
        losses: "torch.Tensor",
    ) -> None:
        """Take what a batch said, before the step that it leads to; the losses are not weighted."""
        right = self._right(output, labels) if self._counts else losses
        self._waiting.append((keys.astype(np.uint64), losses.detach(), right))
        self._rows += len(keys)
        if self._rows >= CHUNK:
            self._take()

    def of(self, keys: npt.NDArray[np.uint64]) -> dict[str, npt.NDArray[Any]]:
        """Return the history of samples, as `Pool.history` has it."""
        self._take()
        rows = np.searchsorted(self._keys, keys)
        found: dict[str, npt.NDArray[Any]] = {"losses": self._losses[rows].astype(np.float64)}
        if self._counts:
            state = self._state[rows]
            found["forgetting"] = np.where(state < 0, NEVER_LEARNED, state >> 1).astype(np.int32)
        return found

    def _take(self) -> None:
        """Take in what waits; a sample may be there several times."""
        import torch

        if not self._waiting:
            return
        keys, losses, right = zip(*self._waiting, strict=True)
        self._waiting, self._rows = [], 0
        rows = np.searchsorted(self._keys, np.concatenate(keys))
        order = np.argsort(rows, kind="stable")  # by sample, and in time
        rows = rows[order]
        first = np.flatnonzero(np.diff(rows, prepend=-1))
        last = np.append(first[1:], len(rows)) - 1
        self._losses[rows[first]] = torch.cat(losses).cpu().numpy()[order][last]
        if self._counts:
            self._count(rows[first], torch.cat(right).cpu().numpy()[order], first, last)

    def _count(
        self,
        rows: npt.NDArray[np.int64],
        right: npt.NDArray[np.bool_],
        first: npt.NDArray[np.int64],
        last: npt.NDArray[np.int64],
    ) -> None:
        """Count how often samples were right and then wrong.

        Parameters
        ----------
        rows : int64, shape (m,)
            Each once.
        right : bool, shape (n,)
            At each presentation, by sample and in time.
        first, last : int64, shape (m,)
            Where the presentations of a sample begin and end.
        """
        before = self._state[rows]
        learned = before >= 0
        was_right = np.empty_like(right)
        was_right[1:] = right[:-1]
        was_right[first] = learned & (before & 1 == 1)
        events = np.add.reduceat((was_right & ~right).astype(np.int32), first)
        counts = np.where(learned, before >> 1, 0) + events
        learned |= np.logical_or.reduceat(right, first)
        self._state[rows] = np.where(learned, counts << 1 | right[last], -1)

    def _right(self, output: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
        if output.ndim == 1:
            return (output > (self._border or 0.0)) == (labels > 0.5)
        right: torch.Tensor = output.argmax(dim=1) == labels
        return right
