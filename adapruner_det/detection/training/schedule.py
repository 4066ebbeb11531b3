"""How long a run is: of how many epochs of the data, and on the part of them that is kept."""

from __future__ import annotations

import math
from collections.abc import Iterable

from detectron2.config import CfgNode

from ...errors import DataError
from ...selection import Selection

#: Steps that an epoch has at least, unless a batch would then be a single image.
_STEPS_PER_EPOCH = 4
#: Pruning epochs that a warm-up of half the run leaves at least, where there are as many.
_PRUNING_EPOCHS = 6


def fit_schedule(cfg: CfgNode, num_images: int, processes: int) -> list[str]:
    """Set in ``cfg`` what it leaves to the N images, as :func:`.fit.fit_to_data` says.

    Args:
        cfg: with ADAPRUNER.EPOCHS above 0, or ADAPRUNER.WARMUP_EPOCHS below.
        num_images: N.
        processes: how many share a batch.

    Returns:
        Lines that say what was set.

    Raises:
        DataError: no images.
    """
    node, solver = cfg.ADAPRUNER, cfg.SOLVER
    if not num_images:
        raise DataError("there is no training image to make epochs of; check DATASETS.TRAIN")
    if not node.EPOCHS:
        epochs = solver.MAX_ITER * solver.IMS_PER_BATCH // num_images
        node.WARMUP_EPOCHS = _half(epochs)
        return [f"Warm-up: {node.WARMUP_EPOCHS} of {epochs} epochs"]
    lines = []
    batch = _batch_size(solver.IMS_PER_BATCH, num_images, processes)
    if batch != solver.IMS_PER_BATCH:
        solver.BASE_LR *= batch / solver.IMS_PER_BATCH
        lines.append(
            f"Batches of {batch} images in place of {solver.IMS_PER_BATCH}, since there are "
            f"{num_images}; learning rate {solver.BASE_LR:g}"
        )
        solver.IMS_PER_BATCH = batch
    steps = math.ceil(node.EPOCHS * num_images / batch)
    scaled = (round(step * steps / solver.MAX_ITER) for step in solver.STEPS)
    solver.STEPS = _steps_inside(scaled, steps)
    solver.MAX_ITER = steps
    tenth = max(1, steps // 10)
    solver.WARMUP_ITERS = min(solver.WARMUP_ITERS, tenth)
    solver.CHECKPOINT_PERIOD = min(solver.CHECKPOINT_PERIOD, tenth)
    if node.WARMUP_EPOCHS < 0:
        node.WARMUP_EPOCHS = _half(node.EPOCHS)
    lines.append(
        f"Schedule: {node.EPOCHS} epochs of {num_images} images in batches of {batch}, {steps} "
        f"steps; warm-up where the run prunes: {node.WARMUP_EPOCHS} of {node.EPOCHS} epochs"
    )
    node.EPOCHS = 0
    return lines


def scale_schedule(cfg: CfgNode, selection: Selection) -> str:
    """Shorten ``cfg.SOLVER`` so that the kept images are seen for as many epochs as all were.

    Its warm-up is shortened alike, so that the learning rate goes through the same curve. One of
    the full length would last to where the schedule is nearly at its end, and Detectron2 ramps up
    to what the schedule says there: of a deep cut little would be learnt at all.

    Returns:
        One line that says what the budget is.
    """
    solver, share = cfg.SOLVER, selection.num_kept / selection.num_samples
    before = solver.MAX_ITER
    solver.MAX_ITER = max(1, round(before * share))
    scaled = (round(step * share) for step in solver.STEPS)
    solver.STEPS = _steps_inside(scaled, solver.MAX_ITER)
    solver.WARMUP_ITERS = round(solver.WARMUP_ITERS * share)
    return (
        f"Training on {selection.num_kept} of {selection.num_samples} images for the same number "
        f"of epochs: {solver.MAX_ITER} of {before} iterations"
    )


def _steps_inside(steps: Iterable[int], most: int) -> tuple[int, ...]:
    """``steps`` inside a run of ``most``, each once: a schedule takes no others."""
    return tuple(sorted({step for step in steps if 0 < step < most}))


def _half(epochs: int) -> int:
    """Half of ``epochs``, or fewer so that some are left to prune in."""
    return max(min(1, epochs - 1), min(epochs // 2, epochs - _PRUNING_EPOCHS), 0)


def _batch_size(wanted: int, num_images: int, processes: int) -> int:
    """``wanted``, or what leaves a few steps an epoch; at least two images, which norms need."""
    most = max(num_images // _STEPS_PER_EPOCH, min(2, num_images))
    return min(wanted, max(processes, most // processes * processes))
