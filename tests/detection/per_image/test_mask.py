import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.mask_head import MaskRCNNConvUpsampleHead
from detectron2.structures import Boxes, PolygonMasks

from adapruner_det.detection.per_image import take_apart

from .tiny import close, random_boxes, random_instances, tiny_cfg

# pycocotools draws the polygons.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

COUNTS = (3, 0, 5)


def mask_head(*options):
    cfg = tiny_cfg("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml", *options)
    return MaskRCNNConvUpsampleHead(cfg, ShapeSpec(channels=6, width=7, height=7))


def inputs(counts):
    instances = [random_instances(count, 64, 64) for count in counts]
    for one, count in zip(instances, counts, strict=True):
        one.proposal_boxes = Boxes(random_boxes(count, 64, 64))
    return torch.randn(sum(counts), 6, 7, 7), instances


def as_polygons(instances):
    for one in instances:
        corners = one.gt_boxes.tensor[:, [0, 1, 2, 1, 2, 3, 0, 3]]
        one.gt_masks = PolygonMasks([[polygon.double().numpy()] for polygon in corners])
    return instances


@pytest.mark.parametrize("options", [(), ("MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK", True)])
@pytest.mark.parametrize("counts", [COUNTS, (4,), (0, 0)])
@pytest.mark.parametrize("polygons", [False, True])
def test_mean_gradients_and_logs_are_detectron2s(options, counts, polygons, storage):
    head = mask_head(*options)
    head.loss_weight = 0.7
    x, instances = inputs(counts)
    if polygons:
        as_polygons(instances)
    expected = head(x, instances)["loss_mask"]
    gradients = torch.autograd.grad(expected, head.parameters())
    logged = dict(storage.latest())
    assert take_apart(head) == ["detector (MaskRCNNConvUpsampleHead)"]
    losses = head(x, instances)["loss_mask"]

    assert losses.shape == (len(counts),)
    close(losses.mean(), expected, 1e-6)
    ours = torch.autograd.grad(losses.mean(), head.parameters())
    for actual, wanted in zip(ours, gradients, strict=True):
        close(actual, wanted, 1e-6)
    assert dict(storage.latest()) == logged
    assert len(logged) == (3 if sum(counts) else 0)


def test_each_value_is_detectron2s_loss_of_that_image_scaled_by_its_share_of_proposals():
    head = mask_head()
    x, instances = inputs(COUNTS)
    pieces = zip(x.split(COUNTS), instances, strict=True)
    alone = torch.stack([head(piece, [one])["loss_mask"] for piece, one in pieces])
    take_apart(head)
    share = torch.tensor(COUNTS) / sum(COUNTS) * len(COUNTS)
    losses = head(x, instances)["loss_mask"]
    close(losses, alone * share, 1e-6)
    assert losses[1] == 0 < losses[0]


def test_pictures_are_detectron2s(storage):
    head = mask_head()
    head.vis_period = 1
    x, instances = inputs((2, 1))
    head(x, instances)
    expected = list(storage._vis_data)
    storage.clear_images()
    take_apart(head)
    head(x, instances)
    assert len(expected) == 3
    for (name, picture, step), (wanted_name, wanted, wanted_step) in zip(
        storage._vis_data, expected, strict=True
    ):
        assert (name, step) == (wanted_name, wanted_step)
        assert torch.equal(picture, wanted)
