"""What a run's own model says of the images that the run flagged."""

import itertools

import numpy as np
import pytest
import torch
from detectron2.utils import comm

from adapruner_det.detection import flagged as module
from adapruner_det.detection import inference
from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.detection.flagged import flagged, predictions_of_flagged
from adapruner_det.detection.task import DetectionTask
from adapruner_det.detection.training.trainer import EvaluatingTrainer
from adapruner_det.errors import DataError
from adapruner_det.report import predictions
from adapruner_det.selection import part_of
from tests.detection.toy import register, squares, toy_cfg


def chosen(samples, score, why, kept=None, **columns):
    """A selection of ``samples`` with these columns; of what has a reason nothing stays."""
    why = np.array(why)
    own = part_of(samples, why == "" if kept is None else np.array(kept, dtype=bool))
    columns = {name: np.array(column) for name, column in columns.items()}
    return own.__class__(
        **{**vars(own), "columns": {**own.columns, "score": np.array(score), "why": why, **columns}}
    )


@pytest.fixture
def cfg(tmp_path):
    """Of a run on two data sets of four images each, whose model lies in its folder."""
    for name, first in (("toy", 0), ("more", 4)):
        register(name, squares(tmp_path / name, 4, seed=first, first=first))
    found = toy_cfg("yolo_darknet", tmp_path / "out", "DATASETS.TRAIN", ("toy", "more"))
    torch.manual_seed(3)
    model = EvaluatingTrainer.build_model(found)
    (tmp_path / "out").mkdir()
    torch.save({"model": model.state_dict()}, tmp_path / "out" / "model_final.pth")
    return found


@pytest.fixture
def samples(cfg):
    """more/im4 to more/im7 and toy/im0 to toy/im3, in this order."""
    return SampleIndex.from_config(cfg).samples


SCORE = [0, 7, 2, 5, 4, 1, 6, 3]
FAULTS = ["", "fault", "", "fault", "twin", "", "fault", ""]


def test_the_first_to_go_come_first_and_what_would_go_last(samples):
    assert flagged(chosen(samples, SCORE, FAULTS)).tolist() == [1, 6, 3]
    marks = [1, 1, 0, 1, 0, 0, 1, 1]  # two more are under suspicion, but stay as yet
    assert flagged(chosen(samples, SCORE, FAULTS, flagged=marks)).tolist() == [1, 6, 3, 7, 0]
    assert not len(flagged(chosen(samples, SCORE, [""] * 8, kept=[1] * 7 + [0])))


def test_they_are_what_the_task_predicts_of_the_same_images(cfg, samples, monkeypatch):
    monkeypatch.setattr(predictions, "LOWEST", 0.0)  # an untrained model is sure of nothing
    own = predictions_of_flagged(cfg, chosen(samples, SCORE, FAULTS))
    assert set(own) == {"more/im5", "more/im7", "toy/im2"}
    task = DetectionTask(cfg, tested=False)
    whole = dict(zip(task.samples.keys, task.predictions(cfg.OUTPUT_DIR), strict=True))
    for key, found in own.items():
        scores = whole[key]["scores"]
        np.testing.assert_allclose(found.scores, np.sort(scores)[::-1][: predictions.MOST])
        np.testing.assert_allclose(found.boxes[0], whole[key]["boxes"][scores.argmax()])


def test_in_a_run_of_several_processes_the_one_that_asks_looks_at_all(cfg, samples, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    assert len(predictions_of_flagged(cfg, chosen(samples, SCORE, FAULTS))) == 3


def test_it_ends_after_so_many_images_and_so_many_seconds(cfg, samples, monkeypatch, caplog):
    own = chosen(samples, SCORE, FAULTS)
    assert set(predictions_of_flagged(cfg, own, most=1)) == {"more/im5"}
    seconds = itertools.count()  # one an image
    monkeypatch.setattr(module.time, "monotonic", lambda: next(seconds))
    with caplog.at_level("INFO", logger="adapruner_det"):
        assert list(predictions_of_flagged(cfg, own, seconds=2)) == ["more/im5", "toy/im2"]
    assert "name its boxes: 3 images" in caplog.text and "enough after 2" in caplog.text


def test_without_a_fault_no_model_is_needed(cfg, samples, tmp_path):
    (tmp_path / "out" / "model_final.pth").unlink()
    assert predictions_of_flagged(cfg, chosen(samples, SCORE, [""] * 8, kept=[1] * 7 + [0])) == {}
    with pytest.raises(DataError, match="model_final.pth"):
        predictions_of_flagged(cfg, chosen(samples, SCORE, FAULTS))


def test_boxes_that_are_not_upright_are_refused(cfg, samples, monkeypatch):
    row = {"boxes": np.zeros((0, 5)), "scores": np.zeros(0), "classes": np.zeros(0)}
    monkeypatch.setattr(inference, "detections", lambda model, batches: [row for _ in batches])
    with pytest.raises(DataError, match="not upright"):
        predictions_of_flagged(cfg, chosen(samples, SCORE, FAULTS))
