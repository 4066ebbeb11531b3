"""How long the training of a kept part is; :mod:`.test_fit` has what follows from the data."""

import numpy as np
import pytest
import torch

from adapruner_det.detection.training.schedule import scale_schedule
from adapruner_det.detection.training.trainer import EvaluatingTrainer
from adapruner_det.methods.random import random_selection
from tests.detection.toy import toy_cfg
from tests.methods.evidence import samples


def test_the_kept_part_is_seen_for_as_many_epochs_as_everything_would_have_been():
    cfg = toy_cfg("yolo_darknet", "x", "SOLVER.MAX_ITER", 1000, "SOLVER.STEPS", (600, 900))
    selection = random_selection(samples(40), 0.7, 0)
    line = scale_schedule(cfg, selection)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (700, (420, 630))
    assert cfg.SOLVER.MAX_ITER / selection.num_kept == 1000 / 40
    assert line == (
        "Training on 28 of 40 images for the same number of epochs: 700 of 1000 iterations"
    )


def test_a_part_of_a_short_run_has_a_schedule_too():
    cfg = toy_cfg("yolo_darknet", "x", "SOLVER.MAX_ITER", 20, "SOLVER.STEPS", (2, 10, 12, 18))
    scale_schedule(cfg, random_selection(samples(40), 0.1, 0))
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (2, (1,))
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    EvaluatingTrainer.build_lr_scheduler(cfg, optimizer)


@pytest.mark.parametrize("name", ["WarmupCosineLR", "WarmupMultiStepLR"])
@pytest.mark.parametrize("keep_ratio", [0.6, 0.3])
def test_the_kept_part_is_trained_along_the_same_curve_of_the_learning_rate(name, keep_ratio):
    def rates(keep_ratio):
        solver = ["SOLVER.MAX_ITER", 1000, "SOLVER.WARMUP_ITERS", 400, "SOLVER.STEPS", (600, 900)]
        cfg = toy_cfg("yolo_darknet", "x", *solver, "SOLVER.LR_SCHEDULER_NAME", name)
        if keep_ratio < 1:
            scale_schedule(cfg, random_selection(samples(40), keep_ratio, 0))
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = EvaluatingTrainer.build_lr_scheduler(cfg, optimizer)
        found = []
        for _ in range(cfg.SOLVER.MAX_ITER):
            found.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        return found

    part = rates(keep_ratio)
    assert len(part) == 1000 * keep_ratio
    whole = np.interp(np.linspace(0, 1, len(part)), np.linspace(0, 1, 1000), rates(1.0))
    assert np.mean(np.abs(part - whole)) < 0.004  # but at its steps
