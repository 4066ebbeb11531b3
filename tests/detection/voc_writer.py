"""Writes small folders in the VOC layout for tests."""

from pathlib import Path

import numpy as np
from PIL import Image

OBJECT = """  <object><name>{name}</name><pose>Unspecified</pose><truncated>0</truncated>
    <difficult>{difficult}</difficult>
    <bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>
"""
CAT, DOG = ("cat", (5, 6, 30, 40), 0), ("dog", (1, 1, 64, 48), 1)


def write_pets(root):
    """Two splits of a folder: a and b in trainval, c in test."""
    splits = {"trainval": {"a": [CAT], "b": [CAT, DOG]}, "test": {"c": [DOG]}}
    return write_voc_folder(root, splits)


def write_voc_folder(root, splits, size=(64, 48), suffix=".png"):
    """Write ``splits``: split → image id → list of (class name, (x0, y0, x1, y1), difficult).

    ``size`` is (width, height). Every object is painted in a colour of its class.
    """
    root = Path(root)
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    names = sorted({o[0] for images in splits.values() for own in images.values() for o in own})
    width, height = size
    for split, images in splits.items():
        (root / "ImageSets/Main" / f"{split}.txt").write_text("".join(f"{i}\n" for i in images))
        for image_id, objects in images.items():
            pixels = np.random.default_rng(len(image_id)).integers(0, 50, (height, width, 3))
            body = ""
            for name, box, difficult in objects:
                x0, y0, x1, y1 = (round(v) for v in box)
                pixels[max(y0, 0) : y1, max(x0, 0) : x1, names.index(name) % 3] = 240
                body += OBJECT.format(*box, name=name, difficult=difficult)
            Image.fromarray(pixels.astype(np.uint8)).save(root / "JPEGImages" / (image_id + suffix))
            size_tag = (
                f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
            )
            (root / "Annotations" / f"{image_id}.xml").write_text(
                f"<annotation>{size_tag}\n{body}</annotation>\n"
            )
    return root


def edit(file, old, new):
    """Replace text that must be there."""
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
