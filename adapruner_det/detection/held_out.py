"""Predictions of images by detectors that were trained on the others: K folds, one training each.

Each fold has a folder, in which a training that was killed goes on, and a file of predictions that
is there once the fold is done.
Shape letters: N images, K folds.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.structures import BoxMode
from detectron2.utils.events import EventStorage
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from ..box_faults import Labels
from ..errors import DataError
from ..folds import assign_folds, near_copies
from ..predictions import Predictions, joined
from ..random_states import random_states_kept
from ..samples import digest
from ..selection import Selection, part_of
from .data.checks import checked_set
from .data.keypoints import with_keypoints
from .data.loader import seeded, single_images
from .data.samples import SampleIndex, require_datasets, require_same_classes
from .inference import upright_detections
from .modeling.yolov3_tiny import YOLOv3Tiny
from .per_image import LossSource
from .task import DetectionTask, trained_model
from .training.forward_state import dense_detectors, loss_normalizers, set_loss_normalizers
from .training.lazy import evaluation_mapper, is_lazy
from .training.trainer import EvaluatingTrainer

logger = logging.getLogger(__name__)

FILE = "predictions.npz"

#: Seconds between two looks at how far a training is.
POLL = 1.0

#: Is told the share of all steps that is done, in [0, 1].
Progress = Callable[[float], Any]


class HeldOutTask(DetectionTask):
    """Detection without an evaluation after each training: what is asked for are predictions.

    Args:
        cfg: the configuration; DATASETS.TEST is not needed.
        trust_pickle: whether MODEL.WEIGHTS may be a ``.pkl``, which can run any code.

    Attributes:
        everything: all images of the data sets, also those without objects, on which no detector
            is trained.
        steps: of a training on all samples.
    """

    def __init__(self, cfg: CfgNode, *, trust_pickle: bool = False) -> None:
        super().__init__(cfg, tested=False, trust_pickle=trust_pickle)
        self.everything = all_images(cfg)
        self.steps: int = self._cfg.SOLVER.MAX_ITER
        self._require_boxes()

    def _require_boxes(self) -> None:
        """Raise a DataError where no upright boxes can be had of the detector, or no mapper of a
        LazyConfig, which is to be told before it is trained: it looks at one image untrained."""
        mapper = evaluation_mapper(self._cfg)
        with random_states_kept():
            model = EvaluatingTrainer.build_model(self._cfg)
            upright_detections(model, single_images([self.everything.dicts[0]], mapper, 0))

    def _evaluate(self, cfg: CfgNode, model: nn.Module) -> float:
        return float("nan")

    def part(self, keys: Iterable[str]) -> Selection:
        """The samples of the training set whose keys are not in ``keys``.

        Raises:
            DataError: none is left to train on.
        """
        out = set(keys)
        kept = np.array([key not in out for key in self.samples.keys])
        if not kept.any():
            raise DataError(
                f"none of the {len(kept)} training images is left to train on; take fewer folds, "
                "or more images"
            )
        return part_of(self.samples, kept, "held out")

    def look_at(self, folder: Path, rows: Sequence[int]) -> Predictions:
        """What the model in ``folder`` predicts for the images ``rows`` of :attr:`everything`, and
        their losses, without augmentation."""
        model = trained_model(self._cfg, folder)
        keys = [self.everything.keys[row] for row in rows]
        dicts = [self.everything.dicts[row] for row in rows]
        workers = self._cfg.DATALOADER.NUM_WORKERS
        batches = single_images(dicts, evaluation_mapper(self._cfg), workers)
        found = upright_detections(model, batches)
        losses = np.full(len(rows), np.nan)
        if not is_lazy(self._cfg):  # whose mapper cannot be asked for annotations
            if isinstance(model, YOLOv3Tiny):
                model.train_sizes = []  # at one size, or losses could not be compared
            losses = held_out_losses(model, keys, single_images(dicts, _loss_mapper(self._cfg), 0))
        names = self.everything.samples.class_names
        labels = [_labels(sample.get("annotations", ())) for sample in dicts]
        digests = np.array([own.digest(names) for own in labels], dtype=np.uint64)
        return Predictions(keys, found, losses, np.zeros(len(rows), np.int64), digests=digests)


def all_images(cfg: CfgNode) -> SampleIndex:
    """The images of ``cfg.DATASETS.TRAIN`` with their labels, also those without objects.

    Raises:
        DataError: data sets that are not there or cannot be read, or that differ in their classes.
    """
    names = cfg.DATASETS.TRAIN
    require_datasets(names)
    found = {name: checked_set(name, cfg.ADAPRUNER.ON_BAD_SAMPLE).dicts for name in names}
    require_same_classes(names)
    return SampleIndex.from_dicts(found)


def labels_of(index: SampleIndex) -> list[Labels]:
    """What is annotated in each of the N images; rotated boxes become the upright ones around."""
    return [_labels(sample.get("annotations", ())) for sample in index.dicts]


def _labels(annotations: Sequence[dict[str, Any]]) -> Labels:
    upright = BoxMode.XYXY_ABS
    boxes = [BoxMode.convert(list(a["bbox"]), a["bbox_mode"], upright) for a in annotations]
    return Labels(
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        classes=np.array([a["category_id"] for a in annotations], dtype=np.int64),
        crowd=np.array([bool(a.get("iscrowd")) for a in annotations], dtype=bool),
    )


def predict_held_out(
    task: HeldOutTask,
    folds: int,
    seed: int,
    folder: Path,
    progress: Progress = lambda share: None,
) -> Predictions:
    """Predict each image by a detector that was trained without it. ``folder/predictions.npz``.

    Near-copies of an image are held out with it, or a detector would learn its faults from them.

    What an earlier call with the same task, folds and seed left in ``folder`` is gone on with.

    Args:
        task: the detector and its data.
        folds: K.
        seed: of the folds and of the trainings.
        folder: where ``fold-1`` and so on are made.
        progress: is called every second, by another thread.

    Raises:
        DataError: what training raises, and numbers that do not fit.
    """
    count = len(task.everything)
    if not 2 <= folds <= count:
        raise DataError(f"{folds} folds of {count} images: take 2 or more, and no more than images")
    of_image = assign_folds(near_copies(task.everything.samples), folds, seed)
    parts = []
    for fold in range(folds):
        own, rows = folder / f"fold-{fold + 1}", np.flatnonzero(of_image == fold).tolist()
        known = _identity(task, rows, seed)
        part = _done(own / FILE, known)
        if part is None:
            with _told(progress, own, fold, folds, task.steps):
                part = _predicted(task, rows, fold, seed, own, known)
        parts.append(part)
        progress((fold + 1) / folds)
    names = list(task.everything.samples.class_names)
    about = {"folds": folds, "seed": seed, "title": task.title, "class_names": names}
    whole = joined(parts, about)
    whole.save(folder / FILE)
    return whole


def _done(path: Path, known: str) -> Predictions | None:
    """The predictions of a fold, where they are there.

    Raises:
        DataError: those of other data or settings.
    """
    if not path.is_file():
        return None
    part = Predictions.load(path)
    if part.about.get("identity") != known:
        whole = path.parents[1] / FILE  # which is there once all folds are done
        judge = f", or judge the labels that are there now with --predictions {whole}"
        raise DataError(
            f"{path} was made from other labels, images or settings: set another OUTPUT_DIR to "
            f"train anew{judge * whole.is_file()}"
        )
    return part


def _predicted(
    task: HeldOutTask, rows: list[int], fold: int, seed: int, folder: Path, known: str
) -> Predictions:
    """Train without the images ``rows`` and predict them."""
    task.train(seed, folder, kept=task.part(task.everything.keys[row] for row in rows))
    found = task.look_at(folder, rows)
    part = replace(found, folds=np.full(len(rows), fold), about={"identity": known})
    part.save(folder / FILE)
    return part


def _identity(task: HeldOutTask, rows: Sequence[int], seed: int) -> str:
    """Of one fold, hexadecimal: what decides its predictions."""
    held = hashlib.sha256("\n".join(task.everything.keys[row] for row in rows).encode())
    known = [task.identity, task.everything.samples.fingerprint, held.hexdigest(), seed]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()


def held_out_losses(
    model: nn.Module, keys: Sequence[str], batches: Iterable[list[dict[str, Any]]]
) -> np.ndarray:
    """(N,) float64: the sum of a detector's losses on each image, as a trained one judges it.

    The detector is in training mode, but its batch norms use what they have learnt and nothing is
    dropped out. What it draws at random, it draws from a seed of the image's key.

    Args:
        model: a detector; its mode is given back.
        keys: of the N images.
        batches: of one image each, with ``instances``.
    """
    was_training = model.training
    model.train()
    for module in model.modules():
        if isinstance(module, (_BatchNorm, _DropoutNd)):
            module.eval()
    source, dense = LossSource(model), dense_detectors(model)
    normalizers = loss_normalizers(dense)
    losses = []
    with torch.no_grad(), EventStorage(0):
        for key, batch in zip(keys, batches, strict=True):
            with seeded(0, digest(key)), _gpus_seeded(model, digest(key)):
                own = source.losses(batch, lambda: None)
            losses.append(float(sum(value.double().sum() for value in own.values())))
            set_loss_normalizers(dense, normalizers)  # each image moves them
    model.train(was_training)
    return np.array(losses)


@contextmanager
def _gpus_seeded(model: nn.Module, seed: int) -> Iterator[None]:
    """Seed the GPUs that ``model`` lies on, which draw with generators of their own."""
    gpus = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=gpus, enabled=bool(gpus)):
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


def _loss_mapper(cfg: CfgNode) -> Callable[[dict[str, Any]], Any]:
    """As an evaluation sees images, with their annotations.

    Images are among them on which no detector is trained, for having too few visible keypoints.
    """
    mapper = DatasetMapper(**{**DatasetMapper.from_config(cfg, False), "is_train": True})
    return lambda sample: mapper(with_keypoints(cfg, sample))


@contextmanager
def _told(progress: Progress, folder: Path, fold: int, folds: int, steps: int) -> Iterator[None]:
    """Tell ``progress`` every second how far the training in ``folder`` is, of ``steps``."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(POLL):
            progress((fold + min(steps_done(folder) * folds / (steps * (folds - 1)), 1.0)) / folds)

    thread = threading.Thread(target=watch, daemon=True, name="progress")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def steps_done(folder: Path) -> int:
    """How many steps of the training in ``folder`` its newest line of metrics.json tells of."""
    try:
        last = (folder / "metrics.json").read_text(encoding="utf-8").splitlines()[-1]
        return int(json.loads(last)["iteration"]) + 1
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return 0
