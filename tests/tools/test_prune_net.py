import os
import signal

import pytest
import torch
import yaml
from detectron2.data import transforms as T

from adapruner_det import PruningMixin, Selection
from adapruner_det.detection.loader import build_pruning_train_loader
from adapruner_det.detection.trainer import EvaluatingTrainer
from adapruner_det.errors import reported
from tests.detection.toy import process_restored, register, squares, toy_cfg, write_voc_folder
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
from adapruner_det.detection.trainer import PruningTrainer

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


def test_a_run_writes_selection_logs_and_a_summary_of_ten_lines(voc, tmp_path, monkeypatch, capsys):
    output = tmp_path / "out"
    assert run_here(monkeypatch, "prune_net.py", *tool_arguments(voc, output)) == 0
    selection = Selection.load(output / "selection.json")
    assert (selection.num_samples, selection.num_kept) == (10, 7)
    assert set(selection.datasets) == {"own_train"}
    names = {path.name for path in output.iterdir()}
    assert {"config.yaml", "log.txt", "metrics.json", "model_final.pth"} <= names
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert yaml.safe_load((output / "config.yaml").read_text())["MODEL"]["YOLO"]["NUM_CLASSES"] == 2

    printed = capsys.readouterr().out
    assert "Evaluation results for own_test" in printed
    summary = printed.strip().splitlines()[-10:]
    assert summary[0] == "kept              7 of 10 images (70.00%), 3 dropped"
    assert f"train_pruned.py --selection {output}/selection.json" in summary[-1]
    assert summary[-1].endswith(f"OUTPUT_DIR {output}_kept")
    dropped = {f"own_train/im{i}" for i in range(10)} - selection.kept_keys
    (hardest,) = [line for line in summary if line.startswith("hardest dropped")]
    assert set(hardest[18:].split(", ")) == dropped


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


# What is wrong with the input: a change of the folder, options, and what the error line says.


def spoil(voc, what):
    if what == "an annotation that does not parse":
        (voc / "Annotations" / "im3.xml").write_text("<annotation><object>")
    elif what == "a split that names a missing image":
        (voc / "JPEGImages" / "im4.png").unlink()
    elif what == "a test split that names a missing image":
        (voc / "JPEGImages" / "im12.png").unlink()
    elif what == "no such split":
        (voc / "ImageSets/Main/train.txt").unlink()


BAD_INPUT = {
    "a keep ratio of 0": (["ADAPRUNER.KEEP_RATIO", 0.0], ["keep ratio is 0.0", "(0, 1]"]),
    "a keep ratio above 1": (["ADAPRUNER.KEEP_RATIO", 1.1], ["keep ratio is 1.1", "(0, 1]"]),
    "an unknown data set": (
        ["DATASETS.TRAIN", ("voc_2007_trainvall",)],
        ["no data set named 'voc_2007_trainvall'", "voc_2007_trainval", "VOC_FOLDERS"],
    ),
    "data that is not there": (
        ["DATASETS.TRAIN", ("voc_2007_trainval",)],
        ["VOC2007", "prepare_voc.py", "DETECTRON2_DATASETS", "`make demo` needs no data set"],
    ),
    "a folder that is not there": (
        ["ADAPRUNER.VOC_FOLDERS", ["own_train=/no/such/folder:train"]],
        ["/no/such/folder", "ImageSets"],
    ),
    "an annotation that does not parse": ([], ["Annotations/im3.xml", "does not parse", "mend"]),
    "a split that names a missing image": ([], ["train.txt", "'im4'", "image is missing"]),
    "a test split that names a missing image": ([], ["test.txt", "'im12'", "image is missing"]),
    "no such split": ([], ["ImageSets/Main/train.txt is missing"]),
    "a run that is too short": (["SOLVER.MAX_ITER", 5], ["2 epochs of 10", "SOLVER.MAX_ITER"]),
    "an unknown key": (["SOLVER.MAX_ITERS", 5], ["SOLVER.MAX_ITERS", "KEY VALUE"]),
    "a value without a key": (["5"], ["KEY VALUE"]),
    "a sampler that repeats": (
        ["DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"],
        ["RepeatFactorTrainingSampler", "use 'TrainingSampler'"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_INPUT)
def test_bad_input_gets_one_line_with_the_cure_and_writes_nothing(
    voc, tmp_path, monkeypatch, capsys, what
):
    options, parts = BAD_INPUT[what]
    spoil(voc, what)
    output = tmp_path / "out"
    assert run_here(monkeypatch, "prune_net.py", *tool_arguments(voc, output, *options)) == 2
    assert_one_error_line(capsys.readouterr().err, *parts)
    assert not output.exists()


def test_a_configuration_file_that_is_not_there_is_named(tmp_path, monkeypatch, capsys):
    gone = str(tmp_path / "gone.yaml")
    arguments = ["--config-file", gone, "OUTPUT_DIR", str(tmp_path / "out")]
    assert run_here(monkeypatch, "prune_net.py", *arguments) == 2
    assert_one_error_line(capsys.readouterr().err, gone)
    assert not (tmp_path / "out").exists()


def test_no_configuration_at_all_says_what_to_give(tmp_path, monkeypatch, capsys):
    assert run_here(monkeypatch, "prune_net.py", "OUTPUT_DIR", str(tmp_path / "out")) == 2
    assert_one_error_line(capsys.readouterr().err, "DATASETS.TRAIN", "--config-file")
    assert not (tmp_path / "out").exists()


def test_an_augmentation_that_mixes_images_is_refused_before_anything_is_written(tmp_path, capsys):
    """No key of Detectron2's adds one: it comes with a trainer of one's own."""

    class CopyPaste(T.Augmentation):
        def get_transform(self, image):
            return T.NoOpTransform()

    class Mixing(PruningMixin, EvaluatingTrainer):
        @classmethod
        def build_train_loader(cls, cfg):
            mapper = type("Mapper", (), {"augmentations": [CopyPaste()]})()
            return build_pruning_train_loader(cfg, mapper=mapper)

    with process_restored(), pytest.raises(SystemExit) as stop, reported():
        register("toy", squares(tmp_path / "images"))
        Mixing(toy_cfg("yolo_darknet", tmp_path / "out"))
    assert stop.value.code == 2
    assert_one_error_line(capsys.readouterr().err, "CopyPaste mixes images", "leave it out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("what", ["data that is not there", "an annotation that does not parse"])
def test_so_it_is_in_a_process_of_its_own_away_from_the_checkout(voc, tmp_path, what):
    options, parts = BAD_INPUT[what]
    spoil(voc, what)
    output = tmp_path / "out"
    command = [TOOL, "--config-file", ROOT / "configs" / "voc_yolov3tiny.yaml"]
    place = os.path.join(tmp_path, "nowhere")
    found = run_apart(*command, *tool_arguments(voc, output, *options), DETECTRON2_DATASETS=place)
    assert found.returncode == 2
    assert_one_error_line(found.stderr, *parts)
    if what == "data that is not there":
        assert os.path.join(place, "VOC2007") in found.stderr  # where it was looked for
    assert not output.exists()
