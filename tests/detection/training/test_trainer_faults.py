import errno
import os
import re

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.engine import HookBase
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils.events import JSONWriter
from torch import nn

from adapruner_det import PruningTrainer, Selection
from adapruner_det.detection.data.kept_splits import register_kept
from adapruner_det.detection.setup import check_pruning_inputs
from adapruner_det.detection.training.trainer import EvaluatingTrainer
from adapruner_det.errors import DataError, one_line
from adapruner_det.report.summary import summarize
from tests.detection.toy import register, squares, toy_cfg
from tests.detection.training.runs import prune, start

# A bad image


@META_ARCH_REGISTRY.register()
class LosesIm4(nn.Module):
    """Whose loss of one image is NaN in its gradient too."""

    def __init__(self, cfg):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def losses_per_image(self, batched_inputs):
        means = [x["image"].float().mean() / 100 for x in batched_inputs]
        bad = [float("nan") if x["image_id"] == "im4" else 1.0 for x in batched_inputs]
        return {"loss": (self.weight * torch.stack(means) * torch.tensor(bad) - 1) ** 2}


def test_an_image_with_a_nan_loss_is_named_and_training_goes_on(toy, tmp_path, caplog):
    cfg = toy_cfg("yolo_darknet", tmp_path, "MODEL.META_ARCHITECTURE", "LosesIm4")
    with caplog.at_level("WARNING", logger="adapruner_det"):
        trainer = prune(cfg)
    assert "the loss of 1 image(s) is NaN or infinite, first toy/im4;" in caplog.text
    assert (tmp_path / "model_final.pth").exists()
    assert torch.isfinite(trainer.model.detector.weight)
    assert trainer.model.detector.weight != 1.0
    row = trainer.index.keys.index("toy/im4")
    assert trainer.selection.columns["times_seen"][row] == 0
    assert trainer.selection.num_kept == 7


# Errors in mid-run


class Deleting(HookBase):
    """Removes a file once a step is over."""

    def __init__(self, file, step):
        self.file, self.step = file, step

    def after_step(self):
        if self.trainer.iter == self.step:
            os.unlink(self.file)


def test_the_selection_is_there_though_the_evaluation_fails(toy, tmp_path, caplog):
    test = squares(tmp_path / "test", 3, seed=5, first=50)
    register("test", test, evaluator_type="coco")
    cfg = toy_cfg("yolo_darknet", tmp_path / "out", "DATASETS.TEST", ("test",))
    check_pruning_inputs(cfg)
    with pytest.raises(DataError, match=r"the sample im51 \(.*im51\.png\) cannot be mapped"):
        prune(cfg, hooks=[Deleting(test[1]["file_name"], 14)])
    assert Selection.load(tmp_path / "out" / "selection.json").num_kept == 7
    assert (tmp_path / "out" / "model_final.pth").exists()
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("kind", [PruningTrainer, EvaluatingTrainer])
def test_an_image_that_goes_in_mid_run_is_named_with_its_file(toy, tmp_path, kind, workers):
    cfg = toy_cfg("yolo_darknet", tmp_path / "out", "DATALOADER.NUM_WORKERS", workers)
    trainer = start(cfg, trainer_class=kind, hooks=[Deleting(toy[4]["file_name"], 1)])
    with pytest.raises(DataError) as caught:
        trainer.train()
    line = one_line(caught.value)
    assert re.search(r"the sample (toy/)?im4 \(.*im4\.png\) cannot be mapped", line)
    assert "Traceback" not in line


def test_a_disk_that_takes_no_more_logs_is_named(toy, tmp_path, monkeypatch):
    """Metrics are written by Detectron2, whose error has no file's name."""

    def full(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(JSONWriter, "write", full)
    with pytest.raises(DataError, match="out' takes no more: No space left on device; free space"):
        prune(toy_cfg("yolo_darknet", tmp_path / "out"))


# Samples and boxes that are left out


def test_a_run_that_skips_says_in_its_selection_what_it_left_out(toy, tmp_path):
    for number in (2, 7):
        (tmp_path / "images" / f"im{number}.png").write_bytes(b"")
    cfg = toy_cfg("yolo_darknet", tmp_path / "out", "ADAPRUNER.ON_BAD_SAMPLE", "skip")
    with pytest.raises(DataError, match="im2.png"):
        check_pruning_inputs(toy_cfg("yolo_darknet", tmp_path / "out"))
    assert len(check_pruning_inputs(cfg)) == 8
    selection = prune(cfg).selection
    assert set(selection.excluded) == {"toy/im2", "toy/im7"}
    loaded = Selection.load(tmp_path / "out" / "selection.json")
    assert loaded.excluded == selection.excluded and "empty" in loaded.excluded["toy/im2"]
    assert (loaded.num_samples, loaded.num_kept) == (8, 6)
    assert "toy/im2" in summarize(loaded, 1.0, "selection.json", "next")
    (name,) = register_kept(loaded)
    assert len(DatasetCatalog.get(name)) == 6


@pytest.mark.parametrize("mode", ["prune", "train"])
def test_boxes_of_nan_do_not_end_a_run(toy, tmp_path, mode):
    """Detectron2's mapper ends for them; both kinds of run leave them out, as the check says."""
    box = {"bbox": [float("nan"), 2, 9, 9], "bbox_mode": 0, "category_id": 0}
    toy[3]["annotations"].append(box)
    cfg = toy_cfg("yolo_darknet", tmp_path / "out", "SOLVER.MAX_ITER", 8)
    check_pruning_inputs(cfg)
    prune(cfg, trainer_class=PruningTrainer if mode == "prune" else EvaluatingTrainer)
    assert (tmp_path / "out" / "model_final.pth").exists()


def test_images_that_never_had_a_finite_loss_are_cut_first_and_named(toy, tmp_path):
    cfg = toy_cfg("yolo_darknet", tmp_path, "MODEL.META_ARCHITECTURE", "LosesIm4")
    for ratio in (0.9, 0.7):
        cfg.ADAPRUNER.KEEP_RATIO = ratio
        selection = prune(cfg).selection
        assert selection.unseen_keys() == ["toy/im4"]
        assert "toy/im4" not in selection.kept_keys
    assert re.search("never finite +toy/im4: no finite loss", summarize(selection, 1, "x", "y"))
    assert "toy/im4" in selection.cut(1.0).kept_keys
