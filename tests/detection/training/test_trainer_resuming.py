import random
from functools import partial

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from adapruner_det import PruningTrainer, Selection
from adapruner_det.detection.training.trainer import EvaluatingTrainer
from adapruner_det.errors import DataError
from adapruner_det.methods.recorder import Recorder
from tests.detection.toy import register, toy_cfg
from tests.detection.training.runs import (
    StopAfter,
    Stopped,
    assert_same_weights,
    files,
    prune,
    start,
    weights,
)


def prune_stopped(cfg, step, **options):
    """Stop behind ``step`` and go on in a new trainer."""
    with pytest.raises(Stopped):
        prune(cfg, hooks=[StopAfter(step)], **options)
    random.seed(123), np.random.seed(123), torch.manual_seed(123)  # noqa: B018, NPY002
    trainer = start(cfg, **options)
    trainer.resume_or_load(resume=True)
    return trainer


@pytest.mark.parametrize("step", [1, 5, 10])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_stopped_run_goes_on_as_if_it_had_not_been(toy, finished, tmp_path, workers, step):
    """Ahead of the first checkpoint (every 4 steps), in warm-up and in mid-epoch.

    See test_prune_net.py for runs that are killed.
    """
    cfg = toy_cfg("yolo_darknet", tmp_path / "cut", "DATALOADER.NUM_WORKERS", workers)
    trainer = prune_stopped(cfg, step)
    assert trainer.start_iter == 4 * ((step + 1) // 4)
    trainer.train()
    assert_same_weights(weights(tmp_path / "cut"), weights(tmp_path / "done"))
    for name, column in finished.selection.columns.items():
        assert np.array_equal(trainer.selection.columns[name], column), name


class Counting(DatasetEvaluator):
    """Finds how many images there were."""

    def reset(self):
        self._count = 0

    def process(self, inputs, outputs):
        self._count += len(inputs)

    def evaluate(self):
        return {"count": self._count}


class PruningAndCounting(PruningTrainer):
    @classmethod
    def build_evaluator(cls, cfg, dataset_name, output_folder=None):
        return Counting()


SHORT = ("SOLVER.MAX_ITER", 8, "ADAPRUNER.WARMUP_EPOCHS", 1)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("DATASETS.TEST", ("toy",)), id="evaluation"),
        pytest.param(("TEST.PRECISE_BN.ENABLED", True, "TEST.PRECISE_BN.NUM_ITER", 3), id="norms"),
    ],
)
def test_so_does_one_with_something_else_at_the_step_of_a_checkpoint(toy, tmp_path, options):
    options = (*SHORT, "TEST.EVAL_PERIOD", 4, *options)
    done = toy_cfg("yolo_darknet", tmp_path / "done", *options)
    prune(done, trainer_class=PruningAndCounting)
    trainer = prune_stopped(
        toy_cfg("yolo_darknet", tmp_path / "cut", *options), 5, trainer_class=PruningAndCounting
    )
    assert trainer.start_iter == 4
    trainer.train()
    assert_same_weights(weights(tmp_path / "cut"), weights(tmp_path / "done"))
    assert files(tmp_path / "cut") == files(tmp_path / "done")


@pytest.mark.parametrize("trainer_class", [PruningAndCounting, EvaluatingTrainer])
def test_an_evaluation_does_not_move_the_random_numbers_of_a_training(
    toy, tmp_path, monkeypatch, trainer_class
):
    monkeypatch.setattr(EvaluatingTrainer, "build_evaluator", PruningAndCounting.build_evaluator)
    for period in (0, 3):
        options = ("TEST.EVAL_PERIOD", period, "DATASETS.TEST", ("toy",), "SOLVER.MAX_ITER", 6)
        cfg = toy_cfg("yolo_darknet", tmp_path / f"every{period}", *options)
        cfg.ADAPRUNER.WARMUP_EPOCHS = 1
        prune(cfg, trainer_class=trainer_class)
    assert_same_weights(weights(tmp_path / "every0"), weights(tmp_path / "every3"))


@pytest.mark.slow
def test_so_does_a_stopped_run_of_faster_rcnn(toy, tmp_path):
    whole = prune(toy_cfg("faster_rcnn_c4", tmp_path / "done", *SHORT))
    trainer = prune_stopped(toy_cfg("faster_rcnn_c4", tmp_path / "cut", *SHORT), 5)
    trainer.train()
    assert_same_weights(weights(tmp_path / "cut"), weights(tmp_path / "done"))
    assert trainer.selection.kept_keys == whole.selection.kept_keys
    assert files(tmp_path / "cut") == files(tmp_path / "done")


def test_resuming_a_finished_run_writes_the_same_selection_again(finished, tmp_path):
    before = files(tmp_path / "done")
    (tmp_path / "done" / "selection.json").unlink()
    trainer = start(finished.cfg, resume=True)
    assert trainer.start_iter == 15
    trainer.train()
    assert files(tmp_path / "done") == before


def test_a_run_without_a_seed_of_its_own_resumes_with_the_one_it_drew(toy, tmp_path):
    cfg = toy_cfg("yolo_darknet", tmp_path, "SEED", -1)
    with pytest.raises(Stopped):
        prune(cfg, hooks=[StopAfter(6)])
    state = torch.load(tmp_path / "model_0000003.pth", weights_only=True)
    seed = state["trainer"]["hooks"]["GuideHook"]["seed"]
    trainer = start(cfg, resume=True)
    assert trainer.data_loader.seed == seed
    trainer.train()
    assert trainer.selection.seed == seed


def test_so_do_the_lots_and_twins_of_a_finished_run(toy, tmp_path):
    options = ("SEED", -1, "ADAPRUNER.OBJECTIVE", "inclusion")
    prune(toy_cfg("yolo_darknet", tmp_path, *options))
    before = files(tmp_path)
    again = start(toy_cfg("yolo_darknet", tmp_path, *options), resume=True)
    again.train()
    assert files(tmp_path) == before


def test_resuming_with_other_data_is_refused(toy, tmp_path):
    with pytest.raises(Stopped):
        prune(toy_cfg("yolo_darknet", tmp_path), hooks=[StopAfter(6)])
    DatasetCatalog.remove("toy")
    MetadataCatalog.remove("toy")
    register("toy", toy[:9])
    with pytest.raises(DataError, match=r"model_0000003.pth is of a run with other data; resume"):
        start(toy_cfg("yolo_darknet", tmp_path), resume=True)


@pytest.mark.parametrize(
    "other",
    [("ADAPRUNER.KEEP_RATIO", 0.5), ("SEED", 2), ("SOLVER.IMS_PER_BATCH", 2)],
    ids=lambda pair: pair[0],
)
def test_resuming_with_another_configuration_is_refused(toy, tmp_path, other):
    with pytest.raises(Stopped):
        prune(toy_cfg("yolo_darknet", tmp_path), hooks=[StopAfter(6)])
    with pytest.raises(DataError, match="is of a run with another configuration"):
        start(toy_cfg("yolo_darknet", tmp_path, *other), resume=True)


def test_a_pruning_run_does_not_go_on_from_a_plain_one(toy, tmp_path):
    cfg = toy_cfg("yolo_darknet", tmp_path)
    plain = EvaluatingTrainer(cfg)
    plain.checkpointer.save("model_0000003", iteration=3)
    with pytest.raises(DataError, match="another kind of run"):
        start(cfg, resume=True)


def test_more_workers_are_no_other_run(toy, tmp_path):
    with pytest.raises(Stopped):
        prune(toy_cfg("yolo_darknet", tmp_path), hooks=[StopAfter(6)])
    start(toy_cfg("yolo_darknet", tmp_path, "DATALOADER.NUM_WORKERS", 1), resume=True)


def test_nor_are_checkpoints_at_other_steps(toy, finished, tmp_path):
    with pytest.raises(Stopped):
        prune(toy_cfg("yolo_darknet", tmp_path / "cut"), hooks=[StopAfter(6)])
    rarer = toy_cfg("yolo_darknet", tmp_path / "cut", "SOLVER.CHECKPOINT_PERIOD", 7)
    trainer = start(rarer, resume=True)
    assert trainer.start_iter == 4
    trainer.train()
    assert_same_weights(weights(tmp_path / "cut"), weights(tmp_path / "done"))
    assert trainer.selection.kept_keys == finished.selection.kept_keys


def test_a_guide_is_resumed_and_another_guides_run_is_not_gone_on_with(toy, tmp_path):
    def recording(folder, **options):
        guided = partial(PruningTrainer, guide=Recorder(10, ["loss_yolo_box"]))
        return start(toy_cfg("yolo_darknet", tmp_path / folder), trainer_class=guided, **options)

    whole = recording("whole")
    whole.train()
    with pytest.raises(Stopped):
        recording("cut", hooks=[StopAfter(10)]).train()
    resumed = recording("cut", resume=True)
    assert resumed.start_iter == 8
    resumed.train()
    for name in ("loss", "loss_yolo_box"):
        np.testing.assert_array_equal(resumed.guide.signal(name), whole.guide.signal(name))
    with pytest.raises(DataError, match="another kind of run"):
        start(toy_cfg("yolo_darknet", tmp_path / "cut"), resume=True)


def test_a_checkpoint_of_version_0_1_is_gone_on_from(toy, finished, tmp_path):
    with pytest.raises(Stopped):
        prune(toy_cfg("yolo_darknet", tmp_path / "cut"), hooks=[StopAfter(10)])
    path = tmp_path / "cut" / "model_0000007.pth"
    saved = torch.load(path, weights_only=True)
    hooks = saved["trainer"]["hooks"]
    hooks["PruningHook"] = own = hooks.pop("GuideHook")
    own["pruner"] = own.pop("guide")
    del own["random_states"]["generators"]
    torch.save(saved, path)
    trainer = start(toy_cfg("yolo_darknet", tmp_path / "cut"), resume=True)
    assert trainer.start_iter == 8
    trainer.train()
    assert_same_weights(weights(tmp_path / "cut"), weights(tmp_path / "done"))
    assert files(tmp_path / "cut") == files(tmp_path / "done")


# Damaged checkpoints


def test_a_run_goes_on_from_the_newest_whole_checkpoint(toy, finished, tmp_path, caplog):
    cfg = toy_cfg("yolo_darknet", tmp_path / "cut")
    with pytest.raises(Stopped):
        prune(cfg, hooks=[StopAfter(12)])
    newest = tmp_path / "cut" / "model_0000011.pth"
    newest.write_bytes(newest.read_bytes()[:-200])
    with caplog.at_level("WARNING"):
        trainer = start(cfg, resume=True)
    assert trainer.start_iter == 8 and "model_0000011.pth is damaged" in caplog.text
    trainer.train()
    assert_same_weights(weights(tmp_path / "cut"), weights(tmp_path / "done"))
    assert files(tmp_path / "cut") == files(tmp_path / "done")


def test_more_threads_are_warned_of_and_recorded(finished, tmp_path, caplog):
    assert Selection.load(tmp_path / "done" / "selection.json").num_threads == 1
    torch.set_num_threads(2)
    with caplog.at_level("WARNING"):
        start(finished.cfg, resume=True)
    assert "started with 1 thread(s) and goes on with 2" in caplog.text
