"""Which images are left, how long is trained, and what a section says of a grid."""

import sys
from argparse import Namespace
from types import SimpleNamespace

import numpy as np
import pytest

from adapruner_det.experiment.tables import Row
from benchmarks import real_data as module
from benchmarks.real_data import SETTINGS, configuration, section, thinned


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "data/bccd"
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for split, count in (("trainval", 21), ("test", 6)):
        ids = "".join(f"{split}{i}\n" for i in range(count))
        (folder / f"ImageSets/Main/{split}.txt").write_text(ids)
    return folder


def ids_of(folder, split):
    return (folder / f"ImageSets/Main/{split}.txt").read_text().split()


def test_training_images_are_thinned_and_those_of_the_test_are_not(source, tmp_path):
    assert thinned(source, 1, tmp_path / "out") == source
    for _ in range(2):  # it may be called again
        out = thinned(source, 4, tmp_path / "out")
    assert ids_of(out, "trainval") == [f"trainval{i}" for i in (0, 4, 8, 12, 16, 20)]
    assert ids_of(out, "test") == ids_of(source, "test")
    assert (out / "Annotations").resolve() == source / "Annotations"


@pytest.mark.parametrize("detector", module.DETECTORS)
def test_as_many_epochs_are_trained_as_the_settings_say(source, tmp_path, monkeypatch, detector):
    monkeypatch.chdir(tmp_path)
    side, width, _, every = SETTINGS["bccd", detector]
    epochs = 5  # so that the last step has fewer images than eight
    monkeypatch.setitem(SETTINGS, ("bccd", detector), (side, width, epochs, every))
    args = Namespace(data=str(source.parent), set="bccd", detector=detector, opts=["SEED", "3"])
    _, words = configuration(args)
    found = dict(zip(words[::2], words[1::2], strict=True))
    images = len(range(0, 21, every))
    assert found["SOLVER.MAX_ITER"] == int(np.ceil(epochs * images / 8))
    assert found["ADAPRUNER.WARMUP_EPOCHS"] == epochs // 2 and found["SEED"] == "3"
    assert "bccd_trainval" in found["DATASETS.TRAIN"] and "bccd_test" in found["DATASETS.TEST"]
    if side:
        assert f"[{344 * side / 416:.1f}, {319 * side / 416:.1f}]" in found["MODEL.YOLO.ANCHORS"]


def test_a_section_has_what_was_kept_the_table_and_a_verdict(monkeypatch):
    rows = [
        Row(method, ratio, "epochs", seed, value, 8, 0.0, 1.0)
        for method, ratio, values in (
            ("full", 1.0, (60.0, 61.0, 62.0)),
            ("random", 0.8, (50.0, 51.0, 52.0)),
            ("adapruner", 0.8, (52.0, 53.1, 53.9)),
        )
        for seed, value in enumerate(values)
    ]
    cells = [
        SimpleNamespace(kind=kind, method=method, seed=seed)
        for kind, method in (("select", "random"), ("select", "adapruner"), ("train", "adapruner"))
        for seed in range(2)
    ]
    monkeypatch.setattr(module, "rows_of", lambda board: rows)

    def chosen(cell, root, ratio):
        assert (cell.kind, cell.method, ratio) == ("select", "adapruner", 0.8)
        soft = 0.8 - cell.seed / 100
        return SimpleNamespace(num_kept=8 + cell.seed, num_samples=11, soft_ratio=soft)

    monkeypatch.setattr(module, "selection_of", chosen)
    monkeypatch.setattr(sys, "argv", ["benchmarks/real_data.py", "--set", "bccd"])
    board = SimpleNamespace(cells=cells, root=None)
    task = SimpleNamespace(title="bccd, a detector", metric="AP50", epochs=16)
    text = section(board, task, 0.8, 12.4)
    assert text.startswith("## bccd, a detector\n\n    python benchmarks/real_data.py --set bccd\n")
    assert "Kept 8/11 9/11, soft ratio before the cut 0.8000 0.7900." in text
    assert "16 epochs; 12 s together." in text and "51.00 ± 1.00" in text
    assert "adapruner beats random at 80% kept, equal epochs: +2.00 (" in text
    assert "ahead in 3 of 3 seeds" in text
