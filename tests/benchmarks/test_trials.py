"""What trials share: the split, the rows, the interval."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from adapruner_det.errors import DataError
from adapruner_det.samples import Samples
from benchmarks import fault_gate, image_confidence, suspects_first, visits
from benchmarks.trials import add, complete, difference, held_out, ids_of, main, read, value_of
from tests.detection.toy import write_voc_folder


def test_a_split_holds_out_what_it_is_told_and_leaves_the_files_where_they_are(tmp_path):
    source = write_voc_folder(tmp_path / "voc", trainval=8, test=2)
    ids = ids_of(source)
    for test in (set(ids[2:5]), {ids[0]}):
        folder = held_out(source, test, tmp_path / "out")
        listed = (folder / "ImageSets/Main/test.txt").read_text().split()
        assert set(listed) == test and ids_of(folder) == [n for n in ids if n not in test]
        assert (folder / "Annotations" / f"{listed[0]}.xml").exists()
        assert (folder / "JPEGImages").resolve() == source / "JPEGImages"
    assert len(ids_of(source)) == 8


def test_rows_are_added_and_read(tmp_path):
    assert read(tmp_path / "none") == []
    rows = [{"seed": 1, "cut": "a", "AP50": 1.5}, {"seed": 2, "cut": "b", "AP50": 2.5}]
    for row in rows:
        add(tmp_path / "out", row)
    assert read(tmp_path / "out") == rows


def test_a_seed_is_complete_with_every_cut():
    rows = [{"seed": s, "cut": c} for s, c in ((3, "a"), (2, "b"), (1, "a"), (3, "b"), (1, "b"))]
    assert complete(rows, ("a", "b")) == [1, 3] and complete(rows, ("b",)) == [1, 2, 3]


@pytest.mark.parametrize("module", [fault_gate, image_confidence, suspects_first, visits])
@pytest.mark.filterwarnings("error")
def test_before_a_seed_is_complete_there_is_no_table(module, monkeypatch, tmp_path, capsys):
    for rows in ([], [{"keep": 0.6, "seed": 0, "cut": "random", "AP50": 1.0, "accuracy": 1.0}]):
        with pytest.raises(DataError, match="no seed has all of its trainings yet: run first"):
            module.table(rows)
    monkeypatch.setattr(sys, "argv", ["trial.py", "table", "--out", str(tmp_path)])
    with pytest.raises(SystemExit):
        main("A trial.", None, module.table, [0], out="output")
    assert capsys.readouterr().err == "error: no seed has all of its trainings yet: run first\n"


def test_a_trial_runs_with_its_places_and_seeds_and_tabulates_its_rows(
    tmp_path, monkeypatch, capsys
):
    calls = []

    def called(*words):
        monkeypatch.setattr(sys, "argv", ["trial.py", *words, "--out", str(tmp_path)])
        run = lambda **given: calls.append(given)  # noqa: E731
        main("A trial.", run, lambda rows: f"{len(rows)} rows", range(2), data="x/y", out="z")

    called("run")
    called("run", "--seeds", "7", "9", "--data", "d")
    assert calls == [
        {"data": Path("x/y"), "out": tmp_path, "seeds": [0, 1]},
        {"data": Path("d"), "out": tmp_path, "seeds": [7, 9]},
    ]
    add(tmp_path, {"seed": 1})
    capsys.readouterr()
    called("table")
    assert capsys.readouterr().out == "1 rows\n"


def test_a_part_is_trained_on_by_its_seed_and_its_folder_goes(tmp_path):
    keys = [f"set/{i}" for i in range(4)]
    samples = Samples(keys, np.arange(4, dtype=np.uint64), {"set": "x"}, [[0]] * 4)

    def train(seed, folder, *, kept):
        folder.mkdir()
        return SimpleNamespace(value=seed + sum(int(key[4:]) for key in kept.kept_keys))

    task = SimpleNamespace(samples=samples, train=train)
    keep = np.array([False, True, False, True])
    assert value_of(task, keep, 50, tmp_path / "work") == 54
    assert not (tmp_path / "work").exists()


def test_a_difference_has_students_interval():
    assert difference([1.0, 2.0, 3.0]) == "+2.00 (-0.48 to +4.48)"
    assert difference([-1.25]) == "-1.25"
    assert difference([0.5] * 4) == "+0.50"
