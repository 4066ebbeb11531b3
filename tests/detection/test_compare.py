import math

import pytest
import torch

from adapruner_det import Selection
from adapruner_det.detection.compare import Run, compare, table, verdict
from adapruner_det.detection.setup import load_config
from tests.detection.toy import options_of, write_voc_folder


def run(part, seed, ap50, images=8, seconds=2.0):
    return Run(part, seed, images, ap50, seconds)


RUNS = [
    run("prune", 0, 1.0, 10),
    run("all", 0, 60.0, 10, 10.0),
    run("random", 0, 50.0),
    run("selected", 0, 54.0),
    run("prune", 1, 2.0, 10),
    run("all", 1, 64.0, 10, 20.0),
    run("random", 1, 52.0),
    run("selected", 1, 51.0),
]


def test_the_table_has_mean_spread_and_every_seeds_own_value():
    lines = [line.split() for line in table(RUNS).splitlines()]
    # sd of 60 and 64 over n−1: sqrt(8).
    assert ["all", "10", "62.00", "±", "2.83", "60.00", "64.00", "15"] in lines
    assert ["random", "8", "51.00", "±", "1.41", "50.00", "52.00", "2"] in lines
    assert ["selected", "8", "52.50", "±", "2.12", "54.00", "51.00", "2"] in lines
    assert not any("prune" in line for line in lines)


def test_one_seed_has_no_spread():
    assert "60.00 ± 0.00" in table(RUNS[:4])


def test_the_verdict_says_by_how_much_and_in_how_many_seeds():
    won = [*RUNS[:7], run("selected", 1, 53.0)]
    assert verdict(won) == "Selection beats random here: +2.50 AP50, ahead in 2 of 2 seeds."


def test_a_lead_that_not_every_seed_shares_is_none():
    assert verdict(RUNS).startswith("Selection cannot be told from random here: +1.50 AP50, ahead")


@pytest.mark.parametrize("ap50", [51.0, 40.0])
def test_the_verdict_says_when_selection_does_not_win(ap50):
    runs = [*RUNS[:3], run("selected", 0, ap50), *RUNS[4:7], run("selected", 1, ap50)]
    gap = ap50 - 51.0
    assert verdict(runs).startswith(f"Selection does NOT beat random here: {gap:+.2f} AP50")


@pytest.mark.slow
def test_every_part_is_trained_for_the_same_epochs_on_its_images_and_tested(tmp_path, monkeypatch):
    write_voc_folder(tmp_path / "voc", train=10, test=4)
    folders = [f"cmp_train={tmp_path}/voc:train", f"cmp_test={tmp_path}/voc:test"]
    options = options_of("yolo_darknet", tmp_path / "out")
    options += ["ADAPRUNER.VOC_FOLDERS", folders, "DATASETS.TRAIN", ("cmp_train",)]
    cfg = load_config("", [*options, "DATASETS.TEST", ("cmp_test",)])
    before = cfg.clone()
    runs, selections = compare(cfg, [0, 3])
    assert cfg == before
    assert [(r.part, r.seed, r.images) for r in runs] == [
        (part, seed, images)
        for seed in (0, 3)
        for part, images in (("prune", 10), ("all", 10), ("random", 7), ("selected", 7))
    ]
    assert all(0 <= r.ap50 <= 100 or math.isnan(r.ap50) for r in runs)
    for seed, selection in zip((0, 3), selections, strict=True):
        folder = tmp_path / "out" / f"seed{seed}"
        assert Selection.load(folder / "prune" / "selection.json").kept_keys == selection.kept_keys
        assert selection.seed == seed
        steps = {}
        for part in ("prune", "all", "random", "selected"):
            state = torch.load(folder / part / "model_final.pth", weights_only=True)
            steps[part] = state["iteration"] + 1
        assert steps == {"prune": 15, "all": 15, "random": 10, "selected": 10}
