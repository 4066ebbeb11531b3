"""The tool as a user calls it, end to end on scikit-learn's digits."""

import numpy as np
import pytest
from PIL import Image

from adapruner_det import Selection
from adapruner_det.classification.task import make_task
from adapruner_det.cli.analyze import main
from adapruner_det.methods.random import random_selection
from tests.tools.running import ROOT, assert_one_error_line, run_apart

CONFIG = str(ROOT / "configs/classification/digits.yaml")
SMALL = ["DATA.NUM_TRAIN", "160", "SOLVER.EPOCHS", "3", "ADAPRUNER.WARMUP_EPOCHS", "1"]


@pytest.fixture
def digits(tmp_path):
    """(selection file, features file) of 160 digits, whose pixels are the features."""
    task = make_task(CONFIG, SMALL)
    file = random_selection(task.samples, 0.9, 0).save(tmp_path / "selection.json")
    images = np.stack([task.samples.image(i)[..., 0] for i in range(len(task.samples))])
    np.save(tmp_path / "features.npy", images.reshape(160, 64).astype(np.float32))
    return str(file), str(tmp_path / "features.npy")


def refused(capsys, *words):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_features_from_a_file(digits, tmp_path, capsys):
    selection, features = digits
    out = tmp_path / "out"
    main(["--selection", selection, "--features", features, "--output", str(out), "--seeds", "0"])
    assert sorted(p.name for p in out.iterdir()) == [
        "clusters.md", "embedding.npz", "embedding.png", "embedding.svg"
    ]  # fmt: skip
    text = (out / "clusters.md").read_text()
    assert (
        "random, 144 of 160 samples kept (digits_train)" in text
        and text in capsys.readouterr().out + "\n"
    )
    assert text.count("| Dunn index") == 3 and "without unit" in text
    with np.load(out / "embedding.npz") as found:
        assert found["points_all_0"].shape == (160, 2)
        assert found["points_kept_0"].shape == found["points_random_0"].shape == (144, 2)
        kept = found["key"][found["rows_kept_0"]]
    assert set(kept.tolist()) == Selection.load(selection).kept_keys
    assert Image.open(out / "embedding.png").width > 1000


def test_labels_and_features_of_a_second_model_from_files(digits, tmp_path):
    selection, features = digits
    labels = np.arange(160) % 2
    labels[:3] = -1
    np.save(tmp_path / "labels.npy", labels)
    main([
        "--selection", selection, "--features", features, "--features-of-kept", features,
        "--labels", str(tmp_path / "labels.npy"), "--output", str(tmp_path / "out"),
        "--no-control", "--seeds", "0", "1",
    ])  # fmt: skip
    with np.load(tmp_path / "out" / "embedding.npz") as found:
        names = {name for name in found if name.startswith("points")}
        assert found["points_all_0"].shape == (157, 2)
    assert names == {
        f"points_{part}_{seed}" for part in ("all", "kept", "all_other_model") for seed in (0, 1)
    }


@pytest.mark.slow
def test_the_features_of_trained_classifiers(digits, tmp_path):
    selection, _ = digits
    task = make_task(CONFIG, SMALL)
    task.train(0, tmp_path / "full")
    task.train(0, tmp_path / "kept", kept=Selection.load(selection))
    out = tmp_path / "out"
    main([
        "--selection", selection, "--output", str(out), "--config-file", CONFIG,
        "--weights", str(tmp_path / "full"), "--weights-of-kept", str(tmp_path / "kept"),
        "--seeds", "0", *SMALL,
    ])  # fmt: skip
    text = (out / "clusters.md").read_text()
    assert "all, other model" in text and text.count("| Dunn index") == 4


def test_what_does_not_fit_is_one_line(digits, tmp_path, capsys):
    selection, features = digits
    words = ["--selection", selection, "--output", tmp_path / "out"]
    assert_one_error_line(refused(capsys, *words), "--features FILE, or")
    both = [*words, "--features", features, "--weights", tmp_path]
    assert_one_error_line(refused(capsys, *both), "--features FILE, or")
    late = [*words, "--config-file", CONFIG, "SEED", "1", "--weights", tmp_path]
    assert_one_error_line(refused(capsys, *late), "--weights stands behind KEY VALUE")
    for spare in (["--weights-of-kept", tmp_path], ["--config-file", CONFIG], ["SEED", "1"]):
        given = [*words, "--features", features, *spare]
        assert_one_error_line(refused(capsys, *given), f"{spare[0]}", "has no effect")
    for seed in ("-1", 2**32):
        given = [*words, "--features", features, "--seeds", 0, seed]
        assert_one_error_line(refused(capsys, *given), f"--seeds has {seed}")
    given = [*words, "--features", features, "--seeds", 0, 1, 0]
    assert_one_error_line(refused(capsys, *given), "--seeds are [0, 1, 0]; give each once")
    given = [*words, "--weights", tmp_path, *SMALL]
    assert_one_error_line(refused(capsys, *given), "give its --config-file")
    given = [*words, "--weights", tmp_path, "--features-of-kept", features]
    assert_one_error_line(refused(capsys, *given), "--features-of-kept has no effect")
    for array, word in (
        (np.zeros((159, 3)), "(160, D)"),
        (np.zeros(160), "(160, D)"),
        (np.array([["a"]] * 160), "numbers"),
        (np.array([object()]), "no .npy file"),
    ):
        np.save(tmp_path / "x.npy", array, allow_pickle=True)
        given = [*words, "--features", tmp_path / "x.npy"]
        assert_one_error_line(refused(capsys, *given), "x.npy", word)
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 torn")
    given = [*words, "--features", tmp_path / "x.npz"]
    assert_one_error_line(refused(capsys, *given), "x.npz is no .npy file")
    with (tmp_path / "x.npy").open("wb") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (160, 10**11)}
        np.lib.format.write_array_header_1_0(file, header)
    given = [*words, "--features", tmp_path / "x.npy"]
    assert_one_error_line(refused(capsys, *given), "x.npy is no .npy file of numbers")
    np.save(tmp_path / "x.npy", np.zeros(160))
    given = [*words, "--features", features, "--labels", tmp_path / "x.npy"]
    assert_one_error_line(refused(capsys, *given), "whole numbers")
    given = [*words, "--features", tmp_path / "none.npy"]
    assert_one_error_line(refused(capsys, *given), "there is no file", "none.npy; np.save writes")
    given = [*words, "--features", selection]
    error = refused(capsys, *given)
    assert_one_error_line(error, "selection.json is no .npy file of numbers, which np.save writes")
    assert "pickle" not in error  # to load one without care is numpy's advice
    (tmp_path / "file").write_text("")
    given = ["--selection", selection, "--features", features, "--output", tmp_path / "file"]
    assert_one_error_line(refused(capsys, *given), "--output", "cannot be written")
    given = [*words, "--config-file", CONFIG, "--weights", tmp_path / "none", *SMALL]
    assert_one_error_line(refused(capsys, *given), "train in")
    given = [*words, "--config-file", CONFIG, "--weights", tmp_path, "DATA.NUM_TRAIN", "150"]
    assert_one_error_line(refused(capsys, *given), "made from other data")
    assert not (tmp_path / "out").exists()


def test_it_is_called_as_the_others_are(digits, tmp_path):
    selection, features = digits
    words = ["--selection", selection, "--features", features, "--no-control"]
    done = run_apart("-m", "adapruner_det", "analyze", *words, "--output", tmp_path / "one")
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "t-SNE of 160 samples (all), seed 0",
        "t-SNE of 144 samples (kept), seed 0",
    ]
    done = run_apart(ROOT / "tools" / "analyze.py", "--help")
    assert done.returncode == 0 and "--weights-of-kept" in done.stdout
