"""A task on a small VOC folder, and what a training has left of its model."""

import torch

from adapruner_det.detection.task import MODEL_FILE
from adapruner_det.methods.random import random_selection
from tests.detection.toy import options_of

YOLO_KEYS = {"loss_yolo_box", "loss_yolo_obj", "loss_yolo_cls"}


def options(voc, *more, detector="yolo_darknet", output="unused"):
    found = [*options_of(detector, output), "SOLVER.STEPS", (9,)]
    folders = [f"task_{split}={voc}:{split}" for split in ("train", "test")]
    found += ["ADAPRUNER.VOC_FOLDERS", folders, "DATASETS.TRAIN", ("task_train",)]
    return [*found, "DATASETS.TEST", ("task_test",), *more]


def model(folder):
    return torch.load(folder / MODEL_FILE, weights_only=True)["model"]


def part(task, keep_ratio=0.7, seed=0):
    return random_selection(task.samples, keep_ratio, seed)
