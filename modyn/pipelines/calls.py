"""How a model is called: one device, one thread, and its fields by name."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modyn.errors import ConfigError
from modyn.pipelines.jobs import Batch
from modyn.pipelines.settings import NUMERIC

if TYPE_CHECKING:
    import torch

__all__ = ["as_compared", "call_model", "device_of", "one_thread"]


@contextmanager
def one_thread() -> Iterator[None]:
    """Run PyTorch's kernels on the calling thread alone, so that sums have one order."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def device_of(name: str, what: str) -> "torch.device":
    """Return a device.

    Raises
    ------
    ConfigError
        When it is a CUDA device that is not there; `what` names the setting.
    """
    import torch

    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"{what} is {name!r}, but PyTorch sees {torch.cuda.device_count()} CUDA devices here"
        )
    return device


def call_model(
    model: "torch.nn.Module",
    batch: Batch,
    fields: tuple[str, ...],
    device: "torch.device",
) -> "torch.Tensor":
    """Return the model's output for a batch: one field as it is, several by name."""
    import torch

    moved = {name: torch.as_tensor(batch[name]).to(device, non_blocking=True) for name in fields}
    output = model(moved[fields[0]]) if len(fields) == 1 else model(**moved)
    if not isinstance(output, torch.Tensor) or len(output) != len(batch):
        raise TypeError(f"the model must return a tensor of {len(batch)} rows, got {output!r:.80}")
    return output


def as_compared(
    output: "torch.Tensor", labels: "torch.Tensor", criterion: str
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return output and labels as a criterion takes them: numbers of shape (n,), or classes."""
    if criterion not in NUMERIC:
        return output, labels
    output = output.reshape(len(output)) if output.ndim == 2 else output
    return output, labels.to(output.dtype)
