import numpy as np
import pytest
import torch

from adapruner_det.methods.grand import grand

from .evidence import Given, ToyEvidence, order_of


@pytest.mark.parametrize(("epochs", "taken"), [(25, 10), (10, 10), (9, 9), (1, 1)])
def test_it_is_the_norm_at_epoch_10_or_at_the_last(epochs, taken):
    evidence = ToyEvidence(epochs=epochs)
    norm = evidence.signal("gradient_norm")[taken - 1]
    np.testing.assert_array_equal(grand(evidence, 0.5).score, -norm)


def test_the_largest_gradient_stays():
    """Of a last layer whose gradient is taken sample by sample."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(30, 4, generator=generator)
    layer = torch.nn.Linear(4, 3)
    labels = torch.arange(30) % 3
    norms, signal = [], []
    for h, y in zip(hidden, labels, strict=True):
        layer.zero_grad()
        logits = layer(h)
        torch.nn.functional.cross_entropy(logits[None], y[None]).backward()
        norms.append(torch.cat([layer.weight.grad.ravel(), layer.bias.grad]).norm().item())
        error = logits.softmax(0).detach() - torch.eye(3)[y]
        signal.append((error.norm() * (1 + h.square().sum()).sqrt()).item())
    choice = grand(Given(gradient_norm=[signal]), 0.5)
    assert order_of(choice) == np.argsort(norms)[::-1].tolist()
