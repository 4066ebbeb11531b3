from argparse import Namespace
from collections import Counter

import numpy as np
import pytest
import torch
import yaml
from detectron2.data import DatasetCatalog, DatasetMapper

from adapruner_det.cli import train_pruned
from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.detection.setup import load_config
from adapruner_det.methods.random import random_selection
from tests.detection.toy import process_restored, write_voc_folder
from tests.tools.running import assert_one_error_line, run_here, tool_arguments


@pytest.fixture
def voc(tmp_path):
    return write_voc_folder(tmp_path / "voc", train=10, more=6, test=4)


@pytest.fixture
def trained_on(monkeypatch):
    """Image id → how often Detectron2's training loader read it."""
    counts = Counter()
    original = DatasetMapper.__call__

    def counting(self, dataset_dict):
        if self.is_train:
            counts[dataset_dict["image_id"]] += 1
        return original(self, dataset_dict)

    monkeypatch.setattr(DatasetMapper, "__call__", counting)
    return counts


def select(voc, folder, keep_ratio=0.7, **options):
    """A selection file of the folder's training set, and the image ids that it keeps."""
    with process_restored():
        cfg = load_config("", tool_arguments(voc, folder, *options.get("overrides", ())))
        index = SampleIndex.from_config(cfg)
        selection = random_selection(index.samples, keep_ratio, seed=0)
        path = selection.save(folder / "selection.json")
    return str(path), {key.split("/")[1] for key in selection.kept_keys}


def steps_of(output):
    return torch.load(output / "model_final.pth", weights_only=True)["iteration"] + 1


def saved_solver(output):
    return yaml.safe_load((output / "config.yaml").read_text())["SOLVER"]


def train(monkeypatch, voc, output, *words, options=()):
    arguments = tool_arguments(voc, output, "SOLVER.STEPS", (10, 14), *options)
    return run_here(monkeypatch, "train_pruned.py", *words, *arguments)


def test_training_reads_exactly_the_kept_images_for_the_same_number_of_epochs(
    voc, tmp_path, monkeypatch, capsys, trained_on
):
    path, kept = select(voc, tmp_path)
    output = tmp_path / "out"
    assert (
        train(monkeypatch, voc, output, "--selection", path, options=["SOLVER.MAX_ITER", 20]) == 0
    )
    assert len(kept) == 7
    assert set(trained_on) == kept
    # 20 steps of 4 on 10 images are 8 epochs, and so are 14 on 7.
    assert steps_of(output) == saved_solver(output)["MAX_ITER"] == 14
    assert saved_solver(output)["STEPS"] == [7, 10]
    assert sum(trained_on.values()) >= 14 * 4
    printed = capsys.readouterr().out
    assert "on 7 of 10 images for the same number of epochs: 14 of 20 iterations" in printed
    assert "Evaluation results for own_test" in printed


def test_the_same_iterations_are_made_when_asked_for(
    voc, tmp_path, monkeypatch, capsys, trained_on
):
    path, kept = select(voc, tmp_path)
    output = tmp_path / "out"
    assert train(monkeypatch, voc, output, "--same-iterations", "--selection", path) == 0
    assert set(trained_on) == kept
    assert steps_of(output) == saved_solver(output)["MAX_ITER"] == 15
    assert saved_solver(output)["STEPS"] == [10, 14]
    assert "on the kept images for all 15 iterations" in capsys.readouterr().out


def test_a_selection_of_several_data_sets_trains_on_the_kept_part_of_each(
    voc, tmp_path, monkeypatch, trained_on
):
    folders = [f"own_{split}={voc}:{split}" for split in ("train", "more", "test")]
    options = ["ADAPRUNER.VOC_FOLDERS", folders, "DATASETS.TRAIN", ("own_train", "own_more")]
    path, kept = select(voc, tmp_path, 0.5, overrides=options)
    assert train(monkeypatch, voc, tmp_path / "out", "--selection", path, options=options) == 0
    assert set(trained_on) == kept
    numbers = sorted(int(image.removeprefix("im")) for image in kept)
    assert numbers[0] < 10 <= numbers[-1]


@pytest.mark.parametrize("named", [("own_train",), ("own_train", "own_more", "own_test")])
def test_all_data_sets_of_a_selection_have_to_be_named_and_no_other(
    voc, tmp_path, monkeypatch, capsys, named
):
    """The length of the run follows from them, and what is not of the selection is not read."""
    folders = [f"own_{split}={voc}:{split}" for split in ("train", "more", "test")]
    options = ["ADAPRUNER.VOC_FOLDERS", folders, "DATASETS.TRAIN"]
    path, _ = select(voc, tmp_path, 0.5, overrides=[*options, ("own_train", "own_more")])
    given = ["--selection", path]
    assert train(monkeypatch, voc, tmp_path / "out", *given, options=[*options, named]) == 2
    assert_one_error_line(capsys.readouterr().err, "own_more, own_train, and DATASETS.TRAIN names")
    assert not (tmp_path / "out").exists()


def test_without_a_selection_it_trains_on_all_images(voc, tmp_path, monkeypatch, trained_on):
    assert train(monkeypatch, voc, tmp_path / "out") == 0
    assert set(trained_on) == {f"im{i}" for i in range(10)}
    assert steps_of(tmp_path / "out") == 15


def test_eval_only_tests_the_given_weights_and_trains_nothing(
    voc, tmp_path, monkeypatch, capsys, trained_on
):
    assert train(monkeypatch, voc, tmp_path / "out") == 0
    first = capsys.readouterr().out
    trained_on.clear()
    (voc / "ImageSets/Main/train.txt").write_text("no_such_image\n")  # not needed for this
    weights = str(tmp_path / "out" / "model_final.pth")
    options = ["MODEL.WEIGHTS", weights, "DATASETS.TRAIN", ()]
    options += ["ADAPRUNER.VOC_FOLDERS", [f"own_test={voc}:test"], "MODEL.YOLO.NUM_CLASSES", 2]
    assert train(monkeypatch, voc, tmp_path / "eval", "--eval-only", options=options) == 0
    second = capsys.readouterr().out

    def numbers(text):
        return [line.split("copypaste: ")[1] for line in text.splitlines() if "copypaste" in line]

    assert numbers(second) == numbers(first)
    assert np.isfinite([float(v) for v in numbers(second)[-1].split(",")]).all()
    assert not trained_on


@pytest.mark.parametrize(
    "given", [("--same-iterations",), ("--eval-only", "--selection", "selection.json")]
)
def test_an_option_without_effect_is_refused(voc, tmp_path, monkeypatch, capsys, given):
    assert train(monkeypatch, voc, tmp_path / "out", *given) == 2
    assert_one_error_line(capsys.readouterr().err, "has no effect with", given[0])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("detector", ["yolo_darknet", "faster_rcnn_fpn"])
def test_eval_only_tests_with_the_anchors_of_the_training_run(
    voc, tmp_path, monkeypatch, capsys, detector
):
    own = ["ADAPRUNER.AUTO_ANCHORS", True, "SOLVER.MAX_ITER", 2]
    arguments = tool_arguments(voc, tmp_path / "out", *own, detector=detector)
    assert run_here(monkeypatch, "train_pruned.py", *arguments) == 0
    first = capsys.readouterr().out
    weights = ["MODEL.WEIGHTS", str(tmp_path / "out/model_final.pth")]
    weights += ["OUTPUT_DIR", str(tmp_path / "eval")]

    assert run_here(monkeypatch, "train_pruned.py", "--eval-only", *arguments, *weights) == 2
    assert_one_error_line(capsys.readouterr().err, "AUTO_ANCHORS", "config.yaml")
    assert not (tmp_path / "eval").exists()

    written = ["--config-file", str(tmp_path / "out/config.yaml"), "--eval-only"]
    assert run_here(monkeypatch, "train_pruned.py", *written, *weights) == 0
    second = capsys.readouterr().out
    lines = [[x for x in text.splitlines() if "copypaste" in x][-1] for text in (first, second)]
    assert lines[0].split("copypaste")[1] == lines[1].split("copypaste")[1]


@pytest.mark.parametrize(
    ("what", "parts"),
    [
        ("other data", ["made from other data", "own_train/im2 (another image", "prune"]),
        ("no such file", ["no selection at", "none.json", "adapruner prune-net"]),
        ("not a selection", ["selection.json is not a selection"]),
        ("its columns are gone", ["selection.npz is missing", "beside it"]),
        ("of another data set", ["is of own_more, and DATASETS.TRAIN names own_train: name the"]),
        ("a broken annotation", ["Annotations/im5.xml", "does not parse"]),
    ],
)
def test_a_selection_that_cannot_be_used_gets_one_line_and_writes_nothing(
    voc, tmp_path, monkeypatch, capsys, what, parts
):
    folders = [f"own_{split}={voc}:{split}" for split in ("train", "more", "test")]
    other = ["ADAPRUNER.VOC_FOLDERS", folders, "DATASETS.TRAIN", ("own_more",)]
    path, _ = select(voc, tmp_path, overrides=other if what == "of another data set" else ())
    if what == "other data":
        file = voc / "Annotations" / "im2.xml"
        file.write_text(file.read_text().replace("<xmax>", "<xmax>1"))
    elif what == "no such file":
        path = str(tmp_path / "none.json")
    elif what == "not a selection":
        (tmp_path / "selection.json").write_text("{")
    elif what == "its columns are gone":
        (tmp_path / "selection.npz").unlink()
    elif what == "a broken annotation":
        (voc / "Annotations" / "im5.xml").write_text("")
    assert train(monkeypatch, voc, tmp_path / "out", "--selection", path) == 2
    assert_one_error_line(capsys.readouterr().err, *parts)
    assert not (tmp_path / "out").exists()


def test_a_selection_of_other_data_is_refused_before_the_schedule_is_spoken_of(
    voc, tmp_path, monkeypatch, capsys
):
    path, _ = select(voc, tmp_path)
    file = voc / "Annotations" / "im2.xml"
    file.write_text(file.read_text().replace("<xmax>", "<xmax>1"))
    options = ["ADAPRUNER.EPOCHS", 20]  # which sets the schedule by the data, and says so
    assert train(monkeypatch, voc, tmp_path / "out", "--selection", path, options=options) == 2
    out, err = capsys.readouterr()
    assert_one_error_line(err, "made from other data")
    assert out == "" and "steps" not in err


def test_no_data_set_at_all_says_what_to_give(tmp_path, monkeypatch, capsys):
    assert run_here(monkeypatch, "train_pruned.py", "OUTPUT_DIR", str(tmp_path / "out")) == 2
    assert_one_error_line(capsys.readouterr().err, "DATASETS.TRAIN", "--config-file")
    assert not (tmp_path / "out").exists()


def test_a_process_of_its_own_registers_the_selection_before_it_trains(voc, tmp_path, monkeypatch):
    """The catalogue of a spawned process is empty; it trains on the kept part all the same."""
    path, kept = select(voc, tmp_path)
    seen = []

    class Trainer:
        def __init__(self, cfg):
            seen.append({d["image_id"] for d in DatasetCatalog.get(cfg.DATASETS.TRAIN[0])})

        def resume_or_load(self, resume):
            pass

        def train(self):
            seen.append("trained")

    with process_restored():
        cfg = load_config("", tool_arguments(voc, tmp_path / "out"))
        cfg.DATASETS.TRAIN = ("own_train@kept70",)
        monkeypatch.setattr(train_pruned, "EvaluatingTrainer", Trainer)
        args = Namespace(selection=path, trust_pickle=False, eval_only=False, resume=False)
        train_pruned.train(cfg, args)
    assert seen == [kept, "trained"]
