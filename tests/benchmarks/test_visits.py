"""What the trial keeps, what a run of it looks at, and its table."""

import numpy as np
import pytest

from adapruner_det.core.inclusion import Inclusion
from adapruner_det.methods.base import Choice
from benchmarks import visits
from benchmarks.visits import CONDITIONS, CUTS, HELD_OUT, IMAGES, KEEP, chances, parts, table


def test_what_is_held_out_is_not_kept_and_the_lots_are_the_seeds():
    even = np.ones(IMAGES)
    held, kept = parts(even, 3)
    assert held.sum() == HELD_OUT and kept.sum() == round(KEEP * (IMAGES - HELD_OUT))
    assert not (held & kept).any()
    for name, same in (("again", parts(even, 3)), ("twice the chance", parts(2 * even, 3))):
        np.testing.assert_array_equal([held, kept], same, err_msg=name)
    assert (parts(even, 4)[0] != held).any()


def test_a_chance_decides_how_often_an_image_is_kept():
    v = np.where(np.arange(IMAGES) < IMAGES // 2, 3.0, 1.0)
    v[:100] = 1e-8
    _, kept = parts(v, 0)
    assert not kept[:100].any()
    assert kept[100 : IMAGES // 2].sum() > 2 * kept[IMAGES // 2 :].sum()


@pytest.mark.parametrize("counted", [20, 30])
def test_a_run_counts_the_visits_that_are_asked_for_and_its_gate_the_same_ones(
    monkeypatch, counted
):
    seen = {}

    def select(method, evidence, keep_ratio):
        own = Inclusion(np.arange(3, dtype=np.uint64), 0, keep_ratio, epochs=80)
        seen.update(method=method, keep=keep_ratio, visits=[term.visits for term in own._terms])
        columns = {"flagged": np.array([False, True, False]), "chance": np.array([2.0, 1.0, 0.0])}
        return Choice(np.zeros(3), columns=columns)

    monkeypatch.setattr(visits, "select", select)
    assert chances(None, counted) == pytest.approx([2.0, 1e-8, 1e-6])
    assert seen == {"method": "adapruner", "keep": KEEP, "visits": [counted, visits.GATE]}
    assert Inclusion(np.arange(3, dtype=np.uint64), 0, KEEP, epochs=80)._gate.visits == 30


@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_keeps_by_its_own_chances_and_is_tried_on_what_is_held_out(
    monkeypatch, tmp_path, cut
):
    asked, own = [], np.linspace(0.5, 1.5, IMAGES)

    def told(evidence, counted):
        asked.append(counted)
        return own

    class Evidence:
        def respond(self, kept, held, seed):
            asked.append((kept, held, seed))
            return 61.5, None

    def evidence_of(task, seed, work, options):
        work.mkdir()
        asked.append(options)
        return Evidence()

    monkeypatch.setattr(visits, "chances", told)
    monkeypatch.setattr(visits, "evidence_of", evidence_of)
    assert visits.accuracy_of(None, cut, 4, tmp_path / "work") == 61.5
    assert not (tmp_path / "work").exists()
    warmup, counted = {"random": (0, []), "20": (8, [20]), "30": (8, [30]), "30 late": (30, [30])}[
        cut
    ]
    options, *chances_of, (kept, held, seed) = asked
    assert options == {"KEEP_RATIO": KEEP, "WARMUP_EPOCHS": warmup}
    assert chances_of == counted and seed == 4
    expected = parts(np.ones(IMAGES) if cut == "random" else own, 4)
    np.testing.assert_array_equal([held, kept], expected)


def test_the_table_pairs_by_seed_and_condition():
    worth = {"random": 0.0, "20": 1.0, "30": 3.0, "30 late": 2.0}
    rows = [
        {"seed": s, "cut": f"{c}, {cut}", "accuracy": 40.0 + s + 8 * (c == "clean") + worth[cut]}
        for s in range(3)
        for c in CONDITIONS
        for cut in CUTS
    ]
    lines = table(rows[:-1] + [{"seed": 2, "cut": "wrong, 30 late", "accuracy": 44.0}]).splitlines()
    assert lines[0] == "3 seeds: 0, 1, 2"
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[4:]]
    assert [own[0] for own in cells] == ["clean", "wrong", "clean and wrong"]
    assert cells[0][1:5] == ["49.00", "50.00", "52.00", "51.00"]
    assert cells[2][1:5] == ["45.00", "46.00", "48.00", "47.00"]
    means = [value.split()[0] for value in cells[1][5:]]
    assert means == ["+1.00", "+3.00", "+2.00", "+2.00", "+1.00"]
    assert table(rows[:-1]).startswith("2 seeds: 0, 1")
