"""What minimises what: criteria, optimizers and their state, schedulers, from settings."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from modyn.errors import ConfigError
from modyn.pipelines.models import Tensors
from modyn.pipelines.settings import LrScheduler, Optimizer, Training

if TYPE_CHECKING:
    import torch

__all__ = [
    "criterion_of",
    "load_optimizers",
    "optimizer_of",
    "optimizer_tensors",
    "replaced",
    "scheduler_of",
    "weights_of",
]

# Optimizers that can take a step in one kernel, which is a quarter off a small model's time; a
# configuration with `fused: false` or `foreach` has it the other way.
FUSED = {"Adam", "AdamW", "SGD", "Adagrad"}


def replaced(value: Any, numbers: Mapping[str, int]) -> Any:
    """Return a configuration with the names in it replaced by numbers, at any depth.

    Examples
    --------
    >>> replaced({"total_steps": "MODYN_NUM_BATCHES"}, {"MODYN_NUM_BATCHES": 7})
    {'total_steps': 7}
    """
    if isinstance(value, Mapping):
        return {key: replaced(entry, numbers) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [replaced(entry, numbers) for entry in value]
    return numbers.get(value, value) if isinstance(value, str) else value


def scheduler_of(
    settings: LrScheduler,
    names: Sequence[str],
    optimizers: "Sequence[torch.optim.Optimizer]",
    *,
    batches: int,
    epochs: int,
) -> Any:
    """Return a scheduler of one of these optimizers, for a training of this length."""
    import torch

    numbers = {"MODYN_NUM_BATCHES": max(batches, 1), "MODYN_NUM_EPOCHS": epochs}
    optimizer = optimizers[list(names).index(settings.optimizers[0])]
    make = getattr(torch.optim.lr_scheduler, settings.name)
    config = replaced(settings.config, numbers)
    return _made(f"training.lr_scheduler {settings.name}", lambda: make(optimizer, **config))


def criterion_of(training: Training, reduction: str) -> "torch.nn.Module":
    """Return the loss of a batch or of each sample; lists in its configuration become tensors."""
    import torch

    settings = training.optimization_criterion
    config = {
        name: torch.tensor(value) if isinstance(value, list | tuple) else value
        for name, value in settings.config.items()
    }
    make = getattr(torch.nn, settings.name)
    criterion: torch.nn.Module = _made(
        f"training.optimization_criterion {settings.name}",
        lambda: make(reduction=reduction, **config),
    )
    return criterion


def optimizer_of(settings: Optimizer, model: "torch.nn.Module") -> "torch.optim.Optimizer":
    """Return an optimizer of the parameters that its groups name."""
    import torch

    make = getattr(torch.optim, settings.algorithm)
    what = f"training.optimizers {settings.name} ({settings.algorithm})"
    groups = []
    for group in settings.param_groups:
        parameters = _parameters(model, group.module)
        config = dict(group.config)
        if settings.algorithm in FUSED and "foreach" not in config:
            config.setdefault("fused", True)
        # As arguments the options are checked; in a group torch takes whatever comes.
        _made(what, lambda: make(parameters, **config))  # noqa: B023 - called at once
        groups.append({"params": parameters, **config})
    optimizer: torch.optim.Optimizer = _made(what, lambda: make(groups))
    return optimizer


def _parameters(model: "torch.nn.Module", path: str) -> "list[torch.nn.Parameter]":
    """Return the parameters below a path such as model.head; only submodules are walked."""
    try:
        part = model.get_submodule(path.removeprefix("model").removeprefix("."))
    except AttributeError as error:
        raise ConfigError(f"training.optimizers: the model has no module {path}: {error}") from None
    return list(part.parameters())


def _made(what: str, make: Callable[[], Any]) -> Any:
    """Return what `make` makes; its complaint about an option names the setting."""
    try:
        return make()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{what}: {error}") from error


def weights_of(model: "torch.nn.Module") -> Tensors:
    """Return a copy of a model's state, on the CPU."""
    import torch

    weights = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(f"state {name} of the model is no tensor: {type(value).__name__}")
        weights[name] = value.detach().cpu().clone()
    return weights


def optimizer_tensors(optimizers: "list[torch.optim.Optimizer]") -> Tensors:
    """Return the state of all optimizers, named optimizer/parameter/quantity."""
    import torch

    tensors = {}
    for i, optimizer in enumerate(optimizers):
        for parameter, state in optimizer.state_dict()["state"].items():
            for name, value in state.items():
                if isinstance(value, torch.Tensor):
                    tensors[f"{i}/{parameter}/{name}"] = value.detach().cpu().clone()
    return tensors


def load_optimizers(optimizers: "list[torch.optim.Optimizer]", tensors: Tensors) -> None:
    """Put moments and step counts back; options stay as the configuration has them."""
    states: list[dict[int, dict[str, Any]]] = [{} for _ in optimizers]
    for path, value in tensors.items():
        i, parameter, name = path.split("/")
        states[int(i)].setdefault(int(parameter), {})[name] = value.clone()
    for optimizer, state in zip(optimizers, states, strict=True):
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
