import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from adapruner_det import Selection
from adapruner_det.detection import compare as module
from adapruner_det.detection.compare import Run, table, verdict
from adapruner_det.report.faults import dropped_faults
from tests.detection.toy import options_of, write_voc_folder
from tests.tools.running import ROOT, assert_one_error_line, run_here

SECONDS = {"prune": 30.0, "all": 20.0, "random": 14.0, "selected": 16.0}
RUNS = [
    Run(part, seed, 10, 40.0 + seed * len(part), seconds + 2 * seed)
    for seed in (0, 1)
    for part, seconds in SECONDS.items()
]


def selection(seed, dropped):
    """Of ten images, without ``dropped``."""
    kept = ~np.isin(np.arange(10), dropped)
    keys = np.array([f"demo_trainval/im{i}" for i in range(10)])
    columns = {"key": keys, "digest": np.zeros(10, np.uint64), "kept": kept}
    columns["score"] = np.where(kept, 0.0, 1.0)
    return Selection("by hand", 0.7, seed, {"demo_trainval": "f"}, columns)


SELECTIONS = [selection(0, [0, 1, 9]), selection(1, [0, 5, 9])]


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """The tool in a project of its own, with data as small as a test's. What runs it."""
    root = tmp_path / "project"
    write_voc_folder(root / "datasets" / "demo", trainval=10, test=4)
    kinds = {f"im{i}": {"kind": "wrong_label" if i < 2 else "clean"} for i in range(14)}
    (root / "datasets/demo/truth.json").write_text(json.dumps({"images": kinds}))
    shipped = yaml.safe_load((ROOT / "configs/demo_yolov3tiny.yaml").read_text())
    pairs = options_of("yolo_darknet", tmp_path / "out")
    pairs += ["VERSION", 2, "DATASETS.TRAIN", shipped["DATASETS"]["TRAIN"]]
    pairs += ["DATASETS.TEST", shipped["DATASETS"]["TEST"]]
    pairs += ["ADAPRUNER.VOC_FOLDERS", shipped["ADAPRUNER"]["VOC_FOLDERS"]]
    config = {}
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        *path, name = key.split(".")
        node = config
        for part in path:
            node = node.setdefault(part, {})
        node[name] = list(value) if isinstance(value, tuple) else value
    (root / "configs").mkdir()
    (root / "configs/demo_yolov3tiny.yaml").write_text(yaml.safe_dump(config))
    (root / "tools").mkdir()
    tool = shutil.copy(ROOT / "tools/demo.py", root / "tools/demo.py")
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    monkeypatch.setenv("DETECTRON2_DATASETS", "/gone")  # so that it is put back
    monkeypatch.delenv("DETECTRON2_DATASETS")
    return SimpleNamespace(root=root, run=lambda: run_here(monkeypatch, tool))


def test_it_prints_what_its_comparison_found_and_nothing_else(demo, monkeypatch, capsys, tmp_path):
    calls, logs = [], []

    def stub(cfg, seeds, processes):
        calls.append((cfg, seeds, processes))
        return RUNS, SELECTIONS

    monkeypatch.setattr(module, "compare", stub)
    monkeypatch.setattr(module, "log_to_file", logs.append)
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    assert demo.run() == 0
    ((cfg, seeds, processes),) = calls
    assert (seeds, processes) == ([0, 1], 2)
    assert cfg.DATASETS.TRAIN == ("demo_trainval",) and logs == [cfg.OUTPUT_DIR]
    out = capsys.readouterr().out
    assert out.startswith("YOLOv3-Tiny on the demo data, 2 seeds: each prunes to 70%, then trains")
    kinds = {f"im{i}": "wrong_label" if i < 2 else "clean" for i in range(14)}
    parts = f"\n{table(RUNS)}\n{verdict(RUNS)}\n\n{dropped_faults(SELECTIONS, kinds)}\n\n"
    assert parts in out
    wrong = next(line.split() for line in out.splitlines() if line.startswith("wrong label"))
    # Of the two faults two and one are dropped, and by chance 0.6 would be.
    assert wrong == ["wrong", "label", "2", "1.5", "2", "1", "0.6", "2.50"]
    assert ": prune 31, all 21, random 15, selected 17. Everything together: " in out
    assert out.endswith(f"\nSelections: {tmp_path}/out/seed*/prune/selection.json\n")


def test_with_one_core_its_seeds_run_one_after_the_other(demo, monkeypatch):
    calls = []
    monkeypatch.setattr(
        module, "compare", lambda *_, processes: calls.append(processes) or (RUNS, SELECTIONS)
    )
    monkeypatch.setattr(module, "log_to_file", lambda folder: None)
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert demo.run() == 0
    assert calls == [1]


def test_without_its_data_it_ends_with_one_line(demo, capsys):
    shutil.rmtree(demo.root / "datasets")
    assert demo.run() == 2
    assert_one_error_line(capsys.readouterr().err, "demo")


@pytest.mark.slow
def test_it_runs_from_its_data_to_its_last_line(demo, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    monkeypatch.setattr(module, "log_to_file", lambda folder: None)
    assert demo.run() == 0
    lines = capsys.readouterr().out.splitlines()
    images = {words[0]: words[1] for line in lines if len(words := line.split()) > 1}
    assert [images[part] for part in ("all", "random", "selected")] == ["10", "7", "7"]
    found = [Selection.load(tmp_path / f"out/seed{seed}/prune/selection.json") for seed in (0, 1)]
    wrong = next(line.split() for line in lines if line.startswith("wrong label"))
    gone = [sum(f"demo_trainval/im{i}" not in f.kept_keys for i in (0, 1)) for f in found]
    assert wrong[4:6] == [str(count) for count in gone]
