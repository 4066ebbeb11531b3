"""Detection behind experiment.task.Task, with trainings that are small."""

import logging
import os
import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog

from adapruner_det import PruningTrainer
from adapruner_det.detection import task as module
from adapruner_det.detection.setup import load_config
from adapruner_det.detection.task import MODEL_FILE, logged_to, make_task
from adapruner_det.errors import DataError
from adapruner_det.experiment.board import Board, rows_of, selection_of
from adapruner_det.experiment.grid import Grid, cells
from adapruner_det.experiment.running import run
from adapruner_det.experiment.task import Run
from adapruner_det.methods.recorder import Recorder
from adapruner_det.selection import part_of
from adapruner_det.settings import build_pruner
from tests.detection.task_toy import YOLO_KEYS, model, options, part
from tests.detection.training.runs import StopAfter, Stopped


def logits(guide):
    return guide.mask.column("logit").copy()


def halting(trainer_class, step):
    """The same trainer, which breaks off behind ``step``."""

    class Halting(trainer_class):
        def build_hooks(self):
            return [*super().build_hooks(), StopAfter(step)]

    return Halting


def test_a_training_leaves_its_model_and_its_log_in_its_folder(task, tmp_path, capsys):
    run = task.train(0, tmp_path / "run", kept=part(task))
    assert isinstance(run, Run)
    assert 0 <= run.value <= 100
    assert run.seconds > 0
    state = torch.load(tmp_path / "run" / MODEL_FILE, weights_only=True)
    assert state["iteration"] + 1 == run.steps == 10
    text = (tmp_path / "run" / "log.txt").read_text()
    assert "Starting training from iteration 0" in text
    assert "detectron2" in text
    shown = capsys.readouterr()
    assert "iteration" not in shown.out + shown.err


def test_the_value_is_that_of_the_model_on_the_test_set(task, tmp_path, monkeypatch):
    """Whatever its detector gives: here it finds all in the test images alone."""
    from tests.detection.test_outcomes import Finds

    everything = {d["image_id"] for d in DatasetCatalog.get("task_test")}
    finds = Finds("task_test", everything)
    test = module.EvaluatingTrainer.test
    monkeypatch.setattr(
        module.EvaluatingTrainer, "test", classmethod(lambda cls, cfg, model: test(cfg, finds))
    )
    assert task.train(0, tmp_path / "run").value == pytest.approx(100.0)
    finds.ids = sorted(everything)[:1]
    assert 0 < task.train(0, tmp_path / "other").value < 100


def test_adapruner_through_the_door_selects_what_the_trainer_selects(voc, task, tmp_path):
    task_folder, own = tmp_path / "grid", tmp_path / "own"
    grid = Grid(("adapruner",), (0.7,), (1,))
    run(grid, partial(make_task, "", options(voc)), task_folder, task=task)
    board = Board(cells(grid, task), task_folder)
    (cell,) = [cell for cell in board.cells if cell.kind == "select"]
    chosen = selection_of(cell, task_folder, 0.7)

    os.makedirs(own)
    module.seed_all_rng(1)
    cfg = load_config("", options(voc, "SEED", 1, "DATASETS.TEST", (), output=own))
    trainer = PruningTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    for name, column in trainer.selection.columns.items():
        np.testing.assert_array_equal(chosen.columns[name], column, err_msg=name)
    assert chosen.soft_ratio == trainer.selection.soft_ratio
    assert chosen.versions.keys() == trainer.selection.versions.keys()
    assert not (cell.folder(task_folder) / "run" / "selection.json").exists()
    rows = {row.method: row for row in rows_of(board)}
    assert (rows["full"].images, rows["adapruner"].images) == (10, 7)
    assert rows["adapruner"].select_seconds > 0


def test_a_recorder_hears_of_each_key_and_changes_nothing(task, tmp_path):
    recorder = Recorder(10, YOLO_KEYS)
    task.train(2, tmp_path / "a", guide=recorder)
    total = sum(recorder.signal(key) for key in YOLO_KEYS)
    np.testing.assert_allclose(total, recorder.signal("loss"), rtol=1e-5)
    assert recorder.signal("loss").shape == (6, 10)
    task.train(2, tmp_path / "b", guide=Recorder(10))
    for name, value in model(tmp_path / "a").items():
        assert torch.equal(model(tmp_path / "b")[name], value), name


def test_a_guide_that_asks_for_what_there_is_not_is_refused_before_anything_is_written(
    task, tmp_path
):
    with pytest.raises(DataError, match="Recorder asks for margin, which the detector does not"):
        task.train(0, tmp_path / "run", guide=Recorder(10, ["margin", "loss_yolo_obj"]))
    assert not (tmp_path / "run").exists()


def test_a_killed_guided_training_goes_on_bit_for_bit_and_counts_its_time(
    task, tmp_path, monkeypatch
):
    def pruner():
        return build_pruner(task.options, task.samples, task.epochs, 0.7)

    whole, cut = pruner(), pruner()
    expected = task.train(1, tmp_path / "whole", guide=whole)
    with monkeypatch.context() as patched:
        patched.setattr(module, "PruningTrainer", halting(PruningTrainer, 9))
        with pytest.raises(Stopped):
            task.train(1, tmp_path / "cut", guide=cut)
    path = tmp_path / "cut" / "model_0000007.pth"
    saved = torch.load(path, weights_only=True)
    assert saved["trainer"]["hooks"]["RunClock"]["seconds"] > 0
    saved["trainer"]["hooks"]["RunClock"]["seconds"] = 1000.0
    torch.save(saved, path)

    again = pruner()
    found = task.train(1, tmp_path / "cut", guide=again)
    np.testing.assert_array_equal(logits(again), logits(whole))
    assert found.value == expected.value
    assert 1000 < found.seconds < 1000 + expected.seconds + 60
    for name, value in model(tmp_path / "whole").items():
        assert torch.equal(model(tmp_path / "cut")[name], value), name


def test_a_training_that_had_ended_is_evaluated_and_its_guide_is_as_it_was(
    task, tmp_path, monkeypatch
):
    first = Recorder(10, ["loss_yolo_box"])
    before = task.train(1, tmp_path / "run", guide=first)
    written = (tmp_path / "run" / MODEL_FILE).stat().st_mtime_ns
    monkeypatch.setattr(PruningTrainer, "train", None)  # is not called
    second = Recorder(10, ["loss_yolo_box"])
    after = task.train(1, tmp_path / "run", guide=second)
    assert replace(after, seconds=0.0) == replace(before, seconds=0.0)
    assert 0 < after.seconds <= before.seconds  # that of the final checkpoint is not in it
    np.testing.assert_array_equal(second.signal("loss_yolo_box"), first.signal("loss_yolo_box"))
    assert (tmp_path / "run" / MODEL_FILE).stat().st_mtime_ns == written


def test_a_pickle_of_weights_is_trained_from_where_it_is_trusted(voc, tmp_path):
    own = options(voc, "SOLVER.MAX_ITER", 2)
    weights = module.EvaluatingTrainer.build_model(make_task("", own)._cfg).state_dict()
    file = tmp_path / "weights.pkl"
    file.write_bytes(
        pickle.dumps({"model": {k: v.numpy() for k, v in weights.items()}, "__author__": "me"})
    )
    own += ["MODEL.WEIGHTS", str(file)]
    with pytest.raises(DataError, match="weights.pkl is a pickle"):
        make_task("", own)
    task = make_task("", own, trust_pickle=True)
    for guide in (None, Recorder(10)):
        assert task.train(0, tmp_path / f"{guide}", guide=guide).steps == 2
    other = make_task("", options(voc, "SOLVER.MAX_ITER", 2))
    other.train(0, tmp_path / "other")
    assert not module.EvaluatingTrainer.trust_pickle


def test_without_resume_it_begins_anew(task, tmp_path):
    task.train(1, tmp_path / "run")
    before = (tmp_path / "run" / MODEL_FILE).stat().st_mtime_ns
    task.train(1, tmp_path / "run", resume=False)
    assert (tmp_path / "run" / MODEL_FILE).stat().st_mtime_ns != before


def test_from_damaged_checkpoints_it_begins_anew(task, tmp_path, caplog):
    """Nobody who runs a comparison could say so to one of its cells."""
    first = task.train(1, tmp_path / "run")
    for path in (tmp_path / "run").glob("model_*.pth"):
        path.write_bytes(path.read_bytes()[:-50])
    assert task.train(1, tmp_path / "run").value == first.value
    assert "is whole: the training starts anew" in caplog.text and "--resume" not in caplog.text


def test_a_folder_of_another_run_is_refused(task, tmp_path):
    task.train(1, tmp_path / "run")
    with pytest.raises(DataError, match="is of a run with another configuration"):
        task.train(2, tmp_path / "run")
    with pytest.raises(DataError, match="is of a run with another kind of run"):
        task.train(1, tmp_path / "run", guide=Recorder(10))


def test_logs_go_to_the_file_alone_and_the_loggers_are_as_they_were(tmp_path, capsys):
    loggers = [logging.getLogger(name) for name in ("adapruner_det", "detectron2", "fvcore")]
    before = [(own.level, own.handlers[:]) for own in loggers]
    with logged_to(tmp_path):
        logging.getLogger("detectron2.engine").info("a step")
        logging.getLogger("adapruner_det.x").warning("beware")
    logging.getLogger("detectron2.engine").info("afterwards")
    text = (tmp_path / "log.txt").read_text()
    assert "detectron2.engine] INFO: a step" in text
    assert "adapruner_det.x] WARNING: beware" in text
    assert "afterwards" not in text
    assert [(own.level, own.handlers[:]) for own in loggers] == before
    assert "a step" not in capsys.readouterr().err


def test_without_a_test_set_each_training_says_what_it_is_tested_on(voc, tmp_path):
    bare = make_task("", options(voc, "DATASETS.TEST", ()), tested=False)
    kept = np.zeros(10, dtype=bool)
    kept[:6] = True
    parts = [part_of(bare.samples, own) for own in (kept, ~kept)]
    run = bare.train(0, tmp_path / "run", kept=parts[0], test=parts[1])
    assert run.images == 6 and np.isfinite(run.value)
    tested = make_task("", options(voc))
    on_the_set = tested.train(0, tmp_path / "set", kept=parts[0])
    assert tested.identity != bare.identity
    weights, others = model(tmp_path / "run"), model(tmp_path / "set")
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    with pytest.raises(DataError, match="a comparison evaluates on one"):
        make_task("", options(voc, "DATASETS.TEST", ()))
    assert np.isfinite(on_the_set.value)
