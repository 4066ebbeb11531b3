import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from adapruner_det.classification.signals import OF_FEATURES, SIGNALS, measured, require_known
from adapruner_det.errors import DataError


def batch(b=7, c=4, d=5, seed=0):
    """Features, the last layer over them, its logits, and labels."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(b, d, generator=generator)
    layer = nn.Linear(d, c)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(c, d, generator=generator))
        layer.bias.copy_(torch.randn(c, generator=generator))
    labels = torch.randint(0, c, (b,), generator=generator)
    return features, layer, layer(features), labels


def by_hand(name, z, y, h):
    """One sample's signal in plain Python, from its logits, its label and its features."""
    exps = [math.exp(value) for value in z]
    p = [value / sum(exps) for value in exps]
    error = math.sqrt(sum((own - (c == y)) ** 2 for c, own in enumerate(p)))
    return {
        "confidence": p[y],
        "fault": (1 - p[y] + max(value for c, value in enumerate(p) if c != y)) / 2,
        "margin": z[y] - max(value for c, value in enumerate(z) if c != y),
        "correct": float(max(range(len(z)), key=z.__getitem__) == y),
        "error_norm": error,
        "gradient_norm": error * math.sqrt(1 + sum(value**2 for value in h)),
        "probabilities": p,
    }[name]


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("classes", [2, 4])
def test_every_signal_is_what_it_is_by_hand(name, classes):
    features, _, logits, labels = batch(30, classes)
    found = measured([name], logits, labels, features)[name]
    expected = [
        by_hand(name, z, y, h)
        for z, y, h in zip(logits.tolist(), labels.tolist(), features.tolist(), strict=True)
    ]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-6)
    assert found.dtype == torch.float32 and not found.requires_grad


def test_the_gradient_norm_is_that_of_the_last_layer_s_own_gradient():
    features, layer, _, labels = batch()
    norms = []
    for h, y in zip(features, labels, strict=True):
        layer.zero_grad()
        functional.cross_entropy(layer(h[None]), y[None]).backward()
        parts = [layer.weight.grad.flatten(), layer.bias.grad.flatten()]
        norms.append(torch.cat(parts).norm())
    found = measured(["gradient_norm"], layer(features), labels, features)["gradient_norm"]
    torch.testing.assert_close(found, torch.stack(norms))


@pytest.mark.parametrize(
    ("name", "harder"),
    [
        ("confidence", -1),
        ("fault", 1),
        ("margin", -1),
        ("correct", -1),
        ("error_norm", 1),
        ("gradient_norm", 1),
    ],
)
def test_which_way_is_harder(name, harder):
    """The same image, once with the label that the model is sure of and once with another."""
    logits, features = torch.tensor([[4.0, 0.0, -1.0]] * 2), torch.ones(2, 3)
    easy, hard = measured([name], logits, torch.tensor([0, 2]), features)[name].tolist()
    assert harder * (hard - easy) > 0


def test_half_precision_is_measured_in_float32():
    logits = torch.tensor([[9.0, 1.0], [9.0, 1.0]], dtype=torch.bfloat16)
    labels, features = torch.tensor([0, 1]), torch.full((2, 300), 1.001, dtype=torch.bfloat16)
    found = measured(SIGNALS, logits, labels, features)
    assert {value.dtype for value in found.values()} == {torch.float32}
    exact = measured(SIGNALS, logits.float(), labels, features.float())
    assert all(torch.equal(found[name], exact[name]) for name in SIGNALS)


def test_only_what_is_asked_for_is_computed():
    _, _, logits, labels = batch()
    without = SIGNALS.keys() - OF_FEATURES
    assert measured(without, logits, labels).keys() == without
    assert measured((), logits, labels) == {}


def test_what_is_not_there_is_named_with_what_is():
    require_known([])
    require_known(SIGNALS)
    with pytest.raises(DataError) as error:
        require_known(["margin", "flips", "aum"])
    text = str(error.value)
    assert text.startswith("aum, flips is asked for") and "margin" not in text.split(";")[0]
    assert all(name in text for name in SIGNALS)
