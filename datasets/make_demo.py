#!/usr/bin/env python
"""Compose a small VOC-format data set from the handwritten digits inside scikit-learn.

Scenes of 1 to 4 digits on a textured background, ten classes, trainval and test drawn from disjoint
digits. The trainval split has planted faults, on record in `truth.json`, so that one can count how
many of them a selection dropped:

* duplicate: the second and later frames of a short video of one scene (the camera drifts by
  a few pixels, the light and the noise change);
* wrong_label: half of the image's digits, at least one, carry another digit's name;
* missing_box: half of the image's digits, at least one, have no box.

The same arguments give the same files, byte for byte, under one set of library versions.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from sklearn.datasets import load_digits

from adapruner_det.errors import DataError, reported

MAKER = "adapruner-det demo"  # tells our folders from the user's
VERSION = 1  # to be raised whenever the same arguments would give other files
CLASSES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

SIDE = 128  # pixels, of the square image
DRIFT = 4  # pixels the camera may move either way; the canvas has this much more on each side
CANVAS = SIDE + 2 * DRIFT
DIGIT_SIDE = (24, 56)  # pixels, smallest and largest height of a digit

DUPLICATES, WRONG_LABELS, MISSING_BOXES = 0.15, 0.06, 0.04  # shares of the trainval images
EXTRA_FRAMES = (3, 7)  # frames of a group beyond its first: groups of 4 to 8


@dataclass
class Scene:
    """A canvas larger than the image, so that frames can be cut from it at several offsets.

    Attributes:
        canvas: (CANVAS, CANVAS, 3) float, 0 to 255.
        boxes: tight (x1, y1, x2, y2) of each digit in canvas pixels; x2 and y2 are exclusive.
        labels: the digit in each box, 0 to 9.
        noise: standard deviation of the noise that each frame adds.
    """

    canvas: np.ndarray
    boxes: list[tuple[int, int, int, int]]
    labels: list[int]
    noise: float


@dataclass
class Sample:
    """One image of the trainval split before it gets its name."""

    image: np.ndarray  # (SIDE, SIDE, 3) uint8
    objects: list[tuple[tuple[int, int, int, int], str]]  # what the annotation file says
    truth: dict = field(default_factory=lambda: {"kind": "clean", "group": None})


def make_demo(
    out: str | os.PathLike, seed: int = 1, images: int = 800, test_images: int = 200
) -> Path:
    """Write the data set to `out` and return that folder.

    A folder that an earlier call made with the same arguments is left as it is; one made with other
    arguments is replaced. The files are written beside `out` first and renamed when complete.

    Args:
        out: folder to make, with Annotations, ImageSets/Main, JPEGImages and truth.json.
        seed: of everything random.
        images: trainval images, planted faults included.
        test_images: test images, without faults.

    Raises:
        DataError: a number is out of range, `out` exists and was not made by this function, or it
            cannot be written.
    """
    if images < 1 or test_images < 1 or seed < 0:
        raise DataError(
            f"images and test images must be at least 1 and the seed at least 0; "
            f"got {images}, {test_images} and {seed}"
        )
    out = Path(out).expanduser()
    settings = {"version": VERSION, "seed": seed, "images": images, "test_images": test_images}
    if out.exists() and _settings_of(out) == settings:
        return out

    train_digits, test_digits = _digit_streams(seed)
    samples = _trainval_samples(np.random.default_rng([seed, 1]), train_digits, images)
    rng = np.random.default_rng([seed, 2])
    test = [_clean_sample(_draw_scene(rng, test_digits), rng) for _ in range(test_images)]

    # One shuffled numbering over both splits: a name says nothing about an image.
    order = np.random.default_rng([seed, 3]).permutation(images + test_images) + 1
    names = [f"{number:06d}" for number in order]
    partial = out.with_name(f"{out.name}.partial-{os.getpid()}")
    try:
        _write(partial, dict(zip(names, samples + test, strict=True)), names[:images], settings)
        if out.exists():
            shutil.rmtree(out)
        partial.rename(out)
    except OSError as error:
        raise DataError(f"{out} cannot be written: {error}; name another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return out


def _settings_of(out: Path) -> dict:
    """Return the settings that an existing folder was made with, or raise when it isn't ours."""
    try:
        truth = json.loads((out / "truth.json").read_text())
        if truth["made_by"] == MAKER:
            return truth["settings"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise DataError(
        f"{out} exists and was not made by make_demo.py, so it is left alone: "
        "name another folder with --out, or remove it yourself"
    )


# --------------------------------------------------------------------------- digits


def _digit_streams(seed: int) -> tuple[Iterator, Iterator]:
    """Split scikit-learn's digits 4:1 within each class; each part comes as an endless stream."""
    data = load_digits()
    rng = np.random.default_rng([seed, 0])
    train, test = [], []
    for digit in range(10):
        members = rng.permutation(np.flatnonzero(data.target == digit))
        cut = len(members) // 5
        test.extend(members[:cut])
        train.extend(members[cut:])
    glyphs = data.images / 16.0
    return tuple(
        _stream(glyphs, data.target, np.array(part), np.random.default_rng([seed, 4, i]))
        for i, part in enumerate((train, test))
    )


def _stream(glyphs: np.ndarray, labels: np.ndarray, members: np.ndarray, rng) -> Iterator:
    """Yield (8x8 glyph in 0..1, digit): every member once, in random order, then over again."""
    while True:
        for i in rng.permutation(members):
            yield glyphs[i], int(labels[i])


def _enlarge(glyph: np.ndarray, height: int, angle: float) -> np.ndarray:
    """Return the digit as an alpha mask in 0..1, turned, cut tightly and `height` pixels high."""
    big = Image.fromarray(np.pad(glyph, 2).astype(np.float32)).resize((96, 96), Image.BICUBIC)
    ink = np.asarray(big.rotate(angle, Image.BICUBIC))
    ink = _cut(np.clip((ink - 0.2) / 0.35, 0, 1))
    width = max(2, round(ink.shape[1] * height / ink.shape[0]))
    small = Image.fromarray(ink.astype(np.float32)).resize((width, height), Image.LANCZOS)
    return _cut(np.clip(np.asarray(small), 0, 1))


def _cut(ink: np.ndarray) -> np.ndarray:
    """Cut away the rows and columns at the rim without visible ink."""
    rows, columns = (np.flatnonzero((ink > 0.4).any(axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


# --------------------------------------------------------------------------- scenes


def _draw_scene(rng, digits: Iterator, at_least: int = 1) -> Scene:
    """Draw a background and `at_least` to 4 digits that don't overlap."""
    canvas, ground = _draw_background(rng)
    boxes: list[tuple[int, int, int, int]] = []
    labels = []
    wanted = rng.integers(at_least, 5)
    while len(boxes) < wanted:
        glyph, digit = next(digits)
        angle = rng.uniform(-12, 12)
        for _ in range(30):
            ink = _enlarge(glyph, int(rng.integers(DIGIT_SIDE[0], DIGIT_SIDE[1] + 1)), angle)
            height, width = ink.shape
            # Twice the drift from the rim of the canvas: inside the image in every frame.
            x = int(rng.integers(2 * DRIFT, CANVAS - 2 * DRIFT - width + 1))
            y = int(rng.integers(2 * DRIFT, CANVAS - 2 * DRIFT - height + 1))
            box = (x, y, x + width, y + height)
            if not any(_touch(box, other) for other in boxes):
                break
        else:
            if len(boxes) >= at_least:
                break  # the canvas is full: a scene of fewer digits will do
            continue
        area = canvas[y : y + height, x : x + width]
        area += ink[..., None] * (_ink_colour(rng, ground) - area)
        boxes.append(box)
        labels.append(digit)
    return Scene(canvas, boxes, labels, noise=rng.uniform(3, 9))


def _touch(a: tuple, b: tuple, gap: int = 2) -> bool:
    """Whether two boxes overlap or come closer than `gap` pixels."""
    return (
        a[0] < b[2] + gap and b[0] < a[2] + gap and a[1] < b[3] + gap and b[1] < a[3] + gap
    )  # fmt: skip


def _draw_background(rng) -> tuple[np.ndarray, np.ndarray]:
    """Return a (CANVAS, CANVAS, 3) texture with a few scratches, and its mean colour (3,)."""
    ground = rng.uniform(70, 180) + rng.uniform(-25, 25, 3)
    canvas = np.zeros((CANVAS, CANVAS, 3), np.float32) + ground
    for cells, strength in ((3, 18), (9, 9), (34, 5)):  # soft light, blotches, grain
        grid = rng.normal(0, strength, (cells, cells)).astype(np.float32)
        large = Image.fromarray(grid).resize((CANVAS, CANVAS), Image.BICUBIC)
        canvas += np.asarray(large)[..., None]
    scratches = Image.new("L", (CANVAS, CANVAS))
    pen = ImageDraw.Draw(scratches)
    for _ in range(rng.integers(0, 5)):
        ends = [int(v) for v in rng.integers(0, CANVAS, 4)]
        pen.line(ends, fill=int(rng.integers(60, 160)), width=int(rng.integers(1, 4)))
    shade = rng.choice([-1.0, 1.0]) * 70
    canvas += np.asarray(scratches, np.float32)[..., None] / 255 * shade
    return canvas, ground


def _ink_colour(rng, ground: np.ndarray) -> np.ndarray:
    """Return a colour (3,) that stands out from the ground, darker or brighter."""
    contrast = rng.uniform(60, 120)
    bright = ground.mean() < 95 or (ground.mean() < 155 and rng.random() < 0.5)
    return ground + (contrast if bright else -contrast) + rng.uniform(-30, 30, 3)


def _take_frame(scene: Scene, rng, shift=(0, 0), light: float = 1.0):
    """Cut an image from a scene: (SIDE, SIDE, 3) uint8, and the boxes in image pixels."""
    x, y = DRIFT + shift[0], DRIFT + shift[1]
    view = scene.canvas[y : y + SIDE, x : x + SIDE] * light
    view = view + rng.normal(0, scene.noise, view.shape)
    boxes = [(x1 - x, y1 - y, x2 - x, y2 - y) for x1, y1, x2, y2 in scene.boxes]
    return np.clip(np.rint(view), 0, 255).astype(np.uint8), boxes


# --------------------------------------------------------------------------- faults


def _clean_sample(scene: Scene, rng, shift=(0, 0), light: float = 1.0) -> Sample:
    image, boxes = _take_frame(scene, rng, shift, light)
    return Sample(image, [(b, CLASSES[k]) for b, k in zip(boxes, scene.labels, strict=True)])


def _trainval_samples(rng, digits: Iterator, images: int) -> list[Sample]:
    """Draw the trainval images: the planted faults, then as many clean ones as are left."""
    samples: list[Sample] = []
    for group, extra in enumerate(_group_sizes(rng, round(DUPLICATES * images))):
        samples += _video(rng, digits, group, frames=extra + 1)
    for _ in range(round(WRONG_LABELS * images)):
        samples.append(_mislabel(rng, _clean_sample(_draw_scene(rng, digits), rng)))
    for _ in range(round(MISSING_BOXES * images)):
        samples.append(_omit(rng, _clean_sample(_draw_scene(rng, digits, at_least=2), rng)))
    while len(samples) < images:
        samples.append(_clean_sample(_draw_scene(rng, digits), rng))
    return samples


def _group_sizes(rng, duplicates: int) -> list[int]:
    """Cut the number of duplicates into groups of EXTRA_FRAMES; too few make one small group."""
    least, most = EXTRA_FRAMES
    sizes = []
    while duplicates:
        size = min(duplicates, int(rng.integers(least, most + 1)))
        left = duplicates - size
        if 0 < left < least:  # not enough for another group
            size = duplicates if duplicates <= most else duplicates - least
        sizes.append(size)
        duplicates -= size
    return sizes


def _video(rng, digits: Iterator, group: int, frames: int) -> list[Sample]:
    """Film one scene: the first frame is the clean one, the others are its duplicates."""
    scene = _draw_scene(rng, digits)
    shift, light = np.zeros(2, int), 1.0
    samples = []
    for frame in range(frames):
        sample = _clean_sample(scene, rng, shift, light)
        sample.truth = {"kind": "duplicate" if frame else "clean", "group": group}
        samples.append(sample)
        shift = np.clip(shift + rng.integers(-2, 3, 2), -DRIFT, DRIFT)
        light = float(np.clip(light + rng.uniform(-0.05, 0.05), 0.85, 1.15))
    return samples


def _mislabel(rng, sample: Sample) -> Sample:
    """Give half of the digits, rounded up, the name of another digit."""
    faults = []
    for i in _choose(rng, len(sample.objects), (len(sample.objects) + 1) // 2):
        box, name = sample.objects[i]
        given = str(rng.choice([c for c in CLASSES if c != name]))
        sample.objects[i] = (box, given)
        faults.append({"bbox": _voc_box(box), "name": name, "given": given})
    sample.truth = {"kind": "wrong_label", "group": None, "faults": faults}
    return sample


def _omit(rng, sample: Sample) -> Sample:
    """Take the boxes of half of the digits, rounded down; an image without any is of no use."""
    gone = _choose(rng, len(sample.objects), len(sample.objects) // 2)
    faults = [
        {"bbox": _voc_box(sample.objects[i][0]), "name": sample.objects[i][1], "given": None}
        for i in gone
    ]
    sample.objects = [o for i, o in enumerate(sample.objects) if i not in gone]
    sample.truth = {"kind": "missing_box", "group": None, "faults": faults}
    return sample


def _choose(rng, n: int, k: int) -> list[int]:
    return sorted(int(i) for i in rng.choice(n, k, replace=False))


# --------------------------------------------------------------------------- files


def _write(root: Path, samples: dict[str, Sample], trainval: list[str], settings: dict) -> None:
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True)
    for name, sample in samples.items():
        Image.fromarray(sample.image).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        (root / "Annotations" / f"{name}.xml").write_text(_annotation(name, sample.objects))
    trainval = sorted(trainval)
    for split, names in (("trainval", trainval), ("test", sorted(set(samples) - set(trainval)))):
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names) + "\n")
    truth = {name: samples[name].truth for name in trainval}
    kinds = [t["kind"] for t in truth.values()]
    counts = {k: kinds.count(k) for k in ("clean", "duplicate", "wrong_label", "missing_box")}
    record = {"made_by": MAKER, "settings": settings, "counts": counts, "images": truth}
    (root / "truth.json").write_text(json.dumps(record, indent=1) + "\n")


def _voc_box(box: tuple[int, int, int, int]) -> list[int]:
    """VOC counts pixels from 1 and its xmax and ymax are inclusive."""
    return [box[0] + 1, box[1] + 1, box[2], box[3]]


def _annotation(name: str, objects: list) -> str:
    lines = [
        "<annotation>",
        f"  <filename>{name}.jpg</filename>",
        f"  <size><width>{SIDE}</width><height>{SIDE}</height><depth>3</depth></size>",
        "  <segmented>0</segmented>",
    ]
    for box, label in objects:
        xmin, ymin, xmax, ymax = _voc_box(box)
        lines += [
            "  <object>",
            f"    <name>{label}</name>",
            "    <pose>Unspecified</pose>",
            "    <truncated>0</truncated>",
            "    <difficult>0</difficult>",
            f"    <bndbox><xmin>{xmin}</xmin><ymin>{ymin}</ymin>"
            f"<xmax>{xmax}</xmax><ymax>{ymax}</ymax></bndbox>",
            "  </object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=Path(__file__).parent / "demo", help="folder to make")
    parser.add_argument("--seed", type=int, default=1, help="of everything random")
    parser.add_argument("--images", type=int, default=800, help="in trainval, faults included")
    parser.add_argument("--test-images", type=int, default=200, help="in test, without faults")
    args = parser.parse_args(argv)
    print(f"Demo data in {args.out}:", flush=True)
    with reported():
        out = make_demo(args.out, args.seed, args.images, args.test_images)
    counts = json.loads((out / "truth.json").read_text())["counts"]
    planted = ", ".join(f"{n} {kind}" for kind, n in counts.items())
    print(f"{args.images} training images ({planted}), {args.test_images} test images")


if __name__ == "__main__":
    main()
