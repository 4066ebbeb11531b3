"""Paired differences of trainings, and what the page says of them."""

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from adapruner_det.errors import DataError
from adapruner_det.experiment.tables import gap, interval_text
from benchmarks import evidence as module
from benchmarks.evidence import (
    Trained,
    across_table,
    by_setting,
    cell_table,
    difference,
    summary_table,
    trained_in,
)

#: setting → seed → (all, random at 80%, inclusion at 80%, random at 30%, inclusion at 30%)
VALUES = {
    "clean": {0: (90, 80, 83, 60, 58), 1: (91, 82, 84, 61, 60)},
    "wrong": {0: (70, 60, 65, 40, 50), 1: (72, 62, 66, 41, 50)},
}


def rows():
    found = []
    for task, seeds in VALUES.items():
        for seed, own in seeds.items():
            methods = ("full", "random", "inclusion", "random", "inclusion")
            for method, keep, value in zip(methods, (1.0, 0.8, 0.8, 0.3, 0.3), own, strict=True):
                found.append(Trained("set", task, "accuracy", method, keep, seed, 10, float(value)))
    return found


def test_differences_are_paired_by_setting_and_seed():
    pooled = difference(rows(), "inclusion", 0.8)
    assert pooled.values == (3, 2, 5, 4) and pooled.mean == 3.5
    half = stats.t.ppf(0.975, 3) * np.std([3, 2, 5, 4], ddof=1) / 2
    assert pooled.half == pytest.approx(half)
    clean = [row for row in rows() if row.task == "clean"]
    assert difference(clean, "inclusion", 0.3).values == (-2, -1)
    assert difference(clean, "inclusion", 0.8, "full").values == (-7, -7)
    assert difference(rows(), "paper", 0.8) is None
    assert len(difference(rows()[:-1], "inclusion", 0.3).values) == 3  # a pair that is not done


def cells_of(table):
    lines = [[c.strip() for c in line.split("|")[1:-1]] for line in table.splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def test_a_line_a_cell():
    lines = cells_of(cell_table(rows()))
    assert [(x["data"], x["keep %"]) for x in lines] == [
        ("set, clean", "80"), ("set, clean", "30"), ("set, wrong", "80"), ("set, wrong", "30"),
    ]  # fmt: skip
    assert (lines[0]["all"], lines[0]["random"], lines[0]["seeds"]) == ("90.50", "81.00", "2")
    assert lines[1]["inclusion − random"].startswith("-1.50 (")
    assert lines[0]["inclusion − all"] == "-7.00"  # in each seed, so that no spread is known
    (line, *_) = cells_of(cell_table(rows()[:2] + rows()[5:10]))  # a seed that is not done
    assert line["seeds"] == "1" and line["inclusion − random"].startswith("+2.00")
    paper = replace(rows()[2], method="paper")  # of one seed, where inclusion has two
    assert cells_of(cell_table([*rows(), paper]))[0]["seeds"] == "1 to 2"


def test_cells_below_random_are_counted():
    (line,) = cells_of(summary_table(rows()))
    assert line["method"] == "inclusion" and line["cells"] == "4"
    assert line["mean over cells"] == f"{np.mean([2.5, -1.5, 4.5, 9.5]):+.2f}"
    assert line["worst cell"].startswith("-1.50")
    assert (line["below random"], line["with the interval"]) == ("1", "0")
    assert line["pooled at 80%"].startswith("+3.50 (") and "4 of 4 pairs" in line["pooled at 80%"]
    sure = [row for row in rows() if row.task == "wrong"]
    for method, values in (("random", (50.0, 51.0)), ("inclusion", (40.0, 41.1))):
        for seed, value in enumerate(values):
            sure.append(Trained("set", "x", "accuracy", method, 0.3, seed, 1, value))
    (line,) = cells_of(summary_table(sure))
    assert (line["below random"], line["with the interval"]) == ("1", "1")


def test_a_method_of_few_seeds_is_not_on_the_page():
    again = [replace(row, seed=seed) for row in rows() for seed in (row.seed, row.seed + 2)]
    lone = [replace(row, method="lone") for row in rows() if row.method == "inclusion"]
    text = module.page([*again, *lone])
    assert "| inclusion " in text and "lone" not in text and "4 sets" not in text


def test_each_setting_has_its_own_difference():
    assert [found.values for found in by_setting(rows(), "inclusion", 0.8)] == [(3, 2), (5, 4)]
    assert by_setting(rows(), "inclusion", 0.6) == []


def test_across_sets_each_ones_mean_is_one_value():
    (line,) = cells_of(across_table(rows()))
    expected = gap([2.5, 4.5])
    assert line["method"] == "inclusion"
    assert line["at 80%"] == f"{interval_text(expected)}, 2 of 2 sets"
    assert line["at 30%"] == f"{interval_text(gap([-1.5, 9.5]))}, 1 of 2 sets"
    some = [row for row in rows() if row.task == "clean" or row.keep_ratio != 0.3]
    assert cells_of(across_table(some))[0]["at 30%"].endswith("0 of 1 sets")


def test_where_many_methods_were_compared_each_has_a_line_the_best_first():
    more = [
        replace(row, method="aum", value=row.value + 4)
        for row in rows()
        if row.method == "inclusion" and row.task == "clean"
    ]
    deep = [replace(row, method="el2n") for row in more if row.keep_ratio == 0.3]
    assert module.settings_of_many(rows()) == []
    assert module.settings_of_many([*rows(), *more]) == ["set, clean"]
    lines = cells_of(module.methods_table([*rows(), *more], "set, clean"))
    assert [line["method"] for line in lines] == ["aum", "inclusion"]
    assert [line["mean"] for line in lines] == ["+4.50", "+0.50"]
    assert lines[1]["at 30%"] == interval_text(gap([-2, -1]))
    # One that lacks a ratio that most have is left out: a mean over others would say nothing.
    lines = cells_of(module.methods_table([*rows(), *more, *deep], "set, clean"))
    assert [line["method"] for line in lines] == ["aum", "inclusion"]
    others = [replace(row, method=name) for row in deep for name in ("grand", "tdds")]
    lines = cells_of(module.methods_table([*rows(), *more, *deep, *others], "set, clean"))
    assert [line["method"] for line in lines] == ["aum", "el2n", "grand", "tdds", "inclusion"]
    assert list(lines[0]) == ["method", "mean", "at 30%"] and lines[-1]["mean"] == "-1.50"
    light = [row for row in more if row.keep_ratio == 0.8]  # of no ratio there are most
    drawn = [row for row in rows() if row.method in ("full", "random")]
    both = [*more, *(replace(row, method="el2n") for row in light)]  # half of them have 30%
    (*_, line) = cells_of(module.methods_table([*drawn, *both], "set, clean"))
    assert line["method"] == "el2n" and list(line) == ["method", "mean", "at 80%"]
    assert module.methods_table([*drawn, *light, *deep], "set, clean") == ""
    many = [
        replace(row, seed=seed) for row in [*rows(), *more] for seed in (row.seed, row.seed + 2)
    ]
    page = module.page(many)
    assert "### All methods: set, clean" in page and "All methods: set, wrong" not in page
    assert "aum" not in page[: page.index("### All methods")]


def test_the_cells_of_all_sets_in_which_many_methods_were_compared_are_together_in_a_line():
    ours = [row for row in rows() if row.method == "inclusion"]
    aum = [replace(row, method="aum", value=row.value + 4) for row in ours]
    low = [replace(row, method="el2n", value=row.value - 40) for row in ours]
    some = [replace(row, method="grand") for row in ours if row.task == "clean"]
    lines = cells_of(module.overall_table([*rows(), *low, *aum, *some]))
    assert [line["method"] for line in lines] == ["aum", "inclusion", "el2n"]  # grand has half
    assert lines[1] == {
        "method": "inclusion",
        "cells": "4",
        "mean": "+3.75",
        "at 80%, 2 sets": "+3.50",
        "at 30%, 2 sets": "+4.00",
        "below random": "1",
        "with the interval": "0",
        "lowest cell": "-1.50 (set, clean at 30%)",
    }
    assert (lines[0]["mean"], lines[0]["below random"]) == ("+7.75", "0")
    assert (lines[2]["below random"], lines[2]["with the interval"]) == ("4", "4")
    # Of a set in which nothing but ours was trained there are no cells.
    clean = [row for row in [*low, *aum] if row.task == "clean"]
    assert {line["cells"] for line in cells_of(module.overall_table([*rows(), *clean]))} == {"2"}
    page = module.page([replace(row, seed=s) for row in [*rows(), *aum] for s in range(3)])
    assert "### All methods, all of their cells\n\n| method" in page
    assert "all of their cells" not in module.page(rows())


def test_no_pair_is_of_two_collections():
    """Another processor gives the same training another value."""
    here = [replace(row, source="here") for row in rows() if row.task == "clean"]
    there = [replace(row, source="there", value=row.value - 10) for row in here]
    aum = [replace(r, method="aum", value=r.value + 1) for r in there if r.method == "inclusion"]
    mixed = [*there, *aum, *(row for row in here if row.method != "full")]
    assert difference(mixed, "inclusion", 0.8).values == (3, 2)
    assert difference(mixed, "aum", 0.8).values == (4, 3)
    assert difference(mixed, "inclusion", 0.8, "full").values == (-7, -7)
    assert difference([*here, *aum], "aum", 0.8) is None
    (line, _) = cells_of(cell_table(mixed))
    assert (line["all"], line["random"], line["seeds"]) == ("80.50", "76.00", "2")
    (line, _) = cells_of(cell_table([*here, *there, *aum]))
    assert (line["all"], line["random"]) == ("85.50", "76.00")
    found = cells_of(module.methods_table(mixed, "set, clean"))
    assert {line["method"]: line["mean"] for line in found} == {
        "aum": "+1.50",
        "inclusion": "+0.50",
    }
    page = module.page([replace(row, seed=row.seed + k) for row in mixed for k in (0, 2)])
    assert "| 4 " in page  # seeds, and not trainings


def test_a_seed_of_two_collections_counts_once_by_the_mean_of_its_differences():
    here = [replace(row, source="here") for row in rows() if row.task == "clean"]
    there = [replace(row, source="there") for row in here if row.seed == here[0].seed]
    there = [replace(r, value=r.value + (4 if r.method == "inclusion" else 0)) for r in there]
    assert difference(here, "inclusion", 0.8).values == (3, 2)
    for mixed in ([*here, *there], [*there, *here]):
        assert difference(mixed, "inclusion", 0.8).values == (5, 2)
        assert difference(mixed, "inclusion", 0.8, "full").values == (-5, -7)
    aum = [replace(r, method="aum") for r in here if r.method == "inclusion"]
    found = cells_of(module.methods_table([*here, *there, *aum], "set, clean"))
    own = {line["method"]: line["at 80%"] for line in found}
    assert own["aum"] == own["inclusion"]  # of the file that has both, and of no other


def cell(kind="train", budget="epochs", options=None, **own):
    config = {"kind": kind, "budget": budget, "options": options or {}, "method": "adapruner",
              "keep_ratio": 0.8, "seed": 1}  # fmt: skip
    result = {"metric": "AP50", "images": 7, "value": 3.5}
    return {"name": "x", "tasks": ["a"], "config": config, "result": result, **own}


def test_trainings_are_read_from_the_cells_of_a_grid():
    dynamic = cell()
    dynamic["config"] |= {"method": "infobatch", "keep_ratio": 1.0}
    given = [
        cell(), cell(kind="select"), cell(budget="steps"),
        cell(options={"OBJECTIVE": "inclusion"}, tasks=["a", "b"]),
        cell(options={"B": 1, "A": 2}), dynamic,
    ]  # fmt: skip
    found = trained_in("g", given)
    assert [row.method for row in found] == [
        "paper",
        "inclusion",
        "inclusion",
        "adapruner[A=2,B=1]",
    ]
    assert found[2] == Trained("g", "b", "AP50", "inclusion", 0.8, 1, 7, 3.5)
    assert [row.setting for row in found[1:3]] == ["g, a", "g, b"]
    assert trained_in("a", [cell()])[0].setting == "a"


def test_what_is_collected_is_what_the_page_is_of(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "GRIDS", tmp_path / "grids")
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    with pytest.raises(DataError, match="name a file"):
        module.collect("toy")
    (tmp_path / "grids").mkdir()
    (tmp_path / "grids/toy.yaml").write_text("folder: out/toy\n")
    with pytest.raises(DataError, match="adapruner compare --grid"):
        module.collect("toy")
    folder, tables = tmp_path / "out/toy", {"toy": [cell()]}
    (folder / "cells").mkdir(parents=True)

    def tabulated(command, *, cwd, **_):
        """As the command does, in a folder that grids share."""
        assert command[1:5] == ["-m", "adapruner_det", "compare", "table"] and cwd == tmp_path
        name = Path(command[-1]).stem
        (folder / "cells.json").write_text(json.dumps(tables[name]))
        (folder / "table.md").write_text("![AP50](accuracy-epochs.png)\n")
        (folder / "changes.md").write_text("# What changed\n")
        (folder / "accuracy-epochs.png").write_bytes(b"png")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(module.subprocess, "run", tabulated)
    with monkeypatch.context() as failing:
        done = subprocess.CompletedProcess([], 2)
        failing.setattr(module.subprocess, "run", lambda *_, **__: done)
        with pytest.raises(DataError, match="cannot be tabulated"):
            module.collect("toy")
    module.collect("toy")
    assert module.collected() == [replace(trained_in("toy", [cell()])[0], source="toy")]
    more = [cell(), cell(options={"DROP": "auto", "OBJECTIVE": "inclusion"})]
    # A grid with the same cells and one more.
    (tmp_path / "grids/toy_auto.yaml").write_text("folder: out/toy\n")
    tables["toy_auto"] = more
    module.collect("toy_auto")
    found = [(row.source, row.method) for row in module.collected()]
    assert found == [("toy", "paper"), ("toy_auto", "paper"), ("toy_auto", "auto")]
    module.collect("toy")  # whose tables the other one's have replaced
    assert [(row.source, row.method) for row in module.collected()] == found
    text = (tmp_path / "results/evidence/toy.md").read_text()
    assert "](toy-accuracy-epochs.png)" in text and "# What changed" in text
    assert (tmp_path / "results/evidence/toy-accuracy-epochs.png").read_bytes() == b"png"


def test_collect_wants_the_names_of_grids(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["evidence.py", "collect"])
    with pytest.raises(SystemExit) as caught:
        module.main()
    assert caught.value.code == 2 and "collect what?" in capsys.readouterr().err
