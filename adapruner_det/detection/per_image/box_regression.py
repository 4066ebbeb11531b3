"""Box regression losses per box and per image, for every head that regresses boxes.

B images, R anchors or proposals, P of them foreground, D box dimensions (4, or 5 when rotated).
"""

from typing import Any

import torch
from detectron2.layers import cat, ciou_loss, diou_loss
from detectron2.structures import Boxes
from fvcore.nn import giou_loss, smooth_l1_loss
from torch import Tensor

from .sums import sum_by_image

_IOU_LOSSES = {"giou": giou_loss, "diou": diou_loss, "ciou": ciou_loss}


def box_losses(
    box2box_transform: Any,
    sources: Tensor,
    deltas: Tensor,
    gt_boxes: Tensor,
    box_reg_loss_type: str = "smooth_l1",
    smooth_l1_beta: float = 0.0,
) -> Tensor:
    """The loss of each foreground box, before any sum.

    Args:
        box2box_transform: Detectron2's transform between boxes and deltas.
        sources: (P, D) anchors or proposals.
        deltas: (P, D) predicted.
        gt_boxes: (P, D) the matched ground truth.
        box_reg_loss_type: "smooth_l1", "giou", "diou" or "ciou".
        smooth_l1_beta: where smooth L1 turns from L2 to L1; 0 is plain L1.

    Returns:
        (P,) losses.

    Raises:
        ValueError: unknown `box_reg_loss_type`.
    """
    if box_reg_loss_type == "smooth_l1":
        targets = box2box_transform.get_deltas(sources, gt_boxes)
        return smooth_l1_loss(deltas, targets, smooth_l1_beta, reduction="none").sum(dim=1)
    if box_reg_loss_type not in _IOU_LOSSES:
        raise ValueError(
            f"unknown box regression loss {box_reg_loss_type!r}, expected one of "
            f"{['smooth_l1', *_IOU_LOSSES]}: change BBOX_REG_LOSS_TYPE"
        )
    predicted = box2box_transform.apply_deltas(deltas, sources)
    return _IOU_LOSSES[box_reg_loss_type](predicted, gt_boxes, reduction="none")


def dense_box_losses(
    box2box_transform: Any,
    anchors: list[Boxes],
    pred_anchor_deltas: list[Tensor],
    gt_boxes: list[Tensor],
    foreground: tuple[Tensor, Tensor],
    box_reg_loss_type: str = "smooth_l1",
    smooth_l1_beta: float = 0.0,
) -> Tensor:
    """Detectron2's `_dense_box_regression_loss`, summed by image instead of over the batch.

    Args:
        anchors: one Boxes per level, R in all.
        pred_anchor_deltas: per level (B, Ri, D).
        gt_boxes: B tensors (R, D), the ground truth matched with each anchor.
        foreground: image and anchor index, (P,) each, of the anchors that count.

    Returns:
        (B,) sums.
    """
    image, anchor = foreground
    # Foreground is picked first: it is a few hundred of some hundred thousand anchors.
    losses = box_losses(
        box2box_transform,
        type(anchors[0]).cat(anchors).tensor[anchor],
        cat(pred_anchor_deltas, dim=1)[image, anchor],
        torch.stack(gt_boxes)[image, anchor],
        box_reg_loss_type,
        smooth_l1_beta,
    )
    return sum_by_image(losses, image, len(gt_boxes))
