"""Images that are on their way out, in TensorBoard.

Shape letters: N samples, R rows of them that a process owns.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from detectron2.engine import HookBase, hooks
from detectron2.structures import BoxMode
from detectron2.utils.events import TensorboardXWriter
from PIL import Image, ImageDraw

from ...core import AdaPruner
from ...core.equations import sigmoid
from ...errors import one_line
from ...images import read_upright
from ...methods.base import Guide
from ..data.samples import SampleIndex

logger = logging.getLogger(__name__)

#: So many images an epoch at most, and the longer side of one in pixels.
MOST, SIDE = 4, 256

#: A smaller fall of the keep probability within an epoch is no news.
LEAST_FALL = 0.05

_LINE = 14  # pixels of the line of text above an image


class LeavingHook(HookBase):
    """At the end of each epoch shows the images whose keep probability fell most in it.

    They are ``leaving/1`` to ``leaving/4``, with their boxes, and their key and both probabilities
    above. It needs a mask and a writer for TensorBoard, and does nothing without; with several
    processes the images are of those that the main one owns. It draws no random number and moves
    nothing of the run; an image that cannot be shown is one warning, and the last one.

    It has to stand after the hook that moves the mask, and before the writers.

    Args:
        guide: of the run.
        index: of its samples.
        batch_size: B, images a step.
    """

    def __init__(self, guide: Guide, index: SampleIndex, batch_size: int) -> None:
        self._guide, self._index, self._batch_size = guide, index, batch_size
        self._before: np.ndarray | None = None
        self._on = False

    def before_train(self) -> None:
        self._on = isinstance(self._guide, AdaPruner) and _writes_images(self.trainer)
        if self._on:
            self._before = self._probabilities()

    def after_step(self) -> None:
        done, count = self.trainer.iter + 1, len(self._index)
        if not self._on or done * self._batch_size // count == (
            (done - 1) * self._batch_size // count
        ):
            return
        try:
            self._show()
        except Exception as error:  # a picture is no reason to end a run
            logger.warning("No more images on their way out are shown: %s", one_line(error))
            self._on = False

    def _show(self) -> None:
        before, now = self._before, self._probabilities()
        self._before = now
        assert before is not None
        rows = falling(before, now)
        world, rank = self._guide.mask.world, self._guide.mask.rank  # type: ignore[attr-defined]
        for place, row in enumerate(rows.tolist(), start=1):
            own = self._index.dicts[row * world + rank]
            words = f"{before[row]:.2f} to {now[row]:.2f}  {self._index.keys[row * world + rank]}"
            pixels = np.asarray(drawn(own, words)).transpose(2, 0, 1)
            self.trainer.storage.put_image(f"leaving/{place}", pixels)

    def _probabilities(self) -> np.ndarray:
        """(R,) of the samples that this process owns, at the α of now."""
        guide: Any = self._guide
        return sigmoid(guide.status().alpha * guide.mask.column("logit").astype(np.float64))


def falling(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """The rows that fell most from ``before`` to ``now``, (R,) each: at most :data:`MOST` of them.

    Those count that are now more likely to go than to stay.
    """
    fall = np.where(now < 0.5, before - now, 0.0)
    first = np.argsort(-fall, kind="stable")[:MOST]
    return first[fall[first] >= LEAST_FALL]


def drawn(sample: Mapping[str, Any], words: str) -> Image.Image:
    """The image of one of Detectron2's dicts, small, with its boxes and a line of text above."""
    image = read_upright(sample["file_name"]).convert("RGB")
    scale = min(1.0, SIDE / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    whole = Image.new("RGB", (size[0], size[1] + _LINE))
    whole.paste(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0), (0, _LINE))
    draw = ImageDraw.Draw(whole)
    for own in sample.get("annotations", ()):
        x0, y0, x1, y1 = BoxMode.convert(list(own["bbox"]), own["bbox_mode"], BoxMode.XYXY_ABS)
        corners = [scale * x0, _LINE + scale * y0, scale * x1, _LINE + scale * y1]
        if corners[0] <= corners[2] and corners[1] <= corners[3]:
            draw.rectangle(corners, outline="black", width=4)
            draw.rectangle(corners, outline="yellow", width=2)
    draw.rectangle((0, 0, size[0], _LINE - 1), fill="black")
    draw.text((2, 1), words.encode("ascii", "replace").decode(), fill="white")
    return whole


def _writes_images(trainer: Any) -> bool:
    """Whether a hook of the trainer writes for TensorBoard, which alone empties what is put."""
    writers = [
        writer
        for hook in trainer._hooks
        if isinstance(hook, hooks.PeriodicWriter)
        for writer in hook._writers
    ]
    return any(isinstance(writer, TensorboardXWriter) for writer in writers)
