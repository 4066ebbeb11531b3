"""A detector taken apart trains like the same detector left alone."""

import copy

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.meta_arch.fcos import FCOS

from adapruner_det.detection.per_image import check_per_image, put_together, take_apart, unhandled

from .tiny import close, random_batch, tiny_cfg, tiny_lazy_detector, train_step

RPN = "proposal_generator (RPN)"
BOX = "roi_heads.box_predictor (FastRCNNOutputLayers)"
MASK = "roi_heads.mask_head (MaskRCNNConvUpsampleHead)"
KEYPOINT = "roi_heads.keypoint_head (KRCNNConvDeconvUpsampleHead)"
SEM_SEG = "sem_seg_head (SemSegFPNHead)"
STAGES = [f"roi_heads.box_predictor.{k} (FastRCNNOutputLayers)" for k in range(3)]

# name: (config, options, what is taken apart)
DETECTORS = {
    "faster FPN": ("COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml", (), [RPN, BOX]),
    "faster FPN FrozenBN": (
        "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml",
        ("MODEL.RESNETS.NORM", "FrozenBN", "MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES", True),
        [RPN, BOX],
    ),
    "faster C4": ("PascalVOC-Detection/faster_rcnn_R_50_C4.yaml", (), [RPN, BOX]),
    "faster DC5": ("COCO-Detection/faster_rcnn_R_50_DC5_1x.yaml", (), [RPN, BOX]),
    "rpn": ("COCO-Detection/rpn_R_50_FPN_1x.yaml", (), [RPN]),
    "mask FPN": (
        "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x_giou.yaml",
        (),
        [RPN, BOX, MASK],
    ),
    "mask C4": ("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_1x.yaml", (), [RPN, BOX, MASK]),
    "mask DC5": ("COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_1x.yaml", (), [RPN, BOX, MASK]),
    "keypoint": ("COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml", (), [RPN, BOX, KEYPOINT]),
    "cascade": ("Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml", (), [RPN, *STAGES, MASK]),
    "retinanet": ("COCO-Detection/retinanet_R_50_FPN_1x.yaml", (), ["detector (RetinaNet)"]),
    "fcos": ("COCO-Detection/fcos_R_50_FPN_1x.py", (), ["detector (FCOS)"]),
    "panoptic": (
        "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml",
        ("MODEL.PANOPTIC_FPN.INSTANCE_LOSS_WEIGHT", 0.7),
        [RPN, BOX, MASK, SEM_SEG],
    ),
    "semantic": ("Misc/semantic_R_50_FPN_1x.yaml", (), [SEM_SEG]),
}


# v0.6's FCOS fails on an image without objects, main's does not.
FCOS_TRAINS_ON_EMPTY_IMAGES = hasattr(FCOS, "_match_anchors")


def build(config, *options):
    if config.endswith(".yaml"):
        return build_model(tiny_cfg(config, *options))
    return tiny_lazy_detector(config)


def same(logs, expected):
    return logs == pytest.approx(expected, rel=1e-12, nan_ok=True)


# Detectron2 itself logs the mean of no keypoints.
@pytest.mark.filterwarnings("ignore:Mean of empty slice", "ignore:invalid value encountered")
@pytest.mark.parametrize(("config", "options", "parts"), DETECTORS.values(), ids=DETECTORS)
def test_a_detector_taken_apart_trains_like_the_one_left_alone(config, options, parts):
    detector = build(config, *options)
    apart = copy.deepcopy(detector)
    keys = list(apart.state_dict())
    assert unhandled(apart) == []
    assert take_apart(apart) == parts
    assert unhandled(apart) == []
    assert list(apart.state_dict()) == keys

    needs_objects = isinstance(detector, FCOS) and not FCOS_TRAINS_ON_EMPTY_IMAGES
    batch = random_batch((3, 1, 2) if needs_objects else (3, 0, 2))
    wanted_losses, wanted_gradients, wanted_logs, wanted_random = train_step(detector, batch)
    losses, gradients, logs, random = train_step(apart, batch)
    check_per_image(losses, len(batch))
    assert list(losses) == list(wanted_losses)
    for name, value in losses.items():
        close(value.mean(), wanted_losses[name], 1e-6)
        assert value.sum() > 0, f"{name} was not exercised"
    largest = max(gradient.abs().max() for gradient in wanted_gradients.values())
    for name, gradient in gradients.items():
        # Sums of float32 in another order: some processors come to 1.2e-5 apart. A bias before a
        # batch norm has gradient 0 but for rounding.
        close(gradient, wanted_gradients[name], 3e-5, 1e-8 * largest)
    assert same(logs, wanted_logs)
    assert random == wanted_random

    # A batch of one, a batch without any object, an inference.
    for counts in [(2,)] if needs_objects else [(2,), (0, 0)]:
        batch = random_batch(counts)
        wanted_losses, _, wanted_logs, _ = train_step(detector, batch, backward=False)
        losses, _, logs, _ = train_step(apart, batch, backward=False)
        check_per_image(losses, len(batch))
        for name, value in losses.items():
            close(value.mean(), wanted_losses[name], 1e-6)
        assert same(logs, wanted_logs)
    with torch.no_grad():
        assert len(apart.eval()(batch)) == len(batch)

    put_together(apart)
    assert list(map(type, apart.modules())) == list(map(type, detector.modules()))


@pytest.mark.parametrize("name", ["mask FPN", "keypoint", "retinanet", "panoptic"])
def test_under_autocast_the_losses_are_float32_and_detectron2s(name):
    config, options, _ = DETECTORS[name]
    detector = build(config, *options)
    apart = copy.deepcopy(detector)
    take_apart(apart)
    batch = random_batch()
    with torch.autocast("cpu", torch.bfloat16):
        wanted, _, _, _ = train_step(detector, batch, backward=False)
        losses, _, _, _ = train_step(apart, batch, backward=False)
    for name, value in losses.items():
        assert value.dtype == torch.float32
        close(value.mean(), wanted[name], 1e-6)
