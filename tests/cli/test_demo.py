import json
import shutil
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from adapruner_det import Selection
from adapruner_det.cli import demo as module
from adapruner_det.experiment.board import SELECTION
from adapruner_det.experiment.cells import write_done
from adapruner_det.experiment.grid import cells
from adapruner_det.experiment.task import Run
from adapruner_det.report import page as page_module
from tests.detection.toy import options_of, write_voc_folder
from tests.tools.running import ROOT, assert_one_error_line, run_here

AP50 = {"full": (60.0, 64.0), "random": (50.0, 52.0), "adapruner": (54.0, 53.0)}
SECONDS = {"full": 20.0, "random": 14.0, "adapruner": 16.0, "select": 30.0}
#: Of the ten images what each seed's selection drops; im0 and im1 are planted faults.
DROPPED = {"adapruner": ((0, 1, 9), (0, 5, 9)), "random": ((0, 7, 8), (7, 8, 9))}


def selection(task, method, seed):
    """As a file would have it."""
    kept = ~np.isin(np.arange(10), DROPPED[method][seed])
    columns = {"key": np.array(task.samples.keys), "digest": task.samples.digests, "kept": kept}
    columns["score"] = np.where(kept, 0.0, 1.0)
    return Selection(method, 0.7, seed, task.samples.datasets, columns)


def fill(grid, root, task):
    """Leave in ``root`` what a finished grid would, with results known beforehand."""
    for cell in cells(grid, task):
        seconds = SECONDS["select" if cell.kind == "select" else cell.method] + 2 * cell.seed
        cell.folder(root).mkdir(parents=True)
        result = {"seconds": seconds}
        if cell.kind == "train":
            value = AP50[cell.method][cell.seed]
            result = asdict(Run("AP50", value, 7, 10, 6.0, seconds, cell.seed))
        else:
            selection(task, cell.method, cell.seed).save(cell.folder(root) / SELECTION)
        write_done(cell, root, result)


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
    return SimpleNamespace(root=root, run=lambda *words: run_here(monkeypatch, tool, *words))


def stubbed(monkeypatch, cpus):
    """What the grid is run with, in place of running it."""
    calls = []

    def stub(grid, make_task, root, *, processes, task):
        assert make_task().identity == task.identity
        calls.append((grid, root, processes))
        fill(grid, root, task)

    monkeypatch.setattr(module, "run", stub)
    monkeypatch.setattr(module, "log_to", lambda path: None)
    monkeypatch.setattr("os.cpu_count", lambda: cpus)
    return calls


def test_it_prints_what_its_grid_found(demo, monkeypatch, capsys, tmp_path):
    calls = stubbed(monkeypatch, 16)
    assert demo.run() == 0
    ((grid, root, processes),) = calls
    assert (grid.methods, grid.keep_ratios, grid.seeds) == (("random", "adapruner"), (0.7,), (0, 1))
    assert (str(root), processes) == (f"{tmp_path}/out", 2)
    out = capsys.readouterr().out
    assert out.startswith("YOLOv3-Tiny on the demo data, 2 seeds: each prunes to 70%, then trains")
    lines = [line for line in out.splitlines() if line[:2] == "| "]
    table = {line.split("|")[1].strip(): line for line in reversed(lines)}  # the upper one's
    # sd of 60 and 64 over n - 1: sqrt(8).
    assert "| 62.00 ± 2.83 " in table["full"]
    assert "| 51.00 ± 1.41 " in table["random"]
    assert "| 53.50 ± 0.71 " in table["adapruner"]
    assert "adapruner cannot be told from random at 70% kept, equal epochs: +2.50" in out
    # Of the three that go two and one are faults, of which there are a fifth.
    (wrong,) = [line for line in lines if line.startswith("| adapruner | wrong label ")]
    words = [word.strip() for word in wrong.split("|")]
    assert words[3:7] == ["20.0", "50.0", "2.50", "3.33 1.67"]
    assert ": prune 31, all 21, random 15, selected 17.\nEverything together: " in out
    assert out.endswith(f"\nSelections: {tmp_path}/out/cells/select-adapruner-*/selection.json\n")


def test_it_shows_the_first_selection_on_a_page(demo, monkeypatch, capsys, tmp_path):
    stubbed(monkeypatch, 2)
    monkeypatch.setattr(module, "pictures_of", lambda selection: {})
    looked = []
    monkeypatch.setattr(page_module, "read_history", looked.append)
    assert demo.run() == 0
    (run,) = looked
    assert run.name == "run" and run.parent.name.startswith("select-adapruner-0.7-s0-")
    page = tmp_path / "out" / "report.html"
    assert capsys.readouterr().out.endswith(f"opened in a browser: {page}\n") and page.is_file()


def test_what_an_earlier_run_left_is_not_shown_again(demo, monkeypatch, tmp_path):
    calls = stubbed(monkeypatch, 16)
    assert demo.run() == 0
    old = sorted(path.name for path in (tmp_path / "out/cells").iterdir())
    (tmp_path / "out/report.html").touch()
    assert demo.run() == 0
    assert len(calls) == 2
    assert sorted(path.name for path in (tmp_path / "out/old-1/cells").iterdir()) == old
    assert (tmp_path / "out/old-1/report.html").is_file()


def test_it_goes_on_with_what_one_that_was_stopped_has_left(demo, monkeypatch, capsys, tmp_path):
    stubbed(monkeypatch, 16)
    assert demo.run() == 0
    assert "It goes on" not in capsys.readouterr().out
    next(tmp_path.glob("out/cells/train-full-*/done.json")).unlink()
    monkeypatch.setattr(module, "run", lambda *_, **__: None)
    assert demo.run() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("selected part. It goes on with what an earlier one has left.")
    assert any(line.startswith("| full ") and "| 1       |" in line for line in lines)
    assert not (tmp_path / "out/old-1/cells").exists()


def test_with_one_core_its_seeds_run_one_after_the_other(demo, monkeypatch):
    calls = stubbed(monkeypatch, None)
    assert demo.run() == 0
    assert [processes for *_, processes in calls] == [1]


def test_without_its_data_it_ends_with_one_line(demo, capsys):
    shutil.rmtree(demo.root / "datasets")
    assert demo.run() == 2
    assert_one_error_line(capsys.readouterr().err, "demo")


def test_its_help_needs_no_data_and_a_word_that_it_does_not_know_starts_nothing(demo, capsys):
    shutil.rmtree(demo.root / "datasets")
    assert demo.run("--help") == 0
    assert "What `make demo` runs" in capsys.readouterr().out
    assert demo.run("--seeds") == 2
    assert "unrecognized arguments: --seeds" in capsys.readouterr().err


@pytest.mark.slow
def test_it_runs_from_its_data_to_its_last_line(demo, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    monkeypatch.setattr(module, "log_to", lambda path: None)
    assert demo.run() == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [[word.strip() for word in line.split("|")] for line in lines if line[:2] == "| "]
    images = {row[1]: row[4] for row in reversed(rows)}  # the upper table's
    assert [images[name] for name in ("full", "random", "adapruner")] == ["10", "7", "7"]
    found = sorted(tmp_path.glob("out/cells/select-adapruner-*/selection.json"))
    selections = sorted(map(Selection.load, found), key=lambda own: own.seed)
    (wrong,) = [row for row in rows if row[1:3] == ["adapruner", "wrong label"]]
    gone = [sum(f"demo_trainval/im{i}" not in s.kept_keys for i in (0, 1)) for s in selections]
    assert wrong[6].split() == [f"{count / 3 / 0.2:.2f}" for count in gone]
