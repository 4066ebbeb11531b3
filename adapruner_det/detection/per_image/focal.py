"""Focal loss of dense detectors. B images, R anchors of all levels, K classes, P positives."""

import torch
from fvcore.nn import sigmoid_focal_loss_jit
from torch import Tensor


def focal_losses(
    logits: Tensor,
    labels: Tensor,
    positive: tuple[Tensor, Tensor],
    alpha: float,
    gamma: float,
) -> Tensor:
    """Sigmoid focal loss, summed by image.

    Detectron2 copies the anchors that count out of the batch; here the few that don't are
    masked out of the sum, which keeps the images apart and moves less memory.

    Args:
        logits: (B, R, K).
        labels: (B, R); [0, K) a class, K background, -1 ignored.
        positive: image and anchor index, (P,) each, of the anchors that have a class.
        alpha, gamma: of the focal loss.

    Returns:
        (B,) sums.
    """
    targets = torch.zeros_like(logits)
    targets[(*positive, labels[positive])] = 1
    losses = sigmoid_focal_loss_jit(logits, targets, alpha=alpha, gamma=gamma, reduction="none")
    losses = losses.sum(dim=2, dtype=torch.promote_types(losses.dtype, torch.float32))
    return losses.where(labels >= 0, 0).sum(dim=1)
