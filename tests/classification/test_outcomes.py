"""What a run hands back, held against what is known beforehand: stubbed trainings whose outcome
tells what they were given, masks made by hand, and a summary counted by hand."""

import runpy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adapruner_det.classification import run as module
from adapruner_det.classification.data import Data, load_data
from adapruner_det.classification.run import Result, build_pruner, train, transfer
from adapruner_det.classification.summary import class_kept_shares, summarize
from adapruner_det.core import AdaPruner, Balance, ClassSets, Schedule, Terms
from adapruner_det.selection import Selection
from tests.classification.tiny import tiny_config, tiny_set, write_folder

ROOT = Path(__file__).resolve().parents[2]


def selection_of(images, kept, keep_ratio=0.5, **columns):
    digests = images.digests()
    own = {"key": np.array(images.keys), "digest": digests, "kept": np.array(kept, dtype=bool)}
    return Selection("by hand", keep_ratio, 0, images.fingerprints(digests), {**own, **columns})


# --- which images are trained and evaluated on ----------------------------------------------------


class Training:
    """Stands for a Trainer: its accuracy tells what it was trained and what it is evaluated on."""

    log: list = []

    def __init__(self, cfg, images, pruner=None, label=""):
        self.cfg, self.images, self.resumed = cfg, images, False
        Training.log.append(self)

    def train(self, save=True):
        pass

    def save_model(self):
        Path(self.cfg.OUTPUT_DIR, "model.pt").touch()

    def resume(self):
        self.resumed = True
        return True

    def evaluate(self, images):
        return outcome(self.images, images)


def outcome(trained, evaluated):
    """36 training images and 12 test images, say, make 36.12: of sets of different size alone."""
    return len(trained) + len(evaluated) / 100


@pytest.fixture
def stubbed(monkeypatch):
    monkeypatch.setattr(module, "Trainer", Training)
    monkeypatch.setattr(Training, "log", [])


def data_of(name, train_count, test_count):
    train, test = (tiny_set(count, name=f"{name}_{part}", seed=count) for part, count in (
        ("train", train_count), ("test", test_count),
    ))  # fmt: skip
    return Data(train, test, torch.tensor([]))


def test_what_is_evaluated_is_the_test_set(stubbed, tmp_path):
    data = data_of("a", 36, 12)
    assert train(tiny_config(), data, save=False).accuracy == 36.12
    selection = selection_of(data.train, np.arange(36) % 4 == 0)
    result = train(tiny_config(OUTPUT_DIR=str(tmp_path), SEED=5), data, selection)
    assert result == Result(9.12, "a_test (12 images)", 9, 4, result.seconds, 5)
    kept = [key for i, key in enumerate(data.train.keys) if i % 4 == 0]
    assert list(Training.log[-1].images.keys) == kept
    assert torch.equal(Training.log[-1].images.images, data.train.images[::4])


def test_a_real_model_is_right_about_the_test_set_and_not_about_another():
    data = data_of("a", 36, 12)
    shifted = replace(data.test, labels=(data.test.labels + 1) % 3)
    cfg = tiny_config(SOLVER__EPOCHS=8)
    right = train(cfg, data, save=False).accuracy
    wrong = train(cfg, replace(data, test=shifted), save=False).accuracy
    assert right > 90  # of three classes that differ as day and night
    assert wrong <= 100 - right


def test_the_test_set_of_a_folder_is_none_of_its_training_images(tmp_path):
    write_folder(tmp_path, per_class=6)
    settings = {"DATA__NAME": "folder", "DATA__ROOT": str(tmp_path), "DATA__SIZE": 8}
    data = load_data(tiny_config(**settings))
    assert (len(data.train), data.train.name) == (18, "folder_train")
    assert (len(data.test), data.test.name) == (6, "folder_test")
    held = load_data(tiny_config(**settings, DATA__HOLDOUT=0.25))
    assert len(held.test) == 4 and len(held.train) == 14
    assert {*held.test.keys} == {*data.train.keys} - {*held.train.keys}


def test_transfer_pre_trains_on_the_kept_part_and_tunes_on_all_of_the_target(stubbed, tmp_path):
    source, target = data_of("a", 36, 12), data_of("b", 24, 9)
    source_cfg = tiny_config(OUTPUT_DIR=str(tmp_path / "source"), MODEL__WEIGHTS="")
    target_cfg = tiny_config(OUTPUT_DIR=str(tmp_path / "target"), SOLVER__EPOCHS=2)
    selection = selection_of(source.train, np.arange(36) < 15)
    before, after = transfer(source_cfg, source, target_cfg, target, selection)
    assert (before.accuracy, before.images, before.epochs) == (15.12, 15, 4)
    assert (after.accuracy, after.images, after.epochs) == (24.09, 24, 2)
    assert (before.evaluated_on, after.evaluated_on) == ("a_test (12 images)", "b_test (9 images)")
    assert list(Training.log[0].images.keys) == list(source.train.keys[:15])
    assert Training.log[0].cfg.MODEL.WEIGHTS == target_cfg.MODEL.WEIGHTS == ""
    assert Training.log[1].cfg.MODEL.WEIGHTS == str(tmp_path / "source" / "model.pt")
    assert not any(training.resumed for training in Training.log)

    before, _ = transfer(source_cfg, source, target_cfg, target)
    assert before.accuracy == 36.12


def test_a_resumed_transfer_resumes_both(stubbed, tmp_path):
    source, target = data_of("a", 36, 12), data_of("b", 24, 9)
    cfgs = [tiny_config(OUTPUT_DIR=str(tmp_path / part)) for part in "ab"]
    transfer(cfgs[0], source, cfgs[1], target, resume=True)
    assert [training.resumed for training in Training.log] == [True, True]


@pytest.fixture
def tool(monkeypatch, tmp_path):
    """Runs a tool on a folder's images with a selection of half of them; what ``train`` of
    run.py, which is stubbed, was called with."""
    write_folder(tmp_path / "data", per_class=6)
    config = tmp_path / "own.yaml"
    config.write_text(f"DATA: {{NAME: folder, ROOT: {tmp_path}/data, SIZE: 8}}\nDEVICE: cpu\n")
    calls = []

    def stub(cfg, data, selection=None, **options):
        calls.append((cfg, data, selection, options))
        return Result(12.5, "it", 9, 3, 1.0, 0)

    def call(name, *words):
        monkeypatch.setattr(module, "train", stub)
        options = ["--selection", tmp_path / "selection.json", *words, "OUTPUT_DIR", tmp_path / "o"]
        command = [name, "--config-file", config, *options]
        monkeypatch.setattr(sys, "argv", [str(word) for word in command])
        runpy.run_path(str(ROOT / "tools" / name), run_name="__main__")
        return calls

    images = load_data(tiny_config(DATA__NAME="folder", DATA__ROOT=str(tmp_path / "data"))).train
    selection = selection_of(images, np.arange(18) % 2, last_loss=np.zeros(18, np.float32))
    selection.save(tmp_path / "selection.json")
    call.config, call.kept = config, selection.kept_keys
    return call


@pytest.mark.parametrize("resume", [[], ["--resume"]])
def test_the_tools_pass_on_the_selection_and_what_it_was_read_from(tool, tmp_path, resume, capsys):
    file = str(tmp_path / "selection.json")
    (call,) = tool("train_cls.py", *resume)
    assert call[2].kept_keys == tool.kept
    assert call[3] == {"resume": bool(resume), "selection_file": file}
    assert capsys.readouterr().out == ("12.50% on it after 3 epochs of 9 images (1 s, seed 0)\n")
    _, source, target = tool("transfer_cls.py", "--target-config-file", tool.config, *resume)
    assert source[2].kept_keys == tool.kept and target[2] is None
    assert source[3] == {"resume": bool(resume), "selection_file": file}
    assert target[3] == {"resume": bool(resume)}
    assert source[0].OUTPUT_DIR == str(tmp_path / "o" / "source")
    assert target[0].OUTPUT_DIR == str(tmp_path / "o" / "target")


# --- what the configuration makes of the mask -----------------------------------------------------

LABELS = torch.arange(36) % 3


def moved(pruner):
    """The logits and weights of a mask that has seen 8 epochs of the same losses."""
    rng = np.random.default_rng(0)
    base, weights = np.exp(rng.normal(size=36)), []
    for _ in range(8):
        for ids in np.split(rng.permutation(36), 4):
            weights.append(pruner.weights(ids).numpy())
            pruner.observe(ids, base[ids] * np.exp(0.3 * rng.normal(size=9)))
        pruner.end_epoch()
    return np.concatenate([pruner.mask.column("logit"), *weights])


def by_hand(keep_ratio=0.9, warmup=1, alphas=(0.1, 5.0), epochs=8, **options):
    options = {"normalize": "none", **options}
    return AdaPruner(36, keep_ratio, Schedule(warmup, epochs - warmup, *alphas), **options)


@pytest.mark.parametrize(
    ("settings", "expected", "other"),
    [
        ({}, {}, {"keep_ratio": 0.89}),
        ({"KEEP_RATIO": 0.6}, {"keep_ratio": 0.6}, {}),
        ({"WARMUP_EPOCHS": 3}, {"warmup": 3}, {}),
        ({"ALPHA_START": 0.5}, {"alphas": (0.5, 5.0)}, {}),
        ({"ALPHA_END": 8.0}, {"alphas": (0.1, 8.0)}, {}),
        ({"CONTROLLER": "paper"}, {"controller": "paper"}, {}),
        (
            {"CONTROLLER": "paper", "PAPER_SCALE": 7.0},
            {"controller": "paper", "paper_scale": 7.0},
            {"controller": "paper"},
        ),
        ({"NORMALIZE": "median"}, {"normalize": "median"}, {}),
        ({"CLASSIFICATION_LOSS": False}, {"terms": Terms(classification=False)}, {}),
        ({"SELECTION_LOSS": False}, {"terms": Terms(selection=False)}, {}),
        ({"COMPRESSION_LOSS": False}, {"terms": Terms(compression=False)}, {}),
        (
            {"CLASS_BAND": 0.02, "KEEP_RATIO": 0.6},
            {
                "balance": Balance(ClassSets.from_sets(([i % 3] for i in range(36)), 3), 0.02),
                "keep_ratio": 0.6,
            },
            {"keep_ratio": 0.6},
        ),
    ],
    ids=lambda value: "-".join(value),
)
def test_every_setting_makes_the_mask_that_it_makes_by_hand(settings, expected, other):
    cfg = tiny_config(**{f"ADAPRUNER__{k}": v for k, v in settings.items()}, SOLVER__EPOCHS=8)
    found = moved(build_pruner(cfg, replace(tiny_set(), labels=LABELS)))
    np.testing.assert_array_equal(found, moved(by_hand(**expected)))
    assert not np.array_equal(found, moved(by_hand(**other))), "the setting changes nothing"


# --- the summary ----------------------------------------------------------------------------------


def rows(text):
    return {line[:17].strip(): line[18:] for line in text.splitlines()}


def summary_of(kept, mean_loss=None, keep_ratio=0.5, soft_ratio=0.5, images=None, seen=None):
    images = images or tiny_set(len(kept))  # dark, light, red, dark, ...
    n = len(kept)
    columns = {
        "mean_loss": np.array(mean_loss if mean_loss is not None else range(n), np.float32),
        "times_seen": np.array(seen or [2] * n, np.uint16),
    }
    selection = replace(selection_of(images, kept, keep_ratio, **columns), soft_ratio=soft_ratio)
    return rows(summarize(selection, images, 61.7, "python train.py"))


def test_the_summary_is_what_it_is_by_hand():
    # Of dark (0, 3, 6, 9) three stay, of light (1, 4, 7, 10) one, of red (2, 5, 8, 11) two.
    kept = [1, 0, 1, 1, 0, 1, 1, 0, 0, 0, 1, 0]
    #            1        4        7  8  9     11 are dropped
    loss = [0, 50, 0, 0, 20, 0, 0, 90, 10, 70, 99, 30]
    assert summary_of(kept, loss) == {
        "kept": "6 of 12 images (50.00%), 6 dropped",
        "data set": "tiny_train",
        "soft ratio": "0.5000 before the cut, asked 0.5: held",
        "least kept class": "light: 25.0% of its images",
        "most kept class": "dark: 75.0% of its images",
        "hardest dropped": "tiny_train/000007, tiny_train/000009, tiny_train/000001",
        "easiest dropped": "tiny_train/000008, tiny_train/000004, tiny_train/000011",
        "seconds": "62",
        "train on it": "python train.py",
    }


def test_the_classes_are_named_by_their_shares_and_not_by_their_places():
    found = summary_of([0, 1, 0, 0, 1, 1])
    assert found["least kept class"] == "dark: 0.0% of its images"
    assert found["most kept class"] == "light: 100.0% of its images"
    images = tiny_set(6)
    shares = class_kept_shares(selection_of(images, [0, 1, 0, 0, 1, 1]), images)
    assert shares == {"dark": 0, "light": 1, "red": 0.5}


def test_a_class_without_an_image_has_no_share():
    images = replace(tiny_set(6), class_names=["dark", "light", "red", "gone"])
    found = summary_of([1, 0, 1, 1, 0, 1], images=images)
    assert found["least kept class"] == "light: 0.0% of its images"
    assert set(class_kept_shares(selection_of(images, [1] * 6), images)) == {"dark", "light", "red"}


@pytest.mark.parametrize(
    ("soft", "held"),
    [(0.4801, "held"), (0.4799, "NOT HELD"), (0.5199, "held"), (0.5201, "NOT HELD")],
)
def test_a_ratio_that_did_not_hold_is_said_loudly(soft, held):
    found = summary_of([1, 0], soft_ratio=soft)["soft ratio"]
    assert found == f"{soft:.4f} before the cut, asked 0.5: {held}"


def test_without_a_soft_ratio_that_of_the_cut_is_judged():
    assert summary_of([1, 0, 1, 0], soft_ratio=None)["soft ratio"].startswith("0.5000 before")
    found = summary_of([1, 1, 1, 0], soft_ratio=None)["soft ratio"]
    assert found == "0.7500 before the cut, asked 0.5: NOT HELD"


def test_where_nothing_is_dropped_nothing_is_named():
    found = summary_of([1, 1, 1], keep_ratio=1.0, soft_ratio=1.0)
    assert found["hardest dropped"] == found["easiest dropped"] == "none"
