"""The gradient of each sample's loss: with respect to the model's output, and to all parameters.

With respect to the output z it has a closed form for the two losses that matter most,

    cross entropy             softmax(z) - onehot(y)
    sigmoid cross entropy     (sigmoid(z) - y) / number of outputs

which costs no graph.  Class weights, label smoothing and all other losses go through autograd.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

__all__ = ["of_outputs", "parameter_norms"]

CHUNK_BYTES = 64 * 2**20  # of gradients that `parameter_norms` holds at a time


def of_outputs(
    outputs: "torch.Tensor", labels: "torch.Tensor", criterion: "torch.nn.Module"
) -> "torch.Tensor":
    """Return the gradient of each sample's loss with respect to its row of the outputs.

    Parameters
    ----------
    outputs : tensor, shape (n, classes) or (n,)
    labels : tensor, shape (n,)
        As the criterion takes them.
    criterion : module
        With reduction "none".

    Returns
    -------
    tensor, shape (n, classes) or (n, 1)
        At least float32, on the device of the outputs, and part of no graph.

    Examples
    --------
    >>> import torch
    >>> cross_entropy = torch.nn.CrossEntropyLoss(reduction="none")
    >>> of_outputs(torch.zeros(1, 4), torch.tensor([2]), cross_entropy)
    tensor([[ 0.2500,  0.2500, -0.7500,  0.2500]])
    """
    import torch

    leaf = outputs.detach()
    if leaf.dtype in (torch.float16, torch.bfloat16):
        leaf = leaf.float()
    found = _closed_form(leaf, labels, criterion)
    return (_by_autograd(leaf, labels, criterion) if found is None else found).reshape(
        len(labels), -1
    )


def _closed_form(
    outputs: "torch.Tensor", labels: "torch.Tensor", criterion: "torch.nn.Module"
) -> "torch.Tensor | None":
    import torch

    if getattr(criterion, "weight", None) is not None:
        return None
    if (
        type(criterion) is torch.nn.CrossEntropyLoss
        and criterion.label_smoothing == 0.0
        and outputs.ndim == 2
        and labels.ndim == 1
    ):
        ignored = labels == criterion.ignore_index
        rows = torch.arange(len(labels), device=labels.device)
        gradients = torch.softmax(outputs, dim=1)
        gradients[rows, labels.masked_fill(ignored, 0)] -= 1.0
        return gradients.masked_fill_(ignored.unsqueeze(1), 0.0)
    if type(criterion) is torch.nn.BCEWithLogitsLoss and criterion.pos_weight is None:
        return (torch.sigmoid(outputs) - labels) / (outputs.numel() / max(len(labels), 1))
    return None


def _by_autograd(
    outputs: "torch.Tensor", labels: "torch.Tensor", criterion: "torch.nn.Module"
) -> "torch.Tensor":
    import torch

    with torch.enable_grad():
        leaf = outputs.detach().requires_grad_()
        losses = criterion(leaf, labels)
        loss = losses.reshape(len(labels), -1).mean(dim=1).sum()
        (gradients,) = torch.autograd.grad(loss, leaf)
    return gradients


def parameter_norms(
    model: "torch.nn.Module",
    inputs: "torch.Tensor | Mapping[str, torch.Tensor]",
    labels: "torch.Tensor",
    criterion: "torch.nn.Module",
) -> "torch.Tensor":
    """Return the norm of the gradient of each sample's loss with respect to all parameters.

    Parameters
    ----------
    model : module
        In eval mode, of operations that `torch.vmap` knows.
    inputs : tensor, or mapping of str to tensor, shape (n, ...)
        What it is called with: one argument, or several by name.
    labels : tensor, shape (n,)
        As the criterion takes them.
    criterion : module
        With reduction "none".

    Returns
    -------
    float64 tensor, shape (n,)
        Samples go through in chunks of which the gradients fill at most `CHUNK_BYTES`.
    """
    import torch

    parameters = {name: one.detach() for name, one in model.named_parameters() if one.requires_grad}
    rest = {name: one.detach() for name, one in model.named_parameters() if not one.requires_grad}
    rest.update(model.named_buffers())

    def loss(parameters: Any, inputs: Any, label: Any) -> Any:
        """Return the loss of one sample, as a batch of one."""
        arguments, named = _as_batch(inputs)
        state = {**parameters, **rest}
        output = torch.func.functional_call(model, state, arguments, named)
        if output.ndim == 2 and label.is_floating_point():
            output = output.reshape(1)
        return criterion(output, label.unsqueeze(0)).mean()

    gradients = torch.func.grad(loss)
    size = sum(one.numel() * one.element_size() for one in parameters.values())
    chunk = max(CHUNK_BYTES // max(size, 1), 1)
    norms = [
        _norms(torch.vmap(gradients, in_dims=(None, 0, 0))(parameters, part, part_labels))
        for part, part_labels in _chunks(inputs, labels, chunk)
    ]
    return torch.cat(norms)


def _as_batch(inputs: Any) -> "tuple[tuple[torch.Tensor, ...], dict[str, torch.Tensor]]":
    """Return one sample as the arguments of a model."""
    if isinstance(inputs, Mapping):
        return (), {name: value.unsqueeze(0) for name, value in inputs.items()}
    return (inputs.unsqueeze(0),), {}


def _chunks(inputs: Any, labels: "torch.Tensor", chunk: int) -> Any:
    for first in range(0, max(len(labels), 1), chunk):
        part = slice(first, first + chunk)
        if isinstance(inputs, Mapping):
            yield {name: value[part] for name, value in inputs.items()}, labels[part]
        else:
            yield inputs[part], labels[part]


def _norms(gradients: "dict[str, torch.Tensor]") -> "torch.Tensor":
    """Return the norm over all parameters of each sample; the first axis is the samples'."""
    import torch

    squares = [
        torch.linalg.vector_norm(one.flatten(1), dim=1, dtype=torch.float64).square()
        for one in gradients.values()
    ]
    return torch.stack(squares).sum(dim=0).sqrt()
