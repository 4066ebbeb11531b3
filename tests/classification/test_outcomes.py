"""What a run hands back, held against what is known beforehand: stubbed trainings whose outcome
tells what they were given and masks made by hand."""

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
from adapruner_det.core import AdaPruner, Balance, ClassSets, Schedule, Terms
from adapruner_det.selection import Selection
from tests.classification.tiny import tiny_config, tiny_set, write_folder

ROOT = Path(__file__).resolve().parents[2]


def selection_of(images, kept, keep_ratio=0.5, **columns):
    digests = images.samples.digests
    kept = np.array(kept, dtype=bool)
    own = {"key": np.array(images.keys), "digest": digests, "kept": kept, "score": ~kept * 1.0}
    return Selection("by hand", keep_ratio, 0, images.samples.datasets, {**own, **columns})


# --- which images are trained and evaluated on ----------------------------------------------------


class Training:
    """Stands for a Trainer: its accuracy tells what it was trained and what it is evaluated on."""

    log: list = []

    def __init__(self, cfg, images, guide=None, label="", steps=None):
        self.cfg, self.images, self.guide, self.resumed = cfg, images, guide, False
        self.total_steps = steps or cfg.SOLVER.EPOCHS * 10
        self.epochs, self.seconds = self.total_steps / 10, 1.5
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
    assert result == Result(9.12, "a_test (12 images)", 9, 40, 4.0, 1.5, 5)
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

    def stub(cfg, data, **options):
        calls.append((cfg, data, options))
        return Result(12.5, "it", 9, 30, 3, 1.0, 0)

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
    assert set(call[1].train.keys) == tool.kept
    assert call[2] == {"resume": bool(resume), "selection_file": file}
    assert capsys.readouterr().out == ("12.50% on it after 3 epochs of 9 images (1 s, seed 0)\n")
    _, source, target = tool("transfer_cls.py", "--target-config-file", tool.config, *resume)
    assert set(source[1].train.keys) == tool.kept and len(target[1].train) == 18
    assert source[2] == {"resume": bool(resume), "selection_file": file}
    assert target[2] == {"resume": bool(resume)}
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
