"""The demo data: deterministic, and its faults as truth.json records them."""

import itertools
import json
import os
import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.linear_model import LogisticRegression

from adapruner_det.detection.data.voc_folder import load_voc_folder
from adapruner_det.errors import DataError
from tests.datasets.scripts import load

make_demo = load("make_demo")

IMAGES, TEST_IMAGES = 300, 60
CLASSES = list(make_demo.CLASSES)
SPLITS = ("trainval", "test")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return make_demo.make_demo(tmp_path_factory.mktemp("demo") / "demo", 0, IMAGES, TEST_IMAGES)


@pytest.fixture(scope="module")
def truth(demo):
    return json.loads((demo / "truth.json").read_text())


def _files(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def _pixels(root, name):
    return np.asarray(Image.open(root / "JPEGImages" / f"{name}.jpg")).astype(float)


def _objects(root, name):
    """[(class name, [xmin, ymin, xmax, ymax])] as the annotation file has them."""
    tree = ET.parse(root / "Annotations" / f"{name}.xml")
    return [
        (
            obj.findtext("name"),
            [int(obj.findtext(f"bndbox/{s}")) for s in ("xmin", "ymin", "xmax", "ymax")],
        )
        for obj in tree.iter("object")
    ]


def _split(root, split):
    return (root / "ImageSets/Main" / f"{split}.txt").read_text().split()


def _crop(root, name, box):
    """What is in a box, as strokes on nothing, whatever their colours: (16 * 16,)."""
    xmin, ymin, xmax, ymax = box
    grey = Image.fromarray(_pixels(root, name).mean(axis=2).astype(np.float32))
    crop = grey.crop((xmin - 1, ymin - 1, xmax, ymax)).resize((16, 16), Image.BOX)
    around = np.asarray(grey.crop((xmin - 3, ymin - 3, xmax + 2, ymax + 2)))
    rim = np.concatenate([around[0], around[-1], around[:, 0], around[:, -1]])
    ink = np.abs(np.asarray(crop) - np.median(rim))
    return (ink / ink.max()).ravel()


@pytest.fixture(scope="module")
def reader(demo):
    """A classifier of crops, fitted to the test split, which has no faults."""
    labelled = [(n, *o) for n in _split(demo, "test") for o in _objects(demo, n)]
    crops = [_crop(demo, name, box) for name, _, box in labelled]
    return LogisticRegression(max_iter=300).fit(crops, [label for _, label, _ in labelled])


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_ones(tmp_path):
    one, same, other = (
        _files(make_demo.make_demo(tmp_path / name, seed, images=20, test_images=5))
        for name, seed in (("one", 3), ("same", 3), ("other", 4))
    )
    assert one == same
    pictures = [name for name in one if name.endswith(".jpg")]
    assert len(pictures) == 25
    assert all(one[name] != other[name] for name in pictures)


def test_the_splits_are_complete_and_disjoint(demo):
    trainval, test = _split(demo, "trainval"), _split(demo, "test")
    assert (len(set(trainval)), len(set(test))) == (IMAGES, TEST_IMAGES)
    names = set(trainval) | set(test)
    assert len(names) == IMAGES + TEST_IMAGES
    assert {p.stem for p in (demo / "JPEGImages").iterdir()} == names
    assert {p.stem for p in (demo / "Annotations").iterdir()} == names


def test_truth_has_every_trainval_image_and_the_documented_shares(demo, truth):
    assert sorted(truth["images"]) == _split(demo, "trainval")
    kinds = Counter(t["kind"] for t in truth["images"].values())
    assert kinds == {"clean": 225, "duplicate": 45, "wrong_label": 18, "missing_box": 12}
    assert truth["counts"] == kinds
    assert truth["settings"]["seed"] == 0


def test_a_name_says_nothing_about_what_is_planted(demo, truth):
    """Sorted by name, the faults lie no further to one side than chance would have it."""
    planted = np.array([t["kind"] != "clean" for _, t in sorted(truth["images"].items())])
    ranks = np.flatnonzero(planted) / len(planted)
    assert abs(ranks.mean() - 0.5) < 4 * np.sqrt(1 / 12 / len(ranks))


def _groups(truth):
    groups = defaultdict(list)
    for name, record in sorted(truth["images"].items()):
        if record["group"] is not None:
            groups[record["group"]].append(name)
    return groups


def test_a_group_is_one_clean_image_and_its_duplicates(truth):
    for members in _groups(truth).values():
        kinds = Counter(truth["images"][name]["kind"] for name in members)
        assert set(kinds) == {"clean", "duplicate"}
        assert kinds["clean"] == 1
        assert 4 <= len(members) <= 8
    outside = [t["kind"] for t in truth["images"].values() if t["group"] is None]
    assert "duplicate" not in outside


@settings(max_examples=200)
@given(duplicates=st.integers(0, 400), seed=st.integers(0, 2**32))
def test_group_sizes_sum_up_and_stay_in_range(duplicates, seed):
    sizes = make_demo._group_sizes(np.random.default_rng(seed), duplicates)
    assert sum(sizes) == duplicates
    if duplicates >= 3:
        assert all(3 <= size <= 7 for size in sizes)


def _difference(a, b, reach=8):
    """Mean absolute difference of two images at their best alignment, in grey levels."""
    inner = a[reach:-reach, reach:-reach].mean(axis=2)
    side = len(inner)
    shifts = itertools.product(range(2 * reach + 1), repeat=2)
    grey = b.mean(axis=2)
    return min(np.abs(inner - grey[y : y + side, x : x + side]).mean() for y, x in shifts)


def test_duplicates_look_alike_and_other_images_do_not(demo, truth):
    groups = [[_pixels(demo, n) for n in members] for members in list(_groups(truth).values())[:4]]
    within = [_difference(a, b) for own in groups for a, b in itertools.combinations(own[:4], 2)]
    across = [_difference(a[0], b[0]) for a, b in itertools.combinations(groups, 2)]
    assert max(within) < 25
    assert np.mean(within) < 12
    assert min(across) > 2 * np.mean(within)
    assert min(within) > 0.5  # frames, not copies


def test_duplicates_have_the_boxes_of_the_scene_moved_along(demo, truth):
    drifts = []
    for members in _groups(truth).values():
        first, *others = (_objects(demo, name) for name in members)
        for own in others:
            assert [label for label, _ in own] == [label for label, _ in first]
            moves = [np.subtract(b, a) for (_, a), (_, b) in zip(first, own, strict=True)]
            assert all(np.array_equal(m, [*moves[0][:2], *moves[0][:2]]) for m in moves)
            assert np.abs(moves[0]).max() <= 2 * make_demo.DRIFT
            drifts.append(np.abs(moves[0]).max())
    assert np.mean(np.array(drifts) > 0) > 0.8  # the camera does move


def _faults(truth, kind):
    return {n: t["faults"] for n, t in truth["images"].items() if t["kind"] == kind}


def test_wrong_labels_stand_in_the_annotation_and_are_wrong(demo, truth):
    for name, faults in _faults(truth, "wrong_label").items():
        objects = _objects(demo, name)
        assert len(faults) == (len(objects) + 1) // 2
        for fault in faults:
            assert fault["given"] != fault["name"]
            assert (fault["given"], fault["bbox"]) in objects


def test_missing_boxes_are_not_in_the_annotation_and_some_are_left(demo, truth):
    for name, faults in _faults(truth, "missing_box").items():
        left = _objects(demo, name)
        assert len(faults) == (len(left) + len(faults)) // 2 >= 1
        assert not {tuple(f["bbox"]) for f in faults} & {tuple(box) for _, box in left}


@pytest.mark.parametrize("kind", ["wrong_label", "missing_box"])
def test_the_recorded_name_is_what_the_picture_shows(demo, truth, reader, kind):
    """The faults are faults in the pictures too, not in the record only."""
    faults = [(name, f) for name, own in _faults(truth, kind).items() for f in own]
    read = reader.predict([_crop(demo, name, f["bbox"]) for name, f in faults])
    right = np.mean([r == f["name"] for r, (_, f) in zip(read, faults, strict=True)])
    wrong = np.mean([r == f["given"] for r, (_, f) in zip(read, faults, strict=True)])
    assert right > 0.6  # chance is 0.1
    assert wrong < 0.2


def test_test_and_clean_images_say_exactly_what_was_drawn(tmp_path, monkeypatch):
    scenes = []

    def draw(*args, **kwargs):
        scenes.append(real(*args, **kwargs))
        return scenes[-1]

    real = make_demo._draw_scene
    monkeypatch.setattr(make_demo, "_draw_scene", draw)
    out = make_demo.make_demo(tmp_path / "demo", 0, images=60, test_images=20)
    drawn = [
        tuple(
            (CLASSES[label], [b - make_demo.DRIFT + (i < 2) for i, b in enumerate(box)])
            for label, box in zip(scene.labels, scene.boxes, strict=True)
        )
        for scene in scenes
    ]
    found = {s: sorted(tuple(_objects(out, name)) for name in _split(out, s)) for s in SPLITS}
    assert found["test"] == sorted(drawn[-20:])
    records = json.loads((out / "truth.json").read_text())["images"]
    clean = [name for name, record in records.items() if record["kind"] == "clean"]
    assert len(clean) == 45
    assert all(tuple(_objects(out, name)) in drawn[:-20] for name in clean)
    assert "faults" not in {key for name in clean for key in records[name]}


def test_train_and_test_digits_are_disjoint_and_all_are_used():
    drawn = [
        {(glyph.tobytes(), digit) for glyph, digit in itertools.islice(stream, 4000)}
        for stream in make_demo._digit_streams(0)
    ]
    assert not drawn[0] & drawn[1]
    assert len(drawn[0]) + len(drawn[1]) == 1797
    assert all({digit for _, digit in part} == set(range(10)) for part in drawn)


def test_each_split_draws_from_its_own_digits(tmp_path, monkeypatch):
    def streams(seed):
        all_digits = [list(itertools.islice(s, 2000)) for s in real(seed)]
        return tuple(
            itertools.cycle([d for d in part if (d[1] < 5) == low])
            for part, low in zip(all_digits, (True, False), strict=True)
        )

    real = make_demo._digit_streams
    monkeypatch.setattr(make_demo, "_digit_streams", streams)
    # Faults rename digits at will; without them the names tell where a digit came from.
    monkeypatch.setattr(make_demo, "WRONG_LABELS", 0)
    out = make_demo.make_demo(tmp_path / "demo", 0, images=30, test_images=10)
    found = {s: {label for n in _split(out, s) for label, _ in _objects(out, n)} for s in SPLITS}
    assert found["trainval"] <= set(CLASSES[:5])
    assert found["test"] <= set(CLASSES[5:])


@pytest.mark.parametrize("split", SPLITS)
def test_it_loads_and_every_box_lies_in_its_image(demo, split):
    dicts = load_voc_folder(demo, split, CLASSES)
    assert len(dicts) == {"trainval": IMAGES, "test": TEST_IMAGES}[split]
    for sample in dicts:
        assert (sample["height"], sample["width"]) == (128, 128)
        assert Image.open(sample["file_name"]).size == (128, 128)
        # load_voc_folder leaves empty boxes out; none of them may be.
        assert len(sample["annotations"]) == len(_objects(demo, sample["image_id"])) >= 1
        for annotation in sample["annotations"]:
            x0, y0, x1, y1 = annotation["bbox"]
            assert 0 <= x0 and x0 + 4 <= x1 <= 128
            assert 0 <= y0 and y0 + 20 <= y1 <= 128
    used = {a["category_id"] for d in dicts for a in d["annotations"]}
    assert used == set(range(10))


def test_boxes_of_one_image_do_not_overlap(demo):
    for name in _split(demo, "trainval"):
        for (_, a), (_, b) in itertools.combinations(_objects(demo, name), 2):
            assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]


def test_a_box_is_tight(demo):
    """Around a box less differs from the ground than within its outermost rows and columns."""
    inside, outside = [], []
    for name in _split(demo, "test"):
        grey = _pixels(demo, name).mean(axis=2)
        for _, (xmin, ymin, xmax, ymax) in _objects(demo, name):
            box = grey[ymin - 1 : ymax, xmin - 1 : xmax]
            ground = np.median(grey)
            inside += [np.abs(v - ground).max() for v in (box[0], box[-1], box[:, 0], box[:, -1])]
            if min(xmin, ymin) > 3:
                rim = [grey[ymin - 4, xmin - 1 : xmax], grey[ymin - 1 : ymax, xmin - 4]]
                outside += [np.abs(v - ground).max() for v in rim]
    assert np.median(inside) > 1.5 * np.median(outside)


def test_the_same_arguments_again_change_nothing_and_others_replace(tmp_path):
    out = make_demo.make_demo(tmp_path / "demo", 0, images=8, test_images=2)
    before, mark = _files(out), os.stat(out).st_ino
    make_demo.make_demo(out, 0, images=8, test_images=2)
    assert os.stat(out).st_ino == mark
    make_demo.make_demo(out, 1, images=9, test_images=2)
    assert len(_split(out, "trainval")) == 9
    assert _files(out) != before
    assert [p.name for p in tmp_path.iterdir()] == ["demo"]


def test_it_refuses_a_folder_that_it_did_not_make(tmp_path):
    mine = tmp_path / "demo"
    mine.mkdir()
    (mine / "thesis.txt").write_text("dear to me")
    with pytest.raises(DataError, match="was not made by make_demo.py.*name another folder"):
        make_demo.make_demo(mine, 0, 8, 2)
    (mine / "truth.json").write_text('{"made_by": "somebody else", "settings": {}}')
    with pytest.raises(DataError, match="was not made by"):
        make_demo.make_demo(mine, 0, 8, 2)
    assert (mine / "thesis.txt").read_text() == "dear to me"


def test_a_failure_in_between_leaves_nothing(tmp_path, monkeypatch):
    def full(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(make_demo, "_annotation", full)
    with pytest.raises(DataError, match="cannot be written: No space left"):
        make_demo.make_demo(tmp_path / "demo", 0, 8, 2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [["--images", "0"], ["--test-images", "0"], ["--seed", "-1"]], ids=" ".join
)
def test_numbers_out_of_range_are_one_line_and_exit_2(tmp_path, capsys, arguments):
    with pytest.raises(SystemExit) as stopped:
        make_demo.main(["--out", str(tmp_path / "demo"), *arguments])
    assert stopped.value.code == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("error: images and test images must be at least 1")
    assert said.out == f"Demo data in {tmp_path}/demo:\n"  # so the error begins a line
    assert list(tmp_path.iterdir()) == []


def test_the_command_says_where_it_begins_and_what_it_made(tmp_path, capsys):
    make_demo.main(["--out", str(tmp_path / "demo"), "--images", "40", "--test-images", "4"])
    assert capsys.readouterr().out == (
        f"Demo data in {tmp_path}/demo:\n40 training images "
        "(30 clean, 6 duplicate, 2 wrong_label, 2 missing_box), 4 test images\n"
    )


def test_without_arguments_it_goes_beside_the_script(monkeypatch):
    asked = {}

    def record(out, *numbers):
        asked["out"], asked["numbers"] = Path(out), numbers
        raise DataError("enough")

    monkeypatch.setattr(make_demo, "make_demo", record)
    with pytest.raises(SystemExit):
        make_demo.main([])
    assert asked["out"] == Path(make_demo.__file__).parent / "demo"
    assert asked["numbers"] == (1, 800, 200)
