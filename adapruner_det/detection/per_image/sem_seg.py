"""Semantic head of Panoptic FPN. B images, K classes, H and W of the padded batch."""

from detectron2.modeling.meta_arch.semantic_seg import SemSegFPNHead
from torch import Tensor
from torch.nn import functional as F

from .table import register_head


def pixel_losses(logits: Tensor, targets: Tensor, ignore_value: int) -> Tensor:
    """Cross-entropy of the pixels: l_i = B * sum_i / (pixels of the batch that count).

    Args:
        logits: (B, K, H, W).
        targets: (B, H, W) int64; padding carries `ignore_value` as well.
        ignore_value: the label of pixels that don't count.

    Returns:
        (B,) losses; NaN, as in Detectron2, when no pixel of the batch counts.
    """
    losses = F.cross_entropy(logits, targets, reduction="none", ignore_index=ignore_value)
    return losses.flatten(1).sum(dim=1) * (len(logits) / (targets != ignore_value).sum())


@register_head(SemSegFPNHead, methods=("losses",))
class PerImageSemSegFPNHead(SemSegFPNHead):
    """Semantic head whose loss is a (B,) vector; its mean is Detectron2's scalar."""

    def losses(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """`SemSegFPNHead.losses`, by image."""
        predictions = F.interpolate(
            predictions.float(),  # https://github.com/pytorch/pytorch/issues/48163
            scale_factor=self.common_stride,
            mode="bilinear",
            align_corners=False,
        )
        losses = pixel_losses(predictions, targets, self.ignore_value)
        return {"loss_sem_seg": losses * self.loss_weight}
