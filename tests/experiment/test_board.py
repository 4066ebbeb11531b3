import os

import pytest

from adapruner_det.errors import DataError
from adapruner_det.experiment.board import selection_of
from adapruner_det.experiment.cells import claim
from adapruner_det.experiment.grid import Grid
from adapruner_det.experiment.running import run
from tests.experiment.toy import SMALL, N, board_of, cell_of


def test_cuts_of_one_choice_are_nested_and_a_set_is_taken_as_it_is(make, root):
    grid = Grid(("toy_loss", "toy_thumb"), (0.7, 0.4))
    run(grid, make, root)
    chosen = cell_of(grid, make, "select", "toy_loss")
    large, small = (selection_of(chosen, root, ratio) for ratio in (0.7, 0.4))
    assert small.kept_keys < large.kept_keys and small.num_kept == 24
    for ratio in (0.7, 0.4):
        found = selection_of(cell_of(grid, make, "select", "toy_thumb", ratio), root, ratio)
        assert found.cut_from is None and found.num_kept == round(ratio * N)


def test_the_states_of_cells(make, root):
    grid = Grid(("toy_fails",), (0.7,))
    with pytest.raises(DataError):
        run(grid, make, root)
    board = board_of(grid, make, root)
    assert [board.state(cell) for cell in board.cells] == [
        "done",
        "failed: RuntimeError: it went wrong",
        "waiting",
    ]
    with claim(board.cells[1].folder(root)):
        assert board.state(board.cells[1]).startswith(f"running: process {os.getpid()} on ")
    assert board.state(cell_of(SMALL, make, "train", "random", 0.7)) == "waiting"


def test_a_selection_that_was_damaged_since_says_what_to_remove(make, root):
    run(SMALL, make, root)
    chosen = cell_of(SMALL, make, "select", "random")
    path = chosen.folder(root) / "selection.npz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=f"; remove the folder {chosen.folder(root)}, which is"):
        selection_of(chosen, root, 0.7)
