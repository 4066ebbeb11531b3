"""Mask head of Mask R-CNN. B images, P foreground proposals, K classes, M mask side."""

from typing import Any

import torch
from detectron2.layers import cat
from detectron2.modeling.roi_heads.mask_head import BaseMaskRCNNHead
from detectron2.structures import Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor
from torch.nn import functional as F

from .sums import image_of_each, sum_by_image
from .table import register_head


def mask_losses(logits: Tensor, targets: Tensor, counts: list[int]) -> Tensor:
    """Binary cross-entropy of the masks: l_i = B * sum over image i of a mask's pixel mean / P.

    Args:
        logits: (P, M, M) of each proposal's own class.
        targets: (P, M, M) in {0, 1}.
        counts: foreground proposals of each of the B images, P in all, P > 0.

    Returns:
        (B,) losses.
    """
    losses = F.binary_cross_entropy_with_logits(
        logits, targets.to(dtype=torch.float32), reduction="none"
    )
    image = image_of_each(counts, logits.device)
    sums = sum_by_image(losses.flatten(1).mean(dim=1), image, len(counts))
    return sums * (len(counts) / len(logits))


def mask_targets(instances: list[Instances], side: int, device: torch.device) -> Tensor:
    """Ground-truth masks cut to the proposals, (P, M, M); bool, or float where rasterized so."""
    return cat(
        [
            x.gt_masks.crop_and_resize(x.proposal_boxes.tensor, side).to(device=device)
            for x in instances
            if len(x) > 0
        ],
        dim=0,
    )


def log_mask_statistics(logits: Tensor, targets: Tensor) -> None:
    """The scalars that Detectron2 logs: how many pixels are on the wrong side of 0.5."""
    wrong = (logits > 0.0) != targets
    num_wrong = wrong.sum().item()
    num_positive = targets.sum().item()
    false_negative = (wrong & targets).sum().item()
    num_negative = targets.numel() - num_positive
    storage = get_event_storage()
    storage.put_scalar("mask_rcnn/accuracy", 1 - num_wrong / max(wrong.numel(), 1.0))
    storage.put_scalar(
        "mask_rcnn/false_positive", (num_wrong - false_negative) / max(num_negative, 1.0)
    )
    storage.put_scalar("mask_rcnn/false_negative", false_negative / max(num_positive, 1.0))


def draw_masks(logits: Tensor, targets: Tensor) -> None:
    """Put each predicted mask beside its target into the event storage, under Detectron2's name."""
    pairs = torch.cat([logits.sigmoid(), targets.to(dtype=torch.float32)], dim=2)
    for i, pair in enumerate(pairs):
        name = f"Left: mask prediction;   Right: mask GT ({i})"
        get_event_storage().put_image(name, pair.expand(3, -1, -1))


@register_head(BaseMaskRCNNHead, methods=("forward",))
class PerImageMaskRCNNHead(BaseMaskRCNNHead):
    """Mask head whose loss is a (B,) vector; its mean is Detectron2's scalar."""

    def forward(self, x: Any, instances: list[Instances]) -> Any:
        """`BaseMaskRCNNHead.forward` with the loss by image, in training; unchanged otherwise."""
        if not self.training:
            return super().forward(x, instances)
        return {"loss_mask": self._losses(self.layers(x), instances) * self.loss_weight}

    def _losses(self, logits: Tensor, instances: list[Instances]) -> Tensor:
        if len(logits) == 0:  # Detectron2 logs nothing then
            return (logits.sum() * 0).expand(len(instances))
        targets = mask_targets(instances, logits.shape[2], logits.device)
        if logits.shape[1] == 1:  # class-agnostic
            logits = logits[:, 0]
        else:
            gt_classes = cat([x.gt_classes.to(dtype=torch.int64) for x in instances], dim=0)
            logits = logits[torch.arange(len(logits)), gt_classes]
        in_mask = targets if targets.dtype == torch.bool else targets > 0.5
        log_mask_statistics(logits, in_mask)
        if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            draw_masks(logits, targets)
        return mask_losses(logits, targets, [len(x) for x in instances])
