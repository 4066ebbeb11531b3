"""What is pre-trained on, by which seeds, and the table of it."""

import sys
from types import SimpleNamespace

import numpy as np

from benchmarks import classification_transfer as module
from benchmarks.classification_transfer import PARTS, report


def cells_of(text):
    lines = [[c.strip() for c in x.split("|")[1:-1]] for x in text.splitlines() if x[:2] == "| "]
    return {line[0]: line[1:] for line in lines}


def test_the_table_has_means_spreads_and_each_seed():
    found = {
        "scratch": [(np.nan, 30.0), (np.nan, 31.0), (np.nan, 35.0)],
        "full": [(10.0, 40.0), (12.0, 41.0), (14.0, 42.0)],
    }
    args = SimpleNamespace(keep_ratio=0.8, seeds=[3, 4, 5])
    text = report(args, found)
    assert "--keep-ratio 0.8 --seeds 3 4 5\n" in text and "\n80% of the 5,000" in text
    lines = cells_of(text)
    assert lines["scratch"] == ["", "32.00 ± 2.65", "30.00 31.00 35.00"]
    assert lines["full"] == ["12.00 ± 2.00", "41.00 ± 1.00", "40.00 41.00 42.00"]
    one = report(args, {part: values[:1] for part, values in found.items()})
    assert cells_of(one)["full"] == ["10.00", "40.00", "40.00"]


def test_every_seed_chooses_and_trains_for_itself(tmp_path, monkeypatch, capsys):
    calls = []
    samples = SimpleNamespace()

    def drawn(given, ratio, seed):
        assert given is samples
        calls.append(("random", ratio, seed))
        return "random"

    def pruned(cfg, train, save):
        calls.append(("selected", cfg.ADAPRUNER.KEEP_RATIO, cfg.SEED))
        return "selected"

    def transferred(source_cfg, source, target_cfg, target, selection):
        assert source_cfg.SEED == target_cfg.SEED
        assert (source.train.name, target.train.name) == ("cifar100_part", "cifar10")
        calls.append((selection, source_cfg.SEED))
        own = {None: 10.0, "random": 20.0, "selected": 30.0}[selection] + source_cfg.SEED
        return SimpleNamespace(accuracy=own), SimpleNamespace(accuracy=50.0 + own)

    def loaded(cfg):
        name = cfg.DATA.ROOT.rpartition("/")[2]
        return SimpleNamespace(train=SimpleNamespace(samples=samples, name=name))

    def trained(cfg, target, save):
        assert target.train.name == "cifar10" and cfg.DATA.NUM_TRAIN == 2000
        return SimpleNamespace(accuracy=40.0 + cfg.SEED)

    for name, own in {"load_data": loaded, "train": trained, "transfer": transferred,
                      "prune": pruned, "random_selection": drawn}.items():  # fmt: skip
        monkeypatch.setattr(module, name, own)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "page.md")
    words = ["--seeds", "1", "3", "--keep-ratio", "0.7", "--data", "data"]
    monkeypatch.setattr(sys, "argv", ["classification_transfer.py", *words])
    module.main()
    assert calls == [
        call
        for seed in (1, 3)
        for call in [(None, seed), ("random", 0.7, seed), ("random", seed),
                     ("selected", 0.7, seed), ("selected", seed)]
    ]  # fmt: skip
    lines = cells_of((tmp_path / "page.md").read_text())
    assert tuple(lines)[1:] == PARTS
    assert [lines[part][-1] for part in PARTS] == [
        "41.00 43.00", "61.00 63.00", "71.00 73.00", "81.00 83.00",
    ]  # fmt: skip
    assert lines["selected"][:2] == ["32.00 ± 1.41", "82.00 ± 1.41"]
    assert "seed 3, random: 73.00%" in capsys.readouterr().out
