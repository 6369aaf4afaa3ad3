"""What the model has yet to learn: its loss, less the loss of a model that saw none of this."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from modyn.downsampling.base import Downsampler, Pool
from modyn.policies.checked import check_integer

if TYPE_CHECKING:
    import torch

__all__ = ["RHOLoss"]


@dataclass(kw_only=True)
class RHOLoss(Downsampler):
    """Keep the samples whose loss a model that learned from held-out data would reduce most.

    The score of a sample is its loss less its irreducible loss: that of a second model, the IL
    model, trained on a holdout of the trigger's training set and asked in eval mode, once for each
    trigger.  A sample with a wrong label has a high loss for both, and is not kept for it; one
    that is learned already has a low loss for both.

    Parameters
    ----------
    holdout_set_strategy : {"Simple", "Twin"}
        "Simple" sets a holdout aside for the IL model, and the model trains on the rest.  "Twin"
        halves the training set, trains an IL model on each half and asks it for the other; the
        model trains on all of it.
    holdout_set_ratio, holdout_set_ratio_max : int
        The share to hold out, in parts of `holdout_set_ratio_max`: of n samples exactly
        floor(share * n).  Below one; with "Twin", one half.  Where that is no sample, irreducible
        losses are 0, and what is kept are the highest losses.
    il_model : Model, str or callable, optional
        The IL model, as `Pipeline(model=...)`; the pipeline's own model if None.
    il_training : Training, optional
        How it is trained; like the pipeline's own model, but on last batches that are not full
        as well, if None.

    Raises
    ------
    TypeError, ValueError
        For a strategy that is not known, and a share that is not possible.

    References
    ----------
    S. Mindermann et al., "Prioritized training on points that are learnable, worth learning, and
    not yet learnt", ICML 2022, arXiv:2206.07137.  The holdout is drawn from what the trigger chose
    (there: from other data), and the IL model is not updated meanwhile (as there).  A sample is
    in the holdout by a draw of its key alone, so that one that two triggers choose is nearly
    always in the holdout of both or of none.

    Examples
    --------
    >>> RHOLoss(ratio=10, holdout_set_ratio=30).held_out(7)
    2
    """

    needs = ("losses", "irreducible_losses")

    holdout_set_strategy: Literal["Simple", "Twin"] = "Simple"
    holdout_set_ratio: int
    holdout_set_ratio_max: int = 100
    il_model: Any = None
    il_training: Any = None

    def __post_init__(self) -> None:
        super().__post_init__()
        share, whole = self.holdout_set_ratio, self.holdout_set_ratio_max
        if self.holdout_set_strategy not in ("Simple", "Twin"):
            raise ValueError(
                "holdout_set_strategy must be 'Simple' or 'Twin', "
                f"got {self.holdout_set_strategy!r}"
            )
        check_integer("holdout_set_ratio_max", whole, 1)
        check_integer("holdout_set_ratio", share)
        if not 0 <= share <= whole:
            raise ValueError(f"holdout_set_ratio must be from 0 to {whole}, got {share}")
        if self.holdout_set_strategy == "Twin" and 2 * share != whole:
            raise ValueError(
                "holdout_set_ratio must be one half of holdout_set_ratio_max with Twin, "
                f"got {share} of {whole}"
            )
        if share == whole:
            raise ValueError(
                f"holdout_set_ratio {share} of {whole} leaves nothing to train on with Simple"
            )

    def held_out(self, samples: int) -> int:
        """Return how many of so many samples one IL model learns from."""
        return samples * self.holdout_set_ratio // self.holdout_set_ratio_max

    def score(self, pool: Pool) -> "torch.Tensor":
        """Return by how much each sample's loss exceeds its irreducible loss."""
        return pool.losses - pool.irreducible_losses
