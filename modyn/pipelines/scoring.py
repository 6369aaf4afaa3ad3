"""What a model says of samples, for a downsampler: one forward pass for all that it needs.

The model is in eval mode for it and exactly as it was afterwards, module by module; no random
number of the training is used up, so that it goes on with the same dropout masks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from modyn.downsampling.pool import ArrayPool
from modyn.pipelines.calls import as_compared, call_model
from modyn.pipelines.history import History
from modyn.pipelines.jobs import Batch, Job
from modyn.pipelines.picked import Picked

if TYPE_CHECKING:
    import torch

__all__ = ["Scorer", "evaluating", "keeping_embeddings"]

LOOKING = {"outputs", "losses", "gradients", "embeddings", "parameter_norms"}


@contextmanager
def evaluating(model: "torch.nn.Module") -> Iterator[None]:
    """Have a model in eval mode, and each of its modules as it was afterwards.

    Where no module has a way of its own to change its mode, the flags alone are set: for every
    batch that is scored, twice, the way through `train` would be a tenth of a small model's time.
    """
    from torch.nn import Module

    modes = [(module, module.training) for module in model.modules()]
    plain = all(type(m).train is Module.train and type(m).eval is Module.eval for m, _ in modes)
    if plain:
        for module, _ in modes:
            vars(module)["training"] = False
    else:
        model.eval()
    try:
        yield
    finally:
        if not plain:
            model.train(modes[0][1])
        for module, mode in modes:
            vars(module)["training"] = mode


@dataclass(kw_only=True)
class Scorer:
    """Makes pools of batches.

    Parameters
    ----------
    job : Job
        With downsampling.
    model : Module
    each : Module
        The criterion, with a loss per sample.
    device : device
    history : History, optional
        Where the downsampler needs it.

    Attributes
    ----------
    samples : int
        How many samples went through the model so far.
    """

    job: Job
    model: "torch.nn.Module"
    each: "torch.nn.Module"
    device: "torch.device"
    history: History | None = None
    samples: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        assert self.job.downsampling is not None  # noqa: S101
        self._needs = frozenset(self.job.downsampling.needs)
        self._criterion = self.job.training.optimization_criterion.name

    @property
    def looks(self) -> bool:
        """Whether a batch has to go through the model."""
        return bool(self._needs & LOOKING)

    @property
    def reads(self) -> bool:
        """Whether pools have anything that is neither key, label nor history."""
        return bool(self._needs - {"history"})

    @contextmanager
    def session(self) -> Iterator[None]:
        """Leave the training's random numbers as they were, and the model's mode."""
        import torch

        cuda = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            if not self.looks:
                yield
                return
            with evaluating(self.model):
                yield

    def pool(self, batch: Picked) -> ArrayPool:
        """Return a batch with all that is needed; only in a session."""
        found = self._seen(batch) if self.looks else {}
        if "irreducible_losses" in self._needs:
            found["irreducible_losses"] = self._irreducible(batch.keys)
        return ArrayPool(
            keys=batch.keys, labels=batch.labels, history=self.recorded(batch.keys), **found
        )

    def recorded(self, keys: npt.NDArray[np.uint64]) -> dict[str, npt.NDArray[Any]] | None:
        """Return the history of samples, where it is needed."""
        return None if self.history is None else self.history.of(keys)

    def placed(self, batch: Batch, epoch: int) -> Picked:
        """Return a batch of this epoch on the device."""
        return Picked.of(batch, self.job.fields, self.device, epoch)

    def _seen(self, batch: Picked) -> "dict[str, torch.Tensor]":
        """Return what the model says of a batch."""
        import torch

        from modyn.downsampling import gradients

        self.samples += len(batch)
        found: dict[str, torch.Tensor] = {}
        with torch.no_grad(), keeping_embeddings(self.model, "embeddings" in self._needs, found):
            outputs = call_model(self.model, batch, self.job.fields, self.device)
        outputs, labels = as_compared(outputs, batch.labels, self._criterion)
        found["outputs"] = outputs
        if "losses" in self._needs:
            with torch.no_grad():
                losses = self.each(outputs, labels)
            found["losses"] = losses.reshape(len(labels), -1).mean(dim=1)
        if "gradients" in self._needs:
            found["gradients"] = gradients.of_outputs(outputs, labels, self.each)
        if "parameter_norms" in self._needs:
            names = self.job.fields
            inputs: Any = batch[names[0]] if len(names) == 1 else batch.fields
            norms = gradients.parameter_norms(self.model, inputs, labels, self.each)
            found["parameter_norms"] = norms
        return {name: value for name, value in found.items() if name in self._needs}

    def _irreducible(self, keys: npt.NDArray[np.uint64]) -> "torch.Tensor":
        import torch

        if self.job.irreducible is None:
            raise ValueError("irreducible_losses are needed, and the job has none")
        return torch.as_tensor(self.job.irreducible(keys)).to(self.device, non_blocking=True)


@contextmanager
def keeping_embeddings(
    model: "torch.nn.Module", wanted: bool, found: "dict[str, torch.Tensor]"
) -> Iterator[None]:
    """Put what goes into the last linear layer that runs into `found`.

    That is the last one to run of all torch.nn.Linear, or what the model's own
    `get_last_layer()` returns.
    """
    if not wanted:
        yield
        return

    def keep(module: Any, given: tuple[Any, ...]) -> None:
        found["embeddings"] = given[0].detach().reshape(len(given[0]), -1)

    handles = [layer.register_forward_pre_hook(keep) for layer in _last_layers(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
    if "embeddings" not in found:
        raise ValueError(
            "embeddings are what goes into the last torch.nn.Linear, and none of the model's ran: "
            "give it a method get_last_layer() that returns the layer"
        )


def _last_layers(model: "torch.nn.Module") -> "list[torch.nn.Module]":
    import torch

    if hasattr(model, "get_last_layer"):
        layer: torch.nn.Module = model.get_last_layer()  # type: ignore[operator]
        return [layer]
    return [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]
