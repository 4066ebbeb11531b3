"""A trainer, a script and a guide of one's own."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetMapper, build_detection_train_loader
from detectron2.engine import DefaultTrainer

from adapruner_det import PruningMixin, PruningTrainer
from adapruner_det.detection.data.loader import build_pruning_train_loader
from adapruner_det.errors import DataError
from adapruner_det.methods.recorder import Recorder
from adapruner_det.settings import config_digest
from tests.detection.toy import toy_cfg, write_voc_folder
from tests.detection.training.runs import assert_same_weights, prune, start

ROOT = Path(__file__).parents[3]


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


# A script of one's own


class OwnPruning(PruningMixin, DefaultTrainer):
    pass


@pytest.fixture
def shaped(tmp_path):
    """A folder of two classes that no run has registered, and the options that name it."""
    write_voc_folder(tmp_path / "voc", trainval=12)
    return ["ADAPRUNER.VOC_FOLDERS", [f"shaped={tmp_path / 'voc'}:trainval"]]


def test_a_script_may_leave_its_data_sets_and_its_numbers_to_the_configuration(shaped, tmp_path):
    """default_setup has written them down as they were; what was trained is what counts."""
    options = [*shaped, "ADAPRUNER.AUTO_ANCHORS", True, "ADAPRUNER.EPOCHS", 5]
    cfg = toy_cfg("yolo_darknet", tmp_path / "out", "DATASETS.TRAIN", ("shaped",), *options)
    (tmp_path / "out").mkdir()
    written = tmp_path / "out/config.yaml"
    written.write_text(cfg.dump())
    before = cfg.dump()
    trainer = OwnPruning(cfg)
    assert len(trainer.index) == 12 and cfg.dump() == before
    assert trainer.max_iter == 5 * 12 // trainer.cfg.SOLVER.IMS_PER_BATCH
    again = toy_cfg("yolo_darknet", tmp_path / "out")
    again.merge_from_file(str(written))
    assert config_digest(again) == config_digest(trainer.cfg)
    assert again.MODEL.YOLO.ANCHORS != cfg.MODEL.YOLO.ANCHORS and not again.ADAPRUNER.AUTO_ANCHORS
    assert again.SOLVER.MAX_ITER == trainer.max_iter != cfg.SOLVER.MAX_ITER


def test_a_script_that_has_written_no_configuration_gets_none(shaped, tmp_path):
    cfg = toy_cfg("yolo_darknet", tmp_path / "out", "DATASETS.TRAIN", ("shaped",), *shaped)
    (tmp_path / "out").mkdir()
    OwnPruning(cfg)
    assert not list((tmp_path / "out").glob("*.yaml"))


def test_a_script_that_asks_for_a_gpu_that_is_not_there_trains_on_the_cpu(
    toy, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    cfg = toy_cfg("yolo_darknet", tmp_path, "MODEL.DEVICE", "cuda")
    trainer = OwnPruning(cfg)
    assert (trainer.cfg.MODEL.DEVICE, cfg.MODEL.DEVICE) == ("cpu", "cuda")


def test_a_script_hears_of_the_epochs_and_of_the_selection(tmp_path):
    """By the log that default_setup opens, and by none where a script opens none."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\n"
        "from detectron2.engine import DefaultTrainer, default_argument_parser, default_setup\n"
        "from adapruner_det import PruningMixin\n"
        "from tests.detection.toy import register, squares, toy_cfg\n"
        "class Trainer(PruningMixin, DefaultTrainer): ...\n"
        "register('toy', squares(sys.argv[1] + '/images', 10))\n"
        "cfg = toy_cfg('yolo_darknet', sys.argv[1])\n"
        "if sys.argv[2] == 'log': default_setup(cfg, default_argument_parser().parse_args([]))\n"
        "trainer = Trainer(cfg)\n"
        "trainer.resume_or_load(resume=False)\n"
        "trainer.train()\n"
    )
    for kind in ("log", "none"):
        folder = tmp_path / kind
        folder.mkdir()
        words = [sys.executable, str(script), str(folder), kind]
        ended = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=with_root())
        assert ended.returncode == 0, ended.stderr
        heard = (folder / "log.txt").read_text() if kind == "log" else ended.stdout
        for line in ("Epoch 6 of 6", "Selection written to"):
            assert (line in heard) == (kind == "log"), heard


def with_root():
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def test_an_end_that_nothing_would_find_out_is_refused_before_the_run(toy, tmp_path):
    cfg = toy_cfg("yolo_darknet", tmp_path, "ADAPRUNER.DROP", "auto")
    with pytest.raises(DataError, match="leave it empty, and `adapruner cut --drop auto`"):
        OwnPruning(cfg)
    OwnPruning(cfg, guide=Recorder(10))  # whose caller knows what it is for

    class Settling(OwnPruning):
        settles = True

    with pytest.raises(DataError, match="too few to hold a tenth out"):  # 10 squares
        start(cfg, trainer_class=Settling)


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


def test_a_guide_that_asks_for_a_loss_that_is_not_there_is_refused(toy, tmp_path):
    trainer = start(
        toy_cfg("yolo_darknet", tmp_path),
        trainer_class=partial(PruningTrainer, guide=Recorder(10, ["loss_mask"])),
    )
    with pytest.raises(DataError, match="Recorder asks for loss_mask, .* it gives loss_yolo_box"):
        trainer.train()
    assert not list(tmp_path.glob("model_*.pth"))
