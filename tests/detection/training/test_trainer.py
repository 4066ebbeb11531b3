import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.evaluation import COCOEvaluator
from detectron2.modeling import build_model

from adapruner_det import PruningTrainer, Selection, register_voc_folder
from adapruner_det.detection.data import voc_folder
from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.detection.setup import check_pruning_inputs
from adapruner_det.detection.training.trainer import (
    EvaluatingTrainer,
    build_pruner,
    build_selection,
)
from adapruner_det.errors import DataError
from adapruner_det.settings import config_digest
from tests.detection.toy import register, toy_cfg, write_voc_folder
from tests.detection.training.runs import assert_same_weights, files, prune, start, visits, weights


def test_a_run_keeps_exactly_the_part_asked_for_and_writes_it_down(finished, tmp_path):
    selection = Selection.load(tmp_path / "done" / "selection.json")
    assert selection.num_kept == 7
    assert selection.kept_keys == finished.selection.kept_keys
    assert selection.columns["key"].tolist() == finished.index.keys
    assert selection.columns["digest"].tolist() == finished.index.digests.tolist()
    assert selection.datasets == finished.index.samples.datasets
    assert (selection.method, selection.keep_ratio, selection.seed) == ("adapruner", 0.7, 1)
    assert selection.config_digest == config_digest(finished.cfg)
    assert {"detectron2", "torch", "adapruner-det"} <= selection.versions.keys()
    assert selection.columns["times_seen"].tolist() == visits(finished.data_loader, 15).tolist()
    assert np.all(selection.columns["mean_loss"] > 0)


def test_the_mask_is_told_of_just_the_images_that_were_read(toy, tmp_path):
    cfg = toy_cfg(
        "yolo_darknet", tmp_path / "out",
        "TEST.PRECISE_BN.ENABLED", True,  # runs the model on other images after a step
        "TEST.PRECISE_BN.NUM_ITER", 2,
        "TEST.EVAL_PERIOD", 1,
        "SOLVER.MAX_ITER", 9,
    )  # fmt: skip
    trainer = prune(cfg)
    seen = trainer.selection.columns["times_seen"].tolist()
    assert seen == visits(trainer.data_loader, 9).tolist()


def test_the_numbers_of_the_mask_are_among_detectron2s_metrics(finished, tmp_path):
    lines = (tmp_path / "done" / "metrics.json").read_text().splitlines()
    last = json.loads(lines[-1])
    for name in ("soft_ratio", "alpha", "multiplier", "binary_share"):
        assert f"adapruner/{name}" in last
    assert last["adapruner/alpha"] == 5.0
    assert last["adapruner/soft_ratio"] == pytest.approx(finished.selection.soft_ratio)
    assert list((tmp_path / "done").glob("events.out.tfevents*"))


@pytest.mark.parametrize("kind", ["yolo_darknet", "faster_rcnn_c4"])
def test_the_final_weights_load_into_the_plain_detector(toy, tmp_path, kind):
    trainer = prune(toy_cfg(kind, tmp_path, "SOLVER.MAX_ITER", 8))
    plain = build_model(toy_cfg(kind, tmp_path))
    plain.load_state_dict(weights(tmp_path), strict=True)
    assert_same_weights(plain.state_dict(), trainer.model.detector.state_dict())
    other = build_model(toy_cfg(kind, tmp_path))
    rest = DetectionCheckpointer(other).load(str(tmp_path / "model_final.pth"))
    assert "model" not in rest
    assert_same_weights(other.state_dict(), plain.state_dict())


def test_a_plain_detectors_weights_can_be_pruned_from(toy, tmp_path):
    plain = build_model(toy_cfg("yolo_darknet", tmp_path))
    DetectionCheckpointer(plain, str(tmp_path)).save("plain")
    cfg = toy_cfg("yolo_darknet", tmp_path, "MODEL.WEIGHTS", str(tmp_path / "plain.pth"))
    assert_same_weights(start(cfg).model.state_dict(), plain.state_dict())


def test_the_same_run_twice_gives_the_same_bytes(toy, finished, tmp_path):
    prune(toy_cfg("yolo_darknet", tmp_path / "again"))
    assert files(tmp_path / "again") == files(tmp_path / "done")
    assert_same_weights(weights(tmp_path / "again"), weights(tmp_path / "done"))
    prune(toy_cfg("yolo_darknet", tmp_path / "other", "SEED", 2))
    assert files(tmp_path / "other") != files(tmp_path / "done")


def test_a_keep_ratio_of_1_keeps_every_image(toy, tmp_path):
    trainer = prune(toy_cfg("yolo_darknet", tmp_path, "ADAPRUNER.KEEP_RATIO", 1.0))
    assert trainer.selection.num_kept == 10


# A user's own trainer


def test_the_guides_hook_stands_before_all_of_detectron2s(toy, tmp_path):
    trainer = start(toy_cfg("yolo_darknet", tmp_path))
    assert trainer._hooks[0] is trainer.guiding
    names = [type(hook).__name__ for hook in trainer._hooks]
    assert names.count("GuideHook") == names.count("PeriodicCheckpointer") == 1


# Schedules


def test_the_epochs_follow_from_the_steps():
    cfg = toy_cfg("yolo_darknet", "unused", "SOLVER.MAX_ITER", 16)
    schedule = build_pruner(cfg, index_of([[0]] * 10)).schedule  # 6.4 epochs
    assert (schedule.warmup_epochs, schedule.pruning_epochs) == (2, 4)
    assert (schedule.alpha_start, schedule.alpha_end) == (0.1, 5.0)


def test_a_run_without_a_pruning_epoch_is_refused():
    cfg = toy_cfg("yolo_darknet", "unused", "SOLVER.MAX_ITER", 7)
    with pytest.raises(DataError, match="makes 2 epochs of 10 images, of which 2 are warm-up"):
        build_pruner(cfg, index_of([[0]] * 10))
    cfg.SOLVER.MAX_ITER = 8
    assert build_pruner(cfg, index_of([[0]] * 10)).schedule.pruning_epochs == 1


def index_of(classes):
    """Samples of which only the classes of their objects matter."""
    dicts = [
        {
            "image_id": str(i),
            "file_name": f"{i}.png",
            "annotations": [{"category_id": c, "bbox": [0, 0, 9, 9], "bbox_mode": 0} for c in own],
        }
        for i, own in enumerate(classes)
    ]
    return SampleIndex.from_dicts({"toy": dicts})


@pytest.mark.parametrize(("end", "stay"), [("easy", range(3, 10)), ("hard", range(7))])
def test_the_end_that_the_configuration_names_goes(end, stay):
    index = index_of([[0]] * 10)
    cfg = toy_cfg("yolo_darknet", "x", "ADAPRUNER.DROP", end)
    pruner = build_pruner(cfg, index)
    while pruner.epoch < pruner.schedule.epochs:
        pruner.observe(np.arange(10), 1.0 + np.arange(10.0))
        pruner.end_epoch()
    found = build_selection(cfg, pruner, SimpleNamespace(index=index, seed=0))
    assert found.kept_keys == {index.keys[i] for i in stay}
    assert set(found.columns["why"]) == {"", end}


def test_losses_are_compared_with_those_of_images_with_as_many_objects():
    index = index_of([[0]] * 5 + [[0, 1, 1]] * 5)
    pruner = build_pruner(toy_cfg("yolo_darknet", "x"), index)
    np.testing.assert_array_equal(pruner._typical._levels, [1, 3])
    np.testing.assert_array_equal(pruner.mask.column("size_level"), [0] * 5 + [1] * 5)
    plain = build_pruner(
        toy_cfg("yolo_darknet", "x", "ADAPRUNER.NORMALIZE_BY_OBJECTS", False), index
    )
    assert not plain._typical.by_size


def test_a_class_band_reaches_the_mask_and_is_off_by_default():
    index = index_of([[0]] * 5 + [[0, 2, 2]] * 5)
    assert build_pruner(toy_cfg("yolo_darknet", "x"), index).balance is None
    pruner = build_pruner(toy_cfg("yolo_darknet", "x", "ADAPRUNER.CLASS_BAND", 0.1), index)
    assert pruner.balance.band == 0.1
    np.testing.assert_array_equal(pruner.balance.sets.count(), [10, 0, 5])


def test_the_configuration_reaches_the_mask():
    cfg = toy_cfg(
        "yolo_darknet", "x", "ADAPRUNER.CONTROLLER", "paper", "ADAPRUNER.NORMALIZE", "none",
        "ADAPRUNER.SELECTION_LOSS", False, "ADAPRUNER.ALPHA_END", 9.0,
    )  # fmt: skip
    pruner = build_pruner(cfg, index_of([[0]] * 10))
    assert (pruner.num_samples, pruner.keep_ratio) == (10, 0.7)
    assert pruner.schedule.alpha_end == 9.0
    assert not pruner.terms.selection
    assert pruner.terms.classification
    assert float(pruner.typical_losses()) == 1.0
    assert type(pruner._controller).__name__ == "PaperRatio"


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("ADAPRUNER.CONTROLLER", "pid", "CONTROLLER is 'pid'"),
        ("ADAPRUNER.NORMALIZE", "mean", "NORMALIZE is 'mean'"),
        ("ADAPRUNER.ALPHA_START", 7.0, "α goes from 7.0 to 5.0"),
        ("ADAPRUNER.WARMUP_EPOCHS", -1, "WARMUP_EPOCHS is -1"),
    ],
)
def test_a_setting_of_the_mask_that_makes_no_sense_is_refused(key, value, match):
    with pytest.raises(ValueError, match=match):
        build_pruner(toy_cfg("yolo_darknet", "unused", key, value), index_of([[0]] * 10))


def test_evaluation_uses_the_evaluator_that_fits_the_data_set(toy):
    register("coco_toy", toy, evaluator_type="coco")
    assert isinstance(EvaluatingTrainer.build_evaluator(get_cfg(), "coco_toy"), COCOEvaluator)


# Weights of other origins


@pytest.mark.parametrize(
    ("detector", "node", "head"),
    [
        ("yolo_darknet", "YOLO", "head.coarse_out.weight"),
        ("faster_rcnn_c4", "ROI_HEADS", "roi_heads.box_predictor.cls_score.weight"),
    ],
)
def test_weights_with_80_classes_are_the_start_of_a_run_on_2(
    toy, tmp_path, caplog, detector, node, head
):
    """As from COCO: what has another shape is skipped with a warning, the rest is loaded."""
    big = build_model(toy_cfg(detector, "x", f"MODEL.{node}.NUM_CLASSES", 80))
    DetectionCheckpointer(big, str(tmp_path)).save("coco")
    given = {k: v.clone() for k, v in big.state_dict().items()}
    options = ("MODEL.WEIGHTS", str(tmp_path / "coco.pth"), "SOLVER.MAX_ITER", 8)
    cfg = toy_cfg(detector, tmp_path / "out", *options)
    assert len(check_pruning_inputs(cfg)) == 10
    with caplog.at_level("WARNING"):
        trainer = start(cfg)
    mine = trainer.model.state_dict()
    skipped = {k for k, v in mine.items() if v.shape != given[k].shape}
    assert skipped and len(skipped) <= 4
    for name in skipped:
        assert f"Skip loading parameter '{name}'" in caplog.text
    assert all(torch.equal(mine[k], given[k]) for k in mine.keys() - skipped)
    trainer.train()
    assert trainer.selection.num_kept == 7
    final = weights(tmp_path / "out")
    assert final.keys() == mine.keys()
    assert all(torch.isfinite(v.float()).all() for v in final.values())


def test_samples_that_are_handed_over_are_not_read_again(tmp_path, monkeypatch):
    root = write_voc_folder(tmp_path / "voc", train=10)
    register_voc_folder("own", root, "train")
    cfg = toy_cfg("yolo_darknet", tmp_path / "out", "DATASETS.TRAIN", ("own",))
    index = SampleIndex.from_config(cfg)
    assert voc_folder._parsed
    os.makedirs(cfg.OUTPUT_DIR)
    monkeypatch.setattr(SampleIndex, "from_config", None)
    trainer = PruningTrainer(cfg, index)
    assert trainer.index is trainer.data_loader.index is index
    assert not voc_folder._parsed  # nor kept in memory twice
