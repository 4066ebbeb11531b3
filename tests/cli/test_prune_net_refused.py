"""Bad input: one line with the cure, and nothing written."""

import os

import pytest
from detectron2.data import transforms as T

from adapruner_det import PruningMixin
from adapruner_det.detection.data.loader import build_pruning_train_loader
from adapruner_det.detection.training.trainer import EvaluatingTrainer
from adapruner_det.errors import reported
from tests.detection.toy import process_restored, register, squares, toy_cfg, write_voc_folder
from tests.tools.running import (
    ROOT,
    assert_one_error_line,
    run_apart,
    run_here,
    tool_arguments,
)


@pytest.fixture
def voc(tmp_path):
    return write_voc_folder(tmp_path / "voc", train=10, test=4)


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
    "a keep ratio of 0": (["ADAPRUNER.KEEP_RATIO", 0.0], ["KEEP_RATIO is 0.0", "above 0"]),
    "a keep ratio above 1": (["ADAPRUNER.KEEP_RATIO", 1.1], ["KEEP_RATIO is 1.1", "at most 1"]),
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
    "an unknown key": (["SOLVER.MAX_ITERS", 5], ["'SOLVER.MAX_ITERS'", "mean SOLVER.MAX_ITER?"]),
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
    command = [
        ROOT / "tools" / "prune_net.py",
        "--config-file",
        ROOT / "configs" / "voc_yolov3tiny.yaml",
    ]
    place = os.path.join(tmp_path, "nowhere")
    found = run_apart(*command, *tool_arguments(voc, output, *options), DETECTRON2_DATASETS=place)
    assert found.returncode == 2
    assert_one_error_line(found.stderr, *parts)
    if what == "data that is not there":
        assert os.path.join(place, "VOC2007") in found.stderr  # where it was looked for
    assert not output.exists()
