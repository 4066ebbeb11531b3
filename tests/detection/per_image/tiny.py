"""Tiny detectors from the model zoo's configs, random batches, and what parity means."""

import copy

import torch
from detectron2 import model_zoo
from detectron2.config import get_cfg, instantiate
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import build_resnet_backbone
from detectron2.modeling.roi_heads import keypoint_head
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage

NUM_CLASSES = 5
NUM_STUFF = 4
NUM_KEYPOINTS = 3
UNLIKE_SIZES = ((64, 96), (96, 64), (72, 72))


def tiny_cfg(name, *options):
    """A model-zoo config shrunk until a CPU trains it in a blink."""
    cfg = get_cfg()
    cfg.merge_from_file(model_zoo.get_config_file(name))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 8
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 4
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = 200
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = 40
    cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 32
    cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE = 12
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = NUM_CLASSES
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = min(cfg.MODEL.ROI_BOX_HEAD.NUM_FC, 1)
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 32
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 8
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = min(cfg.MODEL.ROI_MASK_HEAD.NUM_CONV, 1)
    cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = [8]
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = NUM_KEYPOINTS
    cfg.MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION = 7
    cfg.MODEL.RETINANET.NUM_CLASSES = NUM_CLASSES
    cfg.MODEL.RETINANET.NUM_CONVS = 1
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = NUM_STUFF
    cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM = 32
    cfg.merge_from_list(list(options))
    return cfg


def tiny_lazy_detector(name):
    """The same of a LazyConfig of a dense detector."""
    model = model_zoo.get_config(name).model
    yaml = tiny_cfg("COCO-Detection/retinanet_R_50_FPN_1x.yaml")
    model.backbone.bottom_up = build_resnet_backbone(yaml, ShapeSpec(channels=3))
    model.backbone.out_channels = model.backbone.top_block.in_channels = 32
    model.head.input_shape = [ShapeSpec(channels=32)] * 5
    model.head.conv_dims = [32]
    # v0.6 probes its norm with one channel, which GroupNorm refuses on current torch.
    model.head.norm = ""
    model.num_classes = NUM_CLASSES
    return instantiate(model)


def random_boxes(count, height, width):
    corner = torch.rand(count, 2) * torch.tensor([width, height]) * 0.5
    size = torch.rand(count, 2) * torch.tensor([width, height]) * 0.4 + 6
    return torch.cat([corner, corner + size], dim=1)


def random_instances(count, height, width):
    """`count` objects with boxes, classes, masks and keypoints (some of them invisible)."""
    boxes = random_boxes(count, height, width)
    masks = torch.zeros(count, height, width, dtype=torch.bool)
    keypoints = torch.zeros(count, NUM_KEYPOINTS, 3)
    for i, (x0, y0, x1, y1) in enumerate(boxes):
        masks[i, int(y0) : int(y1), int(x0) : int(x0 + x1) // 2] = True
        place = torch.rand(NUM_KEYPOINTS, 2)
        keypoints[i, :, :2] = torch.stack([x0, y0]) + place * torch.stack([x1 - x0, y1 - y0])
        keypoints[i, :, 2] = torch.tensor([2.0, 0.0, 1.0])
    return Instances(
        (height, width),
        gt_boxes=Boxes(boxes),
        gt_classes=torch.randint(0, NUM_CLASSES, (count,)),
        gt_masks=BitMasks(masks),
        gt_keypoints=Keypoints(keypoints),
    )


def random_batch(counts=(3, 0, 2), sizes=UNLIKE_SIZES):
    """Images of unlike sizes, the second without an object."""
    batch = []
    for count, (height, width) in zip(counts, sizes, strict=False):
        sem_seg = torch.randint(0, NUM_STUFF, (height, width))
        sem_seg[: height // 3] = 255
        batch.append(
            {
                "image": torch.randint(0, 256, (3, height, width), dtype=torch.uint8),
                "height": height,
                "width": width,
                "instances": random_instances(count, height, width),
                "sem_seg": sem_seg,
            }
        )
    return batch


def train_step(detector, batch, seed=0, backward=True):
    """Losses, gradients and logged scalars of one forward and backward from a given seed."""
    detector.train()
    detector.zero_grad()
    keypoint_head._TOTAL_SKIPPED = 0  # Detectron2 counts the batches without keypoints for good
    torch.manual_seed(seed)
    with EventStorage(0) as storage:
        losses = detector(copy.deepcopy(batch))
    if backward:
        sum(value.mean() for value in losses.values()).backward()
    gradients = {n: p.grad for n, p in detector.named_parameters()}
    return losses, gradients, {k: v[0] for k, v in storage.latest().items()}, torch.rand(1)


def close(actual, expected, relative, absolute=1e-12):
    """Relative to the largest entry: a gradient's small entries are sums of large ones."""
    assert actual.shape == expected.shape
    worst = (actual - expected).abs().max() if expected.numel() else torch.zeros(())
    scale = expected.abs().max() if expected.numel() else torch.zeros(())
    assert worst <= relative * scale + absolute, f"{worst:.3e} of {scale:.3e}"
