"""The network that GDumb's authors train on what their buffer holds."""

from __future__ import annotations

import torch
from torch import nn

SIDE, PADDING = 28, 4


class GDumbMLP(nn.Module):
    """Two hidden layers of `width` for digits of 28 x 28, all batch-normalised, without biases.

    In training each digit is cropped at random from its picture with a border of 4, as the
    authors' loader does.
    """

    def __init__(self, *, width: int = 100, classes: int = 10) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(SIDE * SIDE, width, bias=False),
            nn.BatchNorm1d(width, eps=1e-6),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width, eps=1e-6),
            nn.ReLU(),
        )
        self.head = nn.Sequential(
            nn.Linear(width, classes, bias=False), nn.BatchNorm1d(classes, eps=1e-6)
        )

    def forward(self, dense: torch.Tensor) -> torch.Tensor:
        """Return a score per class, shape (n, classes), of digits (n, 784)."""
        digits = cropped(dense) if self.training else dense
        scores: torch.Tensor = self.head(self.body(digits))
        return scores


def cropped(dense: torch.Tensor) -> torch.Tensor:
    """Return each digit moved by up to 4 pixels each way, with black where nothing was."""
    count, black = len(dense), -0.1307 / 0.3081
    padded = nn.functional.pad(dense.view(count, SIDE, SIDE), (PADDING,) * 4, value=black)
    top, left = torch.randint(2 * PADDING + 1, (2, count, 1, 1))
    rows = top + torch.arange(SIDE).view(1, SIDE, 1)
    columns = left + torch.arange(SIDE).view(1, 1, SIDE)
    return padded[torch.arange(count).view(count, 1, 1), rows, columns].view(count, -1)
