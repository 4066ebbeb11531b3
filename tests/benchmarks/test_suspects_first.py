"""What goes first of a list, what the grid gives, what is dropped, and the table."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from adapruner_det.samples import Samples
from adapruner_det.selection import Selection, part_of
from benchmarks import suspects_first as module
from benchmarks.suspects_first import KINDS, LISTED, OWN, RANDOM, gone, of_grid, run, table
from benchmarks.trials import read

N = 50
CUTS = (RANDOM, OWN, *LISTED)


def samples():
    keys = [f"set/{i:03d}" for i in range(N)]
    return Samples(keys, np.arange(N, dtype=np.uint64), {"set": "x"}, [[0]] * N)


def selection(first=0):
    """Keeps 40, by the places from ``first`` on."""
    kept = np.roll(np.arange(N) < 40, first)
    made = part_of(samples(), kept)
    score = (np.arange(N) - first) % N
    return Selection("adapruner", 0.8, 0, made.datasets, {**made.columns, "score": score})


def test_what_is_dropped_is_counted_by_kind():
    truth = {f"{i:03d}": {"kind": KINDS[i % 5]} for i in range(N)}
    truth["049"] = truth["048"] = {"kind": "missing"}  # both go, as do 040 to 047
    found = gone(selection(), truth)
    assert found == pytest.approx(
        {"missing": 4 / 12, "swapped": 2 / 10, "shifted": 2 / 10, "twin": 1 / 9, "clean": 1 / 9}
    )


def test_the_grid_gives_a_seeds_values_and_what_was_selected_at_80(tmp_path):
    for method, seed, value in (("random", 5, 50.0), ("adapruner", 5, 52.0), ("adapruner", 15, 1.0),
                                ("el2n", 5, 2.0)):  # fmt: skip
        folder = tmp_path / f"cells/train-{method}-80-s{seed}-abc"
        folder.mkdir(parents=True)
        row = {"config": {"method": method}, "result": {"value": value}}
        (folder / "done.json").write_text(json.dumps(row))
        chosen = tmp_path / f"cells/select-{method}-s{seed}-def"
        chosen.mkdir()
        selection(seed).cut(0.9).save(chosen / "selection.json")
    found = of_grid(tmp_path, 5)
    assert {name: value for name, (value, _) in found.items()} == {RANDOM: 50.0, OWN: 52.0}
    for _, own in found.values():
        np.testing.assert_array_equal(own.columns["kept"], selection(5).columns["kept"])


def test_a_tenth_of_the_list_goes_first_and_then_the_whole_list(tmp_path, monkeypatch, capsys):
    place = 1 + np.arange(N)  # the list is in the order of the keys, the run's is the other one
    trained, kept = [], selection(10)
    truth = {f"{i:03d}": {"kind": KINDS[i % 5]} for i in range(N)}
    (tmp_path / "truth.json").write_text(json.dumps({"images": truth}))

    def train(seed, work, *, kept):
        work.mkdir(parents=True)
        trained.append((seed, kept))
        return SimpleNamespace(value=40.0 + len(trained))

    monkeypatch.setattr(module, "TRUTH", tmp_path / "truth.json")
    monkeypatch.setattr(module, "listed", lambda seed, folder: folder)
    monkeypatch.setattr(module, "read_list", lambda path, keys: place)
    monkeypatch.setattr(module, "make_task", lambda *_: SimpleNamespace(train=train))
    grid = {RANDOM: (30.0, selection()), OWN: (35.0, kept)}
    monkeypatch.setattr(module, "of_grid", lambda folder, seed: dict(grid))
    for _ in range(2):  # the second time all is there
        run(tmp_path / "grid", tmp_path / "out", [5])
    rows = read(tmp_path / "out")
    assert [(row["cut"], row["AP50"]) for row in rows] == [
        (RANDOM, 30.0), (OWN, 35.0), *zip(LISTED, (41.0, 42.0), strict=True),
    ]  # fmt: skip
    assert [seed for seed, _ in trained] == [5, 5]
    some, whole = (set(np.flatnonzero(~own.columns["kept"])) for _, own in trained)
    assert some == {0, 1, 2, 3, 4} | {5, 6, 7, 8, 9}  # of the run's own last ten these are left
    assert whole == set(range(10))
    monkeypatch.setattr(module, "read_list", lambda path, keys: place[::-1])
    run(tmp_path / "grid", tmp_path / "out", [6])
    some, whole = (set(np.flatnonzero(~own.columns["kept"])) for _, own in trained[2:])
    assert some == {45, 46, 47, 48, 49} | {5, 6, 7, 8, 9}
    assert whole == set(range(40, 50))


def rows():
    worth = dict(zip(CUTS, (0.0, 2.0, 3.0, -1.0), strict=True))
    return [
        {"seed": seed, "cut": cut, "AP50": 50.0 + seed + worth[cut] + (seed == 7) * (cut == OWN),
         "dropped": {kind: 0.1 * (i + 1) for i, kind in enumerate(KINDS)}}
        for seed in (5, 6, 7) for cut in CUTS
    ]  # fmt: skip


def test_the_table_pairs_by_seed_and_says_what_went_in_times_chance():
    own = rows()
    own[4]["dropped"] = dict.fromkeys(KINDS, 1.0)  # of random, in one seed of two
    text = table(own[:-1])
    assert text.startswith("2 seeds: 5, 6\n")
    lines = [[c.strip() for c in x.split("|")[1:-1]] for x in text.splitlines()[2:]]
    found = {line[0]: line[1:] for line in lines[2:]}
    assert found[RANDOM][:3] == ["55.50", "", "-2.00"]
    assert found[OWN] == ["57.50", "+2.00", "", "0.50", "1.00", "1.50", "2.00", "2.50"]
    assert found["first tenth of the list"][:3] == ["58.50", "+3.00", "+1.00"]
    assert found["whole list"][:3] == ["54.50", "-1.00", "-3.00"]
    assert found[RANDOM][3:] == ["2.75", "3.00", "3.25", "3.50", "3.75"]
    line = next(x for x in table(own).splitlines() if x.startswith("| first"))
    assert "+0.67 (-0.77 to +2.10)" in line  # 1, 1 and 0, by Student's t of two
