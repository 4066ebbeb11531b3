from dataclasses import replace

import numpy as np
import pytest

from adapruner_det.core import ENDS, AdaPruner, Schedule, end_score
from adapruner_det.errors import DataError
from adapruner_det.methods.adapruner import adapruner, choice_of, drop_end, suspects_first
from adapruner_det.methods.base import THUMBNAILS, get_method, make_selection, select
from adapruner_det.methods.random import random_selection
from adapruner_det.neighbours import thumbnails

from .evidence import OFFERS, OPTIONS, ToyEvidence, samples


def trained(count=20, sizes=None, keep_ratio=0.7, losses=None):
    pruner = AdaPruner(count, keep_ratio, Schedule(1, 8), sizes=sizes)
    rng = np.random.default_rng(0)
    losses = np.exp(rng.normal(size=count)) if losses is None else losses
    for _ in range(9):
        pruner.observe(np.arange(count), losses)
        pruner.end_epoch()
    return pruner


def test_the_score_cut_at_the_runs_ratio_is_the_runs_set():
    for sizes in (None, np.arange(20) % 3):
        pruner = trained(sizes=sizes)
        choice = choice_of(pruner)
        assert sorted(choice.score) == list(range(20))
        np.testing.assert_array_equal(choice.kept, choice.score < 14)
        np.testing.assert_array_equal(choice.kept, pruner.select())


def test_samples_without_a_finite_loss_are_kept_last_of_all():
    losses = np.ones(20)
    losses[[0, 13]] = np.nan
    assert choice_of(trained(losses=losses)).score[[0, 13]].tolist() == [18, 19]


def test_a_run_that_waits_for_auto_says_so_until_an_end_is_named():
    pruner = trained()
    assert "unsettled" not in choice_of(pruner).parameters
    choice = choice_of(pruner, "auto")
    assert choice.parameters["unsettled"] and choice.parameters["drop"] == ""
    np.testing.assert_array_equal(choice.kept, choice_of(pruner).kept)
    run = make_selection(choice, samples(20), method="adapruner", keep_ratio=0.7, seed=0)
    assert drop_end(run, "", 0.5).parameters["unsettled"]
    assert "unsettled" not in drop_end(run, "easy", 0.5).parameters


def test_it_tells_what_the_mask_knows():
    by_size, alike = choice_of(trained(sizes=np.arange(20) % 3)), choice_of(trained())
    known = {"logit", "last_loss", "mean_loss", "times_seen", "why"}
    assert set(by_size.columns) == {*known, "typical_loss"} and set(alike.columns) == known
    assert alike.parameters["typical_loss"] > 0 and "typical_loss" not in by_size.parameters
    assert alike.columns["times_seen"].tolist() == [9] * 20
    assert abs(alike.soft_ratio - 0.7) < 0.05


def test_the_method_trains_with_the_mask_that_its_options_describe():
    class Seen(ToyEvidence):
        def train(self, guide):
            self.guide = guide
            super().train(guide)

    evidence = Seen(epochs=10, WARMUP_EPOCHS=3, ALPHA_END=7.0)
    choice = adapruner(evidence, 0.25)
    schedule = evidence.guide.schedule
    assert (schedule.warmup_epochs, schedule.epochs, schedule.alpha_end) == (3, 10, 7.0)
    assert evidence.guide.keep_ratio == 0.25 and choice.kept.sum() == 15


@pytest.mark.parametrize(
    ("objective", "offers", "times"),
    [("paper", OFFERS, 0), ("inclusion", OFFERS, 1), ("inclusion", OFFERS - {THUMBNAILS}, 0)],
)
def test_thumbnails_are_read_once_and_where_copies_are_looked_for(objective, offers, times):
    class Reading(ToyEvidence):
        read: tuple[str, ...] = ()

        def features(self, source="model"):
            self.read += (source,)
            return super().features(source)

    wants = get_method("adapruner").wants({**OPTIONS, "OBJECTIVE": objective})
    assert wants == ((THUMBNAILS,) if objective == "inclusion" else ())
    evidence = Reading(offers=offers, OBJECTIVE=objective)
    adapruner(evidence, 0.5)
    assert evidence.read == (THUMBNAILS,) * times


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"WARMUP_EPOCHS": 4}, "none is left to prune in"),
        ({"OBJECTIVE": "inclusive"}, "OBJECTIVE is 'inclusive'; it must be one of"),
        ({"DROP": "twins"}, "DROP twins needs"),
        ({"CLASS_BAND": 0.1, "CONTROLLER": "paper"}, "balance needs the controller 'dual'"),
    ],
)
def test_what_no_run_can_do_is_known_before_it(options, match):
    check, made = get_method("adapruner").check, samples()
    object.__setattr__(made, "read_image", lambda i: pytest.fail("an image is read"))
    check({**OPTIONS, "OBJECTIVE": "inclusion", "DROP": "twins"}, made, 4, 0.7)
    with pytest.raises(DataError, match=match):
        check({**OPTIONS, **options}, made, 4, 0.7)


# --- the objective that draws --------------------------------------------------------------------


class Twins(ToyEvidence):
    """The samples 0 and 1, 2 and 3, up to 18 and 19, look alike; it keeps what guides asked for."""

    def __init__(self, **given):
        super().__init__(**given)
        picture = self.samples.read_image
        object.__setattr__(
            self.samples, "read_image", lambda i: picture(i - i % 2 if i < 20 else i)
        )
        self.asked = []

    def features(self, source="model"):
        return thumbnails(self.samples) if source == "thumbnails" else super().features(source)

    def train(self, guide):
        self.asked.append(guide.signals)
        super().train(guide)


def test_inclusion_takes_what_the_training_gives_and_says_why_each_went():
    evidence = Twins(epochs=30, OBJECTIVE="inclusion", seed=4)
    found = select("adapruner", evidence, 0.5)
    assert evidence.asked == [{"confidence", "fault"}]
    assert found.parameters["objective"] == "inclusion"
    columns = found.columns
    assert {"confidence", "fault", "flagged", "draw", "twin_group", "spare"} <= set(columns)
    kept = columns["kept"]
    np.testing.assert_array_equal(columns["why"] == "", kept)
    twins = kept[:20].reshape(10, 2)
    assert twins.sum(axis=1).tolist() == [1] * 10  # of each two one goes before any other sample
    assert np.count_nonzero(columns["why"][:20] == "twin") == 10


def test_without_signals_it_goes_by_the_losses_and_gates_nothing():
    evidence = Twins(epochs=30, OBJECTIVE="inclusion", offers=["loss"])
    found = select("adapruner", evidence, 0.5)
    assert evidence.asked == [frozenset()] and "fault" not in found.columns
    assert found.num_kept == 30


def test_another_seed_draws_other_samples_for_the_same_losses():
    class SameLosses(Twins):
        def _drawn(self, name):
            seed, self.seed = self.seed, 0
            found = super()._drawn(name)
            self.seed = seed
            return found

    kept = [
        select("adapruner", SameLosses(epochs=30, OBJECTIVE="inclusion", seed=s), 0.5).kept_keys
        for s in (0, 1)
    ]
    assert kept[0] != kept[1]


# --- the end to drop -----------------------------------------------------------------------------


@pytest.mark.parametrize("end", ENDS)
def test_an_end_can_be_dropped_at_once_or_afterwards(end):
    at_once = select("adapruner", Twins(epochs=30, OBJECTIVE="inclusion", DROP=end), 0.6)
    afterwards = drop_end(
        select("adapruner", Twins(epochs=30, OBJECTIVE="inclusion"), 0.6), end, 0.6
    )
    assert at_once.kept_keys == afterwards.kept_keys and at_once.num_kept == 36
    typical = np.array(afterwards.parameters["typical_loss"])
    score = end_score(end, {"typical_loss": typical, **afterwards.columns})
    kept = afterwards.columns["kept"]
    assert score[kept].max() <= score[~kept].min()
    np.testing.assert_array_equal(at_once.columns["why"], afterwards.columns["why"])
    assert at_once.parameters["drop"] == afterwards.parameters["drop"] == end
    np.testing.assert_array_equal(afterwards.columns["why"] == "", kept)
    np.testing.assert_array_equal(at_once.columns["own_score"], afterwards.columns["own_score"])
    twice = drop_end(afterwards, "hard" if end == "easy" else "easy", 0.6)
    np.testing.assert_array_equal(twice.columns["own_score"], afterwards.columns["own_score"])
    assert afterwards.cut(0.3).kept_keys < afterwards.kept_keys


def test_easy_and_hard_are_opposite_ends_of_the_paper_s_run_too():
    run = select("adapruner", ToyEvidence(), 0.5)
    easy, hard = (drop_end(run, end, 0.5) for end in ("easy", "hard"))
    assert easy.kept_keys.isdisjoint(hard.kept_keys)
    loss = run.columns["mean_loss"]
    assert loss[easy.columns["kept"]].min() >= loss[hard.columns["kept"]].max()
    assert set(easy.columns["why"]) == {"", "easy"} and set(hard.columns["why"]) == {"", "hard"}


def test_a_cut_at_another_ratio_says_anew_why_each_went():
    run = select("adapruner", ToyEvidence(), 0.5)
    assert "why" not in run.cut(0.25).columns
    found = drop_end(run, "", 0.25)
    assert found.kept_keys == run.cut(0.25).kept_keys
    assert set(found.columns["why"][~found.columns["kept"]]) <= {"easy", "hard"}
    hard = drop_end(run, "hard", 0.5)
    assert set(drop_end(hard, "", 0.25).columns["why"]) == {"", "hard"}


def test_another_methods_reasons_stay_where_a_cut_leaves_them():
    """What goes besides has none: no loss says why."""
    drawn = random_selection(samples(6), 0.5, 0)
    kept = np.array([1, 1, 0, 1, 0, 0], dtype=bool)
    own = {"score": np.arange(6.0)[np.argsort(np.argsort(~kept, kind="stable"))], "kept": kept}
    why = np.array(["", "", "dull", "", "a copy", "dull"])
    drawn = replace(drawn, columns={**drawn.columns, **own, "why": why})
    assert drop_end(drawn, "", 1 / 6).columns["why"].tolist() == [
        "",
        "",
        "dull",
        "",
        "a copy",
        "dull",
    ]
    assert drop_end(drawn, "", 5 / 6).columns["why"].tolist() == ["", "", "", "", "", "dull"]
    listed = suspects_first(drawn, on_a_list(drawn, 0))
    found = drop_end(listed, "", 0.5).columns["why"].tolist()
    assert found == ["suspect", "", "", "", "a copy", "dull"]


def test_an_end_that_nothing_is_known_of_is_refused():
    with pytest.raises(DataError, match="nothing is known of twins"):
        drop_end(select("adapruner", ToyEvidence(), 0.5), "twins", 0.5)
    drawn = random_selection(samples(10), 0.5, 0)
    with pytest.raises(DataError, match="'random' has no losses .* takes the selection of a"):
        drop_end(drawn, "easy", 0.5)
    assert drop_end(drawn, "", 0.3).kept_keys == drawn.cut(0.3).kept_keys


# --- a list of suspects --------------------------------------------------------------------------


def on_a_list(selection, *rows):
    """The places of rows that a list names in that order."""
    place = np.zeros(selection.num_samples, dtype=np.int64)
    place[list(rows)] = np.arange(1, len(rows) + 1)
    return place


def test_the_samples_of_a_list_go_first_and_the_others_as_they_did():
    run = select("adapruner", Twins(epochs=30, OBJECTIVE="inclusion"), 0.6)
    best = np.flatnonzero(run.columns["kept"])[:3].tolist()
    found = suspects_first(run, on_a_list(run, *best))
    assert found.num_kept == 36 and found.parameters["suspects"] == 3
    own, score = run.columns["score"], found.columns["score"]
    others = np.setdiff1d(np.arange(60), best)
    np.testing.assert_array_equal(np.argsort(own[others]), np.argsort(score[others]))
    assert [score[row] for row in best] == [59, 58, 57]
    np.testing.assert_array_equal(found.columns["own_score"], own)
    for ratio, gone in ((0.95, best), (59 / 60, best[:1]), (1.0, [])):
        cut = drop_end(found, "", ratio)
        assert np.flatnonzero(~cut.columns["kept"]).tolist() == sorted(gone)
        assert set(cut.columns["why"][gone]) <= {"suspect"}
    why = drop_end(found, "", 0.5).columns["why"]
    assert (why == "suspect").sum() == 3 and len(set(why)) > 2


@pytest.mark.parametrize("end", ["", *ENDS])
def test_with_a_list_of_nobody_s_choice_an_end_is_dropped_as_without(end):
    """The list names what would go first anyway."""
    run = drop_end(select("adapruner", Twins(epochs=30, OBJECTIVE="inclusion"), 0.6), end, 0.6)
    first = np.argsort(-run.columns["score"])[:5]
    found = suspects_first(run, on_a_list(run, *first))
    np.testing.assert_array_equal(found.columns["score"], run.columns["score"])
    for ratio in (0.6, 0.4):
        with_list, without = (drop_end(own, "", ratio) for own in (found, run))
        assert with_list.kept_keys == without.kept_keys
        why, other = (own.columns["why"] for own in (with_list, without))
        changed = why != other
        assert set(why[changed]) == {"suspect"} and set(np.flatnonzero(changed)) == set(first)


def test_a_set_that_was_kept_whatever_its_score_stays_ahead():
    run = select("adapruner", ToyEvidence(), 0.5)
    kept = np.roll(run.columns["kept"], 1)
    run = replace(run, columns={**run.columns, "kept": kept})
    listed = int(np.flatnonzero(kept)[0])
    found = suspects_first(run, on_a_list(run, listed))
    (new,) = np.flatnonzero(found.columns["kept"] & ~kept)
    assert run.columns["score"][new] == run.columns["score"][~kept].min()
    np.testing.assert_array_equal(np.flatnonzero(kept & ~found.columns["kept"]), [listed])


def test_a_list_serves_any_method_but_not_a_person_s_choice_nor_an_end_afterwards():
    drawn = random_selection(samples(10), 0.5, 0)
    found = suspects_first(drawn, on_a_list(drawn, 0, 1, 2, 3, 4))
    assert np.flatnonzero(drop_end(found, "", 0.7).columns["kept"]).tolist()[:2] == [3, 4]
    run = select("adapruner", ToyEvidence(), 0.5)
    said = replace(run, parameters={**run.parameters, "overruled": {}})
    with pytest.raises(DataError, match="a person has overruled"):
        suspects_first(said, on_a_list(run, 1))
    listed = suspects_first(run, on_a_list(run, 1))
    for again in (
        lambda: drop_end(listed, "hard", 0.5),
        lambda: suspects_first(listed, on_a_list(run, 2)),
    ):
        with pytest.raises(DataError, match="a list of suspects went first"):
            again()


def test_losses_of_which_nothing_typical_is_known_are_taken_as_they_are():
    """L − log L is least at 1: of these losses the two ends lie furthest from it."""
    losses = np.array([0.1, 0.5, 0.9, 1.0, 1.2, 2.0, 5.0, 0.8, 1.1, 1.3])
    known = make_selection(
        choice_of(trained(10, losses=losses)),
        samples(10),
        method="adapruner",
        keep_ratio=0.7,
        seed=0,
    )
    unknown = {k: v for k, v in known.parameters.items() if k != "typical_loss"}
    found = drop_end(replace(known, parameters=unknown), "both", 0.7)
    expected = np.sort(np.argsort(losses - np.log(losses))[7:])
    assert np.flatnonzero(~found.columns["kept"]).tolist() == expected.tolist()
    assert found.columns["why"][expected].tolist() == ["easy", "hard", "hard"]
