"""What the model is least sure of, whatever the label says."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from modyn.downsampling.base import Downsampler, Pool
from modyn.downsampling.probabilities import class_probabilities

if TYPE_CHECKING:
    import torch

__all__ = ["Uncertainty"]

METRICS = ("LeastConfidence", "Entropy", "Margin")


@dataclass(kw_only=True)
class Uncertainty(Downsampler):
    """Keep the samples that the model is least sure of, unweighted.

    With probabilities p of the classes, p1 the highest and p2 the second:

        LeastConfidence   1 - p1
        Entropy           -sum of p ln p
        Margin            -(p1 - p2)

    A model with one output has probabilities sigmoid(z) and 1 - sigmoid(z).  With two classes all
    three order samples alike.

    Parameters
    ----------
    score_metric : {"LeastConfidence", "Entropy", "Margin"}
    logit_confidence : bool
        With LeastConfidence: go by the highest logit instead of the highest probability, as is
        often done; a sample with large logits throughout then passes for certain.
    probabilities : bool
        The model returns probabilities, as with BCELoss, not logits.

    Raises
    ------
    ValueError
        For a metric that is not known, and options that do not go together.

    References
    ----------
    C. Coleman et al., "Selection via proxy", ICLR 2020, arXiv:1906.11829.  C. Guo et al.,
    "DeepCore", DEXA 2022, arXiv:2204.08499; its LeastConfidence is that of `logit_confidence`, and
    its entropy adds 1e-6 inside of the logarithm, where here 0 ln 0 = 0.

    Examples
    --------
    >>> sampler = Uncertainty(score_metric="Margin", ratio=50)
    """

    score_metric: Literal["LeastConfidence", "Entropy", "Margin"]
    logit_confidence: bool = False
    probabilities: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.score_metric not in METRICS:
            raise ValueError(
                f"score_metric must be one of {', '.join(METRICS)}, got {self.score_metric!r}"
            )
        if self.logit_confidence and self.score_metric != "LeastConfidence":
            raise ValueError(
                f"logit_confidence goes with LeastConfidence, got score_metric {self.score_metric}"
            )
        if self.logit_confidence and self.probabilities:
            raise ValueError("logit_confidence needs logits, but probabilities is set")

    def score(self, pool: Pool) -> "torch.Tensor":
        """Return the uncertainty of each sample, float64, shape (n,)."""
        import torch

        outputs = pool.outputs
        if self.logit_confidence:
            return -_logits(outputs).amax(dim=1)
        found = class_probabilities(outputs, given=self.probabilities)
        if self.score_metric == "Entropy":
            entropy: torch.Tensor = torch.special.entr(found).sum(dim=1)
            return entropy
        if self.score_metric == "LeastConfidence":
            return 1.0 - found.amax(dim=1)
        top = found.topk(2, dim=1).values
        return top[:, 1] - top[:, 0]


def _logits(outputs: "torch.Tensor") -> "torch.Tensor":
    """Return a logit for each class; one output z stands for the logits -z/2 and z/2."""
    import torch

    if outputs.ndim == 1 or outputs.shape[1] == 1:
        flat = outputs.double().reshape(-1)
        return torch.stack([-flat / 2, flat / 2], dim=1)
    return outputs.double()
