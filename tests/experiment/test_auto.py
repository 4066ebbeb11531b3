"""The end to drop of a run that is done, on a task that trains in milliseconds."""

from dataclasses import replace

import numpy as np
import pytest

from adapruner_det.errors import DataError
from adapruner_det.experiment.auto import settle_file, settle_run
from adapruner_det.experiment.task import Run
from adapruner_det.methods.adapruner import drop_end
from adapruner_det.methods.auto import DRAW, OWN
from adapruner_det.methods.random import random_selection
from adapruner_det.methods.stratified import stratified_score
from adapruner_det.report.overrule import Decisions, apply, identity
from adapruner_det.selection import Selection, warnings_of
from tests.experiment.toy import N, make_toy


def run_of(task, ratio=0.5):
    """A run whose losses rise with the index, and whose own order is by lot."""
    found = replace(random_selection(task.samples, ratio, seed=11), seed=3)
    columns = {
        "mean_loss": np.linspace(0.1, 3.0, N).astype(np.float32),
        "times_seen": np.full(N, 4),
    }
    return replace(
        found,
        method="adapruner",
        columns={**found.columns, **columns},
        parameters={"typical_loss": 1.0, "drop": ""},
    )


def worth(task, monkeypatch, value):
    """Let trainings be worth ``value`` of the places that they see."""

    def train(seed, folder, *, kept, test, resume):
        folder.mkdir(parents=True, exist_ok=True)
        places = np.flatnonzero(kept.columns["kept"])
        assert not (kept.kept_keys & test.kept_keys)
        return Run("accuracy", float(value(places)), len(places), 1, 1.0, 0.5, seed)

    monkeypatch.setattr(task, "train", train)


def test_an_end_that_held_out_samples_speak_for_goes(tmp_path, monkeypatch):
    task = make_toy(tmp_path)
    worth(task, monkeypatch, lambda places: places.mean())
    found, verdict = settle_run(task, run_of(task), 0.5, tmp_path / "auto")
    assert verdict.taken == "easy" and found.parameters["auto"] == "easy"
    assert found.columns["kept"].tolist() == [False] * 30 + [True] * 30
    assert set(found.columns["why"]) == {"", "easy"}
    assert found.parameters["drop"] == "auto" and found.keep_ratio == 0.5
    assert found.cut(0.25).columns["kept"].tolist() == [False] * 45 + [True] * 15
    assert set(drop_end(found, "", 0.25).columns["why"]) == {"", "easy"}


def test_without_evidence_a_draw_from_each_class_stays(tmp_path, monkeypatch):
    task = make_toy(tmp_path)
    worth(task, monkeypatch, lambda places: 1.0)
    run = run_of(task)
    found, verdict = settle_run(task, run, 0.6, tmp_path / "auto")
    assert verdict.taken == DRAW and set(found.columns["why"]) == {"", "drawn"}
    assert found.num_kept == 36
    lowest = np.argsort(stratified_score(task.samples, run.seed))[:36]
    assert set(np.flatnonzero(found.columns["kept"])) == set(lowest)
    classes = np.array([own[0] for own in task.samples.classes])
    for own in range(3):
        share = found.columns["kept"][classes == own].mean()
        assert share == pytest.approx(0.6, abs=0.1)
    assert set(drop_end(found, "", 0.3).columns["why"]) == {"", "drawn"}


def test_the_runs_own_order_stays_where_it_is_best(tmp_path, monkeypatch):
    task = make_toy(tmp_path)
    run = run_of(task)
    worth(task, monkeypatch, lambda places: run.columns["kept"][places].mean())
    found, verdict = settle_run(task, run, 0.5, tmp_path / "auto")
    assert verdict.taken == OWN
    assert np.array_equal(found.columns["kept"], run.columns["kept"])
    assert set(drop_end(found, "", 0.3).columns["why"]) == {"", "easy", "hard"}


def test_another_ratio_is_decided_by_the_runs_own_order_again(tmp_path, monkeypatch):
    task = make_toy(tmp_path)
    run = run_of(task)
    worth(task, monkeypatch, lambda places: 1.0)
    drawn, verdict = settle_run(task, run, 0.5, tmp_path / "first")
    assert verdict.taken == DRAW
    worth(task, monkeypatch, lambda places: run.columns["kept"][places].mean())
    for before in (drawn, drop_end(run, "hard", 0.5)):
        found, verdict = settle_run(task, before, 0.5, tmp_path / "again")
        assert verdict.taken == OWN
        assert np.array_equal(found.columns["kept"], run.columns["kept"])
    lost = {name: c for name, c in drawn.columns.items() if name != "own_score"}
    with pytest.raises(DataError, match="lost the order of its objective when 'auto' was dropped"):
        settle_run(task, replace(drawn, columns=lost), 0.5, tmp_path / "again")


def test_what_a_person_has_said_is_not_undone(tmp_path, monkeypatch):
    task = make_toy(tmp_path)
    run = run_of(task)
    keys = run.columns["key"]
    gone, stayed = (keys[run.columns["kept"] == kept][0] for kept in (False, True))
    wish = Decisions(identity(run), run.num_kept, frozenset([gone]), frozenset([stayed]))
    said = apply(run, wish)
    assert gone in drop_end(said, "", 0.4).kept_keys
    for cut in (
        lambda: drop_end(said, "hard", 0.4),
        lambda: settle_run(task, said, 0.4, tmp_path / "auto"),
    ):
        with pytest.raises(DataError, match="a person has overruled the selection"):
            cut()


def test_the_file_is_replaced_by_the_outcome_and_trials_stay_beside_it(tmp_path, monkeypatch):
    task = make_toy(tmp_path)
    worth(task, monkeypatch, lambda places: places.mean())
    run = run_of(task)
    run = replace(run, parameters={**run.parameters, "unsettled": True})
    path = run.save(tmp_path / "run" / "selection.json")
    found, _ = settle_file(task, path)
    assert warnings_of(run) and not warnings_of(found)
    assert Selection.load(path).kept_keys == found.kept_keys
    kept = list((tmp_path / "run" / "auto" / "trials").glob("*.json"))
    assert 20 < len(kept) <= 25  # of cuts that are one, one is trained


def test_a_selection_without_losses_or_of_other_data_is_refused(tmp_path):
    task = make_toy(tmp_path)
    with pytest.raises(DataError, match="has no losses that tell which end to drop"):
        settle_run(task, random_selection(task.samples, 0.5, seed=0), 0.5, tmp_path)
    run = run_of(task)
    other = replace(run, columns={**run.columns, "digest": run.columns["digest"] + np.uint64(1)})
    with pytest.raises(DataError, match="differ"):
        settle_run(task, other, 0.5, tmp_path)
