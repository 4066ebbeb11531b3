"""A task on a small VOC folder, and what a training has left of its model."""

import torch

from adapruner_det.detection.task import MODEL_FILE
from tests.detection.toy import options_of


def options(voc, *more, detector="yolo_darknet", output="unused"):
    found = [*options_of(detector, output), "SOLVER.STEPS", (9,)]
    folders = [f"task_{split}={voc}:{split}" for split in ("train", "test")]
    found += ["ADAPRUNER.VOC_FOLDERS", folders, "DATASETS.TRAIN", ("task_train",)]
    return [*found, "DATASETS.TEST", ("task_test",), *more]


def model(folder):
    return torch.load(folder / MODEL_FILE, weights_only=True)["model"]
