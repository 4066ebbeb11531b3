"""One detector selects, another is trained on what it keeps."""

from functools import partial

import numpy as np
import pytest

from adapruner_det.detection.task import make_task
from adapruner_det.experiment.board import Part, board_of, rows_of, selection_of
from adapruner_det.experiment.grid import Grid
from adapruner_det.experiment.results import changes_of
from adapruner_det.experiment.running import run_parts
from adapruner_det.experiment.transfer import Transfer
from tests.detection.task_toy import options


def make_both(folder):
    """YOLOv3-Tiny selects, Faster R-CNN is trained."""
    steps = ("SOLVER.MAX_ITER", 6, "SOLVER.STEPS", (), "ADAPRUNER.WARMUP_EPOCHS", 1)
    detectors = ("yolo_darknet", "faster_rcnn_c4")
    return Transfer(*(make_task("", options(folder, *steps, detector=own)) for own in detectors))


@pytest.mark.slow
def test_a_faster_rcnn_is_trained_on_what_a_yolo_keeps(voc, tmp_path):
    part = Part(Grid(("random", "adapruner"), (0.5,)), partial(make_both, voc))
    task = part.make_task()
    run_parts([part], tmp_path / "grid", tasks=[task])
    board, _ = board_of([part], [task], tmp_path / "grid")
    assert [row.images for row in rows_of(board)] == [10, 5, 5]
    chosen = {c.method: selection_of(c, board.root, 0.5) for c in board.cells if c.kind == "select"}
    assert chosen["adapruner"].config_digest == task.chooser.config_digest
    logs = {c.name: (c.folder(board.root) / "run" / "log.txt").read_text() for c in board.cells
            if c.kind == "train" or c.method == "adapruner"}  # fmt: skip
    for name, text in logs.items():
        assert ("loss_yolo_box" in text) == name.startswith("select"), name
        assert ("loss_rpn_cls" in text) == name.startswith("train"), name
    for change in changes_of(board, task):
        own = chosen[change.method].columns["kept"]
        boxes = task.samples.sizes
        assert change.changes.kept["all"] == pytest.approx(boxes[own].sum() / boxes.sum())
        assert np.isfinite(change.changes.median_side).all()


def test_checkpoints_of_a_detector_go_and_its_model_stays_if_it_is_to(voc, tmp_path):
    task = make_task("", options(voc))
    for name in ("model_0000003.pth", "model_final.pth", "last_checkpoint", "log.txt"):
        (tmp_path / name).write_text("x")
    task.tidy(tmp_path, model=True)
    left = {path.name for path in tmp_path.iterdir() if path.is_file()}
    assert left == {"model_final.pth", "last_checkpoint", "log.txt"}
    task.tidy(tmp_path, model=False)
    assert {path.name for path in tmp_path.iterdir() if path.is_file()} == {"log.txt"}
