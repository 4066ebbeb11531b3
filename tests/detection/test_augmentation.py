"""Losses that change from visit to visit by flips and scale jitter.

A detector that is trained on clean scenes, and then stands still, drops images from the same scenes
of which a fifth have the other class on every box. Only augmentation moves an image's loss.
"""

import cv2
import numpy as np
import pytest
from detectron2.engine import DefaultTrainer
from detectron2.utils.env import seed_all_rng

from adapruner_det import PruningTrainer
from tests.detection.toy import process_restored, register, toy_cfg

N, BATCH, KEEP_RATIO = 100, 10, 0.8
STILL = ["INPUT.RANDOM_FLIP", "none", "MODEL.YOLO.MULTISCALE", []]
FLIPS = ["MODEL.YOLO.MULTISCALE", []]
FLIPS_AND_SCALES = ["MODEL.YOLO.MULTISCALE", [64, 128, 32]]
#: The part of the dropped images that two runs share; of random fifths it is 0.2.
OVERLAP = 0.75


def scenes(folder):
    """Images with one to three squares of any size, whose colour is their class."""
    rng = np.random.default_rng(0)
    dicts = []
    for i in range(N):
        image = rng.integers(0, 60, (64, 64, 3)).astype(np.uint8)
        objects = []
        for _ in range(rng.integers(1, 4)):
            size = int(rng.integers(6, 40))
            x, y = (int(v) for v in rng.integers(0, 64 - size, 2))
            category = int(rng.integers(0, 2))
            image[y : y + size, x : x + size, category] = rng.integers(100, 255)
            box = [x, y, x + size, y + size]
            objects.append({"bbox": box, "bbox_mode": 0, "category_id": category})
        file = folder / f"im{i}.png"
        cv2.imwrite(str(file), image)
        sample = {"file_name": str(file), "image_id": f"im{i}", "height": 64, "width": 64}
        dicts.append({**sample, "annotations": objects})
    return dicts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("augmentation")


@pytest.fixture(scope="module")
def weights(folder):
    """Of a detector that was trained on the clean scenes with flips and scale jitter."""
    with process_restored():
        register("clean", scenes(folder))
        cfg = toy_cfg("yolo_darknet", folder, *FLIPS_AND_SCALES, "DATASETS.TRAIN", ("clean",))
        cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER = BATCH, 40 * N // BATCH
        cfg.SOLVER.BASE_LR, cfg.SOLVER.CHECKPOINT_PERIOD = 0.01, 1000
        seed_all_rng(1)
        DefaultTrainer(cfg).train()
    return str(folder / "model_final.pth")


@pytest.fixture
def faulty(folder):
    """The scenes, of which every fifth has the other class on all boxes."""
    dicts = scenes(folder)
    for annotation in (a for sample in dicts[::5] for a in sample["annotations"]):
        annotation["category_id"] = 1 - annotation["category_id"]
    register("toy", dicts)
    return {f"toy/{sample['image_id']}" for sample in dicts[::5]}


def dropped(weights, output, augmentation, seed):
    """By a run of 20 epochs whose weights stand still: only augmentation moves the losses."""
    cfg = toy_cfg("yolo_darknet", output, *augmentation)
    cfg.MODEL.WEIGHTS, cfg.SOLVER.BASE_LR = weights, 0.0
    # Batch statistics would add what the other images of the batch do.
    cfg.MODEL.YOLO.NORM = cfg.MODEL.DARKNET.NORM = "FrozenBN"
    cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.MAX_ITER = BATCH, 20 * N // BATCH
    cfg.SOLVER.CHECKPOINT_PERIOD, cfg.SEED, cfg.ADAPRUNER.KEEP_RATIO = 1000, seed, KEEP_RATIO
    trainer = PruningTrainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    keys = {f"toy/im{i}" for i in range(N)}
    return keys - trainer.selection.kept_keys, trainer.selection.columns


@pytest.mark.slow
def test_flips_and_scale_jitter_drop_most_of_what_is_dropped_without(weights, faulty, tmp_path):
    still, at_rest = dropped(weights, tmp_path / "still", STILL, seed=1)
    flips, _ = dropped(weights, tmp_path / "flips", FLIPS, seed=1)
    both, moving = dropped(weights, tmp_path / "one", FLIPS_AND_SCALES, seed=1)
    other, again = dropped(weights, tmp_path / "other", FLIPS_AND_SCALES, seed=2)
    for one in (at_rest, again):  # a visit's loss does depend on its flip and scale
        assert np.std(np.log(moving["last_loss"] / one["last_loss"])) > 0.2
    for found in (still, flips, both, other):
        assert len(found & faulty) >= OVERLAP * len(faulty)
    for one, two in ((still, flips), (still, both), (both, other)):
        assert len(one & two) >= OVERLAP * len(one)
