"""What a trained detector makes of images, one at a time.

Shape letters: N images, G annotated boxes of an image, M detections of an image, D features.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.evaluation import inference_context
from torch import Tensor, nn
from torchvision.ops import roi_align

from ..errors import DataError

logger = logging.getLogger(__name__)

Batch = list[dict[str, Any]]

#: Boxes are pooled on the coarsest map with no more than so many pixels of the input a cell, into
#: so many cells a side.
STRIDE, POOLED = 16, 7


def backbone_features(model: nn.Module, batches: Iterable[Batch]) -> np.ndarray:
    """(N, D) float32: the global average of the backbone's last feature map, of each image.

    The last is the coarsest, and of equally coarse ones the one that is given last. What stands
    behind the backbone is not computed.

    Args:
        model: a detector; it is in evaluation mode meanwhile.
        batches: N of one image each, as the detector takes them.

    Raises:
        DataError: a detector without ``backbone``, or one that does not call it.
    """
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, nn.Module):
        raise DataError(f"{type(model).__name__} has no backbone to take features from")
    hook = backbone.register_forward_hook(_raise_output)
    try:
        return np.stack([_features(model, batch) for batch in _looked_at(model, batches)])
    finally:
        hook.remove()


def detections(model: nn.Module, batches: Iterable[Batch]) -> list[dict[str, np.ndarray]]:
    """What is detected in each image: ``boxes`` (M, 4) float32, as (x0, y0, x1, y1) in pixels of
    the image as it is annotated; ``scores`` (M,) float32; ``classes`` (M,) int64.

    Args:
        model: a detector; it is in evaluation mode meanwhile.
        batches: of one image each, as the detector takes them.

    Raises:
        DataError: a detector that gives no boxes.
    """
    return [_detections(model(batch)[0], model) for batch in _looked_at(model, batches)]


def upright_detections(model: nn.Module, batches: Iterable[Batch]) -> list[dict[str, np.ndarray]]:
    """As :func:`detections`.

    Raises:
        DataError: a detector of rotated boxes, or one that gives none.
    """
    found = detections(model, batches)
    if any(own["boxes"].shape[1:] != (4,) for own in found):
        raise DataError(f"{type(model).__name__} predicts boxes that are not upright")
    return found


def has_box_features(model: nn.Module) -> bool:
    """Whether :func:`box_features` can be had, as of all of Detectron2's detectors."""
    return hasattr(model, "backbone") and hasattr(model, "preprocess_image")


def box_features(
    model: nn.Module, batches: Iterable[Batch], boxes: Sequence[np.ndarray]
) -> np.ndarray:
    """(ΣG, D) float32: the mean of a feature map of the backbone inside each annotated box.

    The map is the coarsest one of stride 16 or less, as a C4 head has it, and the finest one where
    there is none. RoI-align takes 7 x 7 values of a box, whose mean is its feature.

    Args:
        model: a detector with ``backbone`` and ``preprocess_image``; it is in evaluation mode
            meanwhile.
        batches: N of one image each, as the detector takes them.
        boxes: N of (G, 4), (x0, y0, x1, y1) in pixels of the image as it is annotated.
    """
    looked_at = zip(_looked_at(model, batches), boxes, strict=True)
    found = [_pooled(model, batch, own) for batch, own in looked_at]
    return np.concatenate(found)


def _pooled(model: nn.Module, batch: Batch, boxes: np.ndarray) -> np.ndarray:
    """(G, D) of one image."""
    images = model.preprocess_image(batch)  # type: ignore[operator]
    shown = _box_map(model.backbone(images.tensor), images.tensor.shape[-1])  # type: ignore[operator]
    height, width = batch[0]["image"].shape[1:]
    annotated = np.array([batch[0].get("width", width), batch[0].get("height", height)])
    # From the annotated image to the part of the input that it covers, and on to cells of the map.
    covered = np.array(images.image_sizes[0])[::-1]
    cells = np.array(shown.shape[2:])[::-1] / np.array(images.tensor.shape[2:])[::-1]
    scaled = boxes * np.tile(covered / annotated * cells, 2)
    own = torch.as_tensor(scaled, dtype=shown.dtype, device=shown.device)
    found = roi_align(shown, [own], POOLED, aligned=True)
    return found.mean(dim=(2, 3)).float().cpu().numpy()


class _Reached(Exception):
    """Carries the backbone's output out of a forward that goes no further."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


def _raise_output(module: nn.Module, inputs: Any, output: Any) -> None:
    raise _Reached(output)


def _features(model: nn.Module, batch: Batch) -> np.ndarray:
    try:
        model(batch)
    except _Reached as reached:
        last = _last_map(reached.output)
        return last.float().mean(dim=(2, 3))[0].cpu().numpy()
    raise DataError(f"{type(model).__name__} does not call its backbone in evaluation mode")


def _last_map(output: Any) -> Tensor:
    """(1, D, H, W), of a dict or a list of such, or of one alone."""
    if isinstance(output, Tensor):
        return output
    maps: Sequence[Tensor] = list(output.values() if isinstance(output, Mapping) else output)
    return min(reversed(maps), key=_cells)


def _box_map(output: Any, width: int) -> Tensor:
    """(1, D, H, W): see :func:`box_features`; the input is ``width`` pixels wide."""
    if isinstance(output, Tensor):
        return output
    maps: Sequence[Tensor] = list(output.values() if isinstance(output, Mapping) else output)
    fine = [found for found in maps if width <= STRIDE * found.shape[-1]]
    return min(fine, key=_cells) if fine else max(maps, key=_cells)


def _cells(found: Tensor) -> int:
    return found.shape[-2] * found.shape[-1]


def _detections(output: Any, model: nn.Module) -> dict[str, np.ndarray]:
    found = output.get("instances") if isinstance(output, Mapping) else None
    if found is None or not found.has("pred_boxes"):
        raise DataError(f"{type(model).__name__} gives no boxes, so there are no detections of it")
    found = found.to("cpu")
    return {
        "boxes": found.pred_boxes.tensor.float().numpy(),
        "scores": found.scores.float().numpy(),
        "classes": found.pred_classes.long().numpy(),
    }


def _looked_at(model: nn.Module, batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches, while ``model`` is in evaluation mode; a log line after each thousand."""
    with inference_context(model), torch.no_grad():
        for count, batch in enumerate(batches):
            if count and count % 1000 == 0:
                logger.info("%s has looked at %d images", type(model).__name__, count)
            yield batch
