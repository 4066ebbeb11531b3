import json
import logging
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from adapruner_det.experiment import results as module
from adapruner_det.experiment.board import Part, board_of, ratios_of, selection_of
from adapruner_det.experiment.figures import draw
from adapruner_det.experiment.grid import Grid
from adapruner_det.experiment.origin import origin
from adapruner_det.experiment.results import (
    Change,
    changes_of,
    changes_report,
    lost_lines,
    write_results,
)
from adapruner_det.experiment.running import run_parts
from adapruner_det.report.changes import Changes, Objects
from tests.experiment.toy import N, make_toy

GRID = Grid(("random", "toy_loss", "toy_thumb"), (0.7, 0.4), (0, 1))


def part_of(grid, make, root):
    """The grid, run: its name, its cells and its task."""
    part, task = Part(grid, make), make()
    run_parts([part], root, tasks=[task])
    return "mine", board_of([part], [task], root)[0], task


@pytest.fixture
def root(tmp_path):
    return tmp_path / "grid"


@pytest.fixture
def done(tmp_path, root):
    return part_of(GRID, partial(make_toy, tmp_path), root)


def test_all_files_are_written_and_name_each_other(done, root):
    text = write_results(root, [done])
    assert text == (root / "table.md").read_text()
    assert text.startswith("# 60 points, softmax\n") and "Not complete" not in text
    assert "![accuracy by keep ratio, equal epochs](accuracy-epochs.png)" in text
    assert (root / "accuracy-epochs.png").read_bytes().startswith(b"\x89PNG")
    cells = json.loads((root / "cells.json").read_text())
    assert len(cells) == len(done[1].cells)
    chosen = [cell["result"] for cell in cells if cell["config"]["kind"] == "select"]
    assert all(own["seconds"] >= 0 and own.get("memory_mb", 99) > 50 for own in chosen)


def test_cells_that_another_program_made_are_said_to_be_mixed(done, root):
    assert "Warning: cells of several" not in write_results(root, [done])
    cell = next(cell for cell in done[1].cells if cell.kind == "train")
    result = done[1].result(cell)
    assert result["made_with"]["code"]
    result["made_with"] = {**result["made_with"], "code": "another"}
    code = origin("cpu")["code"]
    assert f"- Warning: cells of several code: {code} (" in write_results(root, [done])


def test_the_memory_of_what_a_method_reads_is_among_its_own(done, root, monkeypatch):
    rows = [row for row in module.rows_of(done[1]) if row.method == "toy_loss" and row.seed == 0]
    if rows[0].select_memory is None:
        pytest.skip("this system does not say")
    figures = {cell.name: dict(own) for cell, own in zip(done[1].cells, [
        done[1].result(cell) for cell in done[1].cells], strict=True)}  # fmt: skip
    for cell in done[1].cells:
        if cell.kind == "record":
            figures[cell.name]["memory_mb"] = 1e6
    done[1].results = figures
    rows = {row.method: row for row in module.rows_of(done[1]) if row.seed == 0}
    assert rows["toy_loss"].select_memory == 1e6 > rows["random"].select_memory
    assert rows["full"].select_memory is None
    for cell in done[1].cells:
        if cell.kind == "record":
            del figures[cell.name]["memory_mb"]
    rows = {row.method: row for row in module.rows_of(done[1]) if row.seed == 0}
    assert rows["toy_loss"].select_memory is None and rows["random"].select_memory


def test_several_tasks_have_a_section_and_a_picture_each(done, root, tmp_path, monkeypatch):
    other = part_of(Grid(("random",), (0.4,)), partial(make_toy, tmp_path, identity="b"), root)
    titles = []
    monkeypatch.setattr(module, "draw", lambda *own: [titles.append(own[1]), draw(*own)][1])
    text = write_results(root, [done, ("other", *other[1:])])
    assert "# mine: 60 points, softmax" in text and "# other: 60 points, softmax" in text
    assert (root / "accuracy-mine-epochs.png").is_file()
    assert (root / "accuracy-other-epochs.png").is_file()
    assert titles == ["mine: 60 points, softmax", "other: 60 points, softmax"]
    cells = json.loads((root / "cells.json").read_text())
    names = [cell["name"] for cell in cells]
    assert len(names) == len(set(names)) == len(done[1].cells) + 3
    assert [sum(cell["tasks"] == own for cell in cells) for own in (["mine"], ["other"])] == [
        len(done[1].cells), 3,
    ]  # fmt: skip
    assert "# What changed in the data of other: 60 points" in (root / "changes.md").read_text()
    write_results(root, [done, ("again", *done[1:])])  # the same cells under two names
    cells = json.loads((root / "cells.json").read_text())
    assert {tuple(cell["tasks"]) for cell in cells} == {("mine", "again")}


def test_half_of_a_grid_is_tabulated_too(done, root, tmp_path):
    part = Part(Grid((*GRID.methods, "toy_margin"), (0.7, 0.2), (0, 1)), done[2].__class__)
    board, _ = board_of([part], [done[2]], root)
    text = write_results(root, [("mine", board, done[2])])
    assert "Not complete: " in text and "toy_margin" not in text


def test_changes_are_of_each_selection_at_each_ratio(done, root):
    found = changes_of(done[1], done[2])
    assert len(found) == 3 * 2 * 2
    for own in found:
        (cell,) = (
            c for c in done[1].cells
            if (c.kind, c.method, c.seed) == ("select", own.method, own.seed)
            and c.keep_ratio in (None, own.keep_ratio)
        )  # fmt: skip
        kept = selection_of(cell, root, own.keep_ratio)
        expected = [
            sum(
                label == c
                for label, k in zip(done[2].labels, kept.columns["kept"], strict=True)
                if k
            )
            for c in range(3)
        ]
        assert [own.changes.images[name][1] for name in "abc"] == expected
    saved = write_results(root, [done]) and json.loads((root / "changes.json").read_text())
    assert len(saved) == 12 and saved[0]["task"] == "mine" and saved[0]["method"] == "random"
    assert sum(kept for _, kept in saved[0]["changes"]["images"].values()) == 42


def test_boxes_faults_and_hard_images_are_told_where_a_task_has_them(done, root):
    task = done[2]
    wrong = np.zeros(N, dtype=bool)
    wrong[:6] = True
    task.planted = {"wrong labels": wrong}
    task.objects = Objects(
        np.arange(N), task.labels, np.tile([0.0, 0.0, 9.0, 9.0], (N, 1)), np.full((N, 2), 30.0)
    )
    losses = np.load(next(root.glob("cells/record*s0*")) / "loss.npy")
    found = {(c.method, c.keep_ratio, c.seed): c.changes for c in changes_of(done[1], task)}
    own = found["toy_loss", 0.4, 0]
    kept = np.zeros(N, dtype=bool)
    kept[np.argsort(losses.mean(0), kind="stable")[:24]] = True
    assert own.dropped["wrong labels"] == (wrong[~kept].mean(), 0.1)
    hard = ~wrong & (losses.mean(0) >= np.quantile(losses.mean(0)[~wrong], 0.9))
    assert own.dropped["hard, right"] == pytest.approx((hard[~kept].mean(), hard.mean()))
    assert own.median_side == pytest.approx((0.3, 0.3))
    page = module.changes_report(changes_of(done[1], task), task)
    assert "| tall kept" in page
    assert page.count("| full ") == 2 and "| 1.00 " in page and "| 30.00 " in page
    table = page.partition("## 40% kept")[2].partition("% of the dropped")[2].splitlines()
    line, hard = (x for x in table if x.startswith("| random"))
    shares = [found["random", 0.4, s].dropped["wrong labels"][0] for s in (0, 1)]
    each = " ".join(f"{share / 0.1:.2f}" for share in shares)
    assert [cell.strip() for cell in line.split("|")[1:-1]] == [
        "random", "wrong labels", "10.0", f"{100 * np.mean(shares):.1f}",
        f"{np.mean(shares) / 0.1:.2f}", each, "",
    ]  # fmt: skip
    assert hard.split("|")[2].strip() == "hard, right"


def cells_of(page, start):
    """The cells of the lines of a page's tables that begin with a cell of ``start``."""
    lines = [[cell.strip() for cell in x.split("|")[1:-1]] for x in page.splitlines() if "|" in x]
    return [line for line in lines if line[0] in start]


def test_the_tables_of_changes_are_means_of_the_seeds(done):
    seeds = [
        Changes(
            {"a": (10, 6), "b": (4, kept)},
            {"a": (20, 9), "b": (4, kept)},
            {"all": 0.5, "tall": 0.1 * kept},
            per_image=(2.0, 1.5 + kept),
            median_side=(0.3, 0.1 * kept),
        )
        for kept in (1, 3)
    ]
    found = [Change("mine", 0.5, seed, own) for seed, own in enumerate(seeds)]
    page = changes_report(found, done[2])
    assert cells_of(page, ("method", "full", "mine")) == [
        ["method", "seeds", "objects an image", module.SIDE, "all kept", "tall kept",
         "least kept classes"],
        ["full", "", "2.00", "30.00", "", "", ""],
        ["mine", "2", "3.50", "20.00", "50.0", "20.0", "b 50.0, a 60.0"],
    ]  # fmt: skip
    assert cells_of(page, "ab") == [["a", "10", "20", "60.0 / 45.0"], ["b", "4", "4", "50.0"]]


@pytest.mark.parametrize(
    ("kept", "columns"), [(["all"], False), (["all", "in crowded images"], True)]
)
def test_objects_without_boxes_are_told_of_where_there_are_several(done, kept, columns):
    own = Changes({"a": (4, 2)}, {"a": (4, 2)}, dict.fromkeys(kept, 0.5), (1.0, 1.0))
    page = changes_report([Change("mine", 0.5, 0, own)], done[2])
    shares = [f"{name} kept" for name in kept] if columns else []
    assert cells_of(page, ("method", "full", "mine")) == [
        ["method", "seeds", *shares, "least kept classes"],
        ["mine", "1", *["50.0"] * len(shares), "a 50.0"],
    ]


def test_why_what_is_planted_went_is_summed_over_the_seeds(done, monkeypatch):
    def selections_of(cell, board):
        for ratio in ratios_of(cell, board):
            kept = np.arange(N) >= N * (1 - ratio)
            why = np.where(kept, "", np.where(np.arange(N) < 2 + cell.seed, "fault", "drawn"))
            yield ratio, SimpleNamespace(columns={"kept": kept, "why": why})

    monkeypatch.setattr(module, "selections_of", selections_of)
    done[2].planted = {"wrong": np.arange(N) < 6}
    page = module.changes_report(changes_of(done[1], done[2]), done[2])
    line, *_ = (x for x in page.splitlines() if x.startswith("| random") and "wrong" in x)
    assert line.split("|")[-2].strip() == "drawn 58%, fault 42%"  # 7 and 5 of 12


@pytest.mark.parametrize("without", [0, 1])
def test_a_seed_that_does_not_tell_yet_what_is_hard_is_left_out(done, without):
    done[2].planted = {"wrong": np.arange(N) < 6}
    found = [own for own in changes_of(done[1], done[2]) if own.method == "random"]
    for own in found:
        if own.seed == without:
            del own.changes.dropped["hard, right"]
    page = module.changes_report(found, done[2])
    lines = [line.split("|") for line in page.splitlines() if line.startswith("| random")]
    each = {line[2].strip(): line[-3].split() for line in lines if len(line) == 9}
    assert len(each["wrong"]) == 2 and len(each["hard, right"]) == 1


def test_how_hard_images_are_can_come_from_a_method_too(tmp_path, root, monkeypatch):
    make = partial(make_toy, tmp_path)
    _, board, task = part_of(Grid(("random",), (0.4,)), make, root)
    task.planted = {"wrong": np.arange(N) < 6}
    assert "hard, right" not in changes_of(board, task)[0].changes.dropped
    (cell,) = (cell for cell in board.cells if cell.kind == "select")
    path = cell.folder(root) / "selection.json"
    selection = module.Selection.load(path)
    selection.columns["mean_loss"] = np.arange(float(N))
    selection.save(path)
    assert "hard, right" in changes_of(board, task)[0].changes.dropped
    # Of what was never seen a mask has a loss of 0, which is none.
    selection.columns["times_seen"] = np.arange(N) % 2
    selection.save(path)
    known = module._losses(board)[0]
    assert np.array_equal(np.isnan(known), np.arange(N) % 2 == 0) and np.nanmax(known) == N - 1


def test_trainings_that_are_too_short_to_judge_by_are_one_line_a_setting(done, root):
    name, board, task = done
    assert "steps on the kept part are few" not in write_results(root, [done])
    task.pretrained = False
    text = write_results(root, [done])
    rows = module.rows_of(board)
    for ratio in (0.7, 0.4):
        (steps,) = {row.steps for row in rows if row.keep_ratio == ratio and row.method != "full"}
        line = f"- Warning: {100 * ratio:g}% kept, equal epochs: {steps} steps on the kept part"
        assert text.count(line) == 1
    long = [replace(row, steps=1500) if row.keep_ratio == 0.4 else row for row in rows]
    assert [line[:8] for line in module.short_lines(long)] == ["70% kept"]
    whole = [row for row in rows if row.method == "full"]
    assert module.short_lines(whole) == []
    assert module.short_lines([replace(row, steps=0) for row in rows]) == []  # not known


def test_classes_that_are_lost_are_one_line_in_the_table(tmp_path, root):
    task = make_toy(tmp_path)
    task.samples.class_names.append("rare")
    order = np.random.default_rng(0).permutation(N)
    part = Part(Grid(("random", "toy_loss"), (0.5,), (0, 1)), None)
    board, _ = board_of([part], [task], root)
    run_parts([part], root, tasks=[task])
    assert lost_lines(board) == []
    dropped = [
        set(np.flatnonzero(~selection_of(c, root, 0.5).columns["kept"]))
        for c in board.cells if c.kind == "select" and c.method == "random"
    ]  # fmt: skip
    place = next(int(i) for i in order if i in dropped[0] & dropped[1])
    task.samples.classes[place] = [3]
    run_parts([part], root / "again", tasks=[task])
    board, _ = board_of([part], [task], root / "again")
    (line,) = [line for line in lost_lines(board) if line.startswith("random")]
    assert line.startswith("random at keep ratio 0.5: ") and "rare" in line
    assert line.endswith("(seed 0, 1)")
    assert f"- Warning: {line}\n" in write_results(root / "again", [("x", board, task)])


def test_a_selection_that_was_damaged_since_is_said_and_left_out(done, root, caplog):
    (path,) = root.glob("cells/select-random-s0*/selection.json")
    path.write_text("{")
    with caplog.at_level(logging.WARNING):
        text = write_results(root, [done])
    assert str(path) in caplog.text and "| random" in text
    assert len(changes_of(done[1], done[2])) == 10
