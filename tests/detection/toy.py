"""A data set of coloured squares, as dicts and as a VOC folder, and detectors to match."""

import logging
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog

from adapruner_det import add_adapruner_config

CLASSES = ["blue", "green"]

YOLO = [
    "MODEL.META_ARCHITECTURE", "YOLOv3Tiny",
    "MODEL.BACKBONE.FREEZE_AT", 0,
    "MODEL.YOLO.NUM_CLASSES", 2,
    "MODEL.YOLO.INPUT_SIZE", 64,
    "MODEL.YOLO.MULTISCALE", [64, 96, 32],
    "INPUT.MIN_SIZE_TRAIN", (0,),
    "INPUT.MIN_SIZE_TEST", 0,
]  # fmt: skip
SMALL_RESNET = [
    "MODEL.RESNETS.DEPTH", 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS", 64,
    "MODEL.RESNETS.NORM", "BN",
    "MODEL.BACKBONE.FREEZE_AT", 0,
]  # fmt: skip
FASTER_RCNN = [
    *SMALL_RESNET,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN", 100,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN", 40,
    "MODEL.RPN.POST_NMS_TOPK_TEST", 20,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE", 32,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16,
    "MODEL.ROI_HEADS.NUM_CLASSES", 2,
    "INPUT.MIN_SIZE_TRAIN", (56, 64),
    "INPUT.MIN_SIZE_TEST", 64,
]  # fmt: skip
DETECTORS = {
    "yolo_darknet": [
        *YOLO,
        "MODEL.BACKBONE.NAME", "build_darknet_tiny_backbone",
        "MODEL.DARKNET.WIDTH", 0.125,
    ],
    "yolo_resnet18": [
        *YOLO,
        *SMALL_RESNET,
        "MODEL.BACKBONE.NAME", "build_resnet_backbone",
        "MODEL.RESNETS.OUT_FEATURES", ["res4", "res5"],
    ],
    "faster_rcnn_fpn": [
        *FASTER_RCNN,
        "MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone",
        "MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"],
        "MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"],
        "MODEL.FPN.OUT_CHANNELS", 32,
        "MODEL.ANCHOR_GENERATOR.SIZES", [[8], [16], [32], [64], [128]],
        "MODEL.RPN.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"],
        "MODEL.ROI_HEADS.NAME", "StandardROIHeads",
        "MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5"],
        "MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead",
        "MODEL.ROI_BOX_HEAD.NUM_FC", 1,
        "MODEL.ROI_BOX_HEAD.FC_DIM", 32,
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 7,
    ],
    "faster_rcnn_c4": [
        *FASTER_RCNN,
        # Its Res5ROIHeads have bottleneck blocks only.
        "MODEL.RESNETS.DEPTH", 50,
        "MODEL.RESNETS.STEM_OUT_CHANNELS", 16,
        "MODEL.RESNETS.RES2_OUT_CHANNELS", 16,
        "MODEL.RESNETS.WIDTH_PER_GROUP", 8,
        "MODEL.ANCHOR_GENERATOR.SIZES", [[8, 16, 32]],
        "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 4,
    ],
}  # fmt: skip


def squares(folder, count=10, seed=0, first=0):
    """Detectron2 dicts of ``count`` images with one square each; every other one is upright."""
    rng = np.random.default_rng(seed)
    dicts = []
    for i in range(first, first + count):
        width, height = (64, 48) if i % 2 else (48, 64)
        image = rng.integers(0, 60, (height, width, 3)).astype(np.uint8)
        x, y, size = (int(v) for v in rng.integers((1, 1, 16), (20, 20, 26)))
        category = int(rng.integers(0, 2))
        image[y : y + size, x : x + size, category] = 250
        file = Path(folder) / f"im{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), image)
        square = {"bbox": [x, y, x + size, y + size], "bbox_mode": 0, "category_id": category}
        dicts.append(
            {
                "file_name": str(file),
                "image_id": f"im{i}",
                "height": height,
                "width": width,
                "annotations": [square],
            }
        )
    return dicts


def register(name, dicts, **metadata):
    """Put ``dicts`` into the catalogue as they are now."""
    DatasetCatalog.register(name, lambda: [dict(d) for d in dicts])
    MetadataCatalog.get(name).set(thing_classes=CLASSES, **metadata)
    return name


def write_voc_folder(root, **splits):
    """A folder in the VOC layout with squares: split name → number of images."""
    root = Path(root)
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    first = 0
    for split, count in splits.items():
        dicts = squares(root / "JPEGImages", count, seed=first, first=first)
        first += count
        for sample in dicts:
            text = annotation(sample)
            (root / "Annotations" / f"{sample['image_id']}.xml").write_text(text)
        lines = "".join(f"{sample['image_id']}\n" for sample in dicts)
        (root / "ImageSets/Main" / f"{split}.txt").write_text(lines)
    return root


def annotation(sample):
    """The VOC xml of a dict."""
    objects = "".join(
        f"<object><name>{CLASSES[a['category_id']]}</name><difficult>0</difficult><bndbox>"
        f"<xmin>{a['bbox'][0] + 1}</xmin><ymin>{a['bbox'][1] + 1}</ymin>"
        f"<xmax>{a['bbox'][2]}</xmax><ymax>{a['bbox'][3]}</ymax></bndbox></object>"
        for a in sample["annotations"]
    )
    size = f"<size><width>{sample['width']}</width><height>{sample['height']}</height></size>"
    return f"<annotation>{size}{objects}</annotation>"


def toy_cfg(detector, output, *options):
    """A pruning run of 6 epochs of 10 images, 2 of them warm-up, on the data set ``toy``."""
    cfg = get_cfg()
    add_adapruner_config(cfg)
    cfg.merge_from_list([*options_of(detector, output), "DATASETS.TRAIN", ("toy",)])
    cfg.merge_from_list(list(options))
    return cfg


def options_of(detector, output):
    """``KEY VALUE`` pairs, as a list, that make a run of ``detector`` small and repeatable."""
    return [
        *DETECTORS[detector],
        "DATASETS.TEST", (),
        "MODEL.DEVICE", "cpu",
        "MODEL.WEIGHTS", "",
        "SEED", 1,
        "SOLVER.IMS_PER_BATCH", 4,
        "SOLVER.MAX_ITER", 15,
        "SOLVER.STEPS", (),
        "SOLVER.BASE_LR", 0.001,
        "SOLVER.CHECKPOINT_PERIOD", 4,
        "DATALOADER.NUM_WORKERS", 0,
        "ADAPRUNER.WARMUP_EPOCHS", 2,
        "ADAPRUNER.KEEP_RATIO", 0.7,
        "OUTPUT_DIR", str(output),
    ]  # fmt: skip


@contextmanager
def process_restored():
    """Undo what Detectron2 changes for good: registered data sets and the loggers' settings.

    Inside there is one thread: on layers this small, threads that wait for each other take longer
    than the work.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    names = set(DatasetCatalog.list())
    loggers = [logging.getLogger(name) for name in ("adapruner_det", "detectron2", "fvcore")]
    settings = [(logger.handlers[:], logger.propagate, logger.level) for logger in loggers]
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        for name in set(DatasetCatalog.list()) - names:
            DatasetCatalog.remove(name)
            MetadataCatalog.pop(name, None)
        for logger, (handlers, propagate, level) in zip(loggers, settings, strict=True):
            logger.handlers[:], logger.propagate = handlers, propagate
            logger.setLevel(level)
