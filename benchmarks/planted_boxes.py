#!/usr/bin/env python3
"""Copy a data set in the VOC layout with faults in its labels and near-copies among its images.

    python benchmarks/planted_boxes.py ../shared/data/bccd output/planted/bccd --twins 0.3

Faults lie in three disjoint parts of the training images: a box is missing (of an image with two or
more), has another class, or lies elsewhere (moved so that its IoU with its old place is between 0.3
and 0.6). Twins take the place of other images: each is a source image with another brightness and
noise, with the source's own boxes, as a camera that stands still would take it; neither it nor its
source has a fault. ``truth.json`` says what each image is, which a comparison counts by. Images
that stay are links; the test set stays as it is.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from adapruner_det.errors import DataError, reported

KINDS = ("missing", "swapped", "shifted")
SHARE = 0.1  # of the images, of each kind
COPIES = 3  # of each source
BRIGHTNESS, NOISE = 0.05, 4.0  # standard deviations: as a factor, and of 255
SIDES = ("xmin", "ymin", "xmax", "ymax")
IOU = (0.3, 0.6)  # of a moved box with where it was
SMALLEST = 4  # side of it, in pixels

Trees = dict[str, "ET.ElementTree[ET.Element]"]


def plant(
    source: Path, ids: list[str], out: Path, seed: int, *, faults: float = SHARE, twins: float = 0.0
) -> dict[str, dict[str, Any]]:
    """A folder in the VOC layout: the images ``ids`` of ``source`` with what is planted in them.

    Args:
        source: a folder in the VOC layout.
        ids: its training images.
        out: the folder to make; one that was made here in the same way is left as it is.
        seed: of what is drawn.
        faults: of the images, the part that each kind of fault gets.
        twins: of the images, the part that near-copies take the place of.

    Returns:
        Image id → what was done to it, which ``truth.json`` holds.

    Raises:
        DataError: another folder at ``out``, more twins than there are clean images for, or one
            class alone where labels are to be swapped.
    """
    asked = {"seed": seed, "faults": faults, "twins": twins}
    if (out / "truth.json").is_file():
        return _made_before(out, asked)
    if out.exists():
        raise DataError(f"{out} is there already and was not made here; name another folder")
    rng = np.random.default_rng([seed, 7])
    trees: Trees = {name: ET.parse(source / "Annotations" / f"{name}.xml") for name in ids}
    truth: dict[str, dict[str, Any]] = {name: {"kind": "clean"} for name in ids}
    _faults(source, trees, truth, round(faults * len(ids)), rng)
    part = out.with_name(f"{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for folder in ("ImageSets/Main", "Annotations", "JPEGImages"):
        (part / folder).mkdir(parents=True)
    for path in (source / "JPEGImages").iterdir():
        (part / "JPEGImages" / path.name).symlink_to(path.resolve())
    _twins(source, part, trees, truth, round(twins * len(ids)), np.random.default_rng([seed, 8]))
    for path in (source / "Annotations").iterdir():
        if path.stem not in trees:
            (part / "Annotations" / path.name).symlink_to(path.resolve())
    for name, tree in trees.items():
        tree.write(part / "Annotations" / f"{name}.xml")
    for path in (source / "ImageSets/Main").iterdir():
        shutil.copy(path, part / "ImageSets/Main")
    (part / "ImageSets/Main/trainval.txt").write_text("".join(f"{n}\n" for n in ids))
    (part / "truth.json").write_text(json.dumps({**asked, "images": truth}, indent=1))
    part.rename(out)
    return truth


def _faults(
    source: Path,
    trees: Trees,
    truth: dict[str, dict[str, Any]],
    count: int,
    rng: np.random.Generator,
) -> None:
    """Put ``count`` faults of each kind into ``trees`` and ``truth``, or as many as fit."""
    classes = sorted({o.findtext("name") for t in trees.values() for o in t.iter("object")})
    if count and len(classes) < 2:
        raise DataError(f"{source} has one class, {classes[0]}: none can be swapped for another")
    for kind in KINDS:
        fewest = 2 if kind == "missing" else 1
        choose = _movable if kind == "shifted" else _objects
        fit = [
            name
            for name, own in truth.items()
            if own["kind"] == "clean" and len(choose(trees[name].getroot())) >= fewest
        ]
        for name in rng.permutation(fit)[:count].tolist():
            truth[name] = {"kind": kind, **FAULTS[kind](trees[name].getroot(), classes, rng)}


def _made_before(out: Path, asked: dict[str, float]) -> dict[str, dict[str, Any]]:
    """What was done to each image of ``out``; a DataError where it was made in another way."""
    known = json.loads((out / "truth.json").read_text())
    for name, value in asked.items():
        if known.get(name, value) != value:
            raise DataError(
                f"{out} was made with {name} {known[name]}, not {value}; name another folder"
            )
    return known["images"]


def _twins(
    source: Path,
    out: Path,
    trees: Trees,
    truth: dict[str, dict[str, Any]],
    count: int,
    rng: np.random.Generator,
) -> None:
    """Put ``count`` near-copies in the place of clean images, in ``out``, ``trees``, ``truth``."""
    clean = rng.permutation([name for name, own in truth.items() if own["kind"] == "clean"])
    sources, places = np.split(clean, [-(-count // COPIES)])
    if len(places) < count:
        raise DataError(f"{len(clean)} clean images are too few for {count} twins; ask for fewer")
    images = {path.stem: path for path in (source / "JPEGImages").iterdir()}
    for number, name in enumerate(places[:count].tolist()):
        origin = str(sources[number % len(sources)])
        pixels = np.asarray(Image.open(images[origin]).convert("RGB"), dtype=np.float64)
        pixels = pixels * (1 + BRIGHTNESS * rng.normal()) + rng.normal(0, NOISE, pixels.shape)
        path = out / "JPEGImages" / images[name].name
        path.unlink()
        Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)).save(path, quality=92)
        trees[name] = copy.deepcopy(trees[origin])
        if (called := trees[name].getroot().find("filename")) is not None:
            called.text = path.name
        truth[name] = {"kind": "twin", "of": origin}


def _one(things: list[ET.Element], rng: np.random.Generator) -> ET.Element:
    return things[int(rng.integers(len(things)))]


def _objects(root: ET.Element) -> list[ET.Element]:
    return root.findall("object")


def _movable(root: ET.Element) -> list[ET.Element]:
    """The objects that are large enough to be moved by a part of themselves."""
    sides = [np.subtract(_box(thing)[2:], _box(thing)[:2]) for thing in _objects(root)]
    return [t for t, own in zip(_objects(root), sides, strict=True) if own.min() >= SMALLEST]


def _box(thing: ET.Element) -> list[float]:
    return [float(thing.find("bndbox").findtext(side)) for side in SIDES]


def _missing(root: ET.Element, classes: list[str], rng: np.random.Generator) -> dict[str, Any]:
    gone = _one(_objects(root), rng)
    root.remove(gone)
    return {"box": _box(gone), "name": gone.findtext("name")}


def _swapped(root: ET.Element, classes: list[str], rng: np.random.Generator) -> dict[str, Any]:
    thing = _one(_objects(root), rng)
    name = thing.findtext("name")
    thing.find("name").text = str(rng.choice([c for c in classes if c != name]))
    return {"box": _box(thing), "name": name, "given": thing.findtext("name")}


def _shifted(root: ET.Element, classes: list[str], rng: np.random.Generator) -> dict[str, Any]:
    thing = _one(_movable(root), rng)
    old = np.array(_box(thing))
    size = np.array([float(root.find("size").findtext(side)) for side in ("width", "height")])
    new = moved(old, size, rng)
    for side, value in zip(SIDES, new, strict=True):
        thing.find("bndbox").find(side).text = f"{value:.0f}"
    return {"box": old.tolist(), "given": new.tolist(), "iou": iou(old, new)}


def moved(box: np.ndarray, size: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """``box`` moved in a random direction and cut at the image, by as much as IOU asks for."""
    while True:
        way = rng.normal(size=2)
        way *= (box[2:] - box[:2]) / np.linalg.norm(way)
        wanted = rng.uniform(*IOU)
        for length in np.linspace(0.05, 1.5, 59):
            new = box + length * np.tile(way, 2)
            new = np.round(np.clip(new, 1, np.tile(size, 2)))
            if (new[2:] - new[:2]).min() < SMALLEST:
                break
            if iou(box, new) <= wanted:
                if iou(box, new) >= IOU[0]:
                    return new
                break


def iou(a: np.ndarray, b: np.ndarray) -> float:
    inner = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return float(inner / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - inner))


FAULTS = {"missing": _missing, "swapped": _swapped, "shifted": _shifted}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--faults", type=float, default=SHARE, help="of the images, of each kind")
    parser.add_argument("--twins", type=float, default=0.0, help="of the images")
    args = parser.parse_args()
    ids = (args.source / "ImageSets/Main/trainval.txt").read_text().split()
    with reported():
        truth = plant(args.source, ids, args.out, args.seed, faults=args.faults, twins=args.twins)
    kinds = [own["kind"] for own in truth.values()]
    print(", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds))))


if __name__ == "__main__":
    main()
