"""Where YOLOv3's predictions sit, which of them each ground truth is given to, and the loss.

Redmon and Farhadi, "YOLOv3: An Incremental Improvement" (2018), and darknet's yolo_layer.c.

Shape letters: B images, C classes, M predictions of one image (every level, anchor and cell), G
ground truths of the whole batch, P predictions that a ground truth was given to. Boxes are (x0, y0,
x1, y1) in pixels of the network input, a square of side `size`.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

STRIDES = (32, 16)
# exp() of a wild prediction must not overflow; a box 1000 times its anchor is wrong anyway.
_MAX_LOG_SCALE = math.log(1000.0)


class Layout(NamedTuple):
    """Where the M predictions of one image sit: level by level (stride 32 first), anchor by
    anchor, and row by row over the cells."""

    cell: Tensor  # (M, 2) column and row
    stride: Tensor  # (M, 1) pixels
    anchor: Tensor  # (M, 2) width and height in pixels
    anchor_start: Tensor  # (anchors of all levels,) an anchor's first prediction
    anchor_stride: Tensor  # (anchors of all levels,) pixels


def make_layout(anchors: Tensor, masks: list[list[int]], size: int) -> Layout:
    """The :class:`Layout` of an S = `size` input.

    Args:
        anchors: (anchors of all levels, 2) widths and heights in pixels.
        masks: for stride 32 and stride 16, the indices of their anchors.
    """
    cells, strides, per_position = [], [], []
    anchor_start = torch.zeros(len(anchors), dtype=torch.long, device=anchors.device)
    anchor_stride = torch.zeros_like(anchor_start)
    start = 0
    for stride, mask in zip(STRIDES, masks, strict=True):
        side = size // stride
        line = torch.arange(side, device=anchors.device)
        row, column = torch.meshgrid(line, line, indexing="ij")
        cells.append(torch.stack([column, row], -1).view(-1, 2).repeat(len(mask), 1))
        per_position.append(anchors[mask].repeat_interleave(side * side, dim=0))
        strides.append(torch.full_like(cells[-1][:, :1], stride))
        anchor_stride[mask] = stride
        for index in mask:
            anchor_start[index] = start
            start += side * side
    return Layout(
        torch.cat(cells).to(anchors.dtype),
        torch.cat(strides).to(anchors.dtype),
        torch.cat(per_position),
        anchor_start,
        anchor_stride,
    )


def decode(raw: Tensor, layout: Layout) -> Tensor:
    """Raw (tx, ty, tw, th) (..., M, 4) to boxes (..., M, 4): the centre is (sigmoid(t) + cell) ·
    stride, the size exp(t) · anchor."""
    centre = (raw[..., :2].sigmoid() + layout.cell) * layout.stride
    half = raw[..., 2:].clamp(max=_MAX_LOG_SCALE).exp() * layout.anchor / 2
    return torch.cat([centre - half, centre + half], -1)


def encode(boxes: Tensor, cell: Tensor, stride: Tensor, anchor: Tensor) -> Tensor:
    """Boxes (P, 4) to the targets (P, 4) of sigmoid(tx), sigmoid(ty), tw and th for predictions at
    `cell` (P, 2), `stride` (P, 1) and `anchor` (P, 2)."""
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    # A centre on the right or lower edge of the input belongs to the last cell.
    offset = (centre / stride - cell).clamp(0, 1)
    return torch.cat([offset, ((boxes[:, 2:] - boxes[:, :2]) / anchor).log()], -1)


def assign(boxes: Tensor, anchors: Tensor, layout: Layout, size: int) -> Tensor:
    """The prediction (G,) in 0..M−1 that each of `boxes` (G, 4) is given to: of all anchors the one
    whose shape overlaps it most when both are centred (the first of equals), in the cell of its
    centre."""
    wh = boxes[:, 2:] - boxes[:, :2]
    inter = torch.minimum(wh[:, None], anchors).prod(-1)
    union = wh.prod(-1)[:, None] + anchors.prod(-1) - inter
    best = (inter / union).argmax(1)
    stride = layout.anchor_stride[best]
    side = size // stride
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    cell = (centre / stride[:, None]).floor().long().clamp(min=0)
    cell = torch.minimum(cell, side[:, None] - 1)
    return layout.anchor_start[best] + cell[:, 1] * side + cell[:, 0]


def overlapping(pred: Tensor, boxes: Tensor, image: Tensor, threshold: float) -> Tensor:
    """(B, M) bool: does a predicted box (B, M, 4) have an IoU above `threshold` with any of `boxes`
    (G, 4) of its own image? `image` (G,) says whose a box is. Memory grows with G·M."""
    pred_of = pred[image]  # (G, M, 4)
    wh = torch.minimum(pred_of[..., 2:], boxes[:, None, 2:])
    wh = (wh - torch.maximum(pred_of[..., :2], boxes[:, None, :2])).clamp(min=0)
    inter = wh.prod(-1)
    area = (pred[..., 2:] - pred[..., :2]).prod(-1)[image]
    union = area + (boxes[:, 2:] - boxes[:, :2]).prod(-1)[:, None] - inter
    hits = torch.zeros(pred.shape[:2], dtype=torch.int32, device=pred.device)
    return hits.index_add_(0, image, (inter > threshold * union).int()) > 0


def yolo_losses(
    pred: Tensor,
    layout: Layout,
    anchors: Tensor,
    boxes: Tensor,
    classes: Tensor,
    image: Tensor,
    size: int,
    ignore_thresh: float,
) -> dict[str, Tensor]:
    """Box, objectness and class loss of every image.

    Their gradients are the deltas of darknet's YOLO layer: cross-entropy for the centre (less the
    entropy of its target, so that a perfect box costs nothing wherever in its cell it lies), half
    the squared error of the log size, both times 2 − w·h with w and h in parts of the input, and
    cross-entropies for objectness and for each class by itself.

    Two ground truths given to the same prediction: the box of the later one counts, the classes of
    both do, as in darknet.

    Args:
        pred: (B, M, 5 + C) raw tx, ty, tw, th, objectness, classes.
        boxes, classes, image: (G, 4), (G,) and (G,), the boxes with a width and height above 0;
            `image` in 0..B−1.

    Returns:
        "box", "obj" and "cls", (B,) each: sums over the image.
    """
    B, M = pred.shape[:2]
    with torch.no_grad():
        key = image * M + assign(boxes, anchors, layout, size)
        slots, slot = key.unique(return_inverse=True)  # (P,), (G,)
        last = torch.zeros_like(slots).scatter_reduce_(
            0, slot, torch.arange(len(key), device=key.device), "amax"
        )
        at = slots % M
        matched = boxes[last]
        target = encode(matched, layout.cell[at], layout.stride[at], layout.anchor[at])
        scale = 2 - (matched[:, 2:] - matched[:, :2]).prod(-1) / size**2
        class_target = pred.new_zeros(len(slots), pred.shape[2] - 5)
        class_target[slot, classes] = 1
        objectness = pred.new_zeros(B * M)
        objectness[slots] = 1
        objectness = objectness.view(B, M)
        ignored = overlapping(decode(pred[..., :4], layout), boxes, image, ignore_thresh)
        counted = ~ignored | (objectness > 0)

    def per_image(values: Tensor) -> Tensor:
        # No slot occurs twice, so this sums in the same order on every run and device.
        return values.new_zeros(B * M).index_put((slots,), values).view(B, M).sum(1)

    chosen = pred.reshape(B * M, -1)[slots]
    centre, entropy = target[:, :2], torch.special.entr
    centre_loss = F.binary_cross_entropy_with_logits(chosen[:, :2], centre, reduction="none")
    centre_loss = centre_loss - entropy(centre) - entropy(1 - centre)
    size_loss = (chosen[:, 2:4] - target[:, 2:]).square() / 2
    class_loss = F.binary_cross_entropy_with_logits(chosen[:, 5:], class_target, reduction="none")
    obj_loss = F.binary_cross_entropy_with_logits(pred[..., 4], objectness, reduction="none")
    return {
        "box": per_image(scale * (centre_loss + size_loss).sum(1)),
        "obj": (obj_loss * counted).sum(1),
        "cls": per_image(class_loss.sum(1)),
    }
