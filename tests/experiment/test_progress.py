import logging

from adapruner_det.experiment import board
from adapruner_det.experiment import progress as module
from adapruner_det.experiment.cells import claim, write_done
from adapruner_det.experiment.grid import Grid
from adapruner_det.experiment.progress import Progress
from adapruner_det.experiment.running import run
from tests.experiment.toy import board_of


def test_lost_classes_are_told_once_a_choice_is_made(make, root, monkeypatch, caplog):
    task = make()
    task.samples.classes[0] = [2, 2]
    monkeypatch.setattr(board, "lost_classes_line", lambda s: f"lost of {s.num_kept}")
    run(Grid(("random", "toy_thumb"), (0.7, 0.4)), make, root, task=task)
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert told == [
        "random at keep ratio 0.7: lost of 42",
        "random at keep ratio 0.4: lost of 24",
        "toy_thumb at keep ratio 0.7: lost of 42",
        "toy_thumb at keep ratio 0.4: lost of 24",
    ]


def test_the_time_that_is_left_by_hand(make, root, monkeypatch):
    grid = Grid(("random",), (0.5,), (0, 1))
    board = board_of(grid, make, root)
    monkeypatch.setattr(module.time, "monotonic", lambda: 0.0)
    with Progress(board, 1) as progress:
        assert progress._text() == "time left not known yet"
        # All: 2 x (240 + 0 + 120) visits. Done: 240 in 12 s, so 480 more take 24 s.
        write_done(board.cells[0], root, {"seconds": 12.0, "value": 1.0, "images": 60})
        progress.update()
        assert progress._text() == "0:00:24 left"
        with claim(board.cells[1].folder(root)), claim(board.cells[3].folder(root)):
            write_done(
                board.cells[4], root, {"seconds": 1.0, "value": 1.0, "images": 30}
            )  # costs no visits, but time
            progress.update()
        assert progress._text() == "0:00:13 left"  # 480 x 13 s / 240 / 2
        monkeypatch.setattr(module.time, "monotonic", lambda: 14.0)
        assert progress._text() == "0:00:00 left"
