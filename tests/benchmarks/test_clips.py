"""No clip is both trained and tested on."""

import sys

import numpy as np
import pytest

from benchmarks import clips

#: First frame of each clip, of ten frames, and what it shows.
FIRST = {0: "a", 100: "a", 200: "b", 300: "b", 400: "c"}


@pytest.fixture
def source(tmp_path):
    """Of each clip every third of its first 18 frames to train on, two other ones to test on."""
    root = tmp_path / "videos"
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    parts = {"trainval": [], "test": []}
    for first, name in FIRST.items():
        own = {"trainval": range(first, first + 18, 3), "test": (first + 1, first + 33)}
        for part, numbers in own.items():
            for number in numbers:
                parts[part].append(f"{number:06d}")
                text = f"<annotation><object><name>{name}</name></object></annotation>"
                (root / f"Annotations/{number:06d}.xml").write_text(text)
    for part, ids in parts.items():
        (root / f"ImageSets/Main/{part}.txt").write_text("\n".join(ids))
    return root


def ids_of(folder, part):
    return [int(n) for n in (folder / f"ImageSets/Main/{part}.txt").read_text().split()]


def test_a_clip_shows_what_most_of_its_objects_are(source):
    ids = ["000000", "000003", "000200"]  # a, a and two of b
    path = source / "Annotations/000200.xml"
    twice = 2 * "<object><name>b</name></object>"
    path.write_text(f"<annotation>{twice}</annotation>")
    assert clips.class_of(source, ids[1:]) == "b"
    assert clips.class_of(source, [*ids, "000006"]) == "a"


def test_clips_begin_where_the_step_is_another():
    numbers = np.array([3, 6, 9, 50, 53, 56, 57, 60])
    assert clips.clips_of(numbers).tolist() == [0, 0, 0, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("seed", range(3))
def test_one_clip_of_each_class_with_several_is_tested_on(source, tmp_path, monkeypatch, seed):
    out = tmp_path / "out"
    words = ["clips.py", str(source), str(out), "--seed", str(seed)]
    for _ in range(2):  # it may be called again
        monkeypatch.setattr(sys, "argv", words)
        clips.main()
    train = {n // 100 * 100 for n in ids_of(out, "trainval")}
    test = {n // 100 * 100 for n in ids_of(out, "test")}
    assert train | test == set(FIRST) and not train & test
    assert sorted(FIRST[first] for first in test) == ["a", "b"]
    expected = [n + d for n in sorted(test) for d in (0, 1, 12, 33)]
    assert ids_of(out, "test") == expected
    assert (out / "Annotations/000000.xml").is_file()
