#!/usr/bin/env python3
"""Split a data set of videos so that no clip is both trained and tested on.

    python benchmarks/clips.py ../shared/data/foda output/clips/foda

It is for a folder in the VOC layout whose images are called by their number in the order of
filming, with every third frame of a clip in ``trainval`` and some later ones in ``test``, as the
excerpt of FOD-A is. A step between neighbouring training frames other than the usual one begins a
clip. Of each class with two clips or more one, drawn with --seed, is tested on; of it every fourth
training frame and all test frames are taken. Images and annotations are links.
"""

from __future__ import annotations

import argparse
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

import numpy as np

EVERY = 4  # of a tested clip's training frames


def clips_of(numbers: np.ndarray) -> np.ndarray:
    """(N,) rising frame numbers → (N,) the clip of each, from 0."""
    steps = np.diff(numbers)
    usual = np.bincount(steps).argmax()
    return np.concatenate([[0], np.cumsum(steps != usual)])


def split(source: Path, seed: int) -> dict[str, list[str]]:
    """Split → its image ids, in the order of filming."""
    train, later = (
        np.array(sorted((source / f"ImageSets/Main/{part}.txt").read_text().split(), key=int))
        for part in ("trainval", "test")
    )
    clips = clips_of(train.astype(int))
    count = int(clips.max()) + 1
    classes = [class_of(source, train[clips == clip].tolist()) for clip in range(count)]
    tested = tested_clips(classes, seed)
    print(f"{count} clips of {len(set(classes))} classes; {len(tested)} are tested on")
    after = clips[np.searchsorted(train.astype(int), later.astype(int)) - 1]
    some = [train[clips == clip][::EVERY] for clip in tested]
    test = np.concatenate([*some, later[np.isin(after, tested)]])
    return {
        "trainval": train[~np.isin(clips, tested)].tolist(),
        "test": sorted(test.tolist(), key=int),
    }


def class_of(source: Path, ids: list[str]) -> str:
    """The name that most objects of these images have."""
    names = Counter(
        own.findtext("name") or ""
        for image_id in ids
        for own in ET.parse(source / "Annotations" / f"{image_id}.xml").iter("object")
    )
    return names.most_common(1)[0][0]


def tested_clips(classes: list[str], seed: int) -> list[int]:
    """Of each class with two clips or more, one clip."""
    rng = np.random.default_rng(seed)
    places = {
        name: [i for i, c in enumerate(classes) if c == name] for name in sorted(set(classes))
    }
    return [int(rng.choice(own)) for own in places.values() if len(own) > 1]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    parts = split(args.source, args.seed)
    (args.out / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
    for folder in ("Annotations", "JPEGImages"):
        (args.out / folder).unlink(missing_ok=True)
        (args.out / folder).symlink_to((args.source / folder).resolve())
    for name, ids in parts.items():
        (args.out / "ImageSets/Main" / f"{name}.txt").write_text("".join(f"{n}\n" for n in ids))
    print(", ".join(f"{len(ids)} images in {name}" for name, ids in parts.items()))


if __name__ == "__main__":
    main()
