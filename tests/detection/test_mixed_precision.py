"""Under autocast, which Detectron2's AMPTrainer uses, on the CPU. Its own needs a GPU."""

import pytest
import torch
from detectron2.utils.events import EventStorage

from tests.detection.toy import DETECTORS
from tests.detection.training.test_weighting import batch, decided_pruner, detector, wrap


@pytest.mark.parametrize("serial", [False, True], ids=["", "serial"])
@pytest.mark.parametrize("kind", DETECTORS)
def test_under_bfloat16_losses_of_images_are_float32_and_gradients_finite(kind, serial):
    model = wrap(detector(kind), decided_pruner())
    if serial:
        model.source.go_serial("of this test")
    convolution = next(m for m in model.detector.modules() if isinstance(m, torch.nn.Conv2d))
    dtypes = []
    convolution.register_forward_hook(lambda module, inputs, output: dtypes.append(output.dtype))
    with torch.autocast("cpu", torch.bfloat16), EventStorage(0):
        losses = model(batch())
    assert set(dtypes) == {torch.bfloat16}
    assert model.observed.losses.dtype == torch.float32
    assert {value.dtype for value in losses.values()} == {torch.float32}
    sum(losses.values()).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(gradients) > 10
    assert all(torch.isfinite(g).all() and g.dtype == torch.float32 for g in gradients)
