import multiprocessing
import os
import random
import signal
import time

import numpy as np
import pytest
import torch
from detectron2.engine import HookBase

from adapruner_det import PruningTrainer
from adapruner_det.detection.training.trainer import EvaluatingTrainer
from adapruner_det.errors import DataError
from tests.detection.toy import toy_cfg
from tests.detection.training.runs import (
    Signalling,
    add_before_the_last,
    assert_same_weights,
    files,
    prune,
    start,
    weights,
)


@pytest.mark.parametrize(
    ("step", "signum", "workers"),
    [(5, signal.SIGTERM, 0), (9, signal.SIGINT, 0), (4, signal.SIGTERM, 2)],
)
def test_a_run_that_a_signal_ends_goes_on_as_if_it_had_not(
    toy, finished, tmp_path, step, signum, workers
):
    cfg = toy_cfg("yolo_darknet", tmp_path / "cut", "DATALOADER.NUM_WORKERS", workers)
    hook = Signalling(step, signum)
    trainer = start(cfg)
    add_before_the_last(trainer, hook)
    with pytest.raises(SystemExit) as stop:
        trainer.train()
    assert stop.value.code == 128 + signum
    assert (tmp_path / "cut" / "last_checkpoint").read_text() == f"model_{step:07d}.pth"
    assert not (tmp_path / "cut" / "selection.json").exists()
    random.seed(123), np.random.seed(123), torch.manual_seed(123)  # noqa: B018, NPY002
    again = start(cfg, resume=True)
    assert again.start_iter == step + 1
    again.train()
    assert_same_weights(weights(tmp_path / "cut"), weights(tmp_path / "done"))
    assert files(tmp_path / "cut") == files(tmp_path / "done")


def test_a_training_on_a_part_saves_too_where_its_workers_get_the_signal(toy, tmp_path):
    hook = Signalling(4, signal.SIGTERM)
    cfg = toy_cfg("yolo_darknet", tmp_path, "DATALOADER.NUM_WORKERS", 2)
    trainer = start(cfg, trainer_class=EvaluatingTrainer)
    add_before_the_last(trainer, hook)
    with pytest.raises(SystemExit) as stop:
        trainer.train()
    assert stop.value.code == 128 + signal.SIGTERM
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000004.pth"


@pytest.mark.parametrize("trainer_class", [PruningTrainer, EvaluatingTrainer])
def test_a_worker_that_is_killed_ends_the_run_with_one_line(toy, tmp_path, caplog, trainer_class):
    class Killing(HookBase):
        def after_step(self):
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)
            time.sleep(20)  # which PyTorch's error interrupts

    cfg = toy_cfg("yolo_darknet", tmp_path / "out", "DATALOADER.NUM_WORKERS", 1)
    with pytest.raises(DataError) as error:
        prune(cfg, trainer_class=trainer_class, hooks=[Killing()])
    assert "has ended: DataLoader worker" in str(error.value)
    assert "lower DATALOADER.NUM_WORKERS; to go on, give the same command with --resume" in str(
        error.value
    )
    assert "Traceback" not in caplog.text
