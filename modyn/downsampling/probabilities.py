"""What a model's outputs say as probabilities."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["class_probabilities", "positive_probability"]


def class_probabilities(outputs: "torch.Tensor", *, given: bool = False) -> "torch.Tensor":
    """Return the probability of each class, float64, shape (n, classes).

    Parameters
    ----------
    outputs : tensor, shape (n, classes), or (n,) or (n, 1) where there are two classes
        Logits; log-probabilities are logits as well.
    given : bool
        The outputs are probabilities, not logits.

    Examples
    --------
    >>> import torch
    >>> class_probabilities(torch.tensor([0.0])).tolist()
    [[0.5, 0.5]]
    """
    import torch

    if outputs.ndim == 1 or outputs.shape[1] == 1:
        positive = positive_probability(outputs, given=given)
        negative = 1.0 - positive if given else torch.sigmoid(-outputs.double().reshape(-1))
        return torch.stack([negative, positive], dim=1)
    return outputs.double() if given else torch.softmax(outputs.double(), dim=1)


def positive_probability(outputs: "torch.Tensor", *, given: bool = False) -> "torch.Tensor":
    """Return the probability of class 1 of two, float64, shape (n,); outputs (n,) or (n, 1)."""
    import torch

    flat = outputs.double().reshape(-1)
    return flat if given else torch.sigmoid(flat)
