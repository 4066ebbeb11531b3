"""Which end to drop is found on held-out samples, and only on evidence."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from adapruner_det.core.cut import kept_count
from adapruner_det.errors import DataError
from adapruner_det.methods.auto import (
    DRAW,
    FOLDS,
    OWN,
    TRIALS,
    candidates,
    cut_of_rest,
    decide,
    lower_bound,
)

from .evidence import samples

N = 100


def columns(rng):
    return {
        "mean_loss": rng.uniform(0.1, 4.0, N),
        "typical_loss": np.array(1.0),
        "times_seen": np.full(N, 5),
    }


class World:
    """Samples with a worth; a training's value is the mean worth of what it saw, and noise."""

    def __init__(self, worth, noise=0.0):
        self.worth, self.noise, self.calls = worth, noise, []

    def __call__(self, kept, held, seed):
        self.calls.append((kept, held, seed))
        rng = np.random.default_rng([seed, len(self.calls)])
        return float(self.worth[kept].mean() + self.noise * rng.normal()), 2.0


def scores(rng):
    score = rng.random(N)
    return {OWN: score, "easy": -score}


@pytest.mark.parametrize(("sign", "taken"), [(-1, OWN), (1, "easy")])
def test_the_candidate_that_keeps_what_is_worth_most_is_taken(sign, taken):
    own = scores(np.random.default_rng(0))
    verdict = decide(own, samples(N), 0.6, 3, World(sign * own[OWN]))
    assert verdict.taken == taken
    assert verdict.bounds[taken] > 0 > min(verdict.bounds.values())


def test_what_is_worth_nothing_is_seldom_taken():
    own, world = scores(np.random.default_rng(0)), World(np.zeros(N), noise=1.0)
    taken = [decide(own, samples(N), 0.6, seed, world).taken for seed in range(60)]
    assert sum(name != DRAW for name in taken) <= 8  # 3 on average
    assert decide(own, samples(N), 0.6, 0, World(np.zeros(N))).taken == DRAW


def test_each_trial_holds_out_another_tenth_and_pairs_all_cuts():
    world = World(np.zeros(N))
    verdict = decide(scores(np.random.default_rng(0)), samples(N), 0.6, 7, world)
    assert len(world.calls) == 3 * TRIALS and verdict.seconds == 2.0 * len(world.calls)
    seen = np.zeros(N, dtype=int)
    for trial in range(TRIALS):
        calls = world.calls[3 * trial : 3 * trial + 3]
        (held,) = {own.tobytes() for _, own, _ in calls}
        held = np.frombuffer(held, dtype=bool)
        assert held.sum() == N // FOLDS
        assert {seed for _, _, seed in calls} == {7 + trial}
        for kept, _, _ in calls:
            assert not (kept & held).any() and kept.sum() == kept_count(90, 0.6)
        seen += held
    assert seen.max() == 1
    # Each trial has a draw of its own: of what no two trials hold out, other samples are kept.
    free, draws = seen == 0, [kept for kept, _, _ in world.calls[::3]]
    assert all(not np.array_equal(draws[0][free], own[free]) for own in draws[1:])
    again = World(np.zeros(N))
    decide(scores(np.random.default_rng(0)), samples(N), 0.6, 7, again)
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(world.calls, again.calls, strict=True))


def test_near_copies_are_held_out_together():
    """A cut that thins copies is not to be judged by what its rival has learnt by heart."""

    def paired(index):
        return samples().image(index // 2)

    world = World(np.zeros(N))
    own = replace(samples(N), read_image=paired)
    decide(scores(np.random.default_rng(0)), own, 0.6, 0, world)
    for kept, held, _ in world.calls:
        assert np.array_equal(held[::2], held[1::2]) and held.sum() == N // FOLDS
        assert kept.any() and not (kept & held).any()


@given(st.integers(0, 99), st.floats(0.05, 1.0))
def test_a_cut_of_the_rest_keeps_the_lowest(seed, ratio):
    rng = np.random.default_rng(seed)
    score, held = rng.random(N), rng.random(N) < 0.1
    kept = cut_of_rest(score, held, ratio)
    rest = ~held
    assert not kept[held].any() and kept.sum() == kept_count(int(rest.sum()), ratio)
    if (rest & ~kept).any():
        assert score[kept].max() < score[rest & ~kept].min()


@settings(max_examples=30)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=8), st.integers(1, 4))
def test_the_bound_is_that_of_the_corrected_t_test(values, comparisons):
    values = np.array(values)
    if values.std() < 1e-6:
        return
    bound = lower_bound(values, comparisons)
    # A ninth as many samples are held out as are trained on.
    variance = values.var(ddof=1) * (1 / len(values) + 1 / 9)
    t = (values.mean() - bound) / np.sqrt(variance)
    assert stats.t.sf(t, len(values) - 1) == pytest.approx(0.05 / comparisons, rel=1e-6)


def test_chance_alone_is_taken_for_evidence_in_one_of_twenty():
    """Trials that train on the same samples but for a tenth differ alike, by a tenth."""
    rng, taken = np.random.default_rng(0), 0
    for _ in range(3000):
        alike, own = rng.normal(size=(3, 1)), rng.normal(size=(3, TRIALS))
        differences = np.sqrt(0.1) * alike + np.sqrt(0.9) * own
        taken += max(lower_bound(row, 3) for row in differences) > 0
    assert 0.03 < taken / 3000 < 0.065


def test_a_trial_that_diverged_is_no_evidence():
    with pytest.raises(DataError, match="evaluated to nan: no end can be chosen"):
        decide({OWN: np.arange(N)}, samples(N), 0.6, 0, lambda *_: (float("nan"), 1.0))


def test_what_is_tried_are_other_orders_than_the_objectives_own():
    rng = np.random.default_rng(0)
    found = columns(rng)
    loss = found["mean_loss"]
    assert list(candidates(found, rng.random(N))) == [OWN, "both", "easy", "hard"]
    assert list(candidates(found, loss - np.log(loss))) == [OWN, "easy", "hard"]
    assert np.array_equal(candidates(found, rng.random(N))["hard"], loss)
    assert np.array_equal(candidates(found, loss)["easy"], -loss)
    assert "hard" not in candidates(found, loss)


def test_too_few_samples_are_refused():
    with pytest.raises(DataError, match="19 samples are too few .* name the end"):
        decide({OWN: np.zeros(19)}, samples(19), 0.5, 0, World(np.zeros(19)))


def test_the_verdict_says_what_was_tried_and_what_it_cost():
    own = scores(np.random.default_rng(0))
    verdict = decide(own, samples(N), 0.6, 3, World(-own[OWN]))
    text = verdict.text("accuracy")
    assert "held-out accuracy" in text and "15 trainings" in text and "took 30 s" in text
    assert f"taken: {OWN}, for it is better by at least {verdict.bounds[OWN]:.2f}" in text
    draw = np.mean(verdict.values[DRAW])
    for name, values in verdict.values.items():
        gap = (
            [f"{np.mean(values) - draw:+.2f}", f"{verdict.bounds[name]:+.2f}"]
            if name in own
            else ["", ""]
        )
        (line,) = (row for row in text.splitlines() if row.startswith(f"| {name} "))
        assert [cell.strip() for cell in line.split("|")[2:5]] == [f"{np.mean(values):.2f}", *gap]
    nothing = decide(own, samples(N), 0.6, 3, World(np.zeros(N)))
    assert f"taken: {DRAW}, for no candidate is better" in nothing.text()
    assert verdict.parameters()["auto"] == OWN
    assert len(verdict.parameters()["auto_values"][DRAW]) == TRIALS
