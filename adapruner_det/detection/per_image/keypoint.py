"""Keypoint head. B images, P foreground proposals, K keypoints, S heatmap side."""

from typing import Any

import torch
from detectron2.layers import cat
from detectron2.modeling.roi_heads.keypoint_head import BaseKeypointRCNNHead, keypoint_rcnn_loss
from detectron2.structures import Instances
from torch import Tensor
from torch.nn import functional as F

from .sums import image_of_each, sum_by_image
from .table import register_head


def keypoint_targets(instances: list[Instances], side: int) -> tuple[Tensor, Tensor]:
    """Where each keypoint lies in its proposal's heatmap.

    Args:
        instances: B Instances with `proposal_boxes` and `gt_keypoints`, P proposals in all.
        side: S.

    Returns:
        (P*K,) int64 places in the flattened heatmap, and (V,) int64, which of them are visible and
        inside; both on the device of the keypoints.
    """
    heatmaps = [
        x.gt_keypoints.to_heatmap(x.proposal_boxes.tensor, side) for x in instances if len(x) > 0
    ]
    places = cat([place.view(-1) for place, _ in heatmaps], dim=0)
    valid = cat([inside.view(-1) for _, inside in heatmaps], dim=0)
    return places, valid.to(dtype=torch.uint8).nonzero().squeeze(1)


def keypoint_sums(logits: Tensor, places: Tensor, valid: Tensor, counts: list[int]) -> Tensor:
    """Cross-entropy over the heatmap's places, summed over the valid keypoints of each image.

    Args:
        logits: (P, K, S, S).
        places, valid: see `keypoint_targets`.
        counts: foreground proposals of each of the B images, P in all.

    Returns:
        (B,) sums.
    """
    num_keypoints = logits.shape[1]
    losses = F.cross_entropy(
        logits.flatten(2).flatten(0, 1)[valid], places[valid], reduction="none"
    )
    image = image_of_each([count * num_keypoints for count in counts], logits.device)
    return sum_by_image(losses, image[valid], len(counts))


@register_head(BaseKeypointRCNNHead, methods=("forward",))
class PerImageKeypointRCNNHead(BaseKeypointRCNNHead):
    """Keypoint head whose loss is a (B,) vector; its mean is Detectron2's scalar."""

    def forward(self, x: Any, instances: list[Instances]) -> Any:
        """`BaseKeypointRCNNHead.forward` with the loss by image, in training.

        l_i = B * sum_i / (visible keypoints of the batch), or with a fixed normalizer
        l_i = sum_i / normalizer.
        """
        if not self.training:
            return super().forward(x, instances)
        return {"loss_keypoint": self._losses(self.layers(x), instances) * self.loss_weight}

    def _losses(self, logits: Tensor, instances: list[Instances]) -> Tensor:
        num_images = len(instances)
        normalizer = self.loss_normalizer
        if len(logits) > 0:
            places, valid = keypoint_targets(instances, logits.shape[2])
        if len(logits) == 0 or len(valid) == 0:
            # Detectron2 counts the batches it skips: its own function gives that zero.
            return keypoint_rcnn_loss(logits, instances, normalizer=1).expand(num_images)
        if normalizer == "visible":
            normalizer = len(valid) / num_images
        return keypoint_sums(logits, places, valid, [len(x) for x in instances]) / normalizer
