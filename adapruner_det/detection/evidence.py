"""What a training forward shows of the annotated boxes, besides their loss.

A loss summed over an image hides a fault in one box of many. Each annotated box is held
against the predictions of the forward that the loss is computed from, which costs no other one:

* its *quality* is the largest IoU · p over the predictions, p of the given class;
* it is *confirmed* by the largest p of the given class where the IoU is at least 0.3;
* it looks *swapped* by the largest p of another class there, of predictions nearest to this box;
* it looks *moved* by the largest p of the given class where the IoU is between 0.1 and 0.2 and no
  other annotation is met either;
* an object looks *overlooked* by the largest p of any class that touches no annotation.

What speaks against a box is held against what speaks for it, against / (against + for): in the
course of a training confidence rises from nothing, and a detector that is sure of little is as
telling as one that is sure of much. A half says that nothing speaks either way. An overlooked
object is held against those of the other images of the batch, or a quarter of what annotated ones
get: where all images have some, they tell of the data or of the detector, not of an image. An
image's own counts among them as in a batch of eight, so that a small batch tells no less.

Of an image with crowds nothing is said to be overlooked: a mapper hands none of these boxes on, so
that what is rightly seen in a crowd touches no annotation either.

From boxes to the image leads for a fault the maximum, never a sum, which ranks crowded images: a
fault is of one box. The confidence is of all of them, a mean.

The kinds of faults are those of Tkachenko et al., "ObjectLab: Automated Diagnosis of Mislabeled
Images in Object Detection Data" (2023). Shape letters: B images, M predictions of one image, C
classes, G annotated boxes of all images. Boxes are (x0, y0, x1, y1) in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

#: IoU from which a prediction is of an annotation, below which it is beside, or touches it not.
MATCH, BESIDE, TOUCH = 0.3, 0.2, 0.1
#: Evidence that is well below it leaves a ratio at a half.
LITTLE = 0.02

#: The part of an image's own in what it is held against.
OWN = 1 / 8

#: What :meth:`Evidence.signals` gives.
SIGNALS = ("confidence", "fault")
#: What :meth:`Evidence.of_boxes` gives.
BOX_SIGNALS = ("box_iou", "box_confidence")
EVIDENCE = frozenset((*SIGNALS, *BOX_SIGNALS))


@dataclass(frozen=True)
class Evidence:
    """Of the annotated boxes of B images, all detached and in [0, 1], or NaN where it says so.

    Attributes:
        image: (G,) int64, whose each box is, in 0..B−1.
        iou: (G,) of the prediction that fits a box best: that of the largest IoU · p.
        confidence: (G,) p of the given class in that prediction.
        confirmed: (G,) see the module.
        swapped: (G,) see the module.
        moved: (G,) see the module.
        overlooked: (B,) see the module; NaN of an image with crowds.
    """

    image: Tensor
    iou: Tensor
    confidence: Tensor
    confirmed: Tensor
    swapped: Tensor
    moved: Tensor
    overlooked: Tensor

    def signals(self) -> dict[str, Tensor]:
        """(B,) ``confidence`` and ``fault`` of each image, two of :data:`.core.SIGNALS`.

        The confidence is the mean of the boxes' quality; without a box it is one minus what is
        overlooked, or one where that is not said. The fault is the largest of all ratios.
        """
        usual = self.confirmed.mean() / 4 if len(self.confirmed) else self.overlooked.new_ones(())
        usual = torch.maximum(usual, self._usually_overlooked())
        against = torch.maximum(
            _ratio(self.swapped, self.confirmed), _ratio(self.moved, self.confirmed)
        )
        overlooked = self.overlooked.nan_to_num()
        lacking = overlooked / (overlooked + usual + LITTLE)
        return {
            "confidence": self._mean(self.iou * self.confidence).clamp(0.0, 1.0),
            "fault": self._largest(against, lacking),
        }

    def of_boxes(self, most: int) -> dict[str, Tensor]:
        """(B, most) ``box_iou`` and ``box_confidence``, in the order of an image's boxes.

        NaN in the places that an image has no box for.

        Args:
            most: G of the image that has most.
        """
        first = torch.searchsorted(
            self.image, torch.arange(len(self.overlooked) + 1).to(self.image)
        )
        place = torch.arange(len(self.image)).to(self.image) - first[self.image]
        found = {}
        for name, values in zip(BOX_SIGNALS, (self.iou, self.confidence), strict=True):
            rows = values.new_full((len(self.overlooked), most), float("nan"))
            inside = place < most
            rows[self.image[inside], place[inside]] = values[inside]
            found[name] = rows
        return found

    def _usually_overlooked(self) -> Tensor:
        """(B,) the mean of the other images, and a part of an image's own."""
        own, known = self.overlooked.nan_to_num(), ~self.overlooked.isnan()
        others = (own.sum() - own) / (known.sum() - known.long()).clamp(min=1)
        return (1 - OWN) * others + OWN * own

    def _mean(self, quality: Tensor) -> Tensor:
        """(B,) of (G,): over an image's boxes."""
        count = torch.bincount(self.image, minlength=len(self.overlooked))
        total = torch.zeros_like(self.overlooked).index_add(0, self.image, quality)
        return torch.where(count > 0, total / count, 1.0 - self.overlooked.nan_to_num())

    def _largest(self, of_box: Tensor, of_image: Tensor) -> Tensor:
        """(B,) the largest of an image's boxes (G,), and of its own (B,)."""
        return of_image.scatter_reduce(0, self.image, of_box, "amax").clamp(0.0, 1.0)


@torch.no_grad()
def box_evidence(
    pred: Tensor, scores: Tensor, boxes: Tensor, classes: Tensor, image: Tensor, crowds: Tensor
) -> Evidence:
    """Hold annotated boxes against predictions. Memory grows with G·M.

    Args:
        pred: (B, M, 4) predicted boxes; M may be 0.
        scores: (B, M, C) p of each class; 0 in all of them where a place holds no prediction.
        boxes: (G, 4) annotated.
        classes: (G,) int64.
        image: (G,) int64, rising, whose each box is.
        crowds: (B,) bool, whether an image has crowds, which are not among ``boxes``.
    """
    if pred.shape[1] == 0:  # as of a cascade whose boxes have all become empty
        pred, scores = (F.pad(given, (0, 0, 0, 1)) for given in (pred, scores))
    scores = scores.float()
    iou = pairwise_iou(pred.float(), boxes.float(), image)  # (G, M)
    best, second = scores.topk(min(2, scores.shape[2]), dim=2)
    if scores.shape[2] == 1:
        best = torch.cat([best, torch.zeros_like(best)], 2)
        second = torch.cat([second, second], 2)
    rows = torch.arange(len(classes), device=image.device)
    own = scores[image, :, classes]  # (G, M)
    is_best = second[image, :, 0] == classes[:, None]
    other = torch.where(is_best, best[image, :, 1], best[image, :, 0])  # (G, M)
    claimed = iou.new_zeros(pred.shape[:2])
    claimed = claimed.scatter_reduce(0, image[:, None].expand_as(iou), iou, "amax")  # (B, M)
    fits = (iou * own).argmax(1) if len(rows) else rows
    near, nearest = iou >= MATCH, iou >= claimed[image]
    beside = (iou >= TOUCH) & (iou < BESIDE) & (claimed[image] < MATCH)
    return Evidence(
        image=image,
        iou=iou[rows, fits],
        confidence=own[rows, fits],
        confirmed=_most(own, near),
        swapped=_most(other, near & nearest),
        moved=_most(own, beside),
        overlooked=_most(best[..., 0], claimed < TOUCH).masked_fill(crowds, float("nan")),
    )


def _ratio(against: Tensor, for_it: Tensor) -> Tensor:
    return (against + LITTLE) / (against + for_it + 2 * LITTLE)


def _most(values: Tensor, where: Tensor) -> Tensor:
    """The largest of each row, 0 where there is none."""
    return (values * where).amax(1)


def pairwise_iou(pred: Tensor, boxes: Tensor, image: Tensor) -> Tensor:
    """(G, M) IoU of each of ``boxes`` (G, 4) with the predictions (B, M, 4) of its image (G,)."""
    own = pred[image]
    low = torch.maximum(own[..., :2], boxes[:, None, :2])
    high = torch.minimum(own[..., 2:], boxes[:, None, 2:])
    inter = (high - low).clamp(min=0).prod(-1)
    area = (pred[..., 2:] - pred[..., :2]).clamp(min=0).prod(-1)[image]
    union = area + (boxes[:, 2:] - boxes[:, :2]).prod(-1)[:, None] - inter
    return torch.where(union > 0, inter / union.clamp(min=1e-9), 0.0)


# --- from a head to who looks ------------------------------------------------------------------


class Predictions(NamedTuple):
    """What a head predicts in training, in pixels of the images that the detector was given.

    Attributes:
        boxes: (B, M, 4).
        scores: (B, M, C), p of each class; 0 in all of them where a place holds no prediction.
    """

    boxes: Tensor
    scores: Tensor


_watched: ContextVar[list[Predictions] | None] = ContextVar("watched", default=None)


def show(predictions: Callable[[], Predictions]) -> None:
    """Show what a head predicts to who looks. Where nobody does, nothing is computed."""
    if (found := _watched.get()) is not None:
        with torch.no_grad():
            found.append(predictions())


@contextmanager
def watching(look: bool) -> Iterator[list[Predictions]]:
    """Collect what is shown within, in the order of the heads. Unless ``look``, nothing is."""
    found: list[Predictions] = []
    token = _watched.set(found if look else None)
    try:
        yield found
    finally:
        _watched.reset(token)


def evidence_of(predictions: Predictions, batched_inputs: Sequence[Mapping[str, Any]]) -> Evidence:
    """:func:`box_evidence` for the annotations of a batch, as the detector takes it.

    Of crowds an image's ``has_crowd`` tells, which :class:`.data.loader.PruningLoader` sets.
    """
    instances = [x["instances"] for x in batched_inputs]
    counts = torch.tensor([len(own) for own in instances])
    device = predictions.boxes.device
    return box_evidence(
        predictions.boxes,
        predictions.scores,
        torch.cat([own.gt_boxes.tensor for own in instances]).to(device),
        torch.cat([own.gt_classes for own in instances]).to(device),
        torch.arange(len(instances)).repeat_interleave(counts).to(device),
        torch.tensor([bool(x.get("has_crowd")) for x in batched_inputs], device=device),
    )


def best_of_dense(
    transform: Any, anchors: Tensor, scores: Tensor, deltas: Tensor, most: int = 300
) -> Predictions:
    """The predictions of a dense head that are surest of a class.

    Args:
        transform: Detectron2's, from deltas to boxes.
        anchors: (R, 4).
        scores: (B, R, C).
        deltas: (B, R, 4).
        most: how many of each image.
    """
    best = scores.amax(2).topk(min(most, scores.shape[1]), dim=1).indices  # (B, M)
    image = torch.arange(len(scores), device=best.device)[:, None]
    chosen = deltas[image, best]
    boxes = transform.apply_deltas(chosen.flatten(0, 1), anchors[best.flatten()])
    return Predictions(boxes.view_as(chosen), scores[image, best])
