"""The head that docs/detectors.md registers, as it stands there."""

import copy
import re
from pathlib import Path

import pytest
from detectron2.modeling import build_model

from adapruner_det.detection.per_image import (
    APART,
    LossSource,
    check_per_image,
    take_apart,
    unhandled,
)

from .tiny import close, random_batch, tiny_cfg, train_step

DOCS = Path(__file__).parents[3] / "docs/detectors.md"


@pytest.fixture(scope="module")
def example():
    """The names that the page's block defines; Detectron2's registry takes it once a process."""
    text = DOCS.read_text().partition("## Saying how the loss of your head is taken apart")[2]
    names = {"__name__": "docs_detectors"}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], names)
    return names


def detector():
    cfg = tiny_cfg("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
    cfg.MODEL.ROI_MASK_HEAD.NAME = "DiceMaskHead"
    return build_model(cfg).train()


def test_by_image_it_trains_as_it_does_for_the_batch(example):
    plain = detector()
    assert type(plain.roi_heads.mask_head) is example["DiceMaskHead"]
    apart = copy.deepcopy(plain)
    assert unhandled(apart) == []
    assert "roi_heads.mask_head (DiceMaskHead)" in take_apart(apart)
    batch = random_batch()
    wanted, wanted_gradients, _, wanted_random = train_step(plain, batch)
    losses, gradients, _, random = train_step(apart, batch)
    check_per_image(losses, len(batch))
    assert (losses["loss_mask"] > 0).tolist() == [True, False, True]  # the second has no object
    for name, value in losses.items():
        close(value.mean(), wanted[name], 1e-6)
    largest = max(gradient.abs().max() for gradient in wanted_gradients.values())
    for name, gradient in gradients.items():
        close(gradient, wanted_gradients[name], 1e-5, 1e-8 * largest)
    assert random == wanted_random


def test_a_batch_without_objects_and_inference_go_as_before(example):
    plain = detector()
    apart = copy.deepcopy(plain)
    take_apart(apart)
    wanted, _, _, _ = train_step(plain, random_batch((0, 0)), backward=False)
    losses, _, _, _ = train_step(apart, random_batch((0, 0)))
    assert losses["loss_mask"].tolist() == [0.0, 0.0]
    assert wanted["loss_mask"] == 0.0
    batch = random_batch()
    assert len(apart.eval()(batch)) == len(batch)


def test_its_detector_is_not_run_serially(example):
    assert LossSource(detector()).way == APART
