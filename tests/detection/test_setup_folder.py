"""The folder of a run: whose it is, what an earlier run left in it, and what leaves it as it is."""

import os

import pytest
import torch
from detectron2.engine import default_argument_parser

from adapruner_det.detection import setup
from adapruner_det.detection.setup import require_elsewhere, run, run_folder
from adapruner_det.detection.training.checkpoints import WholeCheckpointer
from adapruner_det.errors import DataError
from adapruner_det.files import FolderInUse, locked
from tests.detection.toy import toy_cfg

IDENTITY = {"kind": "prune", "config": "c", "data": "d", "threads": 1}


def earlier_run(folder, identity=None, name="model_0000004"):
    """Leave in ``folder`` what a run leaves."""
    checkpointer = WholeCheckpointer(torch.nn.Linear(1, 1), str(folder))
    checkpointer.save(name, trainer={"hooks": {"RunState": identity or IDENTITY}})
    for file in ("selection.json", "selection.npz", "metrics.json", "toy_coco_format.json"):
        (folder / file).write_text("old")
    (folder / "notes.txt").write_text("the user's own")


def names(folder):
    return {p.name for p in folder.iterdir() if not p.name.startswith(".")}


OLD = {
    "model_0000004.pth", "last_checkpoint", "selection.json", "selection.npz", "metrics.json",
    "toy_coco_format.json",
}  # fmt: skip


def test_a_new_run_in_a_used_folder_sets_the_old_ones_files_aside(tmp_path, caplog):
    cfg = toy_cfg("yolo_darknet", tmp_path)
    earlier_run(tmp_path)
    part = tmp_path / ".model_final.pth.abc.part~"
    part.write_text("half")
    with run_folder(cfg, IDENTITY):
        assert names(tmp_path) == {"notes.txt", "old-1"}
        assert names(tmp_path / "old-1") == OLD
    assert not part.exists()
    assert "6 file(s) of an earlier run" in caplog.text
    (tmp_path / "config.yaml").write_text("VERSION: 2")
    with run_folder(cfg, IDENTITY):  # of one that failed before it had trained
        assert names(tmp_path) == {"notes.txt", "old-1", "config.yaml"}
    earlier_run(tmp_path)
    with run_folder(cfg, IDENTITY):
        assert names(tmp_path) == {"notes.txt", "old-1", "old-2"}
        assert names(tmp_path / "old-2") == OLD | {"config.yaml"}


def test_a_resumed_run_finds_its_files_where_they_were(tmp_path):
    cfg = toy_cfg("yolo_darknet", tmp_path)
    earlier_run(tmp_path)
    with run_folder(cfg, IDENTITY, resume=True):
        assert names(tmp_path) == OLD | {"notes.txt"}


def test_resuming_where_there_is_no_checkpoint_starts_anew(tmp_path):
    cfg = toy_cfg("yolo_darknet", tmp_path)
    (tmp_path / "selection.json").write_text("old")
    with run_folder(cfg, IDENTITY, resume=True):
        assert names(tmp_path) == {"old-1"}


@pytest.mark.parametrize("key", ["kind", "config", "data"])
def test_another_runs_folder_is_not_resumed_and_stays_as_it_is(tmp_path, key):
    cfg = toy_cfg("yolo_darknet", tmp_path)
    earlier_run(tmp_path)
    with (
        pytest.raises(DataError, match=r"model_0000004\.pth is of a run with (an)?other"),
        run_folder(cfg, {**IDENTITY, key: "x"}, resume=True),
    ):
        raise AssertionError
    assert names(tmp_path) == OLD | {"notes.txt"}


def test_an_evaluation_leaves_the_folder_as_it_is(tmp_path):
    earlier_run(tmp_path)
    with run_folder(toy_cfg("yolo_darknet", tmp_path), None):
        assert names(tmp_path) == OLD | {"notes.txt"}


def test_a_folder_is_one_runs_at_a_time(tmp_path):
    cfg = toy_cfg("yolo_darknet", tmp_path / "out")
    with run_folder(cfg, IDENTITY):
        earlier_run(tmp_path / "out")
        with pytest.raises(DataError, match="another run is writing to"), run_folder(cfg, IDENTITY):
            raise AssertionError
        assert names(tmp_path / "out") == OLD | {"notes.txt"}  # the first one's stay
    with run_folder(cfg, IDENTITY, resume=True):
        pass


@pytest.mark.parametrize("kind", ["a file", "below a file", "too long", "a pipe"])
def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path, kind):
    place = {
        "a file": tmp_path / "file",
        "below a file": tmp_path / "file" / "out",
        "too long": tmp_path / ("x" * 300),
        "a pipe": tmp_path / "pipe",
    }[kind]
    (tmp_path / "file").write_text("text")
    os.mkfifo(tmp_path / "pipe")
    with (
        pytest.raises(DataError, match="OUTPUT_DIR .* cannot be written to") as caught,
        run_folder(toy_cfg("yolo_darknet", place), IDENTITY),
    ):
        raise AssertionError
    assert "\n" not in str(caught.value)


def test_a_new_run_does_not_begin_with_weights_that_it_would_set_aside(tmp_path):
    out = tmp_path / "out"
    earlier_run(out, name="model_final")
    weights = str(out / "model_final.pth")
    cfg = toy_cfg("yolo_darknet", out, "MODEL.WEIGHTS", weights)
    with (
        pytest.raises(DataError, match="MODEL.WEIGHTS .* lies in OUTPUT_DIR .*another OUTPUT_DIR"),
        run_folder(cfg, IDENTITY),
    ):
        raise AssertionError
    assert (out / "model_final.pth").exists()
    (tmp_path / "link").symlink_to(out)  # the same folder by another name
    cfg.OUTPUT_DIR = str(tmp_path / "link")
    with pytest.raises(DataError, match="lies in OUTPUT_DIR"), run_folder(cfg, IDENTITY):
        raise AssertionError
    with run_folder(cfg, None):  # an evaluation of them
        pass
    with run_folder(cfg, IDENTITY, resume=True):  # begun with them, and now going on
        pass


def test_processes_that_cannot_be_started_leave_the_folder_as_it_is(tmp_path):
    earlier_run(tmp_path / "out")
    args = default_argument_parser().parse_args(["--num-gpus", "-1"])
    for folder in ("out", "new"):
        with pytest.raises(DataError, match="--num-gpus -1 .* no run"):
            run(args, toy_cfg("yolo_darknet", tmp_path / folder), print, identity=IDENTITY)
    assert names(tmp_path / "out") == OLD | {"notes.txt"} and not (tmp_path / "new").exists()


def test_a_selection_is_not_trained_on_in_the_folder_of_its_run(tmp_path):
    cfg = toy_cfg("yolo_darknet", tmp_path / "out")
    for path in (tmp_path / "out" / "selection.json", tmp_path / "x" / ".." / "out" / "s.json"):
        with pytest.raises(DataError, match=r"OUTPUT_DIR .*set another one, such as .*out_kept"):
            require_elsewhere(str(path), cfg)
    require_elsewhere(str(tmp_path / "out" / "old-1" / "selection.json"), cfg)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_machine_holds_the_folder_for_the_others(tmp_path, monkeypatch, rank):
    """They may share a disk, and start one after the other."""
    cfg, out = toy_cfg("yolo_darknet", tmp_path / "out"), tmp_path / "out"
    earlier_run(out)
    ran = []
    monkeypatch.setattr(setup, "start_processes", lambda *given: ran.append(given))
    monkeypatch.setattr(setup, "require_startable", lambda args: None)
    args = default_argument_parser().parse_args(
        ["--num-machines", "2", "--machine-rank", f"{rank}"]
    )
    with locked(out):
        if rank:
            run(args, cfg, print, identity=IDENTITY)
            assert names(out) == OLD | {"notes.txt"}
        else:
            with pytest.raises(FolderInUse):
                run(args, cfg, print, identity=IDENTITY)
    assert len(ran) == rank
