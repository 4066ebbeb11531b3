"""Small inputs that are in order; a case then spoils one thing of them."""

from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

CLASSES = ("cat", "dog")
WIDTH, HEIGHT = 64, 48
TRAIN, TEST = 10, 4
#: The image, in every toy of this file, that a case spoils.
BAD = "im03"
DATA, OUT = "data", "out"

Settings = dict[str, Any]

YOLO: Settings = {
    "MODEL.META_ARCHITECTURE": "YOLOv3Tiny",
    "MODEL.BACKBONE.NAME": "build_darknet_tiny_backbone",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.DARKNET.WIDTH": 0.125,
    "MODEL.YOLO.INPUT_SIZE": 64,
    "MODEL.YOLO.MULTISCALE": [],
    "INPUT.MIN_SIZE_TRAIN": [0],
    "INPUT.MIN_SIZE_TEST": 0,
}
RESNET: Settings = {
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.OUT_CHANNELS": 16,
    "MODEL.ANCHOR_GENERATOR.SIZES": [[8], [16], [32], [64], [128]],
    "INPUT.MIN_SIZE_TRAIN": [48],
    "INPUT.MIN_SIZE_TEST": 48,
}
FASTER_RCNN: Settings = {
    **RESNET,
    "MODEL.META_ARCHITECTURE": "GeneralizedRCNN",
    "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 100,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 30,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 20,
    "MODEL.RPN.BATCH_SIZE_PER_IMAGE": 32,
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_BOX_HEAD.NUM_FC": 1,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
    "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION": 7,
}
MASK_RCNN: Settings = {
    **FASTER_RCNN,
    "MODEL.MASK_ON": True,
    "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
    "MODEL.ROI_MASK_HEAD.NUM_CONV": 1,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 8,
}
RETINANET: Settings = {
    **RESNET,
    "MODEL.META_ARCHITECTURE": "RetinaNet",
    "MODEL.BACKBONE.NAME": "build_retinanet_resnet_fpn_backbone",
    "MODEL.RESNETS.OUT_FEATURES": ["res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res3", "res4", "res5"],
    "MODEL.RETINANET.NUM_CONVS": 1,
}
TRAINING: Settings = {
    "MODEL.WEIGHTS": "",
    "MODEL.DEVICE": "cpu",
    "DATALOADER.NUM_WORKERS": 0,
    "DATALOADER.ASPECT_RATIO_GROUPING": False,
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.MAX_ITER": 10,
    "SOLVER.STEPS": [],
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.WARMUP_ITERS": 2,
    "SOLVER.CHECKPOINT_PERIOD": 4,
    "ADAPRUNER.WARMUP_EPOCHS": 1,
    "ADAPRUNER.KEEP_RATIO": 0.7,
    "SEED": 1,
    "OUTPUT_DIR": OUT,
}
VOC_SETS: Settings = {
    "ADAPRUNER.VOC_FOLDERS": [f"toy_train={DATA}:train", f"toy_test={DATA}:test"],
    "DATASETS.TRAIN": ["toy_train"],
    "DATASETS.TEST": ["toy_test"],
}
COCO_SETS: Settings = {
    "ADAPRUNER.COCO_SETS": [
        f"toy_train={DATA}/train.json:{DATA}/images",
        f"toy_test={DATA}/test.json:{DATA}/images",
    ],
    "DATASETS.TRAIN": ["toy_train"],
    "DATASETS.TEST": ["toy_test"],
}
CLASSIFIER: Settings = {
    "DATA.NAME": "folder",
    "DATA.ROOT": DATA,
    "DATA.SIZE": 16,
    "DATA.WORKERS": 0,
    "AUGMENT.CROP": 1,
    "MODEL.NAME": "small",
    "MODEL.WIDTH": 4,
    "SOLVER.EPOCHS": 2,
    "SOLVER.BATCH_SIZE": 8,
    "SOLVER.LR": 0.01,
    "ADAPRUNER.WARMUP_EPOCHS": 1,
    "ADAPRUNER.KEEP_RATIO": 0.75,
    "DEVICE": "cpu",
    "OUTPUT_DIR": OUT,
}


def nested(settings: Settings) -> dict[str, Any]:
    """Dotted keys as a yaml's tree."""
    tree: dict[str, Any] = {}
    for key, value in settings.items():
        *path, last = key.split(".")
        node = tree
        for part in path:
            node = node.setdefault(part, {})
        node[last] = value
    return tree


def configure(
    folder: Path, settings: Settings, file: str = "config.yaml", base: str | None = None
) -> None:
    """Write a yaml."""
    head = {"_BASE_": base} if base else {}
    (folder / file).write_text(yaml.safe_dump({**head, **nested(settings)}))


def square(i: int) -> tuple[str, tuple[int, int, int, int]]:
    """Class and box (x0, y0, x1, y1), 0-based with exclusive ends, of toy image ``i``."""
    x, y, side = 2 + 5 * (i % 7), 3 + 4 * (i % 5), 14 + i % 4
    return CLASSES[i % 2], (x, y, x + side, y + side)


def pixels(i: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """(H, W, 3) uint8: noise and a square in the colour of its class."""
    image = np.random.default_rng(i).integers(0, 60, (height, width, 3)).astype(np.uint8)
    name, (x0, y0, x1, y1) = square(i)
    image[y0:y1, x0:x1, CLASSES.index(name)] = 250
    return image


def picture(i: int, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """:func:`pixels` as an image."""
    return Image.fromarray(pixels(i, width, height))


def xml_object(
    name: str, box: Sequence[object], difficult: object = 0, tail: str = "", extra: str = ""
) -> str:
    """An <object> with its box as given, corners 1-based and inclusive."""
    corners = zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    sides = "".join(f"<{side}>{value}</{side}>" for side, value in corners)
    return (
        f"<object><name>{name}</name><difficult>{difficult}</difficult>{extra}"
        f"<bndbox>{sides}</bndbox>{tail}</object>"
    )


def xml_text(*objects: str, width: object = WIDTH, height: object = HEIGHT) -> str:
    """A VOC annotation."""
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation>{size}{''.join(objects)}</annotation>"


def toy_xml(i: int) -> str:
    """The annotation of toy image ``i``."""
    name, (x0, y0, x1, y1) = square(i)
    return xml_text(xml_object(name, (x0 + 1, y0 + 1, x1, y1)))


def voc(folder: Path, settings: Settings | None = None) -> None:
    """A VOC folder of TRAIN + TEST images im00, im01 and so on, one object each; a config.yaml."""
    data = folder / DATA
    for name in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (data / name).mkdir(parents=True)
    for split, ids in (("train", range(TRAIN)), ("test", range(TRAIN, TRAIN + TEST))):
        for i in ids:
            picture(i).save(data / f"JPEGImages/im{i:02}.png", compress_level=1)
            (data / f"Annotations/im{i:02}.xml").write_text(toy_xml(i))
        (data / f"ImageSets/Main/{split}.txt").write_text("".join(f"im{i:02}\n" for i in ids))
    configure(folder, {**YOLO, **TRAINING, **VOC_SETS, **(settings or {})})


def coco_json(ids: Sequence[int], **changes: Any) -> dict[str, Any]:
    """A COCO annotation file's content of toy images ``ids``; ids of categories are 3 and 7."""
    annotations = []
    for i in ids:
        name, (x0, y0, x1, y1) = square(i)
        annotations.append(
            {
                "id": 100 + i,
                "image_id": 1 + i,
                "category_id": 3 + 4 * CLASSES.index(name),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": 0,
                "segmentation": [[x0, y0, x1, y0, x1, y1, x0, y1]],
            }
        )
    images = [
        {"id": 1 + i, "file_name": f"im{i:02}.png", "width": WIDTH, "height": HEIGHT} for i in ids
    ]
    categories = [{"id": 3 + 4 * c, "name": name} for c, name in enumerate(CLASSES)]
    return {"images": images, "annotations": annotations, "categories": categories, **changes}


def coco(folder: Path, settings: Settings | None = None) -> None:
    """The same images with COCO annotations, data/train.json and test.json; a config.yaml."""
    images = folder / DATA / "images"
    images.mkdir(parents=True)
    for i in range(TRAIN + TEST):
        picture(i).save(images / f"im{i:02}.png", compress_level=1)
    for split, ids in (("train", range(TRAIN)), ("test", range(TRAIN, TRAIN + TEST))):
        (folder / DATA / f"{split}.json").write_text(json.dumps(coco_json(ids)))
    classes = {"MODEL.YOLO.NUM_CLASSES": 2}
    configure(folder, {**YOLO, **TRAINING, **COCO_SETS, **classes, **(settings or {})})


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Let ``change`` work on what a JSON file holds; NaN is written as Python does."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def image_folder(folder: Path, settings: Settings | None = None) -> None:
    """data/train/<class>/im00.png and so on, six a class, two in test; a config.yaml."""
    for split, count in (("train", 6), ("test", 2)):
        for c, name in enumerate(CLASSES):
            own = folder / DATA / split / name
            own.mkdir(parents=True)
            for i in range(count):
                image = picture(2 * i + c + 20 * (split == "test"), 24, 24)
                image.save(own / f"im{i:02}.png", compress_level=1)
    configure(folder, {**CLASSIFIER, **(settings or {})})


def write_idx(path: Path, array: np.ndarray) -> None:
    """An idx file of unsigned bytes, gzipped."""
    header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0))


def packed(folder: Path, settings: Settings | None = None) -> None:
    """data/<split>-images-idx3-ubyte.gz and labels: 12 and 4 grey images of 8 pixels."""
    data = folder / DATA
    data.mkdir(parents=True)
    for split, count in (("train", 12), ("test", 4)):
        labels = np.arange(count) % 2
        noise = np.random.default_rng(count).integers(0, 60, (count, 8, 8))
        write_idx(data / f"{split}-labels-idx1-ubyte.gz", labels)
        write_idx(data / f"{split}-images-idx3-ubyte.gz", noise + 150 * labels[:, None, None])
    configure(folder, {**CLASSIFIER, "DATA.NAME": "packed", **(settings or {})})
