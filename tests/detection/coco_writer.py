"""Writes small annotation files in COCO's format, with their images, for tests."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 17, "name": "dog"}]


def annotation(number, image, category=3, box=(5, 6, 25, 34), **more):
    """One of COCO's annotations; ``box`` is (x, y, width, height)."""
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": list(box),
        "area": box[2] * box[3],
        "iscrowd": 0,
        **more,
    }


def content(images=4):
    """As many images, of which each has a cat and every other one a dog besides."""
    rows = range(1, images + 1)
    first = [annotation(i, i) for i in rows]
    second = [annotation(100 + i, i, 17, (30, 10, 20, 20)) for i in rows if i % 2]
    return {
        "images": [{"id": i, "file_name": f"{i:03d}.png", "height": 48, "width": 64} for i in rows],
        "annotations": first + second,
        "categories": [dict(c) for c in CATEGORIES],
    }


def write_coco(root, given=None, name="train.json"):
    """Write ``given`` (by default :func:`content`) and its images; (annotation file, images)."""
    root, given = Path(root), content() if given is None else given
    (root / "images").mkdir(parents=True, exist_ok=True)
    for image in given["images"]:
        file = root / "images" / image["file_name"]
        if not file.exists():
            pixels = np.random.default_rng(len(file.name)).integers(0, 255, (48, 64, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(file)
    (root / name).write_text(json.dumps(given))
    return root / name, root / "images"
