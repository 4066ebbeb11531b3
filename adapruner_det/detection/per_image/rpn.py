"""Region proposal network. B images, R anchors of all levels."""

from typing import Any

import torch
from detectron2.layers import cat, nonzero_tuple
from detectron2.modeling.proposal_generator.rpn import RPN
from detectron2.utils.events import get_event_storage
from torch import Tensor
from torch.nn import functional as F

from .box_regression import dense_box_losses
from .sums import sum_by_image
from .table import register_head


def objectness_losses(logits: Tensor, labels: Tensor, sampled: tuple[Tensor, Tensor]) -> Tensor:
    """Binary cross-entropy of the sampled anchors, summed by image.

    Args:
        logits: (B, R) objectness.
        labels: (B, R), 1 object, 0 background; others are never looked at.
        sampled: image and anchor index of the sampled anchors.

    Returns:
        (B,) sums.
    """
    losses = F.binary_cross_entropy_with_logits(
        logits[sampled], labels[sampled].to(torch.float32), reduction="none"
    )
    return sum_by_image(losses, sampled[0], len(labels))


@register_head(RPN, methods=("losses",))
class PerImageRPN(RPN):
    """RPN whose losses are (B,) vectors; their means are Detectron2's scalars."""

    def losses(
        self,
        anchors: Any,
        pred_objectness_logits: Any,
        gt_labels: Any,
        pred_anchor_deltas: Any,
        gt_boxes: Any,
    ) -> dict[str, Tensor]:
        """`RPN.losses` with l_i = sum over image i / BATCH_SIZE_PER_IMAGE.

        Detectron2 divides the batch's sum by B times that number, whatever was sampled.
        """
        num_images = len(gt_labels)
        labels = torch.stack(gt_labels)
        positive = nonzero_tuple(labels == 1)
        sampled = nonzero_tuple(labels >= 0)

        storage = get_event_storage()
        num_positive = len(positive[0])
        storage.put_scalar("rpn/num_pos_anchors", num_positive / num_images)
        storage.put_scalar("rpn/num_neg_anchors", (len(sampled[0]) - num_positive) / num_images)

        sums = {
            "loss_rpn_cls": objectness_losses(cat(pred_objectness_logits, dim=1), labels, sampled),
            "loss_rpn_loc": dense_box_losses(
                self.box2box_transform,
                anchors,
                pred_anchor_deltas,
                gt_boxes,
                positive,
                self.box_reg_loss_type,
                self.smooth_l1_beta,
            ),
        }
        return {
            name: value / self.batch_size_per_image * self.loss_weight.get(name, 1.0)
            for name, value in sums.items()
        }
