"""Box head of Fast R-CNN, one per stage in Cascade R-CNN.

B images, R sampled proposals of all images, K classes (label K is background), D box dimensions.
"""

from typing import Any

import torch
from detectron2.layers import cat, nonzero_tuple
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers, _log_classification_stats
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from ..evidence import Predictions, show
from .box_regression import box_losses
from .sums import image_of_each, sum_by_image
from .table import register_head


def softmax_losses(scores: Tensor, gt_classes: Tensor) -> Tensor:
    """Cross-entropy of each proposal, (R,), from scores (R, K+1) and labels (R,)."""
    return F.cross_entropy(scores, gt_classes, reduction="none")


def sigmoid_losses(scores: Tensor, gt_classes: Tensor, counted: Tensor | None = None) -> Tensor:
    """Binary cross-entropy of each proposal, summed over its classes.

    Args:
        scores: (R, K+1); the last column, background, takes no part.
        gt_classes: (R,) in [0, K].
        counted: class indices that count (federated loss), K among them or not; None for all.

    Returns:
        (R,) losses.
    """
    num_classes = scores.shape[1] - 1
    target = F.one_hot(gt_classes, num_classes + 1)[:, :-1].to(scores.dtype)
    losses = F.binary_cross_entropy_with_logits(scores[:, :-1], target, reduction="none")
    if counted is not None:
        weight = losses.new_zeros(num_classes + 1)
        weight[counted] = 1
        losses = losses * weight[:-1]
    return losses.sum(dim=1)


@register_head(
    FastRCNNOutputLayers, methods=("losses", "box_reg_loss", "sigmoid_cross_entropy_loss")
)
class PerImageFastRCNNOutputLayers(FastRCNNOutputLayers):
    """Fast R-CNN predictor whose losses are (B,) vectors; their means are Detectron2's scalars.

    Detectron2 divides by R, the proposals of the whole batch, so l_i = B * sum_i / R: an image's
    loss depends on how many proposals its batch-mates brought along.
    """

    @property
    def shows_predictions(self) -> bool:
        """Whether its boxes are of four numbers; rotated ones, of five, have no such IoU."""
        return len(self.box2box_transform.weights) == 4

    def losses(self, predictions: Any, proposals: Any) -> dict[str, Tensor]:
        """`FastRCNNOutputLayers.losses`, by image."""
        scores, deltas = predictions
        if self.shows_predictions:
            show(lambda: self._predictions(scores, deltas, proposals))
        num_images = len(proposals)
        gt_classes = cat([p.gt_classes for p in proposals], dim=0)
        _log_classification_stats(scores, gt_classes)

        image = image_of_each([len(p) for p in proposals], scores.device)
        per_proposal = {
            "loss_cls": (self._class_losses(scores, gt_classes), image),
            "loss_box_reg": self._foreground_box_losses(deltas, proposals, gt_classes, image),
        }
        scale = num_images / max(len(gt_classes), 1)
        return {
            name: sum_by_image(*losses, num_images) * scale * self.loss_weight.get(name, 1.0)
            for name, losses in per_proposal.items()
        }

    def _predictions(self, scores: Tensor, deltas: Tensor, proposals: Any) -> Predictions:
        """What is predicted at the sampled proposals: of each the box of its best class."""
        sigmoid = getattr(self, "use_sigmoid_ce", False)
        found = (scores.sigmoid() if sigmoid else scores.softmax(1))[:, :-1]
        sources = cat([p.proposal_boxes.tensor for p in proposals], dim=0)
        box_dim = sources.shape[1]
        if deltas.shape[1] != box_dim:
            rows = torch.arange(len(found), device=found.device)
            deltas = deltas.view(len(found), -1, box_dim)[rows, found.argmax(1)]
        boxes = self.box2box_transform.apply_deltas(deltas, sources)
        counts = [len(p) for p in proposals]
        return Predictions(
            pad_sequence(boxes.split(counts), batch_first=True),
            pad_sequence(found.split(counts), batch_first=True),
        )

    def _class_losses(self, scores: Tensor, gt_classes: Tensor) -> Tensor:
        # Detectron2 v0.6 has softmax only, and no such attributes.
        if not getattr(self, "use_sigmoid_ce", False):
            return softmax_losses(scores, gt_classes)
        if not self.use_fed_loss or len(gt_classes) == 0:
            return sigmoid_losses(scores, gt_classes)
        counted = self.get_fed_loss_classes(
            gt_classes,
            num_fed_loss_classes=self.fed_loss_num_classes,
            num_classes=scores.shape[1] - 1,
            weight=self.fed_loss_cls_weights,
        )
        return sigmoid_losses(scores, gt_classes, counted)

    def _foreground_box_losses(
        self, deltas: Tensor, proposals: Any, gt_classes: Tensor, image: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Losses and images of the P foreground proposals, (P,) each."""
        sources = cat([p.proposal_boxes.tensor for p in proposals], dim=0)
        # An image without objects has no gt_boxes; its proposals are background and only hold
        # the place.
        gt_boxes = cat(
            [(p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes).tensor for p in proposals],
            dim=0,
        )
        box_dim = sources.shape[1]
        (foreground,) = nonzero_tuple((gt_classes >= 0) & (gt_classes < self.num_classes))
        if deltas.shape[1] == box_dim:  # class-agnostic
            deltas = deltas[foreground]
        else:
            deltas = deltas.view(-1, self.num_classes, box_dim)[foreground, gt_classes[foreground]]
        losses = box_losses(
            self.box2box_transform,
            sources[foreground],
            deltas,
            gt_boxes[foreground],
            self.box_reg_loss_type,
            self.smooth_l1_beta,
        )
        return losses, image[foreground]
