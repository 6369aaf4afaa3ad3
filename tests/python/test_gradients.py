"""Gradients of each sample's loss: the closed forms, and the norms over all parameters."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from modyn.downsampling import gradients

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request):
    return torch.device(request.param)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def logits(*shape, scale=3.0):
    return scale * torch.randn(*shape, generator=generator())


def by_autograd(outputs, labels, criterion):
    """A backward pass for each sample."""
    rows = []
    for i in range(len(labels)):
        leaf = outputs[i : i + 1].clone().requires_grad_()
        criterion(leaf, labels[i : i + 1]).mean().backward()
        rows.append(leaf.grad.reshape(-1))
    return torch.stack(rows)


CLASS_WEIGHTS = torch.tensor([1.0, 0.5, 2.0, 3.0, 0.1])
CROSS_ENTROPIES = {
    "plain": {},
    "class weights": {"weight": CLASS_WEIGHTS},
    "label smoothing": {"label_smoothing": 0.1},
    "both": {"weight": CLASS_WEIGHTS, "label_smoothing": 0.2},
    "ignored labels": {"ignore_index": 2},
    "labels ignored by default": {"ignore_index": -100},
}


@pytest.mark.parametrize("name", CROSS_ENTROPIES)
def test_cross_entropy_is_as_by_autograd(device, name):
    criterion = nn.CrossEntropyLoss(reduction="none", **CROSS_ENTROPIES[name]).to(device)
    outputs = logits(40, 5).to(device)
    labels = torch.randint(0, 5, (40,), generator=generator(1)).to(device)
    if "default" in name:
        labels[::7] = -100

    got = gradients.of_outputs(outputs, labels, criterion)

    torch.testing.assert_close(got, by_autograd(outputs, labels, criterion), rtol=0, atol=1e-6)


BINARY = {
    "plain": {},
    "positive weight": {"pos_weight": torch.tensor(3.0)},
    "weight": {"weight": torch.tensor(0.5)},
}


@pytest.mark.parametrize("shape", [(40,), (40, 1)])
@pytest.mark.parametrize("name", BINARY)
def test_sigmoid_cross_entropy_is_as_by_autograd(device, name, shape):
    criterion = nn.BCEWithLogitsLoss(reduction="none", **BINARY[name]).to(device)
    outputs = logits(*shape).to(device)
    labels = (torch.rand(shape, generator=generator(1)) < 0.3).float().to(device)

    got = gradients.of_outputs(outputs, labels, criterion)

    assert got.shape == (40, 1)
    torch.testing.assert_close(got, by_autograd(outputs, labels, criterion), rtol=0, atol=1e-6)


def test_several_outputs_with_a_label_each_are_averaged(device):
    criterion = nn.BCEWithLogitsLoss(reduction="none")
    outputs = logits(20, 4).to(device)
    labels = (torch.rand(20, 4, generator=generator(1)) < 0.3).float().to(device)

    got = gradients.of_outputs(outputs, labels, criterion)

    torch.testing.assert_close(got, by_autograd(outputs, labels, criterion), rtol=0, atol=1e-6)


@pytest.mark.parametrize("criterion", [nn.MSELoss, nn.L1Loss, nn.HuberLoss, nn.SmoothL1Loss])
def test_losses_of_numbers_are_as_by_autograd(device, criterion):
    outputs, labels = logits(20).to(device), torch.arange(20.0, device=device) / 10

    got = gradients.of_outputs(outputs, labels, criterion(reduction="none"))

    expected = by_autograd(outputs, labels, criterion(reduction="none"))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("criterion", [nn.NLLLoss, nn.MultiMarginLoss])
def test_other_losses_of_classes_are_as_by_autograd(device, criterion):
    outputs = torch.log_softmax(logits(20, 5), dim=1).to(device)
    labels = torch.randint(0, 5, (20,), generator=generator(1)).to(device)

    got = gradients.of_outputs(outputs, labels, criterion(reduction="none"))

    expected = by_autograd(outputs, labels, criterion(reduction="none"))
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"label_smoothing": 0.1}])
def test_what_is_asked_is_left_as_it_was(settings):
    outputs = logits(6, 5).requires_grad_()
    before = outputs.detach().clone()

    with torch.no_grad():
        got = gradients.of_outputs(
            outputs, torch.arange(6) % 5, nn.CrossEntropyLoss(reduction="none", **settings)
        )

    assert not got.requires_grad
    assert outputs.grad is None
    assert torch.equal(outputs.detach(), before)


def test_half_precision_is_worked_out_in_single():
    outputs = logits(8, 5).bfloat16()
    labels = torch.arange(8) % 5
    criterion = nn.CrossEntropyLoss(reduction="none")

    got = gradients.of_outputs(outputs, labels, criterion)

    assert got.dtype == torch.float32
    assert torch.equal(got, gradients.of_outputs(outputs.float(), labels, criterion))


# All parameters ---------------------------------------------------------------------------------


class TwoFields(nn.Module):
    """A model that takes its fields by name; a batch norm, dropout and a layer that is frozen."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.norm = nn.BatchNorm1d(8)
        self.embed = nn.Embedding(10, 8)
        self.drop = nn.Dropout(0.5)
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.last = nn.Linear(8, 3)

    def forward(self, dense, category):
        hidden = self.norm(self.first(dense)) + self.embed(category)
        return self.last(self.frozen(self.drop(torch.relu(hidden))))


def norms_one_by_one(model, calls, labels, criterion):
    """A backward pass for each sample."""
    found = []
    for call, label in zip(calls, labels, strict=True):
        model.zero_grad()
        output = call(model)
        output = output.reshape(1) if label.is_floating_point() else output
        criterion(output, label.unsqueeze(0)).mean().backward()
        squares = [
            one.grad.double().square().sum() for one in model.parameters() if one.requires_grad
        ]
        found.append(torch.stack(squares).sum().sqrt())
    return torch.stack(found)


@pytest.mark.parametrize("chunk_bytes", [1, 5000, 2**26])
def test_norms_over_all_parameters_are_those_of_a_backward_pass_each(
    device, monkeypatch, chunk_bytes
):
    monkeypatch.setattr(gradients, "CHUNK_BYTES", chunk_bytes)
    torch.manual_seed(0)
    model = TwoFields().to(device)
    model(torch.randn(50, 6, device=device), torch.arange(50, device=device) % 10)
    model.eval()
    dense = torch.randn(23, 6, device=device)
    category = torch.randint(0, 10, (23,), device=device)
    labels = torch.randint(0, 3, (23,), device=device)
    criterion = nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1)

    got = gradients.parameter_norms(
        model, {"dense": dense, "category": category}, labels, criterion
    )

    calls = [
        lambda m, i=i: m(dense=dense[i : i + 1], category=category[i : i + 1]) for i in range(23)
    ]
    expected = norms_one_by_one(model, calls, labels, criterion)
    assert got.dtype == torch.float64
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_norms_of_a_model_with_one_output(device):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).to(device).eval()
    x = torch.randn(9, 4, device=device)
    labels = (torch.arange(9, device=device) % 2).float()
    criterion = nn.BCEWithLogitsLoss(reduction="none")

    got = gradients.parameter_norms(model, x, labels, criterion)

    expected = norms_one_by_one(
        model, [lambda m, i=i: m(x[i : i + 1]) for i in range(9)], labels, criterion
    )
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_asking_for_norms_leaves_model_and_generator_alone():
    torch.manual_seed(0)
    model = TwoFields().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()

    gradients.parameter_norms(
        model,
        {"dense": torch.ones(3, 6), "category": torch.arange(3)},
        torch.arange(3),
        nn.CrossEntropyLoss(reduction="none"),
    )

    assert torch.equal(torch.get_rng_state(), state)
    assert all(one.grad is None for one in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
