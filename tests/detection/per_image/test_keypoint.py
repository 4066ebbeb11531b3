import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import keypoint_head
from detectron2.modeling.roi_heads.keypoint_head import KRCNNConvDeconvUpsampleHead
from detectron2.structures import Boxes

from adapruner_det.detection.per_image import take_apart
from adapruner_det.detection.per_image.keypoint import keypoint_sums, keypoint_targets

from .tiny import NUM_KEYPOINTS, close, random_instances, tiny_cfg

COUNTS = (3, 0, 5)
FIXED = ("MODEL.ROI_KEYPOINT_HEAD.NORMALIZE_LOSS_BY_VISIBLE_KEYPOINTS", False)


def head_with(*options):
    cfg = tiny_cfg("COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml", *options)
    return KRCNNConvDeconvUpsampleHead(cfg, ShapeSpec(channels=6, width=7, height=7)).double()


def inputs(counts):
    """Proposals that hold their object's keypoints, and region features."""
    instances = [random_instances(count, 64, 64) for count in counts]
    for one in instances:
        one.proposal_boxes = Boxes(one.gt_boxes.tensor + torch.tensor([-1.0, -1.0, 1.0, 1.0]))
    return torch.randn(sum(counts), 6, 7, 7, dtype=torch.float64), instances


def hide(instances):
    for one in instances:
        one.gt_keypoints.tensor[:, :, 2] = 0
    return instances


@pytest.mark.parametrize("options", [(), FIXED, ("MODEL.ROI_KEYPOINT_HEAD.LOSS_WEIGHT", 0.3)])
@pytest.mark.parametrize("counts", [COUNTS, (4,), (0, 0)])
@pytest.mark.parametrize("visible", [True, False])
def test_mean_gradients_and_logs_are_detectron2s(options, counts, visible, storage, monkeypatch):
    head = head_with(*options)
    x, instances = inputs(counts)
    if not visible:
        hide(instances)
    monkeypatch.setattr(keypoint_head, "_TOTAL_SKIPPED", 5)
    expected = head(x, instances)["loss_keypoint"]
    gradients = torch.autograd.grad(expected, head.parameters())
    logged = dict(storage.latest())
    monkeypatch.setattr(keypoint_head, "_TOTAL_SKIPPED", 5)
    assert take_apart(head) == ["detector (KRCNNConvDeconvUpsampleHead)"]
    losses = head(x, instances)["loss_keypoint"]

    assert losses.shape == (len(counts),)
    close(losses.mean(), expected, 1e-12)
    ours = torch.autograd.grad(losses.mean(), head.parameters())
    for actual, wanted in zip(ours, gradients, strict=True):
        close(actual, wanted, 1e-12)
    assert dict(storage.latest()) == logged
    assert (expected > 0) == (visible and sum(counts) > 0)
    assert logged.keys() == (set() if expected > 0 else {"kpts_num_skipped_batches"})


def test_each_value_is_detectron2s_loss_of_that_image_scaled_by_its_share_of_visible_keypoints():
    head = head_with()
    x, instances = inputs(COUNTS)
    hide(instances[2:])
    instances[2].gt_keypoints.tensor[0, 0, 2] = 2
    pieces = zip(x.split(COUNTS), instances, strict=True)
    alone = torch.stack([head(piece, [one])["loss_keypoint"] for piece, one in pieces])
    take_apart(head)
    visible = torch.tensor(
        [len(keypoint_targets([one], 28)[1]) for one in (instances[0],)] + [0, 1]
    )
    losses = head(x, instances)["loss_keypoint"]
    close(losses, alone * visible / visible.sum() * len(COUNTS), 1e-12)
    assert losses[1] == 0 < losses[2]


def test_a_fixed_normalizer_knows_nothing_of_batch_mates():
    head = head_with(*FIXED)
    x, instances = inputs(COUNTS)
    pieces = zip(x.split(COUNTS), instances, strict=True)
    alone = torch.stack([head(piece, [one])["loss_keypoint"] for piece, one in pieces])
    take_apart(head)
    close(head(x, instances)["loss_keypoint"], alone, 1e-12)


def test_sums_by_hand():
    logits = torch.zeros(2, NUM_KEYPOINTS, 4, 4)
    places = torch.zeros(2 * NUM_KEYPOINTS, dtype=torch.int64)
    valid = torch.tensor([0, 2, NUM_KEYPOINTS])
    sums = keypoint_sums(logits, places, valid, [1, 0, 1])
    torch.testing.assert_close(sums, torch.tensor([2.0, 0.0, 1.0]) * torch.log(torch.tensor(16.0)))
