import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from adapruner_det import settings
from adapruner_det.classification import task as module
from adapruner_det.classification.classifier import load_classifier
from adapruner_det.classification.config import load_config
from adapruner_det.classification.data import Data, load_data
from adapruner_det.classification.run import prune, train
from adapruner_det.classification.signals import SIGNALS
from adapruner_det.classification.task import ClassificationTask, make_task
from adapruner_det.classification.trainer import Trainer
from adapruner_det.errors import DataError
from adapruner_det.experiment.board import selection_of
from adapruner_det.experiment.evidence import TaskEvidence, offers, record, save_thumbnails
from adapruner_det.experiment.grid import Grid, cells
from adapruner_det.experiment.running import run
from adapruner_det.methods.base import get_method, method_names, select
from adapruner_det.methods.random import random_selection
from adapruner_det.methods.recorder import Recorder
from adapruner_det.selection import Selection
from tests.classification.tiny import same_state, tiny_config, tiny_set

#: Of scikit-learn's digits, few enough for a test.
FEW = ["MODEL.NAME", "small", "MODEL.WIDTH", "4", "DATA.NUM_TRAIN", "60", "SOLVER.EPOCHS", "2"]
FEW += ["SOLVER.BATCH_SIZE", "16", "ADAPRUNER.WARMUP_EPOCHS", "1", "DEVICE", "cpu"]


def tiny_test():
    return tiny_set(12, name="tiny_test", seed=5)


def test_other_weights_at_the_same_place_are_another_task(tmp_path):
    file = tmp_path / "model.pt"
    known = []
    for content in (b"1", b"2", b"1"):
        file.write_bytes(content)
        known.append(make_task("", [*FEW, "MODEL.WEIGHTS", str(file)]).identity)
    assert known[0] == known[2] != known[1]


def tiny_task(train=None, test=None, **settings):
    data = Data(train or tiny_set(), test or tiny_test(), torch.tensor([]))
    return ClassificationTask(tiny_config(**settings), data)


def model_in(folder):
    return torch.load(folder / "model.pt", weights_only=True)


def test_a_task_is_what_its_configuration_says():
    task = make_task("", FEW)
    data = load_data(load_config("", FEW))
    assert (task.name, task.metric, task.epochs) == ("classification", "accuracy", 2)
    assert task.title == "digits_train (60 images), small"
    assert task.samples.keys == data.train.keys and task.samples.fingerprint == (
        data.train.samples.fingerprint
    )
    assert task.signals == SIGNALS.keys() and task.libraries == ("torchvision",)
    assert task.device == "cpu"
    assert task.offers == {"features", "predictions", "thumbnails"}
    assert task.options["WARMUP_EPOCHS"] == 1


def test_the_data_are_read_once(monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr(module, "load_data", lambda cfg: (calls.append(1), load_data(cfg))[1])
    task = make_task("", FEW)
    for seed in (0, 1):
        task.train(seed, tmp_path / str(seed))
    task.predictions(tmp_path / "0")
    assert calls == [1]


def test_a_task_can_be_made_in_another_process():
    make = pickle.loads(pickle.dumps(partial(make_task, "", FEW)))
    assert make().identity == make_task("", FEW).identity


@pytest.mark.parametrize(
    "overrides",
    [
        *(["SEED", "3"], ["ADAPRUNER.KEEP_RATIO", "0.3"], ["OUTPUT_DIR", "elsewhere"]),
        *(["DATA.WORKERS", "1"], ["DATA.ROOT", "elsewhere"]),
    ],
    ids=lambda pair: pair[0],
)
def test_what_makes_no_other_task(overrides):
    assert make_task("", [*FEW, *overrides]).identity == make_task("", FEW).identity


@pytest.mark.parametrize(
    "overrides",
    [
        *(["SOLVER.LR", "0.2"], ["ADAPRUNER.ALPHA_END", "4.0"], ["DATA.SEED", "1"]),
        *(["DATA.WRONG_LABELS", "0.1"], ["MODEL.WIDTH", "5"], ["DATA.HOLDOUT", "0.1"]),
    ],
    ids=lambda pair: pair[0],
)
def test_what_makes_another_task(overrides):
    assert make_task("", [*FEW, *overrides]).identity != make_task("", FEW).identity


def test_other_data_under_the_same_configuration_are_another_task():
    task, images, test = tiny_task(), tiny_set(), tiny_test()
    assert tiny_task().identity == task.identity
    assert tiny_task(train=replace(images, labels=images.labels.flip(0))).identity != task.identity
    assert tiny_task(test=replace(test, labels=test.labels.flip(0))).identity != task.identity


def test_a_training_on_all_is_the_tools_own(tmp_path):
    task = tiny_task()
    run = task.train(3, tmp_path / "task")
    cfg = tiny_config(SEED=3, OUTPUT_DIR=str(tmp_path / "run"))
    result = train(cfg, Data(tiny_set(), tiny_test(), torch.tensor([])))
    assert same_state(model_in(tmp_path / "task"), model_in(tmp_path / "run"))
    assert (run.metric, run.value, run.seed) == ("accuracy", result.accuracy, 3)
    assert (run.images, run.steps, run.epochs) == (36, 20, 4) and run.seconds > 0
    assert not same_state(model_in(tmp_path / "task"), seeded(task, 4, tmp_path / "other"))


def seeded(task, seed, folder):
    task.train(seed, folder)
    return model_in(folder)


def test_a_training_on_a_part_sees_that_part_and_is_evaluated_on_the_test_set(tmp_path):
    task = tiny_task()
    kept = random_selection(task.samples, 0.5, seed=1)
    run = task.train(0, tmp_path / "task", kept=kept)
    assert (run.images, run.steps, run.epochs) == (18, 12, 4)
    part, test = tiny_set().kept(kept), tiny_test()
    alone = Trainer(tiny_config(), part)
    alone.train(save=False)
    assert same_state(model_in(tmp_path / "task"), alone.model.state_dict())
    assert run.value == alone.evaluate(test)


@pytest.mark.parametrize(("keep_ratio", "images"), [(0.5, 18), (0.25, 9), (1.0, 36)])
def test_with_the_budget_of_steps_a_part_has_as_many_as_all(tmp_path, keep_ratio, images):
    task = tiny_task(SOLVER__EPOCHS=3)
    whole = task.train(0, tmp_path / "whole", budget="steps")
    assert (whole.steps, whole.epochs) == (15, 3)
    kept = random_selection(task.samples, keep_ratio, seed=1)
    run = task.train(0, tmp_path / "part", kept=kept, budget="steps")
    own_steps = {18: 3, 9: 1, 36: 5}[images]  # a last batch of one joins the one before
    assert (run.images, run.steps, run.epochs) == (images, 15, 15 / own_steps)
    if images == 36:
        assert same_state(model_in(tmp_path / "part"), model_in(tmp_path / "whole"))


def test_a_part_of_other_data_is_refused(tmp_path):
    kept = random_selection(tiny_set(36, seed=9).samples, 0.5, seed=1)
    with pytest.raises(DataError, match="made from other data"):
        tiny_task().train(0, tmp_path, kept=kept)


def test_a_guide_is_heard_and_named_where_it_asks_for_too_much(tmp_path):
    task, guide = tiny_task(), Recorder(36, ["margin"])
    run = task.train(0, tmp_path / "a", guide=guide)
    assert guide.signal("margin").shape == (4, 36) and run.images == 36
    assert not np.isnan(guide.signal("loss")).any()
    task.train(0, tmp_path / "b")
    assert same_state(model_in(tmp_path / "a"), model_in(tmp_path / "b"))
    with pytest.raises(DataError, match="iou is asked for"):
        task.train(0, tmp_path / "c", guide=Recorder(36, ["iou"]))
    assert not (tmp_path / "c").exists()


def test_what_was_done_is_not_done_again_unless_asked_for(tmp_path, monkeypatch):
    task = tiny_task()
    first = task.train(0, tmp_path)
    steps, own = [], Trainer._train_step
    monkeypatch.setattr(
        Trainer, "_train_step", lambda self, *a: (steps.append(1), own(self, *a))[1]
    )
    again = task.train(0, tmp_path)
    assert not steps and replace(again, seconds=first.seconds) == first
    assert 0 < again.seconds <= first.seconds  # those of the run itself
    assert task.train(0, tmp_path, resume=False).value == first.value and len(steps) == 20
    with pytest.raises(DataError, match="another configuration or other data"):
        task.train(1, tmp_path)


def test_from_damaged_checkpoints_a_training_starts_anew(tmp_path, caplog):
    """Nobody who runs a comparison could say so to one of its cells."""
    task = tiny_task()
    first = task.train(0, tmp_path)
    for path in tmp_path.glob("checkpoint*.pt"):
        path.write_bytes(path.read_bytes()[:-50])
    assert task.train(0, tmp_path).value == first.value
    assert "is damaged" in caplog.text and "the training starts anew" in caplog.text
    assert "--resume" not in caplog.text


def test_a_stopped_training_goes_on_to_the_same_end(tmp_path, monkeypatch):
    task = tiny_task()
    expected = task.train(0, tmp_path / "whole")

    class Killed(Exception):
        pass

    own = Trainer.save_checkpoint

    def save(self):
        own(self)
        if self.step == 10:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save_checkpoint", save)
        with pytest.raises(Killed):
            task.train(0, tmp_path / "stopped")
    assert task.train(0, tmp_path / "stopped").value == expected.value
    assert same_state(model_in(tmp_path / "whole"), model_in(tmp_path / "stopped"))


def test_features_and_predictions_are_of_all_samples_by_the_folder_s_model(tmp_path):
    task = tiny_task()
    kept = random_selection(task.samples, 0.5, seed=1)
    task.train(0, tmp_path / "part", kept=kept)
    task.train(0, tmp_path / "whole")
    for name in ("part", "whole"):
        model = load_classifier(tiny_config(), tmp_path / name, tiny_set())
        features, found = task.features(tmp_path / name), task.predictions(tmp_path / name)
        assert features.shape == (36, 16) and found.shape == (36, 3)
        assert np.array_equal(features, model.all_features(tiny_set()))
        assert np.array_equal(found, model.predictions(tiny_set()))
    assert not np.array_equal(task.features(tmp_path / "part"), features)
    right = (task.predictions(tmp_path / "whole").argmax(1) == tiny_set().labels.numpy()).mean()
    assert right == model.accuracy(tiny_set()) / 100
    with pytest.raises(DataError, match="train in"):
        task.features(tmp_path / "nothing")


def test_adapruner_by_the_door_selects_what_the_tool_selects(tmp_path):
    """Score for score, through the task and the registry of methods."""
    task = tiny_task()
    evidence = TaskEvidence(task, 2, tmp_path / "cell")
    found = select("adapruner", evidence, 0.75, libraries=task.libraries)
    cfg = tiny_config(SEED=2, ADAPRUNER__KEEP_RATIO=0.75, OUTPUT_DIR=str(tmp_path / "tool"))
    prune(cfg, tiny_set())
    tool = Selection.load(tmp_path / "tool" / "selection.json")
    assert found.kept_keys == tool.kept_keys and found.columns.keys() == tool.columns.keys()
    for name, column in tool.columns.items():
        assert np.array_equal(found.columns[name], column), name
    assert same_state(model_in(tmp_path / "cell" / "run"), model_in(tmp_path / "tool"))
    assert found.versions.keys() == tool.versions.keys()


def test_one_recorded_run_serves_every_method(tmp_path):
    task = tiny_task()
    names = {*SIGNALS, "loss", "features", "predictions"}
    record(task, 0, tmp_path, names)
    evidence = TaskEvidence(task, 0, tmp_path, places=dict.fromkeys(names, tmp_path))
    for name in SIGNALS.keys() - {"probabilities"}:
        assert evidence.signal(name).shape == (4, 36)
    p = evidence.signal("probabilities")
    assert p.shape == (4, 36, 3)
    given = p[:, np.arange(36), tiny_set().labels.numpy()]
    np.testing.assert_allclose(given, evidence.signal("confidence"), rtol=1e-6)
    np.testing.assert_allclose(given, np.exp(-evidence.signal("loss")), rtol=1e-4)
    assert np.array_equal(evidence.features(), task.features(tmp_path / "run"))
    assert np.array_equal(evidence.predictions(), task.predictions(tmp_path / "run"))


def test_every_method_that_it_has_the_evidence_for_selects_by_it(tmp_path):
    task = tiny_task()
    names = {*SIGNALS, "loss", "features", "predictions"}
    record(task, 0, tmp_path, names)
    save_thumbnails(task.samples, tmp_path)
    places = dict.fromkeys({*names, "thumbnails"}, tmp_path)
    offered = offers(task)
    served = [name for name in method_names() if get_method(name).needs <= offered]
    assert {"adapruner", "random", "aum", "el2n", "forgetting", "k-center"} <= {*served}
    for name in served:
        evidence = TaskEvidence(task, 0, tmp_path / name, places=places)
        assert select(name, evidence, 0.5).num_kept == 18, name


def test_a_task_says_whether_its_models_begin_with_weights(tmp_path):
    assert make_task("", FEW).pretrained is False
    assert make_task("", [*FEW, "MODEL.WEIGHTS", str(tmp_path / "w.pth")]).pretrained is True


def test_what_is_planted_is_told_sample_by_sample():
    task = make_task("", [*FEW, "DATA.WRONG_LABELS", "0.2", "DATA.TWINS", "0.3"])
    assert {name: int(own.sum()) for name, own in task.planted.items()} == {
        "wrong labels": 12, "twins": 18,
    }  # fmt: skip
    assert np.flatnonzero(task.planted["wrong labels"]).tolist() == task.data.wrong.tolist()
    assert not make_task("", FEW).planted


def test_checkpoints_go_and_the_model_stays_if_it_is_to(tmp_path):
    task, folder = tiny_task(), tmp_path / "run"
    task.train(0, folder)
    assert list(folder.glob("checkpoint*.pt"))
    task.tidy(folder, model=True)
    assert not list(folder.glob("checkpoint*.pt"))
    assert task.predictions(folder).shape[0] == len(task.samples)
    task.tidy(folder, model=False)
    assert not list(folder.glob("*.pt")) and (folder / "result.json").is_file()
    task.tidy(folder, model=False)


def test_near_copies_are_looked_for_in_the_thumbnails_of_the_grid(tmp_path, monkeypatch):
    overrides = [*FEW, "ADAPRUNER.OBJECTIVE", "inclusion"]
    task = make_task("", overrides)
    alone = select("adapruner", SelfMade(task, 0, tmp_path / "alone"), 0.5)
    made = []
    thumbs = settings.thumbnails
    monkeypatch.setattr(settings, "thumbnails", lambda s: made.append(1) or thumbs(s))
    grid = Grid(("adapruner",), (0.5, 0.4))
    run(grid, partial(make_task, "", overrides), tmp_path / "grid", task=task)
    assert not made
    (cell, _) = (c for c in cells(grid, task) if c.kind == "select")
    assert selection_of(cell, tmp_path / "grid", 0.5).kept_keys == alone.kept_keys


class SelfMade(TaskEvidence):
    """Of a task alone: what a grid makes for it, it makes itself."""

    def features(self, source="model"):
        assert source == "thumbnails"
        return settings.thumbnails(self.samples)
