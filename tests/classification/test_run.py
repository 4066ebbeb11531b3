import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch

from adapruner_det.classification import run as module
from adapruner_det.classification.config import load_config
from adapruner_det.classification.data import Data, load_data
from adapruner_det.classification.planted import with_wrong_labels
from adapruner_det.classification.run import build_pruner, prune, train, transfer
from adapruner_det.classification.trainer import Trainer
from adapruner_det.errors import DataError
from adapruner_det.methods.random import random_selection
from adapruner_det.methods.recorder import Recorder
from adapruner_det.report.history import read_history
from adapruner_det.selection import Selection
from tests.classification.tiny import CLASSES, same_state, tiny_config, tiny_set, write_folder


def tiny_data():
    return Data(tiny_set(), tiny_set(12, name="tiny_test", seed=5), torch.tensor([]))


def test_pruning_writes_the_selection_that_detection_writes_too(tmp_path):
    cfg = tiny_config(OUTPUT_DIR=str(tmp_path), ADAPRUNER__KEEP_RATIO=0.75, SEED=3)
    made = prune(cfg, tiny_set())
    read = Selection.load(tmp_path / "selection.json")
    assert (read.method, read.keep_ratio, read.seed, read.num_kept) == ("adapruner", 0.75, 3, 27)
    assert read.kept_keys == made.kept_keys and list(read.datasets) == ["tiny_train"]
    assert set(read.columns) == {
        *("key", "digest", "kept", "score", "why", "classes"),
        *("logit", "last_loss", "mean_loss", "times_seen"),
    }
    assert read.columns["classes"].tolist() == ["0", "1", "2"] * 12
    assert (read.digest_of, read.num_threads, list(read.class_names)) == ("pixels", 1, CLASSES)
    assert not read.excluded
    assert set(read.versions) == {"adapruner-det", "torch", "numpy", "torchvision"}
    assert read.cut(0.5).kept_keys < read.kept_keys
    assert (tmp_path / "model.pt").is_file()
    assert load_config(str(tmp_path / "config.yaml"), []) == cfg


@pytest.mark.parametrize(("end", "largest_stay"), [("easy", True), ("hard", False)])
def test_the_end_that_the_configuration_names_goes(end, largest_stay):
    cfg = tiny_config(ADAPRUNER__DROP=end, ADAPRUNER__KEEP_RATIO=0.5)
    found = prune(cfg, tiny_set(), save=False)
    kept, loss = found.columns["kept"], found.columns["mean_loss"]
    stay, go = loss[kept], loss[~kept]
    assert stay.min() >= go.max() if largest_stay else stay.max() <= go.min()
    assert set(found.columns["why"]) == {"", end}


def test_the_same_seed_selects_the_same_and_another_one_another(tmp_path):
    kept = [
        prune(tiny_config(SEED=seed, ADAPRUNER__KEEP_RATIO=0.6), tiny_set(), save=False).kept_keys
        for seed in (0, 0, 1)
    ]
    assert kept[0] == kept[1] != kept[2]


def test_training_sees_exactly_the_kept_samples(tmp_path, monkeypatch):
    data = tiny_data()
    selection = random_selection(data.train.samples, 0.5, seed=2)
    seen = []
    read = Trainer._augmented
    monkeypatch.setattr(
        Trainer, "_augmented", lambda self, images: (seen.extend(images), read(self, images))[1]
    )
    cfg = tiny_config(OUTPUT_DIR=str(tmp_path), SOLVER__EPOCHS=2)
    result = train(cfg, data, selection)
    places = {x.numpy().tobytes(): i for i, x in enumerate(data.train.images)}
    counts = np.bincount([places[x.numpy().tobytes()] for x in seen], minlength=36)
    kept = [data.train.keys[i] in selection.kept_keys for i in range(36)]
    assert counts.tolist() == [2 * stays for stays in kept]
    assert result.images == 18
    assert json.loads((tmp_path / "result.json").read_text())["accuracy"] == result.accuracy


def test_a_selection_serves_another_architecture(tmp_path):
    data = tiny_data()
    selection = prune(tiny_config(ADAPRUNER__KEEP_RATIO=0.75), data.train, save=False)
    cfg = tiny_config(MODEL__NAME="resnet18", SOLVER__EPOCHS=1)
    assert train(cfg, data, selection, save=False).images == 27


def test_a_selection_of_other_data_is_refused():
    data = tiny_data()
    selection = prune(tiny_config(), data.train, save=False)
    noisy, _ = with_wrong_labels(data.train, 0.1, seed=0)
    with pytest.raises(DataError, match="made from other data: 4 of 36"):
        train(tiny_config(), Data(noisy, data.test, data.wrong), selection, save=False)


def test_a_class_that_a_selection_loses_is_named(caplog):
    data = tiny_data()
    selection = random_selection(data.train.samples, 0.67, seed=0)
    selection.columns["kept"][:] = (data.train.labels != 2).numpy()
    train(tiny_config(SOLVER__EPOCHS=1), data, selection, save=False)
    assert "the selection keeps no image of 1 class(es): red;" in caplog.text


def test_a_selection_of_files_says_what_was_left_out_and_serves_other_sizes(tmp_path):
    write_folder(tmp_path / "one", per_class=12)
    (tmp_path / "one" / "train" / "red" / "x.png").write_bytes(b"no image")
    settings = {
        "DATA__NAME": "folder",
        "OUTPUT_DIR": str(tmp_path / "out"),
        "ADAPRUNER__ON_BAD_SAMPLE": "skip",
        "ADAPRUNER__KEEP_RATIO": 0.75,
        "SOLVER__EPOCHS": 2,
    }
    cfg = tiny_config(**settings, DATA__ROOT=str(tmp_path / "one"), DATA__SIZE=6)
    prune(cfg, load_data(cfg).train)
    selection = Selection.load(tmp_path / "out" / "selection.json")
    assert selection.excluded == {"folder_train/red\\x.png": "is not an image that Pillow knows"}
    assert selection.digest_of == "bytes" and list(selection.datasets) == ["folder_train"]
    (tmp_path / "one").rename(tmp_path / "two")
    for options in ({"DATA__SIZE": 12}, {"DATA__SIZE": 6, "DATA__MEMORY_MB": 0}):
        cfg = tiny_config(**settings, **options, DATA__ROOT=str(tmp_path / "two"))
        assert train(cfg, load_data(cfg), selection, save=False).images == 27


def test_a_class_band_keeps_every_class_near_the_ratio(tmp_path, caplog):
    images = tiny_set(120)
    images.labels[:] = torch.tensor([0] * 90 + [1] * 20 + [2] * 10)  # faults of two classes
    settings = {"ADAPRUNER__KEEP_RATIO": 0.6, "SOLVER__EPOCHS": 6}
    shares = []
    for band in (0.0, 0.05):
        cfg = tiny_config(**settings, ADAPRUNER__CLASS_BAND=band)
        selection = prune(cfg, images, save=False)
        assert selection.num_kept == 72
        kept = selection.columns["kept"].astype(bool)
        shares.append([kept[images.labels.numpy() == c].mean() for c in range(3)])
    assert max(abs(share - 0.6) for share in shares[0]) > 0.1  # without it they are not
    assert all(abs(share - 0.6) <= 0.1 for share in shares[1])


def test_the_selection_is_there_though_the_model_cannot_be_written(tmp_path, monkeypatch):
    def full(self):
        raise DataError("the disk is full")

    monkeypatch.setattr(Trainer, "save_model", full)
    cfg = tiny_config(OUTPUT_DIR=str(tmp_path), ADAPRUNER__KEEP_RATIO=0.75)
    with pytest.raises(DataError):
        prune(cfg, tiny_set())
    assert Selection.load(tmp_path / "selection.json").num_kept == 27


def test_weights_of_another_model_are_refused_before_anything_is_written(tmp_path):
    (tmp_path / "model.pt").write_bytes(b"no weights")
    out = tmp_path / "out"
    for weights in (tmp_path / "model.pt", tmp_path / "gone.pt"):
        cfg = tiny_config(OUTPUT_DIR=str(out), MODEL__WEIGHTS=str(weights))
        for run in (
            lambda cfg=cfg: prune(cfg, tiny_set()),
            lambda cfg=cfg: train(cfg, tiny_data()),
        ):
            with pytest.raises(DataError, match=weights.name):
                run()
    assert not out.exists()


def test_a_new_run_sets_the_old_one_aside_but_never_what_it_reads(tmp_path):
    cfg = tiny_config(OUTPUT_DIR=str(tmp_path), SOLVER__EPOCHS=2, ADAPRUNER__KEEP_RATIO=0.75)
    selection = prune(cfg, tiny_set())
    before = sorted(tmp_path.iterdir())
    file = str(tmp_path / "selection.json")
    with pytest.raises(DataError, match=r"selection\.json lies in OUTPUT_DIR"):
        train(cfg, tiny_data(), selection, selection_file=file)
    cfg.MODEL.WEIGHTS = str(tmp_path / "model.pt")
    with pytest.raises(DataError, match=r"model\.pt lies in OUTPUT_DIR"):
        prune(cfg, tiny_set())
    assert sorted(tmp_path.iterdir()) == before
    cfg.MODEL.WEIGHTS = ""
    with pytest.raises(DataError, match="another configuration or other data"):
        train(cfg, tiny_data(), resume=True)  # a pruning run is not gone on with as a plain one
    cfg.SEED = 1
    prune(cfg, tiny_set())
    assert {path.name for path in (tmp_path / "old-1").iterdir()} >= {"selection.json", "model.pt"}
    assert Selection.load(file).seed == 1


def test_a_transfer_finds_before_it_trains_that_its_second_run_would_set_aside_what_it_reads(
    tmp_path,
):
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "selection.json").write_text("read")
    cfgs = [tiny_config(OUTPUT_DIR=str(tmp_path / name)) for name in ("source", "target")]
    file = str(tmp_path / "target" / "selection.json")
    with pytest.raises(DataError, match=r"selection\.json lies in OUTPUT_DIR"):
        transfer(cfgs[0], tiny_data(), cfgs[1], tiny_data(), selection_file=file)
    assert not (tmp_path / "source").exists()


@pytest.mark.parametrize("source_is_gone", [False, True])
def test_a_transfer_takes_no_earlier_fine_tuning_for_its_own(tmp_path, monkeypatch, source_is_gone):
    """It is killed, or its folder removed by hand, before the second run begins, and resumed."""
    data = tiny_data()
    parts = [random_selection(data.train.samples, 0.5, seed=seed) for seed in (1, 2)]

    def weights(name, selection, resume=False):
        folders = (str(tmp_path / name / part) for part in ("source", "target"))
        cfgs = [tiny_config(OUTPUT_DIR=folder, SOLVER__EPOCHS=2) for folder in folders]
        transfer(cfgs[0], data, cfgs[1], data, selection, resume=resume)
        return torch.load(tmp_path / name / "target" / "model.pt", weights_only=True)

    class Killed(BaseException):
        pass

    def train_the_source_alone(cfg, *arguments, **options):
        if cfg.OUTPUT_DIR.endswith("target"):
            raise Killed
        return train(cfg, *arguments, **options)

    first = weights("one", parts[0])
    if source_is_gone:
        shutil.rmtree(tmp_path / "one" / "source")
    else:
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(module, "train", train_the_source_alone)
            weights("one", parts[1])
    assert same_state(weights("one", parts[1], resume=True), weights("two", parts[1]))
    assert not same_state(first, weights("two", parts[1], resume=True))


def test_models_that_transfer_nothing_are_refused_before_the_first_is_trained(tmp_path):
    grey = load_data(tiny_config(DATA__NUM_TRAIN=100))
    cfg = tiny_config(OUTPUT_DIR=str(tmp_path / "out"))
    wide = tiny_config(OUTPUT_DIR=str(tmp_path / "out"), MODEL__WIDTH=8)
    for target_cfg, target in ((cfg, grey), (wide, tiny_data())):
        with pytest.raises(DataError, match="the model of the pre-training"):
            transfer(cfg, tiny_data(), target_cfg, target)
    assert not (tmp_path / "out").exists()


def test_wrong_labels_go_first_when_the_model_has_learnt_the_right_ones():
    """Without Eq. 5 the highest losses are pushed out: the planted faults."""
    cfg = tiny_config(
        SOLVER__EPOCHS=16,
        ADAPRUNER__WARMUP_EPOCHS=4,
        ADAPRUNER__KEEP_RATIO=0.9,
        ADAPRUNER__SELECTION_LOSS=False,
    )
    noisy, wrong = with_wrong_labels(tiny_set(120), 0.1, seed=0)
    selection = prune(cfg, noisy, save=False)
    dropped = ~selection.columns["kept"].astype(bool)
    assert dropped.sum() == len(wrong) == 12
    assert dropped[wrong.numpy()].sum() >= 10


def test_a_warm_up_that_leaves_no_epoch_is_refused():
    with pytest.raises(DataError, match=r"4 epochs of 36 images.*raise SOLVER\.EPOCHS or"):
        build_pruner(tiny_config(ADAPRUNER__WARMUP_EPOCHS=4), tiny_set())


def test_transfer_starts_from_the_source_s_weights_with_a_new_head(tmp_path):
    source_cfg = tiny_config(OUTPUT_DIR=str(tmp_path / "source"), SOLVER__EPOCHS=2)
    target_cfg = tiny_config(OUTPUT_DIR=str(tmp_path / "target"), SOLVER__EPOCHS=1, SOLVER__LR=0.0)
    target = load_data(tiny_config(DATA__NUM_TRAIN=100))
    grey = tiny_data()
    grey = Data(
        *(type(s)(s.name, s.keys, s.images[:, :1], s.labels, s.class_names) for s in (grey.train,)),
        type(grey.test)(
            grey.test.name,
            grey.test.keys,
            grey.test.images[:, :1],
            grey.test.labels,
            grey.test.class_names,
        ),
        grey.wrong,
    )
    transfer(source_cfg, grey, target_cfg, target)
    before = torch.load(tmp_path / "source" / "model.pt", weights_only=True)
    after = torch.load(tmp_path / "target" / "model.pt", weights_only=True)
    weights = [key for key in before if key.endswith("weight") and "fc" not in key]
    assert all(torch.equal(before[key], after[key]) for key in weights)  # the rate was 0
    assert (before["fc.weight"].shape[0], after["fc.weight"].shape[0]) == (3, 10)


def test_pruning_leaves_its_ratio_and_alpha_of_every_epoch(tmp_path):
    cfg = tiny_config(OUTPUT_DIR=str(tmp_path))
    found = prune(cfg, tiny_set())
    history = read_history(tmp_path)
    epochs = cfg.SOLVER.EPOCHS
    assert len(history.steps) == epochs and history.steps[-1] == epochs * history.steps[0]
    assert history.ratios[-1] == pytest.approx(found.soft_ratio)
    assert list(history.alphas) == sorted(history.alphas) and history.alphas[-1] > 1
    prune(cfg, tiny_set())  # a new run begins anew
    assert len((tmp_path / "metrics.json").read_text().splitlines()) == epochs


def test_a_method_without_a_mask_leaves_no_metrics(tmp_path):
    train(tiny_config(OUTPUT_DIR=str(tmp_path)), tiny_data(), guide=Recorder(36))
    assert not (tmp_path / "metrics.json").exists()


def test_resuming_a_finished_run_repeats_its_result(tmp_path):
    cfg = tiny_config(OUTPUT_DIR=str(tmp_path), ADAPRUNER__KEEP_RATIO=0.75)
    first = prune(cfg, tiny_set())
    again = prune(cfg, tiny_set(), resume=True)
    assert same_state(
        {k: v.tolist() for k, v in first.columns.items()},
        {k: v.tolist() for k, v in again.columns.items()},
    )


def test_classification_knows_neither_detection_nor_detectron2():
    code = (
        "import sys; sys.modules['detectron2'] = None\n"
        "import adapruner_det.classification.run, adapruner_det.report.summary\n"
        "print([m for m in sys.modules if m.startswith('adapruner_det.detection')])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
