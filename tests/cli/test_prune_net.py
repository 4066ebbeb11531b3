import json
import os
import pickle
import re
import signal
import subprocess
from argparse import Namespace
from functools import partial

import numpy as np
import pytest
import torch
import yaml

from adapruner_det import Selection
from adapruner_det.cli import prune_net
from adapruner_det.detection import flagged
from adapruner_det.detection.training.trainer import EvaluatingTrainer
from adapruner_det.methods import adapruner
from adapruner_det.methods.auto import decide
from tests.detection.coco_writer import content, write_coco
from tests.detection.toy import toy_cfg, write_voc_folder
from tests.tools.running import (
    ROOT,
    assert_one_error_line,
    run_apart,
    run_here,
    tool_arguments,
)

TOOL = ROOT / "tools" / "prune_net.py"

# Runs a tool that kills its process as soon as step KILL_AT is over.
KILLED = """
import os, runpy, signal, sys
from detectron2.engine import HookBase
from adapruner_det.detection.training.trainer import PruningTrainer

class Kill(HookBase):
    def after_step(self):
        if self.trainer.iter == int(os.environ["KILL_AT"]):
            os.kill(os.getpid(), signal.SIGKILL)

build_hooks = PruningTrainer.build_hooks
PruningTrainer.build_hooks = lambda self: [*build_hooks(self), Kill()]
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def voc(tmp_path):
    return write_voc_folder(tmp_path / "voc", train=10, test=4)


def test_a_run_writes_selection_logs_and_a_summary(voc, tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    assert run_here(monkeypatch, "prune_net.py", *tool_arguments(voc, output)) == 0
    selection = Selection.load(output / "selection.json")
    assert (selection.num_samples, selection.num_kept) == (10, 7)
    assert set(selection.datasets) == {"own_train"}
    assert selection.command.startswith("adapruner prune-net ")
    assert "ADAPRUNER.KEEP_RATIO 0.7" in selection.command
    assert str(tmp_path) not in selection.command
    names = {path.name for path in output.iterdir()}
    assert {"config.yaml", "log.txt", "metrics.json", "model_final.pth", "report.html"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert yaml.safe_load((output / "config.yaml").read_text())["MODEL"]["YOLO"]["NUM_CLASSES"] == 2

    printed = capsys.readouterr().out
    assert "Evaluation results for own_test" in printed
    summary = printed.strip().splitlines()[-11:]
    assert summary[0] == "kept              7 of 10 images (70.00%), 3 dropped"
    assert f"train_pruned.py --selection {output}/selection.json" in summary[-1]
    assert summary[-1].endswith(f"OUTPUT_DIR {output}_kept")
    dropped = {f"own_train/im{i}" for i in range(10)} - selection.kept_keys
    ends = [line[18:].split(", ") for line in summary if line[:15].endswith("est dropped")]
    assert set().union(*ends) == dropped


@pytest.mark.slow
def test_the_end_to_drop_is_found_out_on_held_out_images(tmp_path, monkeypatch, capsys):
    """Without a test set, which is not looked at."""
    monkeypatch.setattr(adapruner, "decide", partial(decide, trials=2))
    folder = write_voc_folder(tmp_path / "voc", train=20, test=2)
    output = tmp_path / "out"
    arguments = tool_arguments(
        folder, output, "DATASETS.TEST", (), "ADAPRUNER.DROP", "auto", "ADAPRUNER.OBJECTIVE",
        "inclusion", "SOLVER.MAX_ITER", 20, "SOLVER.STEPS", (18,), "ADAPRUNER.WARMUP_EPOCHS", 1,
    )  # fmt: skip
    assert run_here(monkeypatch, "prune_net.py", *arguments) == 0
    printed = capsys.readouterr().out
    assert "held-out AP50" in printed and "trainings on held-out parts took" in printed
    selection = Selection.load(output / "selection.json")
    assert (selection.num_kept, selection.parameters["drop"]) == (14, "auto")
    values = selection.parameters["auto_values"]
    assert {len(own) for own in values.values()} == {2}
    assert {"stratified draw", "own order", "both", "easy", "hard"} == set(values)
    assert "kept              14 of 20 images (70.00%), 6 dropped" in printed


def test_the_report_shows_all_images_and_may_fail_or_be_left_out(
    voc, tmp_path, monkeypatch, capsys, caplog
):
    def pruned(*words):
        arguments = tool_arguments(voc, tmp_path / "out", "DATASETS.TEST", ())
        assert run_here(monkeypatch, "prune_net.py", *words, *arguments) == 0
        assert (tmp_path / "out" / "selection.json").is_file()
        return "\nreport            " in capsys.readouterr().out

    # As if the dropped ones had gone for a fault, which the run's own model then says more of.
    monkeypatch.setattr(flagged, "flagged", lambda own: np.flatnonzero(~own.columns["kept"]))
    assert not pruned("--no-report")
    page = tmp_path / "out" / "report.html"
    assert not page.exists()
    assert pruned()
    text = page.read_text()
    assert text.count("data:image/webp") == 10 and "prune_net.py" in text
    data = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    said = [own is not None for own in data["predicted"]]
    assert said == [not kept for kept in data["kept0"]] and len(data["against"]) == 3

    def fails(selection):
        raise RuntimeError("a fault")

    page.unlink()
    monkeypatch.setattr(prune_net, "pictures_of", fails)
    assert not pruned()  # and the run has ended well all the same
    assert not page.exists()
    assert "report.html could not be written: a fault" in caplog.text


def test_evaluating_is_not_pruning(voc, tmp_path, monkeypatch, capsys):
    arguments = tool_arguments(voc, tmp_path / "out", detector="yolo_darknet")
    assert run_here(monkeypatch, "prune_net.py", "--eval-only", *arguments) == 2
    assert_one_error_line(capsys.readouterr().err, "train_pruned.py --eval-only")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("detector", "workers", "kill_at"),
    [("yolo_darknet", 0, 9), ("yolo_darknet", 2, 6), ("faster_rcnn_fpn", 0, 6)],
)
def test_a_killed_run_resumes_to_the_same_kept_keys_and_weights(
    voc, tmp_path, monkeypatch, detector, workers, kill_at
):
    def arguments(output):
        options = ("DATALOADER.NUM_WORKERS", workers, "DATASETS.TEST", (), "SOLVER.MAX_ITER", 13)
        return tool_arguments(voc, output, *options, detector=detector)

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run_here(monkeypatch, "prune_net.py", *arguments(whole)) == 0
    killed = run_apart("-c", KILLED, TOOL, *arguments(cut), KILL_AT=kill_at)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (cut / "selection.json").exists()
    assert not (cut / "model_final.pth").exists()
    resumed = run_apart(TOOL, "--resume", *arguments(cut))
    assert resumed.returncode == 0, resumed.stderr
    start = 4 * ((kill_at + 1) // 4)
    assert f"Starting training from iteration {start}" in resumed.stdout

    for name in ("selection.json", "selection.npz"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()
    mine, theirs = (
        torch.load(folder / "model_final.pth", weights_only=True) for folder in (cut, whole)
    )
    assert mine["model"].keys() == theirs["model"].keys()
    assert all(torch.equal(mine["model"][name], theirs["model"][name]) for name in theirs["model"])


# What is left out


def test_a_run_that_skips_can_be_trained_on_with_and_without_that_word(
    voc, tmp_path, monkeypatch, capsys
):
    (voc / "JPEGImages" / "im3.png").write_bytes(b"")
    (voc / "Annotations" / "im6.xml").write_text("<annotation>")
    output = tmp_path / "out"
    assert run_here(monkeypatch, "prune_net.py", *tool_arguments(voc, output)) == 2
    assert_one_error_line(capsys.readouterr().err, "2 samples are faulty", "ON_BAD_SAMPLE skip")
    assert not output.exists()
    skip = ["ADAPRUNER.ON_BAD_SAMPLE", "skip"]
    assert run_here(monkeypatch, "prune_net.py", *tool_arguments(voc, output, *skip)) == 0
    summary = capsys.readouterr().out
    assert "left out          own_train/im6, own_train/im3: faulty, see the selection" in summary
    selection = Selection.load(output / "selection.json")
    assert set(selection.excluded) == {"own_train/im3", "own_train/im6"}
    assert (selection.num_samples, selection.num_kept) == (8, 6)
    for number, options in enumerate((skip, [])):
        words = ["--selection", str(output / "selection.json")]
        words += tool_arguments(voc, tmp_path / f"kept{number}", "SOLVER.MAX_ITER", 8, *options)
        assert run_here(monkeypatch, "train_pruned.py", *words) == 0
        assert "on 6 of 8 images" in capsys.readouterr().out


# A folder that was used before, and one for the wrong purpose


def test_a_new_run_sets_the_old_one_aside_and_another_does_not_go_on_with_it(
    voc, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "out"
    short = ["SOLVER.MAX_ITER", 8, "DATASETS.TEST", ()]

    def run(tool, *words, options=()):
        arguments = tool_arguments(voc, output, *short, *options)
        return run_here(monkeypatch, tool, *words, *arguments)

    assert run("prune_net.py") == 0
    first = (output / "selection.json").read_bytes()
    for tool, options, part in (
        ("prune_net.py", ["ADAPRUNER.KEEP_RATIO", 0.5], "with another configuration (ADAPRUNER."),
        ("train_pruned.py", [], "of a run with another kind of run"),
    ):
        capsys.readouterr()
        assert run(tool, "--resume", options=options) == 2
        assert_one_error_line(capsys.readouterr().err, "model_final.pth", part.split("with ")[1])
    assert run("train_pruned.py", "--selection", f"{output}/selection.json") == 2
    assert_one_error_line(capsys.readouterr().err, "lies in OUTPUT_DIR", f"{output}_kept")
    assert run("prune_net.py", options=["MODEL.WEIGHTS", f"{output}/model_final.pth"]) == 2
    assert_one_error_line(capsys.readouterr().err, "MODEL.WEIGHTS", "lies in OUTPUT_DIR")
    assert (output / "selection.json").read_bytes() == first
    assert not (output / "old-1").exists()

    assert (output / "report.html").is_file()
    assert run("prune_net.py", "--no-report", options=["SEED", 2]) == 0
    assert (output / "old-1" / "report.html").is_file() and not (output / "report.html").exists()
    assert (output / "old-1" / "selection.json").read_bytes() == first
    assert (output / "selection.json").read_bytes() != first


def test_weights_in_a_pickle_are_refused_unless_they_are_trusted(
    voc, tmp_path, monkeypatch, capsys
):
    cfg = toy_cfg("yolo_darknet", "x")
    state = {k: v.numpy() for k, v in EvaluatingTrainer.build_model(cfg).state_dict().items()}
    file = tmp_path / "weights.pkl"
    file.write_bytes(pickle.dumps({"model": state, "__author__": "me"}))
    options = ["MODEL.WEIGHTS", file, "SOLVER.MAX_ITER", 8, "DATASETS.TEST", ()]
    arguments = tool_arguments(voc, tmp_path / "out", *options)
    assert run_here(monkeypatch, "prune_net.py", *arguments) == 2
    assert_one_error_line(capsys.readouterr().err, "weights.pkl is a pickle", "--trust-pickle")
    assert not (tmp_path / "out").exists()
    assert run_here(monkeypatch, "prune_net.py", "--trust-pickle", *arguments) == 0
    assert "train_pruned.py" in (line := capsys.readouterr().out.splitlines()[-1])
    assert "--trust-pickle" in line
    more = write_voc_folder(tmp_path / "more", train=20, test=2)
    options += ["SOLVER.MAX_ITER", 20, "SOLVER.STEPS", (18,), "ADAPRUNER.DROP", "auto"]
    again = tool_arguments(more, tmp_path / "auto", *options)
    with monkeypatch.context() as patch:
        patch.setattr(adapruner, "decide", partial(decide, trials=2))
        assert run_here(patch, "prune_net.py", "--trust-pickle", *again) == 0
    assert "trainings on held-out parts took" in capsys.readouterr().out


# Runs that end early, in processes of their own


def _same_files(mine, theirs):
    for name in ("selection.json", "selection.npz"):
        assert (mine / name).read_bytes() == (theirs / name).read_bytes()
    one, other = (
        torch.load(folder / "model_final.pth", weights_only=True)["model"]
        for folder in (mine, theirs)
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


# Runs a tool that, once step STOP_AT is over, signals itself or its whole group, or lets no file
# grow any more.
STOPPED = """
import os, resource, runpy, sys
from adapruner_det.detection.training.leaving import LeavingHook
from adapruner_det.detection.training.trainer import PruningTrainer
from detectron2.engine import HookBase

class Stop(HookBase):
    def after_step(self):
        if self.trainer.iter != int(os.environ["STOP_AT"]):
            return
        how = os.environ["HOW"]
        if how == "full":
            limit = os.path.getsize(os.path.join(self.trainer.cfg.OUTPUT_DIR, "log.txt"))
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit + 2000, limit + 2000))
        elif how == "SIGTERM":
            os.kill(os.getpid(), 15)
        else:
            os.killpg(0, 2)

# Its images would meet the limit of a file before the checkpoint does.
LeavingHook.before_train = lambda self: None
build_hooks = PruningTrainer.build_hooks
PruningTrainer.build_hooks = lambda self: [Stop(), *build_hooks(self)]
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "workers", "code"), [("SIGTERM", 0, 143), ("SIGINT", 1, 130), ("full", 0, 2)]
)
def test_a_run_that_must_end_says_so_and_goes_on_as_if_it_had_not(
    voc, tmp_path, monkeypatch, capsys, how, workers, code
):
    """SIGINT goes to the loader's processes too, as from a keyboard."""

    def arguments(output):
        options = ("DATALOADER.NUM_WORKERS", workers, "DATASETS.TEST", (), "SOLVER.MAX_ITER", 13)
        return tool_arguments(voc, output, *options)

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    ended = run_apart(
        "-c", STOPPED, TOOL, *arguments(cut), STOP_AT=8, HOW=how, start_new_session=True
    )
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr
    tag = (cut / "last_checkpoint").read_text()
    if how == "full":
        assert_one_error_line(ended.stderr, "cannot be written", "File too large")
        assert tag == "model_0000007.pth"
    else:
        assert tag == "model_0000008.pth"
        assert (
            "after 9 of 13 steps, which are saved; to go on, give the same command" in ended.stdout
        )
    assert not (cut / "selection.json").exists()
    assert not list(cut.glob(".*part~"))
    assert run_here(monkeypatch, "prune_net.py", *arguments(whole)) == 0
    assert run_here(monkeypatch, "prune_net.py", "--resume", *arguments(cut)) == 0
    _same_files(cut, whole)


@pytest.mark.slow
def test_the_line_that_says_what_to_do_next_does_it_word_for_word(tmp_path):
    """On COCO's files, in a folder with spaces and a quote, with a sample that is left out."""
    data = tmp_path / "my 'data'"
    file, images = write_coco(data, content(10))
    write_coco(data, content(3), "test.json")
    (images / "009.png").write_bytes(b"")
    sets = [f"my_{s}={data}/{s}.json:{images}" for s in ("train", "test")]
    arguments = tool_arguments(
        tmp_path, tmp_path / "out put",
        "ADAPRUNER.VOC_FOLDERS", [], "ADAPRUNER.COCO_SETS", sets, "DATASETS.TRAIN", ("my_train",),
        "DATASETS.TEST", ("my_test",), "ADAPRUNER.ON_BAD_SAMPLE", "skip", "SOLVER.MAX_ITER", 8,
    )  # fmt: skip
    pruned = run_apart("tools/prune_net.py", *arguments, cwd=ROOT)
    assert pruned.returncode == 0, pruned.stderr
    assert "warning: my_train: 1 of 10 sample(s) are faulty and left out" in pruned.stderr
    lines = pruned.stdout.strip().splitlines()
    assert lines[-1].startswith("train on it ")
    command = lines[-1].removeprefix("train on it").strip()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, shell=True, cwd=ROOT, capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "AP50" in done.stdout
    assert (tmp_path / "out put_kept" / "model_final.pth").exists()
    for stderr in (pruned.stderr, done.stderr):
        assert "FutureWarning" not in stderr and "Traceback" not in stderr


@pytest.mark.parametrize("rank", [None, 0, 1])
def test_of_several_processes_the_first_alone_prints_the_summary(monkeypatch, capsys, rank):
    class Trainer:
        selection, selection_path = "the selection", "out/selection.json"

        def __init__(self, cfg, index):
            pass

        def resume_or_load(self, resume):
            assert resume

        def train(self):
            assert self.command == "adapruner prune-net"

    monkeypatch.setattr(prune_net, "PruningTrainer", Trainer)
    monkeypatch.setattr(prune_net, "summarize", lambda selection, *_: f"summary of {selection}")
    monkeypatch.setattr(prune_net.dist, "is_initialized", lambda: rank is not None)
    monkeypatch.setattr(prune_net.dist, "get_rank", lambda: rank)
    args = Namespace(trust_pickle=True, resume=True, config_file="", num_gpus=2, opts=[])
    args.no_report, args.words, args.command = True, [], "adapruner prune-net"
    prune_net.prune(Namespace(OUTPUT_DIR="out", ADAPRUNER=Namespace(DROP="")), args, None)
    assert capsys.readouterr().out == ("" if rank else "summary of the selection\n")
    assert Trainer.trust_pickle
    words = prune_net.next_step(Namespace(OUTPUT_DIR="out"), args, "s.json").split()
    assert words[words.index("--selection") :] == [
        *("--selection", "s.json", "--num-gpus", "2", "--trust-pickle", "OUTPUT_DIR", "out_kept"),
    ]
