"""What the tools do: prune, train on what was kept, transfer, and compare.

Shape letters: N samples, K kept.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from fvcore.common.config import CfgNode

from ..core import AdaPruner, Schedule, Terms
from ..errors import DataError
from ..selection import Selection, learned_selection
from .config import config_digest
from .data import Data
from .image_set import ImageSet
from .trainer import MODEL_FILE, Trainer

logger = logging.getLogger(__name__)

SELECTION_FILE, RESULT_FILE = "selection.json", "result.json"


@dataclass(frozen=True)
class Result:
    """One training and its evaluation after the last epoch.

    Attributes:
        accuracy: on the evaluated set, in percent.
        evaluated_on: that set's name, and how many images it has.
        images: how many the model was trained on.
        epochs: of training.
        seconds: of training, without the evaluation.
        seed: of the run.
    """

    accuracy: float
    evaluated_on: str
    images: int
    epochs: int
    seconds: float
    seed: int


def build_pruner(cfg: CfgNode, num_samples: int) -> AdaPruner:
    """The mask that ``cfg.ADAPRUNER`` and ``cfg.SOLVER.EPOCHS`` describe.

    Raises:
        DataError: a run too short for its warm-up, or values of α that do not rise from above 0.
    """
    node = cfg.ADAPRUNER
    try:
        schedule = Schedule(
            node.WARMUP_EPOCHS,
            cfg.SOLVER.EPOCHS - node.WARMUP_EPOCHS,
            node.ALPHA_START,
            node.ALPHA_END,
        )
    except ValueError as error:
        raise DataError(
            f"{error} (SOLVER.EPOCHS {cfg.SOLVER.EPOCHS}, ADAPRUNER.WARMUP_EPOCHS "
            f"{node.WARMUP_EPOCHS}, ALPHA_START {node.ALPHA_START}, ALPHA_END {node.ALPHA_END})"
        ) from error
    return AdaPruner(
        num_samples,
        node.KEEP_RATIO,
        schedule,
        controller=node.CONTROLLER,
        normalize=node.NORMALIZE,
        terms=Terms(node.CLASSIFICATION_LOSS, node.SELECTION_LOSS, node.COMPRESSION_LOSS),
        paper_scale=node.PAPER_SCALE,
    )


def prune(cfg: CfgNode, train: ImageSet, *, resume: bool = False, save: bool = True) -> Selection:
    """Train on ``train`` with a mask, and select.

    Args:
        cfg: the configuration.
        train: the N training images.
        resume: go on from the checkpoint in ``cfg.OUTPUT_DIR``.
        save: write checkpoints, the model and ``selection.json`` to ``cfg.OUTPUT_DIR``.

    Raises:
        DataError: a configuration that makes no run, or what :class:`Trainer` raises.
    """
    pruner = build_pruner(cfg, len(train))
    trainer = Trainer(cfg, train, pruner, label=f"prune {len(train)}")
    if resume:
        trainer.resume()
    trainer.train(save=save)
    digests = train.digests()
    selection = learned_selection(
        pruner,
        keys=train.keys,
        digests=digests,
        datasets=train.fingerprints(digests),
        seed=cfg.SEED,
        config_digest=config_digest(cfg),
        libraries=["torchvision"],
    )
    if save:
        selection.save(Path(cfg.OUTPUT_DIR) / SELECTION_FILE)
    return selection


def train(
    cfg: CfgNode,
    data: Data,
    selection: Selection | None = None,
    *,
    resume: bool = False,
    save: bool = True,
) -> Result:
    """Train the plain model on what ``selection`` keeps, or on all; evaluate the last epoch.

    Args:
        cfg: the configuration.
        data: training and test set.
        selection: of ``data.train``; any architecture may have made it.
        resume: go on from the checkpoint in ``cfg.OUTPUT_DIR``.
        save: write checkpoints, the model and ``result.json`` to ``cfg.OUTPUT_DIR``.

    Raises:
        DataError: a selection of other data, or what :class:`Trainer` raises.
    """
    images = data.train if selection is None else data.train.kept(selection)
    missing = [images.class_names[c] for c in images.missing_classes()]
    if missing:
        logger.warning("The selection keeps no image of: %s.", ", ".join(missing))
    trainer = Trainer(cfg, images, label=f"train {len(images)}")
    if resume:
        trainer.resume()
    start = time.perf_counter()
    trainer.train(save=save)
    seconds = time.perf_counter() - start
    result = Result(
        accuracy=trainer.evaluate(data.test),
        evaluated_on=f"{data.test.name} ({len(data.test)} images)",
        images=len(images),
        epochs=cfg.SOLVER.EPOCHS,
        seconds=seconds,
        seed=cfg.SEED,
    )
    if save:
        path = Path(cfg.OUTPUT_DIR) / RESULT_FILE
        path.write_text(json.dumps(asdict(result), indent=1) + "\n")
    return result


def transfer(
    source_cfg: CfgNode,
    source: Data,
    target_cfg: CfgNode,
    target: Data,
    selection: Selection | None = None,
    *,
    resume: bool = False,
) -> tuple[Result, Result]:
    """Pre-train on what ``selection`` keeps of ``source``, then fine-tune on all of ``target``.

    The head of the pre-trained model starts anew where the classes differ in number.

    Returns:
        The result on the source's test set and that on the target's.
    """
    before = train(source_cfg, source, selection, resume=resume)
    target_cfg = target_cfg.clone()
    target_cfg.MODEL.WEIGHTS = str(Path(source_cfg.OUTPUT_DIR) / MODEL_FILE)
    return before, train(target_cfg, target, resume=resume)
