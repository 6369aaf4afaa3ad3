"""A small network for tables: numbers and categories in, one score per class out."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn


class MLP(nn.Module):
    """A multilayer perceptron over `dense` numbers and, if there are any, `cat` categories.

    The numbers are standardised by a first batch normalisation, so that columns of any scale can
    go in as they are.  Each category has an embedding; a category number beyond its table counts
    as the last one, which is what new categories of a growing stream should do.

    Parameters
    ----------
    num_features : int
        Length of `dense`.
    num_classes : int
        Scores per sample; 1 gives a single logit.
    hidden : sequence of int
        Widths of the hidden layers.
    categorical : sequence of int
        Table sizes of the categories, in the order of the columns of `cat`.
    embedding_dim : int
        Length of each category's embedding.
    dropout : float
        Share of hidden units that are left out while training.
    """

    def __init__(
        self,
        *,
        num_features: int,
        num_classes: int,
        hidden: Sequence[int] = (64, 32),
        categorical: Sequence[int] = (),
        embedding_dim: int = 8,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.sizes = tuple(categorical)
        # momentum=None averages all batches alike: right after few batches, too.
        self.norm = nn.BatchNorm1d(num_features, momentum=None, affine=False)
        self.embeddings = nn.ModuleList(nn.Embedding(size, embedding_dim) for size in categorical)
        widths = [num_features + embedding_dim * len(categorical), *hidden]
        layers: list[nn.Module] = []
        for width, following in pairwise(widths):
            layers += [nn.Linear(width, following), nn.ReLU()]
            layers += [nn.Dropout(dropout)] if dropout else []
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, dense: torch.Tensor, cat: torch.Tensor | None = None) -> torch.Tensor:
        """Return the scores, shape (n, num_classes), of `dense` (n, m) and `cat` (n, k)."""
        dense = dense.reshape(len(dense), -1).float()
        if self.training and len(dense) == 1:  # one sample has no variance
            inputs = [self._standardised(dense)]
        else:
            inputs = [self.norm(dense)]
        if cat is not None:
            for i, (embedding, size) in enumerate(zip(self.embeddings, self.sizes, strict=True)):
                inputs.append(embedding(cat[:, i].long().clamp(0, size - 1)))
        scores: torch.Tensor = self.head(self.body(torch.cat(inputs, dim=1)))
        return scores

    def _standardised(self, dense: torch.Tensor) -> torch.Tensor:
        """Return the numbers by the mean and variance seen so far."""
        norm = self.norm
        return nn.functional.batch_norm(
            dense, norm.running_mean, norm.running_var, training=False, eps=norm.eps
        )
