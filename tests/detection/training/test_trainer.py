import errno
import json
import multiprocessing
import os
import random
import re
import signal
import time
from functools import partial
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.data import (
    DatasetCatalog,
    DatasetMapper,
    MetadataCatalog,
    build_detection_train_loader,
)
from detectron2.engine import DefaultTrainer, HookBase
from detectron2.evaluation import COCOEvaluator
from detectron2.modeling import META_ARCH_REGISTRY, build_model
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import JSONWriter
from torch import nn

from adapruner_det import PruningMixin, PruningTrainer, Selection, register_voc_folder
from adapruner_det.detection import compat
from adapruner_det.detection.data import voc_folder
from adapruner_det.detection.data.kept_splits import register_kept
from adapruner_det.detection.data.loader import build_pruning_train_loader, sample_at
from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.detection.setup import check_pruning_inputs
from adapruner_det.detection.training.trainer import (
    EvaluatingTrainer,
    build_pruner,
    build_selection,
    scale_schedule,
)
from adapruner_det.errors import DataError, one_line
from adapruner_det.methods.random import random_selection
from adapruner_det.methods.recorder import Recorder
from adapruner_det.report.summary import summarize
from adapruner_det.settings import config_digest
from tests.apart import signal_job
from tests.detection.toy import register, squares, toy_cfg, write_voc_folder


class Stopped(Exception):
    pass


class StopAfter(HookBase):
    def __init__(self, step):
        self.step = step

    def after_step(self):
        if self.trainer.iter == self.step:
            raise Stopped


def start(cfg, trainer_class=PruningTrainer, resume=False, hooks=()):
    """As `default_setup` and a training script begin."""
    os.makedirs(cfg.OUTPUT_DIR, exist_ok=True)
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED)
    trainer = trainer_class(cfg)
    trainer.register_hooks(list(hooks))
    trainer.resume_or_load(resume=resume)
    return trainer


def prune(cfg, **options):
    trainer = start(cfg, **options)
    trainer.train()
    return trainer


def prune_stopped(cfg, step):
    """Stop behind ``step`` and go on in a new trainer."""
    with pytest.raises(Stopped):
        prune(cfg, hooks=[StopAfter(step)])
    random.seed(123), np.random.seed(123), torch.manual_seed(123)  # noqa: B018, NPY002
    trainer = start(cfg)
    trainer.resume_or_load(resume=True)
    return trainer


def files(folder):
    return [(folder / name).read_bytes() for name in ("selection.json", "selection.npz")]


def visits(loader, steps):
    """(N,) how often each sample is visited; a sample twice in a batch is one visit."""
    counts = np.zeros(len(loader.index), dtype=int)
    for positions in islice(loader.at(0, loader.seed).batches(), steps):
        counts[list({sample_at(p, len(counts), loader.seed) for p in positions})] += 1
    return counts


def weights(folder):
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


def assert_same_weights(mine, theirs):
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in theirs)


@pytest.fixture
def finished(toy, tmp_path):
    """A finished run of YOLOv3-Tiny in tmp_path/done."""
    return prune(toy_cfg("yolo_darknet", tmp_path / "done"))


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


@pytest.mark.slow
def test_so_does_a_stopped_run_of_faster_rcnn(toy, tmp_path):
    options = ("SOLVER.MAX_ITER", 8, "ADAPRUNER.WARMUP_EPOCHS", 1)
    whole = prune(toy_cfg("faster_rcnn_c4", tmp_path / "done", *options))
    trainer = prune_stopped(toy_cfg("faster_rcnn_c4", tmp_path / "cut", *options), 5)
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


def test_a_keep_ratio_of_1_keeps_every_image(toy, tmp_path):
    trainer = prune(toy_cfg("yolo_darknet", tmp_path, "ADAPRUNER.KEEP_RATIO", 1.0))
    assert trainer.selection.num_kept == 10


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


# A user's own trainer


class Own(DefaultTrainer):
    @classmethod
    def build_train_loader(cls, cfg):
        return build_pruning_train_loader(cfg, mapper=OwnMapper(cfg, is_train=True))


class OwnMapper(DatasetMapper):
    seen = 0

    def __call__(self, dataset_dict):
        OwnMapper.seen += 1
        return super().__call__(dataset_dict)


def test_a_trainer_of_ones_own_prunes_with_the_mixin_and_its_own_mapper(toy, tmp_path):
    class Pruning(PruningMixin, Own):
        pass

    OwnMapper.seen = 0
    trainer = prune(toy_cfg("yolo_darknet", tmp_path), trainer_class=Pruning)
    assert trainer.selection.num_kept == 7
    assert OwnMapper.seen == 60


def test_a_trainer_with_the_default_loader_needs_no_more_than_the_mixin(toy, tmp_path):
    class Pruning(PruningMixin, DefaultTrainer):
        pass

    assert prune(toy_cfg("yolo_darknet", tmp_path), trainer_class=Pruning).selection.num_kept == 7


def test_a_loader_that_cannot_tell_samples_apart_is_refused_with_the_cure(toy, tmp_path):
    class Foreign(DefaultTrainer):
        @classmethod
        def build_train_loader(cls, cfg):
            return build_detection_train_loader(cfg)

    class Pruning(PruningMixin, Foreign):
        pass

    with pytest.raises(DataError, match=r"return build_pruning_train_loader\(cfg, mapper=...\)"):
        start(toy_cfg("yolo_darknet", tmp_path), trainer_class=Pruning)


def test_the_guides_hook_stands_before_all_of_detectron2s(toy, tmp_path):
    trainer = start(toy_cfg("yolo_darknet", tmp_path))
    assert trainer._hooks[0] is trainer.guiding
    names = [type(hook).__name__ for hook in trainer._hooks]
    assert names.count("GuideHook") == names.count("PeriodicCheckpointer") == 1


# A guide of one's own


def test_a_guide_that_is_given_guides_the_run_and_makes_no_selection(toy, tmp_path):
    recorder = Recorder(10, ["loss_yolo_obj"])
    trainer = start(
        toy_cfg("yolo_darknet", tmp_path), trainer_class=partial(PruningTrainer, guide=recorder)
    )
    trainer.train()
    assert trainer.guide is recorder
    assert recorder.signal("loss_yolo_obj").shape == (6, 10)
    assert (recorder.signal("loss_yolo_obj") < recorder.signal("loss")).any()
    assert trainer.selection is None
    assert not (tmp_path / "selection.json").exists()
    assert (tmp_path / "model_final.pth").exists()


def test_a_guide_of_ones_trains_as_the_mask_does_in_warm_up(toy, tmp_path):
    options = ("SOLVER.MAX_ITER", 8, "ADAPRUNER.WARMUP_EPOCHS", 2)
    prune(toy_cfg("yolo_darknet", tmp_path / "mask", *options))
    start(
        toy_cfg("yolo_darknet", tmp_path / "ones", *options),
        trainer_class=partial(PruningTrainer, guide=Recorder(10)),
    ).train()
    mask, ones = (
        torch.load(tmp_path / name / "model_0000003.pth", weights_only=True)["model"]
        for name in ("mask", "ones")
    )
    assert_same_weights(mask, ones)


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


def test_a_guide_that_asks_for_a_loss_that_is_not_there_is_refused(toy, tmp_path):
    trainer = start(
        toy_cfg("yolo_darknet", tmp_path),
        trainer_class=partial(PruningTrainer, guide=Recorder(10, ["loss_mask"])),
    )
    with pytest.raises(DataError, match="Recorder asks for loss_mask, .* it gives loss_yolo_box"):
        trainer.train()
    assert not list(tmp_path.glob("model_*.pth"))


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


def test_the_kept_part_is_seen_for_as_many_epochs_as_everything_would_have_been():
    cfg = toy_cfg("yolo_darknet", "x", "SOLVER.MAX_ITER", 1000, "SOLVER.STEPS", (600, 900))
    selection = random_selection(index_of([[0]] * 40).samples, 0.7, 0)
    line = scale_schedule(cfg, selection)
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.STEPS) == (700, (420, 630))
    assert cfg.SOLVER.MAX_ITER / selection.num_kept == 1000 / 40
    assert line == (
        "Training on 28 of 40 images for the same number of epochs: 700 of 1000 iterations"
    )


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


# A run that a signal ends


class Signalling(HookBase):
    """Signals this process and those that it has started, as a cluster does."""

    def __init__(self, step, signum):
        self.step, self.signum = step, signum
        self.others = multiprocessing.active_children()

    def after_step(self):
        if self.trainer.iter == self.step:
            signal_job(self.signum, self.others)


def add_before_the_last(trainer, hook):
    """Put a hook before the one that ends a run early."""
    hook.trainer = trainer._hooks[-1].trainer
    trainer._hooks.insert(-1, hook)


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
    assert "lower DATALOADER.NUM_WORKERS; --resume goes on" in str(error.value)
    assert "Traceback" not in caplog.text


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


# Several processes


def train_in_one_of_two_processes(rank, folder):
    import torch.distributed as dist

    from tests.detection.toy import squares

    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    compat.create_local_process_group(2)
    register("toy", squares(f"{folder}/images{rank}"), evaluator_type="coco")
    cfg = toy_cfg("yolo_darknet", f"{folder}/out", "SOLVER.MAX_ITER", 13)
    trainer = start(cfg)
    torch.manual_seed(rank)
    if rank == 1:  # the signal reaches one process, which is not the one that saves
        add_before_the_last(trainer, Signalling(9, signal.SIGTERM))
    with pytest.raises(SystemExit, match="143"):
        trainer.train()
    trainer = prune(cfg, resume=True)
    assert trainer.start_iter == 10  # no multiple of the period at which the mask is gathered
    columns = {**trainer.selection.columns, "expected": visits(trainer.data_loader, 13)}
    torch.save({k: v.tolist() for k, v in columns.items()}, f"{folder}/rank{rank}.pth")
    torch.save(trainer.model.module.state_dict(), f"{folder}/weights{rank}.pth")
    torch.save(torch.rand(3), f"{folder}/drawn{rank}.pth")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_share_one_mask_and_one_model_and_save_and_resume(tmp_path):
    torch.multiprocessing.spawn(train_in_one_of_two_processes, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"rank{rank}.pth") for rank in (0, 1))
    assert first == second
    assert first["times_seen"] == first["expected"]
    selection = Selection.load(tmp_path / "out" / "selection.json")
    assert selection.columns["kept"].tolist() == first["kept"]
    assert selection.num_kept == 7
    mine, other = (torch.load(tmp_path / f"weights{rank}.pth") for rank in (0, 1))
    parameters = [name for name in mine if "running" not in name]
    assert all(torch.equal(mine[name], other[name]) for name in parameters)
    mine, other = (torch.load(tmp_path / f"drawn{rank}.pth") for rank in (0, 1))
    assert not torch.equal(mine, other)


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
