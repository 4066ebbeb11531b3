"""The cuts of one run, with the gate and without, and what is held out."""

from types import SimpleNamespace

import numpy as np
import pytest

from adapruner_det.core.inclusion import Inclusion
from adapruner_det.core.terms import as_share, stored_share
from adapruner_det.samples import Samples
from benchmarks.fault_gate import CUTS, cuts, sound, table
from benchmarks.planted_boxes import plant
from tests.detection.toy import write_voc_folder

N, KEPT = 400, 320


@pytest.fixture
def columns():
    """Columns of a run that has dropped by the objective's own score."""
    rng = np.random.default_rng(0)
    draw, chance = rng.random(N).astype(np.float32), rng.uniform(0.25, 2, N).astype(np.float32)
    fault = as_share(stored_share(rng.uniform(0.3, 0.9, N))).astype(np.float32)
    fault[fault > Inclusion.PARTS_LIMIT] *= rng.random((fault > 0.7).sum()) < 0.3
    spare, flagged = rng.random(N) < 0.05, fault > Inclusion.PARTS_LIMIT
    weight = np.where(fault > Inclusion.PARTS_CLEAR, Inclusion.FAULT, Inclusion.DOUBT)
    out = np.maximum(flagged * weight * (1.0 + fault), Inclusion.SPARE * spare)
    score = -np.log(chance) + np.log(-np.log(draw)) + out
    kept = np.zeros(N, dtype=np.uint8)
    kept[np.argsort(score)[:KEPT]] = 1
    own = {"draw": draw, "chance": chance, "fault": fault, "spare": spare, "flagged": flagged}
    return {**own, "kept": kept}


@pytest.fixture
def made(columns):
    keys = [f"set/{place:03d}" for place in range(N)]
    samples = Samples(keys, np.arange(N, dtype=np.uint64), {"set": "x"}, [[0]] * N)
    return cuts(SimpleNamespace(columns=columns), SimpleNamespace(samples=samples), 3)


def test_each_cut_keeps_as_many(made):
    assert {name: int(kept.sum()) for name, kept in made.items()} == dict.fromkeys(CUTS, KEPT)


def test_without_the_gate_chance_and_twins_alone_decide(columns, made):
    flagged = columns["flagged"] & ~columns["spare"]
    assert not made["own"][flagged].any()
    assert made["no gate"][flagged].mean() > 0.7
    assert not made["no gate"][columns["spare"]].any()


def test_only_clear_faults_go_for_it(columns, made):
    clear = columns["flagged"] & (columns["fault"] > Inclusion.PARTS_CLEAR)
    doubtful = columns["flagged"] & ~clear & ~columns["spare"]
    assert doubtful.sum() > 5
    assert not made["clear only"][clear | columns["spare"]].any()
    assert made["clear only"][doubtful].any()


def test_with_all_that_is_flagged_the_cut_is_the_runs_own(columns):
    """The scores are put together as the objective does."""
    columns["fault"] = np.where(columns["flagged"], 0.8, columns["fault"]).astype(np.float32)
    score = -np.log(columns["chance"]) + np.log(-np.log(columns["draw"]))
    faulty = columns["flagged"] * Inclusion.FAULT * (1.0 + columns["fault"])
    kept = np.argsort(score + np.maximum(faulty, Inclusion.SPARE * columns["spare"]))[:KEPT]
    samples = Samples([f"set/{n:03d}" for n in range(N)], np.arange(N), {"set": "x"}, [[0]] * N)
    made = cuts(SimpleNamespace(columns=columns), SimpleNamespace(samples=samples), 3)
    assert set(np.flatnonzero(made["clear only"])) == set(kept)


def test_no_held_out_image_is_faulty_or_has_a_copy_among_the_others(tmp_path, monkeypatch):
    source = write_voc_folder(tmp_path / "voc", trainval=60, test=2)
    ids = (source / "ImageSets/Main/trainval.txt").read_text().split()
    truth = plant(source, ids, tmp_path / "planted", 0, faults=0.1, twins=0.2)
    monkeypatch.setattr("benchmarks.fault_gate.HELD_OUT", 10)
    test = sound(tmp_path / "planted", truth, 0)
    assert len(test) == 10 and test < set(ids) and test != sound(tmp_path / "planted", truth, 1)
    assert all(truth[name]["kind"] == "clean" for name in test)
    fit = [
        n
        for n in ids
        if truth[n]["kind"] == "clean" and all(own.get("of") != n for own in truth.values())
    ]
    assert test == set(np.random.default_rng(100).permutation(fit)[:10])  # as the page's seeds are
    assert not {truth[name].get("of") for name in set(ids) - test} & test


def test_the_table_counts_only_seeds_of_which_all_is_done():
    rows = [
        {"seed": seed, "cut": cut, "AP50": 50.0 + seed + place,
         "dropped": {"clean": 10 * place + 90 * (seed == 2)}}
        for seed in range(3)
        for place, cut in enumerate(CUTS)
    ][:-1]  # fmt: skip
    text = table(rows)
    assert text.startswith("2 seeds: 0, 1\n")
    own = next(line for line in text.splitlines() if line.startswith("| own"))
    assert [part.strip() for part in own.split("|")[1:-1]] == [
        "own",
        "51.50",
        "+1.00",
        "",
        "10",
    ]
