"""Models from their settings: a built-in id, an allowed import path, or a Python callable.

An import path in a configuration is followed when the pipeline runs and never before, and only
where the operator allowed its module: who may edit a configuration may not choose what code runs.
"""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from importlib import import_module
from math import prod
from typing import TYPE_CHECKING, Any

from modyn.errors import ConfigError
from modyn.models import BUILT_IN
from modyn.pipelines.settings import Model

if TYPE_CHECKING:
    import torch

IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*", re.ASCII)

MakeModel = Callable[[], "torch.nn.Module"]


def model_of(value: Any) -> Model:
    """Return the settings of what a caller passed as a model: settings, an id, or a callable."""
    if isinstance(value, Model):
        return value
    if isinstance(value, str):
        return Model(id=value)
    if callable(value):
        name = getattr(value, "__qualname__", type(value).__qualname__)
        return Model(id=f"{getattr(value, '__module__', '?')}:{name}", factory=value)
    raise TypeError(f"model must be a Model, an id or a callable, got {type(value).__name__}")


def fitted(model: Model, schema: Mapping[str, str]) -> Model:
    """Return the model with what its configuration leaves to the dataset's schema.

    Examples
    --------
    >>> fitted(Model(id="MLP", config={"num_classes": 2}), {"dense": "float32[13]"}).config
    {'num_classes': 2, 'num_features': 13}
    """
    if model.factory is not None or model.id != "MLP":
        return model
    config = dict(model.config)
    width = _dense_width(schema)
    if config.setdefault("num_features", width) != width:
        raise ConfigError(
            f"model.config.num_features is {config['num_features']}, "
            f"but the samples have {width} numbers: {dict(schema)}"
        )
    return replace(model, config=config)


def maker(model: Model, *, allow: Collection[str] = ()) -> MakeModel:
    """Return what makes a fresh model; imports the code, and refuses what is not allowed.

    Raises
    ------
    ConfigError
        When the id is unknown, its module is not allowed, or holds no such function.
    """
    make = model.factory or _find(model.id, allow)

    def build() -> "torch.nn.Module":
        import torch

        try:
            made = make(**model.config)
        except TypeError as error:
            raise ConfigError(
                f"model {model.id} cannot be made from its config: {error}"
            ) from error
        if not isinstance(made, torch.nn.Module):
            raise TypeError(f"model {model.id} is no torch.nn.Module: {type(made).__name__}")
        return made

    return build


def _find(name: str, allow: Collection[str]) -> Callable[..., Any]:
    if name in BUILT_IN:
        found: Callable[..., Any] = getattr(import_module(BUILT_IN[name]), name)
        return found
    if IMPORT_PATH.fullmatch(name) is None:
        raise ConfigError(f"model.id {name!r} is unknown; there is {', '.join(BUILT_IN)}")
    module, function = name.split(":")
    if module not in allow:
        raise ConfigError(f"model.id {name!r}: code of {module} runs only with --allow {module}")
    found = getattr(import_module(module), function, None)  # type: ignore[assignment]
    if not callable(found):
        raise ConfigError(f"model.id {name!r}: {module} has no function {function}")
    return found


def _dense_width(schema: Mapping[str, str]) -> int:
    """Return how many numbers the `dense` field holds, or the only field."""
    name = "dense" if "dense" in schema else next(iter(schema))
    if schema[name] == "bytes":
        raise ConfigError(f"model MLP takes numbers, but the field {name!r} holds bytes")
    _, _, shape = schema[name].partition("[")
    return prod(int(size) for size in shape.rstrip("]").split(",")) if shape else 1
