import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead

from adapruner_det.detection.per_image import take_apart
from adapruner_det.detection.per_image.sem_seg import pixel_losses

from .tiny import NUM_STUFF, close, tiny_cfg

SIDE = 24


def head():
    cfg = tiny_cfg("Misc/semantic_R_50_FPN_1x.yaml", "MODEL.SEM_SEG_HEAD.LOSS_WEIGHT", 0.5)
    return SemSegFPNHead(cfg, {"p2": ShapeSpec(channels=4, stride=4)})


def inputs(module, num_images):
    """Logits at the head's stride; the second image is ignored as a whole, the others in part."""
    small = SIDE // module.common_stride
    logits = torch.randn(num_images, NUM_STUFF, small, small, requires_grad=True)
    targets = torch.randint(0, NUM_STUFF, (num_images, SIDE, SIDE))
    for i, target in enumerate(targets):
        target[: 3 * i] = module.ignore_value
    if num_images > 1:
        targets[1] = module.ignore_value
    return logits, targets


@pytest.mark.parametrize("num_images", [1, 3])
def test_mean_and_gradient_are_detectron2s(num_images):
    module = head()
    logits, targets = inputs(module, num_images)
    expected = module.losses(logits, targets)["loss_sem_seg"]
    assert take_apart(module) == ["detector (SemSegFPNHead)"]
    losses = module.losses(logits, targets)["loss_sem_seg"]
    assert losses.shape == (num_images,)
    close(losses.mean(), expected, 1e-6)
    (actual,) = torch.autograd.grad(losses.mean(), logits)
    (wanted,) = torch.autograd.grad(expected, logits)
    close(actual, wanted, 1e-6)


def test_each_value_is_detectron2s_loss_of_that_image_scaled_by_its_share_of_pixels():
    module = head()
    logits, targets = inputs(module, 3)
    counted = (targets != module.ignore_value).sum(dim=(1, 2))
    alone = [module.losses(logits[i : i + 1], targets[i : i + 1]) for i in (0, 2)]
    take_apart(module)
    losses = module.losses(logits, targets)["loss_sem_seg"]
    share = 3 * counted / counted.sum()
    close(losses[[0, 2]], torch.stack([x["loss_sem_seg"] for x in alone]) * share[[0, 2]], 1e-6)
    assert losses[1] == 0


def test_nothing_but_ignored_pixels_is_nan_as_in_detectron2():
    targets = torch.full((2, 4, 4), 255)
    assert pixel_losses(torch.zeros(2, 3, 4, 4), targets, 255).isnan().all()
    assert torch.nn.functional.cross_entropy(
        torch.zeros(2, 3, 4, 4), targets, ignore_index=255
    ).isnan()
