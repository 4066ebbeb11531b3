"""The two facts about holding a ratio, and that the default holds it on every kind of losses."""

import numpy as np
import pytest

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
