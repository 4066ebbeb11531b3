"""RetinaNet. B images, R anchors of all levels, K classes."""

from typing import Any

import torch
from detectron2.layers import cat, nonzero_tuple
from detectron2.modeling.meta_arch.retinanet import RetinaNet
from detectron2.utils.events import get_event_storage
from torch import Tensor

from ..evidence import best_of_dense, show
from .box_regression import dense_box_losses
from .focal import focal_losses
from .table import register_head


@register_head(RetinaNet, methods=("losses",))
class PerImageRetinaNet(RetinaNet):
    """RetinaNet whose losses are (B,) vectors; their means are Detectron2's scalars."""

    shows_predictions = True

    def losses(
        self,
        anchors: Any,
        pred_logits: Any,
        gt_labels: Any,
        pred_anchor_deltas: Any,
        gt_boxes: Any,
    ) -> dict[str, Tensor]:
        """`RetinaNet.losses` with l_i = B * sum_i / normalizer.

        The normalizer, a moving average of the positive anchors, moves once per call and is
        used after its update, as in Detectron2.
        """
        show(
            lambda: best_of_dense(
                self.box2box_transform,
                type(anchors[0]).cat(anchors).tensor,
                cat(pred_logits, dim=1).sigmoid(),
                cat(pred_anchor_deltas, dim=1),
            )
        )
        num_images = len(gt_labels)
        labels = torch.stack(gt_labels)
        positive = nonzero_tuple((labels >= 0) & (labels != self.num_classes))
        num_positive = len(positive[0])
        get_event_storage().put_scalar("num_pos_anchors", num_positive / num_images)
        normalizer = self._ema_update("loss_normalizer", max(num_positive, 1), 100)

        sums = {
            "loss_cls": focal_losses(
                cat(pred_logits, dim=1),
                labels,
                positive,
                self.focal_loss_alpha,
                self.focal_loss_gamma,
            ),
            "loss_box_reg": dense_box_losses(
                self.box2box_transform,
                anchors,
                pred_anchor_deltas,
                gt_boxes,
                positive,
                self.box_reg_loss_type,
                self.smooth_l1_beta,
            ),
        }
        return {name: value * (num_images / normalizer) for name, value in sums.items()}
