"""FCOS. B images, R anchor points of all levels, K classes."""

from typing import Any

import torch
from detectron2.layers import cat, nonzero_tuple
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.utils.events import get_event_storage
from torch import Tensor
from torch.nn import functional as F

from ..evidence import best_of_dense, show
from .box_regression import dense_box_losses
from .focal import focal_losses
from .sums import sum_by_image
from .table import register_head


def centerness_losses(logits: Tensor, targets: Tensor, positive: tuple[Tensor, Tensor]) -> Tensor:
    """Binary cross-entropy with soft targets, summed over the positive points of each image.

    Args:
        logits, targets: (B, R); targets of other points may be NaN.
        positive: image and point index of the positive points.

    Returns:
        (B,) sums.
    """
    losses = F.binary_cross_entropy_with_logits(
        logits[positive], targets[positive], reduction="none"
    )
    return sum_by_image(losses, positive[0], len(logits))


@register_head(FCOS, methods=("losses",))
class PerImageFCOS(FCOS):
    """FCOS whose losses are (B,) vectors; their means are Detectron2's scalars."""

    shows_predictions = True

    def losses(
        self,
        anchors: Any,
        pred_logits: Any,
        gt_labels: Any,
        pred_anchor_deltas: Any,
        gt_boxes: Any,
        pred_centerness: Any,
    ) -> dict[str, Tensor]:
        """`FCOS.losses` with l_i = B * sum_i / normalizer, a moving average as in RetinaNet."""
        show(
            lambda: best_of_dense(
                self.box2box_transform,
                type(anchors[0]).cat(anchors).tensor,
                (cat(pred_logits, dim=1).sigmoid() * cat(pred_centerness, dim=1).sigmoid()).sqrt(),
                cat(pred_anchor_deltas, dim=1),
            )
        )
        num_images = len(gt_labels)
        labels = torch.stack(gt_labels)
        positive = nonzero_tuple((labels >= 0) & (labels != self.num_classes))
        num_positive = len(positive[0])
        get_event_storage().put_scalar("num_pos_anchors", num_positive / num_images)
        normalizer = self._ema_update("loss_normalizer", max(num_positive, 1), 300)

        sums = {
            "loss_fcos_cls": focal_losses(
                cat(pred_logits, dim=1),
                labels,
                positive,
                self.focal_loss_alpha,
                self.focal_loss_gamma,
            ),
            "loss_fcos_loc": dense_box_losses(
                self.box2box_transform,
                anchors,
                pred_anchor_deltas,
                # label_anchors gives Boxes or tensors, by version.
                [getattr(boxes, "tensor", boxes) for boxes in gt_boxes],
                positive,
                "giou",
            ),
            "loss_fcos_ctr": centerness_losses(
                cat(pred_centerness, dim=1).squeeze(dim=2),
                self.compute_ctrness_targets(anchors, gt_boxes),
                positive,
            ),
        }
        return {name: value * (num_images / normalizer) for name, value in sums.items()}
