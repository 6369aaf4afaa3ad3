"""The vectors that are compared, as C reads them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Features", "features_of"]


@dataclass(frozen=True, eq=False)
class Features:
    """A vector G for each sample: a row g, or the outer product of g with an embedding.

    With embeddings, G = [g, g x h] is the gradient of the bias and the weights of a linear layer
    with input h whose output has the gradient g. It is never built: <G, G'> = <g, g'> (1 + <h,
    h'>).

    Parameters
    ----------
    rows : float32, shape (n, d), n and d at least 1
        Finite. Other floats are converted.
    embeddings : float32, shape (n, w), or None
        Finite.
    """

    rows: npt.NDArray[np.float32]
    embeddings: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", _matrix("features", self.rows))
        if self.embeddings is not None:
            object.__setattr__(self, "embeddings", _matrix("embeddings", self.embeddings))
            if len(self.embeddings) != len(self.rows):
                raise ValueError(
                    f"expected {len(self.rows)} embeddings, got {len(self.embeddings)}"
                )

    def __len__(self) -> int:
        return len(self.rows)

    def part(self, rows: npt.NDArray[np.integer[Any]]) -> "Features":
        """Return some of the samples."""
        embeddings = None if self.embeddings is None else self.embeddings[rows]
        return Features(self.rows[rows], embeddings)


def features_of(features: "Features | npt.ArrayLike") -> Features:
    """Return features, of a plain matrix too."""
    return features if isinstance(features, Features) else Features(np.asarray(features))


def _matrix(name: str, values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be numbers, got {array.dtype}")
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"{name} must have shape (n, d), neither of them 0, got {array.shape}")
    return np.ascontiguousarray(array, dtype=np.float32)
