"""Each term against a direct computation."""

import numpy as np
import pytest

from adapruner_det.core import AdaPruner, Inclusion, Schedule
from adapruner_det.core.cut import cut, kept_count
from adapruner_det.core.mask import SampleMask
from adapruner_det.core.neighbours import Neighbours
from adapruner_det.core.terms import (
    Draw,
    FaultGate,
    Redundancy,
    Uncertainty,
    as_share,
    beta_powers,
    beta_weight,
    stored_share,
)
from tests.core.stream import Stream, digests, new, train, twin_pairs

# --- the draw ------------------------------------------------------------------------------------


def test_a_number_belongs_to_the_sample_and_the_seed():
    all_digests = digests(1000)
    whole = Draw(all_digests, 7).stored
    order = np.random.default_rng(1).permutation(1000)[:300]
    np.testing.assert_array_equal(Draw(all_digests[order], 7).stored, whole[order])
    assert np.mean(Draw(all_digests, 8).stored == whole) < 0.01
    signed = all_digests.astype(np.int64)
    np.testing.assert_array_equal(Draw(signed, 7).stored, whole)


@pytest.mark.parametrize("kind", ["hashes", "counting up"])
def test_numbers_are_even_and_do_not_hang_together(kind):
    given_digests = digests(20_000) if kind == "hashes" else np.arange(20_000)
    one, other = (Draw.uniform(Draw(given_digests, seed).stored) for seed in (0, 1))
    assert np.histogram(one, 10, (0, 1))[0] == pytest.approx(2000, abs=200)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.03
    assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 0.03
    gumbel = Draw.gumbel(Draw(given_digests, 0).stored)
    assert np.isfinite(gumbel).all()
    assert gumbel.mean() == pytest.approx(0.5772, abs=0.05)
    assert gumbel.std() == pytest.approx(np.pi / 6**0.5, abs=0.05)


def test_the_first_and_the_last_number_are_finite_and_half_a_step_from_the_ends():
    ends = np.array([0, 65535], dtype=np.uint16)
    np.testing.assert_allclose(Draw.uniform(ends), [0.5 / 65536, 1 - 0.5 / 65536], rtol=1e-12)
    np.testing.assert_allclose(Draw.gumbel(ends), [-2.467, 11.783], atol=1e-3)


def test_the_least_pressures_are_a_draw_in_proportion():
    """One of four samples with v = 1, 2, 3, 4, over many seeds."""
    v = np.array([1.0, 2.0, 3.0, 4.0])
    first = [
        int(np.argmin(-np.log(v) - Draw.gumbel(Draw(np.arange(4), seed).stored)))
        for seed in range(4000)
    ]
    assert np.bincount(first) / 4000 == pytest.approx(v / 10, abs=0.03)


# --- the fault gate ------------------------------------------------------------------------------


def gate_after(signals, visits=10):
    """A gate and its mask after (E, N) fault signals of all samples."""
    n = signals.shape[1]
    gate = FaultGate(visits)
    mask = SampleMask(n, learnt=gate.learnt)
    for epoch, signal in enumerate(signals):
        state = {"fault": mask.column("fault").astype(float)}
        found = gate.observe(np.full(n, epoch), state, {"fault": signal})
        mask.column("fault")[:] = found["fault"]
    gate.end_epoch(mask)
    return gate, mask


def test_a_fault_is_the_mean_over_the_first_visits():
    signals = np.random.default_rng(0).random((15, 50))
    _, mask = gate_after(signals, visits=10)
    assert as_share(mask.column("fault")) == pytest.approx(signals[:10].mean(axis=0), abs=1e-4)


@pytest.mark.parametrize("seed", range(5))
def test_clean_data_have_few_flags_and_wrong_labels_are_flagged(seed):
    """Averages that thin out towards 1 are hard images; a heap up there is faults."""
    rng = np.random.default_rng(seed)
    clean = rng.beta(1.2, 6.0, 2000)  # 3% above one half
    gate, mask = gate_after(np.tile(clean, (3, 1)))
    assert 0.01 < np.mean(clean > 0.5) < 0.06
    assert gate.flagged(mask.column("fault")).mean() < 0.005
    for share in (0.1, 0.15, 0.4):
        wrong = rng.random(2000) < share
        faults = np.where(wrong, rng.beta(12, 4, 2000), clean)
        gate, mask = gate_after(np.tile(faults, (3, 1)))
        flagged = gate.flagged(mask.column("fault"))
        assert flagged[wrong].mean() > 0.9 and flagged[~wrong].mean() < 0.06


def test_a_hard_data_set_opens_no_gate():
    hard = np.random.default_rng(0).beta(4, 4, 3000)  # half of it above one half
    gate, mask = gate_after(np.tile(hard, (3, 1)))
    assert not gate.flagged(mask.column("fault")).any()


def test_without_the_signal_nothing_is_flagged():
    stream = Stream(100, 20, wrong=20)
    pruner = train(new(100), stream, signals=("confidence",))
    assert not pruner.columns()["flagged"].any()
    told = train(new(100), stream)
    assert told.columns()["flagged"][:20].all() and not told.columns()["flagged"][20:].any()
    assert not told.select()[:20].any() and pruner.select()[:20].any()


def test_flagged_samples_fill_the_rest_where_all_others_are_kept():
    stream = Stream(100, 20, wrong=40)
    kept = train(new(100, keep_ratio=0.8), stream).select()
    assert kept[40:].all() and kept[:40].sum() == 20


# --- redundancy ----------------------------------------------------------------------------------


def test_copies_are_held_in_seven_bits():
    neighbours = twin_pairs(60, 10)
    redundancy = Redundancy(neighbours, Draw(digests(60), 0))
    stored = redundancy.stored
    assert stored.dtype == np.uint8
    assert Redundancy.copies(stored) == pytest.approx(neighbours.copies, abs=0.04)
    spare = Redundancy.spare(stored)
    assert spare.sum() == 10
    np.testing.assert_array_equal(spare[0:20:2], ~spare[1:20:2])


@pytest.mark.parametrize("keep_ratio", [0.9, 0.7, 0.5, 0.45])
def test_of_every_group_of_twins_one_is_kept(keep_ratio):
    """Twenty pairs among 100: at 45% kept there is room for one of each and 25 others."""
    neighbours = twin_pairs(100, 20)
    pruner = train(new(100, keep_ratio, neighbours=neighbours), Stream(100, 20))
    kept = pruner.select()
    assert kept.sum() == kept_count(100, keep_ratio)
    pairs = kept[:40].reshape(20, 2)
    assert pairs.any(axis=1).all()
    logit, score = pruner.ranking()
    for count in range(40, 101):
        assert cut(logit, score, count)[:40].reshape(20, 2).any(axis=1).all()


def test_spare_twins_go_before_anything_unique():
    neighbours = twin_pairs(100, 20)
    kept = train(new(100, 0.85, neighbours=neighbours), Stream(100, 20)).select()
    assert kept[40:].all() and kept[:40].sum() == 25


def test_a_faulty_twin_makes_way_for_its_sound_one():
    stream = Stream(100, 20, wrong=40)
    sound = np.arange(1, 40, 2)  # the second of each pair
    for name in ("confidence", "losses", "fault"):
        getattr(stream, name)[:, sound] = getattr(stream, name)[:, 41:81:2]
    pruner = train(new(100, 0.6, neighbours=twin_pairs(100, 20)), stream)
    kept = pruner.select()
    assert kept[sound].all() and not kept[sound - 1].any()
    # In the training too, but for those that their own lot and half the chance of a pair send away.
    weight = pruner.weights(np.arange(40)).numpy()
    assert weight[sound].mean() > 0.5 and weight[sound - 1].max() < 0.1


def test_a_twin_that_is_flagged_no_more_stays_in_its_place_again():
    neighbours = twin_pairs(60, 10)
    redundancy = Redundancy(neighbours, Draw(digests(60), 0))
    mask = SampleMask(60, given=Redundancy.given)
    mask.column("copies")[:] = redundancy.stored
    first = np.flatnonzero(~Redundancy.spare(redundancy.stored))[:1]  # of the 20 twins
    assert first < 20
    flagged = np.zeros(60, dtype=bool)
    flagged[first] = True
    changed = []
    for flags in (flagged, flagged, np.zeros(60, dtype=bool), np.ones(60, dtype=bool)):
        redundancy.end_epoch(mask, flags)
        changed.append(np.flatnonzero(mask.column("copies") != redundancy.stored))
    pair = [first[0] // 2 * 2, first[0] // 2 * 2 + 1]
    assert [c.tolist() for c in changed] == [pair, pair, [], []]
    copies = Redundancy.copies(mask.column("copies"))
    np.testing.assert_array_equal(copies, Redundancy.copies(redundancy.stored))


def test_twins_of_a_faulty_one_that_are_no_twins_of_each_other_both_stay():
    """0 lies between 40 and 41, and its lot is the best of the three; it is faulty."""
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 8))
    points[0] = 0.0
    gap = 0.25 * np.sort(np.sqrt((points**2).sum(axis=1)))[15]
    points = np.concatenate([points, [points[0] + gap * np.eye(8)[0]]])
    points = np.concatenate([points, [points[0] - gap * np.eye(8)[0]]])
    distance = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    np.fill_diagonal(distance, np.inf)
    index = np.argsort(distance, axis=1, kind="stable")[:, :15]
    near = Neighbours(index, np.take_along_axis(distance, index, axis=1))
    assert near.twins().left.tolist() == [0, 0, 40, 41]
    stored = {seed: Draw(digests(42), seed).stored for seed in range(20)}
    seed = next(seed for seed, draw in stored.items() if draw[0] > max(draw[40], draw[41]))
    objective = Inclusion(digests(42), seed, 0.8, 20, neighbours=near)
    pruner = AdaPruner(42, 0.8, Schedule(5, 15), objective=objective, normalize="none")
    train(pruner, Stream(42, 20, wrong=5))
    assert Redundancy.spare(pruner.mask.column("copies")[[0, 40, 41]]).tolist() == [1, 0, 0]
    logit, score = pruner.ranking()
    before_faults = cut(logit, score, 37)
    assert before_faults[[40, 41]].all() and not before_faults[:5].any()
    assert pruner.columns()["spare"][[0, 40, 41]].tolist() == [True, False, False]
    # Were 40 and 41 spare, 37 of them would come before the faults all the same; so their order:
    drawn = -np.log(pruner.columns()["chance"]) - Draw.gumbel(stored[seed])
    lone = np.setdiff1d(np.arange(5, 40), [0])
    for twin in (40, 41):
        assert (score[lone] < score[twin]).sum() <= (drawn[lone] < drawn[twin] + 1e-5).sum()


def test_a_group_that_is_faulty_altogether_may_go():
    stream = Stream(100, 20, wrong=40)
    kept = train(new(100, 0.6, neighbours=twin_pairs(100, 20)), stream).select()
    assert not kept[:40].any()


# --- w and p -------------------------------------------------------------------------------------


def moments_after(confidence, visits, window):
    """The columns after (E, N) confidences, (name → (N,) in [0, 1])."""
    term = Uncertainty(visits, window)
    state = {name: np.zeros(confidence.shape[1]) for name in term.learnt}
    for epoch, q in enumerate(confidence):
        state = term.observe(np.full(len(q), epoch), state, {"confidence": q})
        assert all(np.all((0 <= v) & (v <= 65535) & (v == np.rint(v))) for v in state.values())
    return {name: as_share(column) for name, column in state.items()}


@pytest.mark.parametrize(("visits", "window", "seen"), [(30, 10, 30), (15, 5, 15), (30, 10, 47)])
def test_w_is_the_mean_over_windows_of_std_times_one_minus_mean(visits, window, seen):
    q = np.random.default_rng(0).beta(2, 1, (seen, 200))
    found = moments_after(q, visits, window)
    windows = q[:visits].reshape(-1, window, 200)
    expected = (windows.std(axis=1) * (1 - windows.mean(axis=1))).mean(axis=0)
    assert found["uncertainty"] == pytest.approx(expected, abs=3e-4)
    assert found["confidence"] == pytest.approx(q[:visits].mean(axis=0), abs=3e-4)


def test_a_sample_that_is_sure_has_next_to_no_w():
    found = moments_after(np.full((30, 3), [0.999, 0.5, 0.001]), 30, 10)
    assert found["uncertainty"] == pytest.approx(0.0, abs=2e-3)


def test_a_window_that_has_not_ended_does_not_count():
    q = np.random.default_rng(0).random((14, 20))
    np.testing.assert_array_equal(
        moments_after(q, 30, 10)["uncertainty"], moments_after(q[:10], 30, 10)["uncertainty"]
    )


@pytest.mark.parametrize(
    ("epochs", "visits", "window"),
    [(3, 5, 5), (12, 10, 5), (20, 15, 5), (40, 20, 10), (60, 30, 10), (200, 30, 10)],
)
def test_what_counts_of_a_run(epochs, visits, window):
    term = Uncertainty.of_run(epochs)
    assert (term.visits, term.window) == (visits, window)


def test_a_share_survives_being_stored():
    share = np.array([0.0, 1e-5, 0.25, 0.5, 1.0])
    assert as_share(stored_share(share).astype(np.uint16)) == pytest.approx(share, abs=8e-6)
    assert stored_share(np.array([-0.1, 1.1])).tolist() == [0, 65535]


# --- B -------------------------------------------------------------------------------------------


def test_b_is_the_beta_density_of_dual():
    from scipy.stats import beta

    p = np.linspace(0.01, 0.99, 99)
    for middle, keep_ratio in ((0.4, 0.1), (0.6, 0.3)):
        b = 15 * (1 - middle) * (1 - (1 - keep_ratio) ** 4)
        density = beta.pdf(p, 16 - b, b)
        found = beta_weight(p, beta_powers(middle, keep_ratio))
        np.testing.assert_allclose(found, density / density.max(), rtol=2e-3)


def test_b_is_flat_at_light_cuts_and_never_above_one():
    p = np.linspace(0.02, 0.98, 49)
    assert beta_weight(p, beta_powers(0.5, 0.9)).min() > 0.4
    for middle in (0.0, 0.5, 1.0):
        for keep_ratio in (0.01, 0.3, 0.8, 1.0):
            found = beta_weight(np.array([0.0, *p, 1.0]), beta_powers(middle, keep_ratio))
            assert np.all((found >= 0) & (found <= 1)) and found.max() > 0.95
