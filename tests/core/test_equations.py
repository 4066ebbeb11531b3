"""Eq. 4 to 7 against the paper's text, and the closed-form gradients against autograd."""

import numpy as np
import pytest
import torch
from torch import nn

from adapruner_det.core import AdaPruner, Schedule
from adapruner_det.core.equations import (
    binarising_force,
    classification_loss,
    compression_loss,
    compression_weight,
    keep_probability,
    mask_gradient,
    pressure,
    selection_loss,
    sigmoid,
)

N = 50


@pytest.fixture
def logit():
    return torch.randn(N, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def loss():
    """From 1e-3 to 1e3, on both sides of the minimum of L − log L, and an exact zero."""
    return torch.cat([torch.zeros(1), torch.logspace(-3, 3, N - 1)]).double()


def test_the_terms_are_the_papers(logit, loss):
    p = 1.0 / (1.0 + torch.exp(-5.0 * logit))
    probability = keep_probability(logit, 5.0)
    torch.testing.assert_close(probability, p)
    torch.testing.assert_close(classification_loss(probability, loss), p * loss)
    torch.testing.assert_close(selection_loss(probability, loss), p * -torch.log(loss + 1e-5))
    assert compression_loss(torch.tensor(0.7), 0.9).item() == pytest.approx(0.04)
    assert compression_weight(0.7, 0.9) == pytest.approx(20.0)
    assert compression_weight(1.0, 0.9, scale=50.0) == pytest.approx(5.0)


def test_answers_one_can_do_in_the_head():
    half, one = torch.tensor([0.5]), torch.tensor([1.0])
    assert keep_probability(torch.tensor([0.0]), 5.0).item() == 0.5
    assert classification_loss(half, torch.tensor([3.0])).item() == 1.5
    assert selection_loss(one, torch.tensor([np.e])).item() == pytest.approx(-1.0, abs=1e-5)
    assert pressure(np.array([1.0]), eps=0.0).item() == 1.0
    assert compression_weight(0.9, 0.9) == 0.0


def test_pressure_is_least_at_a_loss_of_one():
    losses = np.logspace(-3, 3, 601)
    assert losses[np.argmin(pressure(losses))] == pytest.approx(1.0)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 5.0])
@pytest.mark.parametrize(
    "terms", [(True, True), (True, False), (False, True), (False, False)], ids=str
)
def test_mask_gradient_is_autograds(logit, loss, alpha, terms):
    """Eq. 4 + Eq. 5 + λ·Eq. 6, λ held constant; each of the first two may be off."""
    classification, selection = terms
    logit.requires_grad_()
    p = keep_probability(logit, alpha)
    weight = compression_weight(p.mean().item(), 0.9)
    objective = weight * compression_loss(p.mean(), 0.9)
    if classification:
        objective = objective + classification_loss(p, loss).sum() / N
    if selection:
        objective = objective + selection_loss(p, loss).sum() / N
    objective.backward()

    f = pressure(loss.numpy(), use_classification=classification, use_selection=selection)
    force = f + 2.0 * weight * (p.mean().item() - 0.9)
    ours = mask_gradient(logit.detach().numpy(), alpha, force) / N
    np.testing.assert_allclose(ours, logit.grad.numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("alpha", [0.1, 5.0])
def test_lagrangian_gradient_is_autograds(logit, loss, alpha):
    """The dual's objective: Σ σ·f − μ·(Σ σ − c_r·N) + h·Σ σ(1 − σ)."""
    multiplier, strength = 1.7, 0.6
    logit.requires_grad_()
    p = keep_probability(logit, alpha)
    data = classification_loss(p, loss) + selection_loss(p, loss)
    constraint = multiplier * (p.sum() - 0.9 * N)
    (data.sum() - constraint + (strength * p * (1.0 - p)).sum()).backward()

    force = pressure(loss.numpy()) - multiplier
    force += binarising_force(p.detach().numpy(), strength)
    ours = mask_gradient(logit.detach().numpy(), alpha, force)
    np.testing.assert_allclose(ours, logit.grad.numpy(), rtol=1e-10, atol=1e-10)


def test_gradients_do_not_overflow():
    logit = np.array([-1e6, 0.0, 1e6])
    np.testing.assert_array_equal(sigmoid(logit), [0.0, 0.5, 1.0])
    np.testing.assert_array_equal(mask_gradient(logit, 5.0, np.ones(3)), [0.0, 1.25, 0.0])


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Linear(4, 3)


def per_sample_loss(model):
    inputs = torch.randn(8, 4, generator=torch.Generator().manual_seed(1))
    return nn.functional.cross_entropy(model(inputs), torch.arange(8) % 3, reduction="none")


def test_selection_loss_moves_no_weight(model):
    logit = torch.zeros(8, requires_grad=True)
    loss = per_sample_loss(model)
    assert loss.requires_grad
    selection_loss(keep_probability(logit, 1.0), loss).sum().backward()
    assert all(p.grad is None for p in model.parameters())
    assert logit.grad.abs().sum() > 0


def test_training_backward_leaves_no_gradient_on_the_mask(model):
    pruner = AdaPruner(8, 0.5, Schedule(0, 2))
    ids = torch.arange(8)
    before = pruner.mask.column("logit").copy()
    weights = pruner.weights(ids)
    assert not weights.requires_grad
    loss = per_sample_loss(model)
    (weights * loss).mean().backward()
    np.testing.assert_array_equal(pruner.mask.column("logit"), before)

    # The mask's own update, in turn, moves no weight: it neither needs nor feeds the graph.
    gradients = [p.grad.clone() for p in model.parameters()]
    weights_before = [p.detach().clone() for p in model.parameters()]
    pruner.observe(ids, loss)
    assert np.any(pruner.mask.column("logit") != before)
    for p, gradient, value in zip(model.parameters(), gradients, weights_before, strict=True):
        assert torch.equal(p.grad, gradient) and torch.equal(p.detach(), value)


def test_the_weights_gradient_is_eq_4s(model):
    """d/dθ of (1/B)·Σ σ(αm)·L by the training backward, against σ and ∇L sample by sample."""
    pruner = AdaPruner(8, 0.5, Schedule(0, 2))
    pruner.observe(np.arange(8), np.linspace(0.1, 3.0, 8))
    weights = pruner.weights(torch.arange(8))
    assert weights.std() > 0
    (weights * per_sample_loss(model)).mean().backward()
    found = model.weight.grad.clone()
    expected = torch.zeros_like(found)
    for i, weight in enumerate(weights):
        (gradient,) = torch.autograd.grad(per_sample_loss(model)[i], model.weight)
        expected += weight * gradient / 8
    torch.testing.assert_close(found, expected)
