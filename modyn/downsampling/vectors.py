"""The vectors of a pool that set-based downsamplers compare, where the pool has them.

On a CPU they go to the C kernels of `modyn.coresets`, on any other device to their twins in
`modyn.coresets.device`, which stay there. Rows stand in an order that is drawn for each choice,
from the keys alone: where vectors say nothing more, the kernels go by the place of a row, and that
must not be its age. (With two classes, for one, the gradients of the outputs lie on a line, and any
two of one sign are alike.)
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn.coresets import GREEDY, Features, Greedy
from modyn.downsampling.base import Context, Pool

if TYPE_CHECKING:
    import torch

__all__ = [
    "APPROXIMATIONS",
    "Vectors",
    "check_one_of",
    "embeddings_of",
    "gradient_needs",
    "gradients_of",
    "greedy_of",
    "on_the_host",
]

_TIES = 1  # a purpose of Context.random
APPROXIMATIONS = ("LastLayer", "LastLayerWithEmbedding")


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors of samples, in an order that breaks ties.

    Parameters
    ----------
    order : integers, shape (n,)
        The row of the pool of each.
    features : Features or Tensors
        As the kernels take them.
    kernels : module
        `modyn.coresets` or `modyn.coresets.device`.
    """

    order: npt.NDArray[np.intp]
    features: Any
    kernels: Any

    def part(self, which: npt.NDArray[np.intp]) -> "Vectors":
        """Return the vectors of some of them."""
        return Vectors(self.order[which], self.features.part(which), self.kernels)


def check_one_of(name: str, value: str, names: tuple[str, ...]) -> None:
    """Raise ValueError unless value is one of these names."""
    if value not in names:
        raise ValueError(f"{name} must be one of {', '.join(names)}, got {value!r}")


def gradient_needs(approximation: str) -> tuple[str, ...]:
    """Return what of a pool `gradients_of` looks at."""
    if approximation == "LastLayerWithEmbedding":
        return ("gradients", "embeddings")
    return ("gradients",)


def gradients_of(pool: Pool, approximation: str, context: Context) -> Vectors:
    """Return the gradients of the last layer: of its outputs, or of its bias and weights."""
    more = pool.embeddings if approximation == "LastLayerWithEmbedding" else None
    return _vectors(pool, pool.gradients, more, context)


def embeddings_of(pool: Pool, context: Context) -> Vectors:
    """Return the embeddings."""
    return _vectors(pool, pool.embeddings, None, context)


def on_the_host(tensor: "torch.Tensor") -> bool:
    """Return whether a tensor is for the C kernels."""
    return tensor.device.type == "cpu"


def _vectors(
    pool: Pool, rows: "torch.Tensor", more: "torch.Tensor | None", context: Context
) -> Vectors:
    from modyn import coresets

    order = np.argsort(pool.keys, kind="stable")[context.random(_TIES).permutation(len(pool))]
    tensors = [None if t is None else t.detach().reshape(len(t), -1).float() for t in (rows, more)]
    _check_finite(pool.keys, tensors)
    if on_the_host(rows):
        arrays = [None if t is None else t.numpy()[order] for t in tensors]
        return Vectors(order, Features(arrays[0], arrays[1]), coresets)  # type: ignore[arg-type]
    from modyn.coresets import device as elsewhere

    return Vectors(order, elsewhere.Tensors(*tensors).part(order), elsewhere)  # type: ignore[arg-type]


def _check_finite(keys: npt.NDArray[np.uint64], tensors: "list[torch.Tensor | None]") -> None:
    """Refuse vectors between which there is no distance."""
    for tensor in tensors:
        if tensor is None:
            continue
        finite = tensor.isfinite().all(dim=1)
        if not bool(finite.all()):
            key = keys[(~finite).cpu().numpy()].min()
            raise ValueError(
                f"what the model says of sample {key} is not finite, and samples cannot be "
                "compared by it: the training diverged, or the sample is damaged"
            )


def greedy_of(how: str, batch: int, context: Context) -> Greedy:
    """Return how to look; naive greedy looks lazily, which chooses the same."""
    check_one_of("greedy", how, GREEDY)
    seed = int(context.random().integers(2**63))
    lazily = "LazyGreedy" if how == "NaiveGreedy" else how
    return Greedy(how=lazily, batch=batch, seed=seed)
