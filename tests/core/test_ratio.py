"""The two facts about holding a ratio, and that the default holds it on every kind of losses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.core import AdaPruner, Schedule
from adapruner_det.core.mask import Totals
from adapruner_det.core.ratio import DualRatio, PaperRatio, RunState
from benchmarks.core_ratio import STREAMS, Cell, run_cell


def run_on_equal_pressure(controller, pressure, keep_ratio=0.9, epochs=30):
    """Every sample has f = L − log L = ``pressure``; the status at the end of the run."""
    rng, losses = np.random.default_rng(0), np.full(64, loss_of(pressure))
    pruner = AdaPruner(64, keep_ratio, Schedule(0, epochs), controller=controller, normalize="none")
    for _ in range(epochs):
        for ids in rng.permutation(64).reshape(4, 16):
            pruner.observe(ids, losses[ids])
        status = pruner.end_epoch()
    return status


def loss_of(pressure):
    """The L > 1 with L − log L = ``pressure``."""
    loss = pressure
    for _ in range(100):
        loss = pressure + np.log(loss)
    return loss


@pytest.mark.parametrize(("pressure", "below"), [(2.0, 0.10), (4.5, 0.15), (8.0, 0.20)])
def test_paper_settles_below_the_ratio_by_the_closed_form(pressure, below):
    """f = 2s(c_r − r)², so r is sqrt(f / 200) below c_r: 10, 15 and 20 points here."""
    status = run_on_equal_pressure("paper", pressure, epochs=60)
    assert status.ratio - 0.9 == pytest.approx(-below, abs=0.005)
    assert abs(status.ratio - 0.9) > 0.02


@pytest.mark.parametrize("pressure", [2.0, 4.5, 8.0])
def test_dual_holds_the_ratio_on_the_same_losses(pressure):
    status = run_on_equal_pressure("dual", pressure)
    assert abs(status.ratio - 0.9) <= 0.02
    assert status.binary_share >= 0.98


def test_paper_is_eq_6_and_7_to_the_letter():
    """One step, by hand: λ = 100·|r − c_r|, pull 2λ(r − c_r), gradient α·σ'(αm)·(f + pull)."""
    controller = PaperRatio(scale=100.0, learning_rate=0.5)
    assert controller.initial_logit == 1.0
    run = RunState(10, 0.9, 2.0, 0.5, Totals(soft=8.0, positive=10, undecided=0, binary=0))
    logit, f = np.array([1.0, -0.5]), np.array([1.5, 3.0])
    p = 1.0 / (1.0 + np.exp(-2.0 * logit))
    expected = logit - 0.5 * 2.0 * p * (1 - p) * (f + 2 * 10.0 * -0.1)
    np.testing.assert_allclose(controller.step(np.array([0, 1]), logit, f, run), expected)
    assert controller.multiplier == pytest.approx(10.0)
    controller.use_compression = False
    free = logit - 0.5 * 2.0 * p * (1 - p) * f
    np.testing.assert_allclose(controller.step(np.array([0, 1]), logit, f, run), free)


def test_a_dual_step_stays_within_its_bound():
    controller = DualRatio(1000, 0.9)
    rng = np.random.default_rng(0)
    run = RunState(1000, 0.9, 5.0, 1.0, Totals(soft=900.0, positive=900, undecided=0, binary=0))
    logit = rng.normal(size=64)
    moved = controller.step(np.arange(64), logit, np.exp(20 * rng.normal(size=64)), run)
    assert np.all(np.abs(moved - np.clip(logit, -1.0, 1.0)) <= 0.6 + 1e-12)
    assert np.all(np.abs(moved) <= 1.0)


def watched(keep_ratio, count=100):
    """A controller that has seen the pressures 0, 1, ... of ``count`` samples."""
    controller = DualRatio(count, keep_ratio)
    controller.watch(np.arange(count), np.arange(count, dtype=float))
    return controller


@pytest.mark.parametrize(("progress", "strength"), [(0.2, 0.0), (0.5, 0.0), (0.75, 0.3), (1, 0.6)])
@pytest.mark.parametrize(("kept", "width"), [(60, 0.05), (10, 0.02), (95, 0.01)])
def test_a_dual_step_is_the_preconditioned_gradient(progress, strength, kept, width):
    """By hand: a full step · (c − F(f) − h·(1 − 2σ)) / width, times (4/α)·α·σ'(α·m)."""
    controller = watched(kept / 100)
    totals = Totals(soft=kept, positive=kept, undecided=0, binary=0)
    run = RunState(100, kept / 100, 4.0, progress, totals)
    logit, f = np.array([-0.003]), np.array([kept])
    rank = (kept + kept + 1) / 200  # one of a hundred, which ties with itself
    p = 1.0 / (1.0 + np.exp(4.0 * 0.003))
    share = (kept / 100 - rank - strength * (1.0 - 2.0 * p)) / width
    assert -1.0 < share < 0.0  # nothing is clipped, and nothing left to the guard
    moved = controller.step(np.array([kept]), logit, f.astype(float), run)
    np.testing.assert_allclose(moved, logit + 0.6 * 4.0 * p * (1.0 - p) * share)


@pytest.mark.parametrize("make", [lambda: DualRatio(100, 0.7), lambda: PaperRatio(100.0)])
def test_what_was_saved_goes_on_as_if_it_had_not_been(make):
    rng = np.random.default_rng(0)
    run = RunState(100, 0.7, 4.0, 0.4, Totals(soft=75.0, positive=76, undecided=2, binary=0))

    def steps(controller, count):
        for _ in range(count):
            ids = rng.permutation(100)[:20]
            moved = controller.step(ids, rng.normal(size=20), rng.exponential(size=20), run)
        return moved

    whole, resumed = make(), make()
    steps(whole, 3)
    resumed.load_state_dict(whole.state_dict())
    before = rng.bit_generator.state
    expected = steps(whole, 2)
    rng.bit_generator.state = before
    np.testing.assert_array_equal(steps(resumed, 2), expected)
    assert resumed.multiplier == whole.multiplier


@given(
    positives=st.lists(st.integers(0, 90), min_size=1, max_size=6),
    undecided=st.integers(0, 10),
    batch=st.integers(1, 100),
    keep_ratio=st.sampled_from([0.1, 0.5, 0.9]),
)
def test_the_multiplier_is_the_ratio_with_its_error_and_all_errors_before(
    positives, undecided, batch, keep_ratio
):
    """c = c_r + min(4, 0.7·N/B)·e + 2·Σ e·B/N within [0, 1]; at its ends the sum stands still."""
    controller, total, ids = DualRatio(100, keep_ratio), 0.0, np.arange(batch)
    for positive in positives:
        run = RunState(100, keep_ratio, 1.0, 0.0, Totals(0.0, positive, undecided, 0))
        controller.step(ids, np.zeros(batch), ids.astype(float), run)
        error = keep_ratio - (positive + keep_ratio * undecided) / 100
        wanted = keep_ratio + min(4.0, 70.0 / batch) * error + total
        assert controller.multiplier == pytest.approx(np.clip(wanted, 0.0, 1.0))
        if 0.0 <= wanted <= 1.0:
            total += 2.0 * error * batch / 100


@given(
    seed=st.integers(0, 1000),
    keep_ratio=st.sampled_from([0.2, 0.5, 0.9]),
    progress=st.sampled_from([0.3, 1.0]),
    undecided=st.booleans(),
)
def test_late_in_a_run_no_batch_takes_the_ratio_away(seed, keep_ratio, progress, undecided):
    """With N = B = 100 it stays within half a sample of c_r, or as near as full steps bring it."""
    rng = np.random.default_rng(seed)
    logit = rng.uniform(-1.0, 1.0, 100) * (rng.random(100) < 0.5 if undecided else 1.0)
    controller = watched(keep_ratio)
    positive, zero = int((logit > 0).sum()), int((logit == 0).sum())
    run = RunState(100, keep_ratio, 3.0, progress, Totals(0.0, positive, zero, 0))
    f = rng.permutation(100).astype(float)
    moved = controller.step(np.arange(100), logit, f, run)
    p = 1.0 / (1.0 + np.exp(-3.0 * logit))
    full = 0.6 * 4.0 * p * (1.0 - p)
    fewest, most = (logit - full > 0).sum(), (logit + full > 0).sum()
    allowed = np.clip(100 * keep_ratio + np.array([-0.5, 0.5]), fewest, most)
    assert allowed[0] <= (moved > 0).sum() <= allowed[1]


@pytest.mark.parametrize("alpha_end", [1.0, 100.0])
def test_the_range_of_alpha_does_not_matter(alpha_end):
    losses = np.exp(np.random.default_rng(1).normal(size=200))
    pruner = AdaPruner(200, 0.8, Schedule(1, 8, alpha_end / 50, alpha_end))
    for _ in range(9):
        pruner.observe(np.arange(200), losses)
        status = pruner.end_epoch()
    assert abs(status.ratio - 0.8) <= 0.02 and status.binary_share >= 0.98


def test_dual_keeps_the_samples_of_least_pressure():
    """With losses that don't change, the kept set is the one of smallest f = L − log L."""
    losses = np.exp(np.random.default_rng(1).normal(size=200))
    pruner = AdaPruner(200, 0.7, Schedule(1, 20), normalize="none")
    for _ in range(21):
        pruner.observe(np.arange(200), losses)
        pruner.end_epoch()
    best = np.argsort(losses - np.log(losses + 1e-5))[:140]
    assert np.count_nonzero(pruner.select()[best]) >= 138


@pytest.mark.parametrize("epochs", [8, 30])
@pytest.mark.parametrize("keep_ratio", [0.3, 0.9, 0.99])
@pytest.mark.parametrize("stream", STREAMS)
def test_ratio_before_the_cut(stream, keep_ratio, epochs):
    """A part of the cells of benchmarks/core_ratio.py."""
    outcome = run_cell(Cell(stream, 500, 16, epochs, keep_ratio, seed=0))
    assert outcome.passed, outcome
