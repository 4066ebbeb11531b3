"""Which kind of task a configuration is of, and what is said where Detectron2 is not there."""

from argparse import Namespace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from adapruner_det.cli import tasks
from adapruner_det.cli.tasks import detectron2_needed, guess_task, kind_of_data, make, settings
from adapruner_det.errors import DataError

ROOT = Path(__file__).resolve().parents[2]

CONFIGS = [p for p in (ROOT / "configs").rglob("*.yaml") if not p.name.startswith("base_")]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_task_is_guessed_from_the_configuration(path):
    expected = "classification" if path.parent.name == "classification" else "detection"
    assert guess_task(str(path)) == expected


def test_the_task_is_guessed_from_overrides_and_what_a_yaml_is_based_on(tmp_path):
    (tmp_path / "empty.yaml").write_text("VERSION: 2\n")
    (tmp_path / "base.yaml").write_text("DATA: {NAME: digits}\n")
    (tmp_path / "own.yaml").write_text("_BASE_: base.yaml\nSEED: 1\n")
    (tmp_path / "lazy.py").write_text("raise AssertionError\n")
    guess = partial(guess_task, str(tmp_path / "empty.yaml"))
    assert (guess(), guess(["DATASETS.TRAIN", "DATA.x"])) == ("detection", "detection")
    assert guess(["SEED", "1", "DATA.NAME", "digits"]) == "classification"
    assert guess_task(str(tmp_path / "own.yaml")) == "classification"
    assert guess_task(str(tmp_path / "lazy.py"), ["DATA.x=1"]) == "detection"
    with pytest.raises(DataError, match="no configuration file"):
        guess_task(str(tmp_path / "gone.yaml"))


@pytest.mark.parametrize(
    ("config", "opts", "kind"),
    [
        ("", [], "detection"),
        ("", ["DATASETS.TRAIN", "('own',)"], "detection"),
        ("", ["DATA.NAME", "digits"], "classification"),
        (str(ROOT / "configs/classification/digits.yaml"), [], "classification"),
    ],
)
def test_data_that_need_no_configuration_are_of_detection(config, opts, kind):
    of_voc = SimpleNamespace(datasets={"voc_2007_train": "f"})
    assert kind_of_data(Namespace(config_file=config, opts=opts), of_voc) == kind


@pytest.mark.parametrize("name", ["folder_train", "mnist_train", "tiny-imagenet-200_train"])
def test_a_selection_of_a_classification_run_asks_for_its_configuration(name):
    own = SimpleNamespace(datasets={name: "f"})
    with pytest.raises(DataError, match=f"classification run, on {name}: give the run's --c"):
        kind_of_data(Namespace(config_file="", opts=["DATASETS.TRAIN", "('x',)"]), own)


@pytest.mark.parametrize("missing", ["detectron2", "detectron2.engine"])
def test_without_detectron2_a_task_of_detection_is_one_line(monkeypatch, missing):
    def absent(*_):
        raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)

    monkeypatch.setattr(tasks, "import_module", absent)
    for use in (make, settings):
        with pytest.raises(DataError, match="detection needs Detectron2, which is not .*pip inst"):
            use("detection", "a.yaml", [])


def test_what_needs_no_detectron2_is_said():
    with pytest.raises(DataError, match="^x needs Detectron2, .*; y$"), detectron2_needed("x", "y"):
        raise ModuleNotFoundError("", name="detectron2")


def test_another_module_that_is_missing_is_not_hidden():
    with pytest.raises(ModuleNotFoundError, match="'x'"), detectron2_needed("it"):
        raise ModuleNotFoundError("No module named 'x'", name="x")
