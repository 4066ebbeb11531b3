import csv
import json
import re
import shlex

import numpy as np
import pytest

from adapruner_det.cli import main as adapruner
from adapruner_det.cli.suspects import main
from adapruner_det.detection.task import make_task
from adapruner_det.methods.random import random_selection
from adapruner_det.predictions import Predictions
from adapruner_det.selection import Selection
from tests.detection.coco_writer import content, write_coco
from tests.detection.toy import CLASSES, options_of, process_restored, squares, write_voc_folder


@pytest.fixture(autouse=True)
def alone():
    with process_restored():
        yield


@pytest.fixture
def voc(tmp_path):
    return write_voc_folder(tmp_path / "voc", train=12)


def overrides(tmp_path, voc, *more):
    data = ["ADAPRUNER.VOC_FOLDERS", [f"sus={voc}:train"], "DATASETS.TRAIN", ("sus",)]
    words = [*options_of("yolo_darknet", tmp_path / "out"), *data, *more]
    return [str(word) for word in words]


def perfect(voc, path, but=()):
    """Predictions that are as the labels were; of the images in ``but`` none."""
    dicts = sorted(squares(voc / "JPEGImages", 12, seed=0), key=lambda own: own["image_id"])
    found = []
    for own in dicts:
        (label,) = own["annotations"]
        count = int(own["image_id"] not in but)
        found.append(
            {
                "boxes": np.array([label["bbox"]] * count, dtype=np.float32).reshape(-1, 4),
                "scores": np.full(count, 0.9, np.float32),
                "classes": np.full(count, label["category_id"]),
            }
        )
    keys = [f"sus/{own['image_id']}" for own in dicts]
    return Predictions(keys, found, np.ones(12), np.zeros(12, int)).save(path)


def rows(tmp_path):
    return list(csv.DictReader((tmp_path / "out/suspects.csv").read_text().splitlines()))


def swap(voc, image):
    """Give the square of ``image`` the other class; the one that it has."""
    file = voc / "Annotations" / f"{image}.xml"
    text = file.read_text()
    old, new = CLASSES if CLASSES[0] in text else CLASSES[::-1]
    file.write_text(text.replace(f"<name>{old}</name>", f"<name>{new}</name>"))
    return old


def test_a_swapped_label_is_at_the_top_and_goes_when_it_is_mended(tmp_path, voc, capsys):
    file = perfect(voc, tmp_path / "p.npz")
    right = swap(voc, "im7")
    words = ["--predictions", str(file), "--top", "3", *overrides(tmp_path, voc)]
    main(words)
    first = rows(tmp_path)[0]
    assert (first["key"], first["kind"], first["predicted"]) == ("sus/im7", "swapped", right)
    shown = capsys.readouterr().out
    assert str(voc / "JPEGImages/im7.png") in shown
    assert len(re.findall(r"^\d+  +", shown, re.MULTILINE)) == 3
    assert "12 images judged; 92% of their boxes were found" in shown and "few" not in shown
    swap(voc, "im7")
    adapruner(["suspects", *words])
    assert all(float(row["swapped"]) < 0.1 for row in rows(tmp_path))
    whole = json.loads((tmp_path / "out/suspects.json").read_text())
    assert whole["found"] == 1 and len(whole["images"]) == 12


def advised(shown, option):
    """The words of the command in what was printed that has ``option``."""
    (line,) = (line for line in shown.splitlines() if line.startswith("  ") and option in line)
    return shlex.split(line)


def test_the_command_that_is_advised_does_the_same(tmp_path, voc, capsys):
    file = perfect(voc, tmp_path / "p.npz")
    words = ["--predictions", str(file), *overrides(tmp_path, voc)]
    main(words)
    before = (tmp_path / "out/suspects.csv").read_bytes()
    command = advised(capsys.readouterr().out, "--predictions")
    start = command.index("--predictions")
    assert command[start:] == words
    main(command[start:])
    assert (tmp_path / "out/suspects.csv").read_bytes() == before


def test_the_cut_that_is_advised_drops_the_first_of_the_list(tmp_path, voc, capsys):
    swap(voc, "im7")
    words = overrides(tmp_path, voc)
    main(["--predictions", str(perfect(voc, tmp_path / "p.npz")), *words])
    command = advised(capsys.readouterr().out, "--suspects")
    run = random_selection(make_task("", words, tested=False).samples, 0.5, 0)
    known = {"RUN.json": str(run.save(tmp_path / "run.json")), "RATIO": str(11 / 12)}
    adapruner(["cut", *(known.get(w, w) for w in command[command.index("--selection") :])])
    (cut,) = tmp_path.glob("run-suspects-keep*.json")
    assert run.columns["key"][~Selection.load(cut).columns["kept"]].tolist() == ["sus/im7"]


def test_a_detector_that_finds_little_is_said_to(tmp_path, voc, capsys):
    file = perfect(voc, tmp_path / "p.npz", but=[f"im{i}" for i in range(9)])
    main(["--predictions", str(file), *overrides(tmp_path, voc)])
    shown = capsys.readouterr().out
    assert "25% of their boxes were found" in shown and "That is few" in shown


def test_sets_in_coco_format_are_judged(tmp_path):
    file, images = write_coco(tmp_path / "coco", content(4))
    keys = [f"sus/{i}" for i in range(1, 5)]
    cat = {"boxes": np.array([[5, 6, 30, 40.0]]), "scores": np.ones(1), "classes": np.zeros(1, int)}
    Predictions(keys, [cat] * 4, np.ones(4), np.zeros(4, int)).save(tmp_path / "p.npz")
    own = ["ADAPRUNER.COCO_SETS", f"['sus={file}:{images}']"]
    own += ["DATASETS.TRAIN", "('sus',)", "OUTPUT_DIR", str(tmp_path / "out")]
    main(["--predictions", str(tmp_path / "p.npz"), *own])
    assert {row["key"] for row in rows(tmp_path)} == set(keys)
    assert all(float(row["badly_located"]) > 0.4 for row in rows(tmp_path)[:2])  # the dogs'
    assert json.loads((tmp_path / "out/suspects.json").read_text())["found"] == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--top", "0"], "--top is 0; it must be 1 or more"),
        (["--predictions", "none.npz"], "there is no file of predictions at none.npz"),
        (["--folds", "1"], "--folds is 1; it must be 2 or more"),
        (["--folds", "5", "--predictions", "p.npz"], "--folds has no effect"),
        (["--folds", "13"], "13 folds of 12 images"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(tmp_path, voc, capsys, words, says):
    with pytest.raises(SystemExit) as ended:
        main([*words, *overrides(tmp_path, voc)])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err.splitlines()[-1]


def test_no_data_set_is_said_in_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["OUTPUT_DIR", str(tmp_path / "out")])
    assert "DATASETS.TRAIN names no data set" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_images_are_predicted_out_of_sample_and_listed(tmp_path, voc, capsys):
    words = overrides(tmp_path, voc, "SOLVER.MAX_ITER", 6)
    main(["--folds", "2", *words])
    first = capsys.readouterr()
    assert "sus (12 images), YOLOv3Tiny: 2 trainings of 3 steps" in first.out
    assert "100%" in first.err and "left" in first.err
    assert len(rows(tmp_path)) == 12 and all(row["high_loss"] for row in rows(tmp_path))
    whole = Predictions.load(tmp_path / "out/predictions.npz")
    assert sorted(np.bincount(whole.folds).tolist()) == [6, 6]
    before = (tmp_path / "out/suspects.csv").read_bytes()
    model = tmp_path / "out/fold-1/model_final.pth"
    written = model.stat().st_mtime_ns
    main(["--folds", "2", *words])
    assert model.stat().st_mtime_ns == written
    assert (tmp_path / "out/suspects.csv").read_bytes() == before
