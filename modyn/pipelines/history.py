"""What the batches of one training said of its samples, the last time each was trained on.

It costs no pass of its own: the numbers follow from the output that is trained on anyway.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn.pipelines.settings import BORDERS, NUMERIC, Training
from modyn.signals import NEVER_LEARNED

if TYPE_CHECKING:
    import torch

__all__ = ["History"]


class History:
    """The last loss of each sample, and how often it was forgotten.

    Parameters
    ----------
    keys : uint64, shape (n,), ascending
        The training set.
    training : Training
        Whose criterion says what is right.
    device : device
        Where the numbers stay.
    """

    def __init__(
        self, keys: npt.NDArray[np.uint64], training: Training, device: "torch.device"
    ) -> None:
        import torch

        criterion = training.optimization_criterion.name
        self._keys = keys
        self._border = BORDERS.get(criterion)
        self._counts = criterion not in NUMERIC or self._border is not None
        self._losses = torch.full((len(keys),), torch.nan, device=device)
        # -1 until a sample was right once, then twice the count, plus 1 while it is right.
        self._state = torch.full((len(keys),), -1, dtype=torch.int32, device=device)

    def note(
        self,
        keys: npt.NDArray[np.uint64],
        output: "torch.Tensor",
        labels: "torch.Tensor",
        each: "torch.nn.Module",
    ) -> None:
        """Take what a batch said, before the step that it leads to; the losses are not weighted."""
        import torch

        with torch.no_grad():
            losses = each(output, labels).reshape(len(labels), -1).mean(dim=1)
        rows = torch.from_numpy(np.searchsorted(self._keys, keys)).to(output.device)
        self._losses[rows] = losses.float()
        if self._counts:
            right = self._right(output, labels)
            before = self._state[rows]
            learned = before >= 0
            count = torch.where(learned, before >> 1, 0)
            count += (learned & (before & 1 == 1) & ~right).int()
            self._state[rows] = torch.where(learned | right, count * 2 + right.int(), -1)

    def of(self, keys: npt.NDArray[np.uint64]) -> dict[str, npt.NDArray[Any]]:
        """Return the history of samples, as `Pool.history` has it."""
        import torch

        rows = torch.from_numpy(np.searchsorted(self._keys, keys)).to(self._losses.device)
        found: dict[str, npt.NDArray[Any]] = {
            "losses": self._losses[rows].cpu().numpy().astype(np.float64)
        }
        if self._counts:
            state = self._state[rows].cpu().numpy()
            found["forgetting"] = np.where(state < 0, NEVER_LEARNED, state >> 1).astype(np.int32)
        return found

    def _right(self, output: "torch.Tensor", labels: "torch.Tensor") -> "torch.Tensor":
        if output.ndim == 1:
            return (output > (self._border or 0.0)) == (labels > 0.5)
        right: torch.Tensor = output.argmax(dim=1) == labels
        return right
