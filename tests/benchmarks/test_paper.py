"""The paper's experiments, small, from the command to the page; and its figures as they stand."""

import json
import os
import re
import signal

import pytest

from adapruner_det.errors import DataError
from adapruner_det.experiment.grid import parse_method
from adapruner_det.experiment.tables import Row
from adapruner_det.settings import leaves
from benchmarks import paper
from benchmarks.paper import PAPER, TABLES, beside, config_of, main, parse
from tests.detection.toy import write_voc_folder

TINY = ["DATA.NUM_TRAIN", "60", "SOLVER.EPOCHS", "2", "SOLVER.BATCH_SIZE", "16"]
TINY += ["ADAPRUNER.WARMUP_EPOCHS", "1", "DEVICE", "cpu"]


def called(which, *words, folder, opts=TINY):
    main([which, "--scale", "cpu", "--seeds", "0", "--folder", str(folder), *words, "--", *opts])


def lines_of(text, heading):
    """The cells of the table below ``## heading``, without its head."""
    part = text.partition(f"\n## {heading}")[2].partition("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    return [[word.strip() for word in line.strip("|").split("|")] for line in lines]


# --- the paper's figures -----------------------------------------------------------------------


def test_its_figures_are_there_and_of_methods_that_there_are():
    options = {"WARMUP_EPOCHS": 3, "CLASSIFICATION_LOSS": True, "SELECTION_LOSS": True}
    counts = {}
    for which, own in PAPER.items():
        if which in ("source", "fig3"):
            continue
        for methods in (value for value in own.values() if isinstance(value, dict)):
            for method, values in methods.items():
                parse_method(method, options)
                assert all(0 < float(percent) <= 100 for percent in values)
                counts[which] = counts.get(which, 0) + len(values)
    assert counts == {
        "fig2": 12,
        "table1": 63,
        "table2": 96,
        "table3": 12,
        "table4": 24,
        "table5": 6,
    }


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("table1 tiny_imagenet_resnet50 random 85", 60.81),
        ("table1 tiny_imagenet_resnet50 adapruner 80", 73.79),
        ("table1 tiny_imagenet_resnet50 prototypes 70", 70.79),
        ("table2 resnet18 grand 90", 69.70),
        ("table2 resnet50 cg-score 95", 92.41),
        ("table3 yolov3tiny adapruner 95", 56.65),
        ("table3 faster_rcnn adapruner 85", 70.20),
        ("table4 resnet50 adapruner 95", 96.25),
        ("table4 resnet18 adapruner[WARMUP_EPOCHS=0] 60", 94.40),
        ("table5 resnet18 adapruner 90", 96.37),
        ("table5 resnet50 adapruner[SELECTION_LOSS=False] 90", 96.02),
    ],
)
def test_some_of_them_as_they_are_printed(place, value):
    found = PAPER
    for word in place.split():
        found = found[word]
    assert found == value


@pytest.mark.parametrize("which", TABLES)
def test_every_part_of_a_table_is_one_of_an_experiment(which):
    where = parse([which, "--data", "x"]).where
    experiments = TABLES[which](where)
    given = {name for name, value in PAPER[which].items() if isinstance(value, dict)}
    assert {own.name for own in experiments} == given
    for own in experiments:
        for method, values in PAPER[which][own.name].items():
            assert method in own.methods
            ratios = {f"{100 * ratio:g}" for ratio in own.keep_ratios}
            assert set(values) - {"100"} <= ratios


# --- configurations ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "name", "model", "own", "expected"),
    [
        ([], "cifar10", "resnet50", "", {"DATA.NAME": "cifar10", "MODEL.NAME": "resnet50",
                                         "SOLVER.EPOCHS": 200, "AUGMENT.CUTOUT": 16}),
        ([], "cifar10", "resnet50", "cifar10_finetune.yaml", {"MODEL.NAME": "resnet50",
                                                              "SOLVER.EPOCHS": 50}),
        ([], "tiny_imagenet", "resnet50", "", {"MODEL.PRETRAINED": True,
                                               "ADAPRUNER.ALPHA_END": 100.0}),
        (["--data", "d"], "cifar100", "resnet18", "", {"DATA.NAME": "packed",
                                                       "DATA.ROOT": "d/cifar100_part"}),
        (["--scale", "cpu"], "cifar10", "resnet50", "", {"DATA.NAME": "digits",
                                                         "MODEL.WIDTH": 32}),
        (["--scale", "cpu"], "cifar10", "resnet18", "x", {"DATA.NUM_TRAIN": 300, "DATA.SEED": 1,
                                                          "SOLVER.LR": 0.02}),
        (["--scale", "cpu", "--data", "d"], "cifar10", "resnet18", "", {
            "DATA.ROOT": "d/cifar10", "DATA.NUM_TRAIN": 10000, "DATA.SHRINK": 2,
            "MODEL.WIDTH": 16, "SOLVER.EPOCHS": 40}),
        (["--", "SOLVER.EPOCHS", "3"], "cifar100", "resnet18", "", {"SOLVER.EPOCHS": 3}),
    ],
)  # fmt: skip
def test_what_a_scale_and_a_model_make(words, name, model, own, expected):
    found = dict(leaves(config_of(parse(["fig2", *words]).where, name, model, own)))
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize("which", ["fig2", "table2", "table4", "table5"])
def test_the_small_model_selects_and_each_is_trained(which):
    for own in TABLES[which](parse([which, "--scale", "cpu"]).where):
        task = own.make()
        chooser, learner = getattr(task, "chooser", task), getattr(task, "learner", task)
        width = 32 if own.name.endswith("resnet50") else 16
        assert (chooser._cfg.MODEL.WIDTH, learner._cfg.MODEL.WIDTH) == (16, width)
        if which == "table2":  # other digits come second
            assert learner._target_cfg.MODEL.WIDTH == width
            assert len(learner._target.train) == 300 < len(learner.data.train)


def test_arguments_leave_parts_out():
    args = parse(["table4", "--keep-ratios", "0.9", "--methods", "adapruner"])
    (own, _) = TABLES["table4"](args.where)
    grid = paper.grid_of(own, args)
    assert grid.methods == ("adapruner", "adapruner[WARMUP_EPOCHS=0]") and grid.seeds == (0, 1, 2)
    assert grid.keep_ratios == (0.9,)
    args.keep_ratios = [0.31]
    with pytest.raises(DataError, match="nothing is left of it"):
        paper.grid_of(own, args)


@pytest.mark.parametrize(
    "words", [["--methods", "random"], ["--keep-ratios", "0.9"], ["--processes", "2"],
              ["--table-only"]],
)  # fmt: skip
def test_what_the_figure_of_embeddings_has_no_use_for_is_refused(words, capsys, monkeypatch):
    monkeypatch.setattr(paper.figure3, "main", lambda words: None)
    with pytest.raises(SystemExit) as caught:
        main(["fig3", "--scale", "cpu", *words])
    assert caught.value.code == 2
    assert f"error: {words[0]} has no effect on fig3" in capsys.readouterr().err


def test_it_ends_by_itself_after_some_minutes(monkeypatch):
    timers = []
    monkeypatch.setattr(paper.threading, "Timer", lambda *a: timers.append(a) or Timer())
    paper.end_after(0)
    assert not timers
    paper.end_after(8)
    assert timers == [(480.0, os.kill, (os.getpid(), signal.SIGTERM))]


class Timer:
    def start(self):
        assert self.daemon


# --- the page ----------------------------------------------------------------------------------


def test_differences_by_hand(monkeypatch):
    rows = [
        paper_row("full", 1.0, 0, 80.0), paper_row("full", 1.0, 1, 82.0),
        paper_row("full", 1.0, 2, 84.0), paper_row("random", 0.9, 2, 78.0),
        paper_row("random", 0.9, 0, 70.0), paper_row("random", 0.9, 1, 71.0),
        paper_row("adapruner", 0.9, 0, 83.0),
    ]  # fmt: skip
    monkeypatch.setattr(paper, "rows_of", lambda board: rows)
    theirs = {"adapruner": {"90": 96.4, "100": 96.27}}
    lines = lines_of(f"\n## x\n{beside(theirs, None)}", "x")
    assert lines == [
        ["full", "100", "96.27", "82.00 ± 2.00", "-14.27", "", ""],
        ["random", "90", "", "73.00 ± 4.36", "", "", "-9.00"],
        ["adapruner", "90", "96.40", "83.00", "-13.40", "+0.13", "+3.00"],
    ]  # of the seed that both have
    rows.clear()
    assert lines_of(f"\n## x\n{beside(theirs, None)}", "x")[0][2:5] == ["96.27", "", ""]
    assert lines_of(f"\n## x\n{beside({}, None)}", "x") == [["full", "100", "", "", "", "", ""]]


def paper_row(method, ratio, seed, value):
    return Row(method, ratio, "epochs", seed, value, 10, 0.0, 1.0)


# --- from end to end ---------------------------------------------------------------------------

ONE = ("--methods", "random", "--keep-ratios", "0.9")
FEW = ("--methods", "random", "el2n", "adapruner", "--keep-ratios", "0.9")


@pytest.mark.slow
@pytest.mark.parametrize("which", ["fig2", "table1", "table2", "table5"])
def test_a_table_is_made_small(which, tmp_path, capsys):
    called(which, *FEW, folder=tmp_path)
    text = (tmp_path / f"paper_{which}_cpu.md").read_text()
    assert text == capsys.readouterr().out[:-1]
    done, total = map(int, re.search(r"(\d+) of (\d+) cells are done", text).groups())
    assert done == total > 0 and "Other data and models" in text
    for own in TABLES[which](parse([which, "--scale", "cpu"]).where):
        lines = lines_of(text, own.name)
        wanted = [m for m in own.methods if m.split("[")[0] in ("random", "el2n", "adapruner")]
        assert sorted(line[0] for line in lines) == sorted(["full", *wanted])
        paper_own = PAPER[which][own.name].get("adapruner")
        ours = {line[0]: line for line in lines}
        assert ours["adapruner"][2] == (f"{paper_own['90']:.2f}" if paper_own else "")
        assert all(line[3] for line in lines)
    assert (tmp_path / "table.md").is_file() and (tmp_path / "changes.md").is_file()


@pytest.mark.slow
def test_what_was_stopped_goes_on_and_what_there_is_is_told(tmp_path, capsys, monkeypatch):
    real = paper.run_parts

    def stopped(*arguments, **rest):
        monkeypatch.setattr(paper, "run_parts", real)
        raise paper.Stopped(signal.SIGTERM)

    monkeypatch.setattr(paper, "run_parts", stopped)
    with pytest.raises(SystemExit) as caught:
        called("table4", *ONE, folder=tmp_path)
    assert caught.value.code == 128 + signal.SIGTERM
    assert "\n0 of " in capsys.readouterr().out
    called("table4", *ONE, folder=tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*/done.json")}
    called("table4", *ONE, folder=tmp_path)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*/done.json")}
    assert len(before) == 5


@pytest.mark.slow
def test_the_table_of_detectors_is_made_small(tmp_path, capsys):
    voc = write_voc_folder(tmp_path / "voc", train=10, test=4)
    opts = ["ADAPRUNER.VOC_FOLDERS", str([f"p_{own}={voc}:{own}" for own in ("train", "test")])]
    opts += ["DATASETS.TRAIN", "('p_train',)", "DATASETS.TEST", "('p_test',)"]
    opts += ["SOLVER.IMS_PER_BATCH", "4", "SOLVER.MAX_ITER", "6", "ADAPRUNER.WARMUP_EPOCHS", "1"]
    opts += ["MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0", "MODEL.YOLO.INPUT_SIZE", "64"]
    opts += ["INPUT.MIN_SIZE_TRAIN", "(48,)", "INPUT.MIN_SIZE_TEST", "48"]
    words = ("--keep-ratios", "0.8", "--methods", "adapruner")
    called("table3", *words, folder=tmp_path / "out", opts=opts)
    text = capsys.readouterr().out
    assert [line[:3] for line in lines_of(text, "faster_rcnn")] == [
        ["full", "100", "70.33"], ["adapruner", "80", "70.48"],
    ]  # fmt: skip
    assert [line[2] for line in lines_of(text, "yolov3tiny")] == ["56.57", "54.38"]
    configs = [cell["config"] for cell in json.loads((tmp_path / "out/cells.json").read_text())]
    assert sum(own["kind"] == "select" for own in configs) == 1  # for both detectors


@pytest.mark.slow
def test_the_figure_of_embeddings_is_made_small(tmp_path, capsys):
    called("fig3", folder=tmp_path, opts=[*TINY, "DATA.NUM_TRAIN", "200"])
    assert "8.79e-05" in capsys.readouterr().out
    assert (tmp_path / "figure3_mnist_cpu.png").is_file()
