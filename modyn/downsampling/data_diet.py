"""Scores of how much a sample still moves the model, early in training: EL2N and GraNd.

Both are expectations over how the weights began.  They are asked of the model of the moment, or
averaged over several models, each trained from weights of its own for a few epochs on the whole
training set, before the model that is wanted begins.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from modyn.downsampling.base import Downsampler, Pool
from modyn.downsampling.importance import row_norms
from modyn.downsampling.probabilities import class_probabilities, positive_probability
from modyn.policies.checked import check_integer

if TYPE_CHECKING:
    import torch

__all__ = ["EL2N", "EarlyScore", "GraNd"]


@dataclass(kw_only=True)
class EarlyScore(Downsampler):
    """Keep the samples with the highest scores, unweighted; subclasses say what a score is.

    Parameters
    ----------
    initialisations : int
        Over how many models, which are trained for this alone, to average the scores; then one
        choice is made, at the beginning of a training.  0: ask the model of the moment.
    score_epochs : int
        With `initialisations`: for how many epochs each of them is trained.

    Raises
    ------
    TypeError, ValueError
        For numbers that are no counts, and settings that do not go together.
    """

    initialisations: int = 0
    score_epochs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("initialisations", self.initialisations, 0)
        check_integer("score_epochs", self.score_epochs, 0)
        if self.initialisations == 0 and self.score_epochs > 0:
            raise ValueError(f"score_epochs {self.score_epochs} needs initialisations")
        if self.initialisations > 0 and not (self.sample_then_batch and self.period == 0):
            raise ValueError(
                "initialisations needs sample_then_batch and period 0: models that are trained "
                "for their scores give them once"
            )


@dataclass(kw_only=True)
class EL2N(EarlyScore):
    """Keep the samples with the largest error ||p - onehot(y)||.

    With one output p = sigmoid(z), and the error is |p - y|.

    Parameters
    ----------
    initialisations, score_epochs
        As in `EarlyScore`.
    probabilities : bool
        The model returns probabilities, as with BCELoss, not logits.

    References
    ----------
    M. Paul, S. Ganguli and G. K. Dziugaite, "Deep learning on a data diet: finding important
    examples early in training", NeurIPS 2021, arXiv:2107.07075.  With cross entropy the error is
    the norm of the gradient with respect to the logits.

    Examples
    --------
    >>> sampler = EL2N(ratio=50, sample_then_batch=True, period=0, initialisations=3)
    """

    probabilities: bool = False

    def score(self, pool: Pool) -> "torch.Tensor":
        """Return the errors, float64, shape (n,)."""
        import torch

        outputs, labels = pool.outputs, pool.labels
        if outputs.ndim == 1 or outputs.shape[1] == 1:
            found = positive_probability(outputs, given=self.probabilities)
            return (found - labels.double()).abs()
        error = class_probabilities(outputs, given=self.probabilities)
        rows = torch.arange(len(labels), device=error.device)
        error[rows, labels.long()] -= 1.0
        return row_norms(error)


@dataclass(kw_only=True)
class GraNd(EarlyScore):
    """Keep the samples with the largest gradient of the loss with respect to all parameters.

    It takes a backward pass through the whole model for each sample.

    Parameters
    ----------
    initialisations, score_epochs
        As in `EarlyScore`.  Scores of models that were not trained (`score_epochs` 0) say little:
        what was reported of them first was later traced to a mistake.

    References
    ----------
    M. Paul, S. Ganguli and G. K. Dziugaite, "Deep learning on a data diet: finding important
    examples early in training", NeurIPS 2021, arXiv:2107.07075.

    Examples
    --------
    >>> sampler = GraNd(ratio=50)
    """

    needs = ("parameter_norms",)

    def score(self, pool: Pool) -> "torch.Tensor":
        """Return the norms, float64, shape (n,)."""
        return pool.parameter_norms
