"""What the tools do: prune, train on what was kept, transfer, and compare.

Shape letters: N samples, K kept.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from fvcore.common.config import CfgNode

from .. import settings
from ..core import AdaPruner
from ..errors import DataError
from ..files import CONFIG_FILE, write_text
from ..methods.adapruner import choice_of
from ..methods.base import Guide, make_selection
from ..selection import Selection, lost_classes_line, warnings_of
from .checkpoint import (
    MODEL_FILE,
    RESULT_FILE,
    SELECTION_FILE,
    has_checkpoint,
    require_elsewhere,
    run_folder,
)
from .data import Data
from .image_set import ImageSet
from .models import build_model
from .signals import SIGNALS
from .trainer import Trainer

logger = logging.getLogger(__name__)

#: Those whose versions decide the outcome, besides torch and numpy.
LIBRARIES = ("torchvision",)


@dataclass(frozen=True)
class Result:
    """One training and its evaluation after the last epoch.

    Attributes:
        accuracy: on the evaluated set, in percent.
        evaluated_on: that set's name, and how many images it has.
        images: how many the model was trained on.
        steps: of training.
        epochs: of training; a fraction where the last one was cut short.
        seconds: of training, without the evaluation.
        seed: of the run.
    """

    accuracy: float
    evaluated_on: str
    images: int
    steps: int
    epochs: float
    seconds: float
    seed: int


def build_pruner(cfg: CfgNode, train: ImageSet) -> AdaPruner:
    """The mask over ``train`` that ``cfg.ADAPRUNER`` and ``cfg.SOLVER.EPOCHS`` describe.

    Raises:
        DataError: a run too short for its warm-up, or values of α that do not rise from above 0.
    """
    epochs = cfg.SOLVER.EPOCHS
    return settings.build_pruner(
        cfg.ADAPRUNER,
        train.samples,
        epochs,
        seed=cfg.SEED,
        offered=SIGNALS,
        length="SOLVER.EPOCHS",
    )


def prune(
    cfg: CfgNode,
    train: ImageSet,
    *,
    resume: bool = False,
    save: bool = True,
    command: str = "",
) -> Selection:
    """Train on ``train`` with a mask, and select.

    Args:
        cfg: the configuration.
        train: the N training images.
        resume: go on from the checkpoint in ``cfg.OUTPUT_DIR``.
        save: write checkpoints, the model and ``selection.json`` to ``cfg.OUTPUT_DIR``.
        command: that asked for it, to be on record.

    Raises:
        DataError: a configuration that makes no run, or what :class:`Trainer` raises.
    """
    pruner = build_pruner(cfg, train)
    trainer = Trainer(cfg, train, pruner, label=f"prune {len(train)}")
    with _folder(cfg, trainer, resume, save):
        trainer.train(save=save)
        selection = replace(_selection(cfg, train, pruner), command=command)
        if save:  # the selection first: no model is worth its loss
            selection.save(Path(cfg.OUTPUT_DIR) / SELECTION_FILE)
            trainer.save_model()
    if line := lost_classes_line(selection):
        logger.warning("Warning: %s.", line)
    return selection


def _selection(cfg: CfgNode, train: ImageSet, pruner: AdaPruner) -> Selection:
    return make_selection(
        choice_of(pruner, cfg.ADAPRUNER.DROP),
        train.samples,
        method="adapruner",
        keep_ratio=pruner.keep_ratio,
        seed=cfg.SEED,
        config_digest=settings.config_digest(cfg),
        libraries=LIBRARIES,
    )


@contextmanager
def _folder(
    cfg: CfgNode, trainer: Trainer, resume: bool, save: bool, inputs: Iterable[str | None] = ()
) -> Iterator[None]:
    """``cfg.OUTPUT_DIR`` for this run alone, with ``cfg`` in it, at the step where it goes on."""
    if not save:
        if resume:
            trainer.resume()
        yield
        return
    inputs = [cfg.MODEL.WEIGHTS, *inputs]
    with run_folder(cfg.OUTPUT_DIR, trainer.resume if resume else None, inputs):
        write_text(Path(cfg.OUTPUT_DIR) / CONFIG_FILE, cfg.dump())
        yield


def kept_images(images: ImageSet, selection: Selection) -> ImageSet:
    """What ``selection`` keeps of ``images``; what is to be known of it is logged.

    Raises:
        DataError: a selection of other data.
    """
    selection = images.checked_selection(selection)
    for line in warnings_of(selection):
        logger.warning("Warning: %s.", line)
    return images.with_keys(selection.kept_keys)


def train(
    cfg: CfgNode,
    data: Data,
    selection: Selection | None = None,
    *,
    guide: Guide | None = None,
    steps: int | None = None,
    resume: bool = False,
    save: bool = True,
    selection_file: str | None = None,
) -> Result:
    """Train on what ``selection`` keeps, or on all, and evaluate the last step.

    Args:
        cfg: the configuration.
        data: training and test set.
        selection: of ``data.train``; any architecture may have made it.
        guide: weights the losses and hears of them, by the places of the images trained on; None
            trains the plain model.
        steps: of training; None takes ``cfg.SOLVER.EPOCHS`` epochs.
        resume: go on from the checkpoint in ``cfg.OUTPUT_DIR``.
        save: write checkpoints, the model and ``result.json`` to ``cfg.OUTPUT_DIR``.
        selection_file: where the selection was read from; a new run does not set it aside.

    Raises:
        DataError: a selection of other data, or what :class:`Trainer` raises.
    """
    images = data.train if selection is None else kept_images(data.train, selection)
    trainer = Trainer(cfg, images, guide, f"train {len(images)}", steps)
    with _folder(cfg, trainer, resume, save, [selection_file]):
        trainer.train(save=save)
        if save:
            trainer.save_model()
        result = Result(
            accuracy=trainer.evaluate(data.test),
            evaluated_on=f"{data.test.name} ({len(data.test)} images)",
            images=len(images),
            steps=trainer.total_steps,
            epochs=trainer.epochs,
            seconds=trainer.seconds,
            seed=cfg.SEED,
        )
        if save:
            text = json.dumps(asdict(result), indent=1) + "\n"
            write_text(Path(cfg.OUTPUT_DIR) / RESULT_FILE, text)
    return result


def transfer(
    source_cfg: CfgNode,
    source: Data,
    target_cfg: CfgNode,
    target: Data,
    selection: Selection | None = None,
    *,
    resume: bool = False,
    selection_file: str | None = None,
) -> tuple[Result, Result]:
    """Pre-train on what ``selection`` keeps of ``source``, then fine-tune on all of ``target``.

    The head of the pre-trained model starts anew where the classes differ in number.

    Returns:
        The result on the source's test set and that on the target's.

    Raises:
        DataError: models that differ in more than their head, found before the first is trained,
            or what :func:`train` raises.
    """
    _require_transferable(source_cfg, source.train, target_cfg, target.train)
    if selection is not None:
        source = replace(source, train=kept_images(source.train, selection))
    inputs = [selection_file, source_cfg.MODEL.WEIGHTS]
    goes_on = resume and has_checkpoint(source_cfg.OUTPUT_DIR)
    require_elsewhere(target_cfg.OUTPUT_DIR, inputs, goes_on)
    if not goes_on:
        # Now, not when its turn comes: a kill in between would leave an earlier transfer's
        # fine-tuning there, and --resume would take that for this one's.
        with run_folder(target_cfg.OUTPUT_DIR, None, inputs):
            pass
    before = train(source_cfg, source, resume=resume, selection_file=selection_file)
    target_cfg = target_cfg.clone()
    target_cfg.MODEL.WEIGHTS = str(Path(source_cfg.OUTPUT_DIR) / MODEL_FILE)
    return before, train(target_cfg, target, resume=resume)


def _require_transferable(
    source_cfg: CfgNode, source: ImageSet, target_cfg: CfgNode, target: ImageSet
) -> None:
    shapes = []
    for cfg, images in ((source_cfg, source), (target_cfg, target)):
        cfg = cfg.clone()
        cfg.MODEL.WEIGHTS, cfg.MODEL.PRETRAINED = "", False
        with torch.device("meta"):
            model = build_model(cfg, images.images.shape[1], len(images.class_names))
        parts = model.state_dict().items()
        shapes.append({key: part.shape for key, part in parts if not key.startswith("fc.")})
    if shapes[0] != shapes[1]:
        raise DataError(
            f"the model of the pre-training ({source_cfg.MODEL.NAME}, {source.images.shape[1]} "
            f"channels) is not that of the fine-tuning ({target_cfg.MODEL.NAME}, "
            f"{target.images.shape[1]} channels): MODEL.NAME, WIDTH and STEM and the channels of "
            "the images must agree"
        )
