"""Trials on a small set: what is kept, what is written, that they go on, and their table."""

import json
from argparse import Namespace

import numpy as np
import pytest

from adapruner_det.errors import DataError
from benchmarks import objective_trials as module
from benchmarks.objective_data import Setting
from benchmarks.objective_trials import SETTINGS, Cell, select, stratified, systematic, table

METHODS = ["random", "stratified", "easy", "hard", "paper", "inclusion", "drawn:gate=half"]


@pytest.fixture
def small(monkeypatch):
    """Digits, few of them and for a few epochs, by the name that the script knows."""
    monkeypatch.setitem(SETTINGS, "digits", Setting(200, epochs=8, batch=50, hidden=8, side=8))


def arguments(out, methods=METHODS, seeds=(0,)):
    names = {"data": "digits", "root": None, "ratios": [0.5], "conditions": ["twins"]}
    return Namespace(**names, methods=list(methods), seeds=list(seeds), out=str(out))


def lines_of(out):
    return [json.loads(line) for line in (out / "digits.jsonl").read_text().splitlines()]


def test_every_method_is_trained_once_and_a_second_call_does_the_rest(tmp_path, small):
    module.run(arguments(tmp_path, METHODS[:2]))
    first = lines_of(tmp_path)
    assert [(own["method"], own["keep"]) for own in first] == [
        *[("full", 1.0), ("random", 0.5), ("stratified", 0.5)]
    ]
    module.run(arguments(tmp_path))
    both = lines_of(tmp_path)
    assert both[:3] == first and [own["method"] for own in both[3:]] == METHODS[2:]
    assert all(0 < own["distinct_kept"] <= 1 for own in both[1:])
    found = {own["method"]: own for own in both}
    assert found["inclusion"]["distinct_kept"] > found["random"]["distinct_kept"]
    assert found["inclusion"]["why"]["twin"] > 0 and "why" not in found["random"]
    module.run(arguments(tmp_path))
    assert lines_of(tmp_path) == both


def test_each_method_keeps_as_many_as_are_asked_for(small):
    data = module.make_data("digits", module.load_pool("digits", None), "wrong", 1)
    cell = Cell("digits", data, 1, [("paper", 0.3), ("inclusion", 0.3)])
    kept = {method: select(cell, method, 0.3)[0] for method in METHODS}
    assert {method: int(own.sum()) for method, own in kept.items()} == dict.fromkeys(METHODS, 60)
    p = cell.record.label[:5].mean(0, dtype=np.float64)  # the visits that count of 8 epochs
    assert p[kept["hard"]].min() >= p[~kept["hard"]].max()
    assert p[kept["easy"]].max() <= p[~kept["easy"]].min()
    with pytest.raises(DataError, match="no method 'forgotten'"):
        select(cell, "forgotten", 0.3)


def test_a_stratified_draw_has_of_each_class_its_share():
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    kept = stratified(labels, 80, np.random.default_rng(0))
    assert kept.sum() == 80
    assert np.abs(np.bincount(labels[kept]) - [50, 25, 5]).max() <= 1


def test_systematic_lots_are_even_in_every_cell():
    rng = np.random.default_rng(0)
    labels, p = np.arange(400) % 2, rng.random(400)
    lots = systematic(labels, p, 4, rng.random(400))
    cells = labels * 4 + np.searchsorted(np.quantile(p, [0.25, 0.5, 0.75]), p)
    for cell in range(8):
        gaps = np.diff(np.sort(lots[cells == cell]))
        np.testing.assert_allclose(gaps, 1 / np.sum(cells == cell), rtol=1e-6)


def test_the_table_pairs_by_seed_and_counts_what_is_below(tmp_path, capsys):
    own = {"random": (50.0, 60.0, 55.0), "paper": (48.0, 58.1, 53.2), "inclusion": (52.0, 61.0)}
    rows = [
        {"condition": "clean", "seed": s, "keep": 0.6, "method": m, "accuracy": value}
        for m, values in own.items()
        for s, value in enumerate(values)
    ]
    rows += [dict(rows[0], method="full", keep=1.0, accuracy=70.0)]
    rows += [dict(row, keep=0.3) for row in rows if row["method"] == "random"]
    level = [(50.0, 48.5), (60.0, 61.5)]  # of inclusion at 30%, neither ahead nor behind
    rows += [dict(rows[6 + s], keep=0.3, accuracy=pair[1]) for s, pair in enumerate(level)]
    file = tmp_path / "digits.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    table(Namespace(files=[file], seeds=None, baseline="random"))
    printed = capsys.readouterr().out
    found = {
        cells[0]: cells[1:]
        for line in printed.splitlines()[1:]
        if len(cells := [part.strip() for part in line.split("|")[1:-1]]) > 1
    }
    assert found["method"] == ["mean", "worst", "<0", "int<0", "clean 0.6", "clean 0.3"]
    assert found["full"][-2:] == ["+20.00±nan (1)", "+20.00±nan (1)"]
    assert found["paper"] == ["-1.90", "-1.90", "1", "1", "-1.90±0.25 (3)", ""]
    assert found["inclusion"][:4] == ["+0.75", "+0.00", "0", "0"]
    assert found["inclusion"][4:] == ["+1.50±6.35 (2)", "+0.00±19.06 (2)"]
