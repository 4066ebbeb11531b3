import logging

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.core import AdaPruner, Balance, ClassSets, Schedule, Terms, kept_count
from adapruner_det.core.mask import COLUMNS
from tests.core.trained import assert_same, columns, train

# --- properties ----------------------------------------------------------------------------------


@st.composite
def runs(draw):
    """(N, c_r, batches of (ids, losses)): ids in any order and repeated, batches of 0 and of 1."""
    n = draw(st.integers(1, 12))
    keep_ratio = draw(st.sampled_from([0.01, 0.3, 0.5, 0.9, 0.99, 1.0]))
    visit = st.tuples(st.integers(0, n - 1), st.sampled_from([0.0, 0.1, 1.0, 5.0, 1e6, np.inf]))
    batches = draw(st.lists(st.lists(visit, max_size=2 * n), min_size=1, max_size=8))
    return n, keep_ratio, batches


@given(run=runs(), controller=st.sampled_from(["dual", "paper"]))
def test_any_run_cuts_exactly_and_touches_only_the_batch(run, controller):
    n, keep_ratio, batches = run
    pruner = AdaPruner(n, keep_ratio, Schedule(1, len(batches)), controller=controller)
    pruner.end_epoch()
    for batch in batches:
        ids = np.array([i for i, _ in batch], dtype=np.int64)
        losses = np.array([loss for _, loss in batch])
        weights = pruner.weights(ids)
        assert weights.shape == (len(ids),) and bool(((0 <= weights) & (weights <= 1)).all())
        before = columns(pruner)
        bad = pruner.observe(ids, losses)
        np.testing.assert_array_equal(bad, ids[np.isinf(losses)])
        untouched = np.setdiff1d(np.arange(n), ids[np.isfinite(losses)])
        for name, column in columns(pruner).items():
            np.testing.assert_array_equal(column[untouched], before[name][untouched])
        pruner.end_epoch()
    logit = pruner.mask.column("logit").astype(np.float64)
    assert np.isfinite(logit).all()
    soft = (0.5 + 0.5 * np.tanh(0.5 * pruner.schedule.alpha(pruner.epoch) * logit)).mean()
    assert pruner.status().ratio == pytest.approx(soft, abs=1e-6)
    kept = pruner.select()
    assert kept.shape == (n,) and np.count_nonzero(kept) == kept_count(n, keep_ratio) >= 1


@given(run=runs(), seed=st.integers(0, 99))
def test_order_within_a_batch_does_not_matter(run, seed):
    n, keep_ratio, batches = run
    pair = [AdaPruner(n, keep_ratio, Schedule(0, len(batches))) for _ in range(2)]
    rng = np.random.default_rng(seed)
    for batch in batches:
        ids = np.array([i for i, _ in batch], dtype=np.int64)
        losses = np.array([loss for _, loss in batch])
        # Repeats of one id are averaged, and sums in another order differ in the last bit.
        _, first = np.unique(ids, return_index=True)
        ids, losses = ids[first], losses[first]
        order = rng.permutation(len(ids))
        pair[0].observe(ids, losses)
        pair[1].observe(ids[order], losses[order])
        for pruner in pair:
            pruner.end_epoch()
    assert_same(*pair)


@pytest.mark.parametrize("controller", ["dual", "paper"])
def test_each_epoch_begins_with_the_ratio_at_its_own_alpha(controller):
    losses = np.random.default_rng(0).exponential(size=200)
    pruner = AdaPruner(200, 0.7, Schedule(2, 6, 0.1, 5.0), controller=controller)
    for _ in range(7):
        train(pruner, losses, 1)
        logit = pruner.mask.column("logit").astype(np.float64)
        soft = 0.5 + 0.5 * np.tanh(0.5 * pruner.schedule.alpha(pruner.epoch) * logit)
        assert pruner.status().ratio == pytest.approx(soft.mean(), abs=1e-6)


def test_an_empty_batch_changes_nothing():
    pruner, other = (AdaPruner(4, 0.5, Schedule(0, 2)) for _ in range(2))
    assert len(pruner.observe(torch.empty(0, dtype=torch.int64), torch.empty(0))) == 0
    assert pruner.weights([]).shape == (0,)
    assert_same(pruner, other)


@pytest.mark.parametrize("keep_ratio", [0.01, 0.5, 1.0])
def test_one_sample(keep_ratio):
    pruner = AdaPruner(1, keep_ratio, Schedule(1, 8))
    train(pruner, np.array([0.7]), 9)
    assert pruner.select().tolist() == [True]


@pytest.mark.parametrize("num_samples", [2, 3, 7, 100])
@pytest.mark.parametrize("stream", ["distinct", "equal", "zero"])
def test_all_kept(num_samples, stream, caplog):
    losses = {
        "distinct": np.exp(np.random.default_rng(0).normal(size=num_samples)),
        "equal": np.full(num_samples, 0.7),
        "zero": np.zeros(num_samples),
    }[stream]
    pruner = AdaPruner(num_samples, 1.0, Schedule(1, 8))
    train(pruner, losses, 9)
    assert pruner.select().all()
    status = pruner.status()
    assert status.ratio >= 0.98 and status.binary_share == 1.0
    assert not caplog.records


@pytest.mark.parametrize("num_samples", [2, 3, 100])
def test_one_kept_is_the_one_of_least_pressure(num_samples):
    losses = np.linspace(1.0, 3.0, num_samples)
    pruner = AdaPruner(num_samples, 1.0 / num_samples, Schedule(1, 8), normalize="none")
    train(pruner, losses, 9)
    assert np.flatnonzero(pruner.select()).tolist() == [0]


# --- weights, warm-up, ablations -----------------------------------------------------------------


def test_warmup_weights_are_one_and_the_mask_stands_still():
    pruner = AdaPruner(20, 0.5, Schedule(2, 2))
    losses = np.linspace(0.1, 4.0, 20)
    for _ in range(2):
        np.testing.assert_array_equal(pruner.weights(np.arange(20)), np.ones(20))
        train(pruner, losses, 1)
        assert not pruner.mask.column("logit").any()
    assert pruner.mask.column("times_seen").tolist() == [2] * 20
    np.testing.assert_array_equal(pruner.weights([0]), [0.5])
    train(pruner, losses, 1)
    assert pruner.mask.column("logit").any()


def test_without_warmup_the_first_batch_moves_the_mask():
    pruner = AdaPruner(20, 0.5, Schedule(0, 2))
    pruner.observe(np.arange(20), np.linspace(0.1, 4.0, 20))
    assert pruner.mask.column("logit").any()


def test_weights_are_the_keep_probabilities():
    pruner = AdaPruner(20, 0.5, Schedule(0, 3, alpha_end=4.1))
    train(pruner, np.linspace(0.1, 4.0, 20), 1)
    assert pruner.status().alpha == pytest.approx(2.1)
    ids = torch.tensor([7, 0, 19, 7])
    logit = torch.from_numpy(pruner.mask.column("logit"))[ids]
    torch.testing.assert_close(pruner.weights(ids), torch.sigmoid(2.1 * logit))
    assert pruner.weights(ids).dtype == torch.float32


def kept_with(terms, losses, **options):
    options = {"normalize": "none", **options}
    pruner = AdaPruner(len(losses), 0.5, Schedule(1, 20), terms=terms, **options)
    train(pruner, losses, 21)
    return pruner


@pytest.mark.parametrize(
    ("terms", "order"),
    [
        (Terms(), lambda x: x - np.log(x)),
        (Terms(selection=False), lambda x: x),
        (Terms(classification=False), lambda x: -np.log(x)),
    ],
)
def test_ablations_decide_which_samples_go(terms, order):
    losses = np.exp(np.random.default_rng(0).normal(size=100))
    kept = kept_with(terms, losses).select()
    best = np.argsort(order(losses))[:50]
    assert np.count_nonzero(kept[best]) >= 48


def test_without_classification_nothing_trains_the_model():
    pruner = AdaPruner(4, 0.5, Schedule(1, 1), terms=Terms(classification=False))
    assert pruner.weights([0, 1]).tolist() == [1.0, 1.0]
    pruner.end_epoch()
    assert pruner.weights([0, 1]).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("controller", ["dual", "paper"])
def test_without_compression_no_sample_is_left(controller, caplog):
    losses = np.exp(np.random.default_rng(0).normal(size=100))
    pruner = kept_with(Terms(compression=False), losses, controller=controller)
    assert pruner.status().ratio < 0.02
    assert np.count_nonzero(pruner.select()) == 50
    assert "further than 0.02" in caplog.text


# --- normalisation -------------------------------------------------------------------------------


def test_the_median_makes_the_scale_of_the_losses_irrelevant():
    losses = np.exp(np.random.default_rng(0).normal(size=100))
    kept = []
    for scale in (1.0, 1024.0):
        pruner = AdaPruner(100, 0.5, Schedule(1, 20))
        train(pruner, scale * losses, 21)
        kept.append(pruner.select())
        assert float(pruner.typical_losses()) == pytest.approx(scale, rel=0.2)
    assert np.count_nonzero(kept[0] != kept[1]) <= 2


def test_a_median_of_zero_does_not_divide():
    losses = np.where(np.arange(100) < 70, 0.0, 2.0)
    pruner = AdaPruner(100, 0.5, Schedule(1, 8))
    train(pruner, losses, 9)
    assert float(pruner.typical_losses()) == pytest.approx(0.6, abs=0.2)
    assert np.isfinite(pruner.mask.column("logit")).all()


# --- bad losses, bad input -----------------------------------------------------------------------


def test_nonfinite_losses_are_counted_and_move_nothing(caplog):
    pruner, other = (AdaPruner(6, 0.5, Schedule(0, 2)) for _ in range(2))
    losses = torch.tensor([1.0, float("nan"), 2.0, float("inf"), float("-inf")])
    assert pruner.observe([0, 1, 2, 3, 4], losses).tolist() == [1, 3, 4]
    other.observe([0, 2], [1.0, 2.0])
    assert pruner.nonfinite == pruner.status().nonfinite == 3
    for name in COLUMNS:
        np.testing.assert_array_equal(pruner.mask.column(name), other.mask.column(name))


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize("keep_ratio", [0.3, 0.8, 0.95])
def test_samples_whose_loss_was_never_finite_are_dropped_first(keep_ratio, balanced):
    bad = [0, 7, 13, 21]
    losses = np.exp(np.random.default_rng(0).normal(size=40))
    losses[bad] = [np.nan, np.inf, 1e39, np.nan]
    sets = ClassSets.from_sets([[int(i in bad)] for i in range(40)], 2)  # a class of bad ones alone
    balance = Balance(sets, 0.05) if balanced else None
    pruner = AdaPruner(40, keep_ratio, Schedule(1, 12), balance=balance)
    train(pruner, losses, 13)
    assert np.flatnonzero(pruner.mask.column("times_seen") == 0).tolist() == bad
    kept = pruner.select()
    count = kept_count(40, keep_ratio)
    assert np.count_nonzero(kept) == count
    assert np.count_nonzero(kept[bad]) == max(0, count - 36)


@pytest.mark.filterwarnings("error")
def test_losses_near_the_largest_there_are_still_give_a_cut():
    losses = np.array([1e-45, 1.0, 1e30, float(np.finfo(np.float32).max)] * 3)
    pruner = AdaPruner(12, 0.5, Schedule(1, 4))
    train(pruner, losses, 5)
    assert pruner.nonfinite == 0 and pruner.select().sum() == 6


def test_a_typical_loss_that_float32_has_not_is_above_zero():
    pruner = AdaPruner(4, 0.5, Schedule(1, 2))
    train(pruner, np.full(4, 1e-60), 3)
    assert pruner.typical_losses() > 0 and pruner.select().sum() == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep_ratio": 0.0}, r"must lie in \(0, 1\]"),
        ({"keep_ratio": 1.1}, r"must lie in \(0, 1\]"),
        ({"keep_ratio": float("nan")}, r"must lie in \(0, 1\]"),
        ({"num_samples": 0}, "at least 1 sample"),
        ({"controller": "p"}, "'dual' or 'paper'"),
        ({"normalize": "mean"}, "'median' or 'none'"),
    ],
)
def test_refused_options(options, message):
    with pytest.raises(ValueError, match=message):
        AdaPruner(**{"num_samples": 4, "keep_ratio": 0.5, "schedule": Schedule(0, 2), **options})


# --- feedback ------------------------------------------------------------------------------------


def test_a_pruned_sample_that_becomes_informative_is_readmitted():
    """Ten known samples are too easy at first and typical later; ten others stay too easy.

    What rises in the first third of the run comes back; once the mask has set nothing does.
    """
    n, epochs = 200, 40
    easy, returning = np.arange(20), np.arange(10)
    usual = np.exp(0.5 * np.random.default_rng(3).normal(size=n))

    def kept_at(change_epoch):
        pruner = AdaPruner(n, 0.9, Schedule(1, epochs - 1), normalize="none")
        rng = np.random.default_rng(4)
        history = []
        for epoch in range(epochs):
            losses = usual.copy()
            losses[easy] = 0.001
            if epoch >= change_epoch:
                losses[returning] = 1.0
            order = rng.permutation(n)
            for start in range(0, n, 20):
                pruner.observe(order[start : start + 20], losses[order[start : start + 20]])
            pruner.end_epoch()
            history.append(pruner.mask.column("logit") > 0)
        return history, pruner.select()

    history, kept = kept_at(change_epoch=14)
    assert not history[13][returning].any(), "they were out before their loss rose"
    assert kept[returning].all(), "and are in again"
    assert not kept[10:20].any(), "those that stayed easy are out"
    assert kept.sum() == 180

    _, late = kept_at(change_epoch=32)
    assert not late[returning].any(), "once the mask has set nothing comes back"


# --- resuming ------------------------------------------------------------------------------------


@pytest.mark.parametrize("controller", ["dual", "paper"])
@pytest.mark.parametrize("stop", [0, 3, 7, 20, 41])
def test_a_resumed_run_goes_on_bit_for_bit(controller, stop, tmp_path):
    rng = np.random.default_rng(0)
    batches = [(rng.integers(0, 60, size=16), np.exp(rng.normal(size=16))) for _ in range(48)]
    batches[5][1][3] = np.nan

    def new():
        return AdaPruner(60, 0.7, Schedule(2, 10), controller=controller)

    def go(pruner, first, last):
        for k in range(first, last):
            pruner.observe(*batches[k])
            if k % 4 == 3:
                pruner.end_epoch()
        return pruner

    whole = go(new(), 0, 48)
    torch.save(go(new(), 0, stop).state_dict(), tmp_path / "state.pt")
    resumed = new()
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    go(resumed, stop, 48)
    assert_same(whole, resumed)
    np.testing.assert_array_equal(whole.select(), resumed.select())
    assert whole.ranking_parameters() == resumed.ranking_parameters()


def test_a_memory_mapped_mask_gives_the_same(tmp_path):
    losses = np.exp(np.random.default_rng(0).normal(size=50))
    in_ram = AdaPruner(50, 0.7, Schedule(1, 8))
    mapped = AdaPruner(50, 0.7, Schedule(1, 8), directory=tmp_path)
    for pruner in (in_ram, mapped):
        train(pruner, losses, 9)
    assert_same(in_ram, mapped)


# --- the promise ---------------------------------------------------------------------------------


def test_a_missed_ratio_is_said_loudly_and_the_cut_is_exact(caplog):
    pruner = AdaPruner(100, 0.7, Schedule(0, 8))
    with caplog.at_level(logging.WARNING):
        kept = pruner.select()
    assert np.count_nonzero(kept) == 70
    assert "soft ratio is 0.5000" in caplog.text and "no pruning epoch" in caplog.text


def test_a_held_ratio_is_not_warned_about(caplog):
    pruner = AdaPruner(100, 0.7, Schedule(1, 8))
    train(pruner, np.exp(np.random.default_rng(0).normal(size=100)), 9)
    assert abs(pruner.status().ratio - 0.7) <= 0.02
    pruner.select()
    assert not caplog.records


def test_equal_losses_are_said_to_rank_nothing(caplog):
    pruner = AdaPruner(100, 0.7, Schedule(1, 8))
    train(pruner, np.full(100, 0.7), 9)
    assert np.count_nonzero(pruner.select()) == 70
    assert "Every sample has the loss 0.7: nothing ranks them" in caplog.text


def test_losses_of_which_none_is_finite_are_not_said_to_be_equal(caplog):
    pruner = AdaPruner(4, 0.5, Schedule(0, 1))
    pruner.observe(np.arange(4), np.full(4, np.nan))
    pruner.end_epoch()
    assert np.count_nonzero(pruner.select()) == 2
    assert "No loss was finite: nothing ranks" in caplog.text
    assert "Every sample has the loss" not in caplog.text


# --- what is shown of it --------------------------------------------------------------------------


def test_the_scalars_are_those_of_the_status():
    pruner = AdaPruner(6, 0.5, Schedule(0, 4))
    train(pruner, np.linspace(0.1, 3, 6), 2)
    status = pruner.status()
    assert pruner.scalars() == {
        "soft_ratio": status.ratio,
        "alpha": status.alpha,
        "multiplier": status.multiplier,
        "binary_share": status.binary_share,
    }
    assert pruner.signals == frozenset()


def test_each_epochs_mean_loss_is_on_record_and_survives_a_resume():
    whole = AdaPruner(4, 0.5, Schedule(1, 3))
    parts = AdaPruner(4, 0.5, Schedule(1, 3))
    for pruner in (whole, parts):
        pruner.observe([0, 1], np.array([1.0, 3.0]))
        pruner.observe([2, 3], np.array([2.0, np.nan]))
        pruner.end_epoch()
        pruner.observe([0, 1], np.array([4.0, 5.0]))
    resumed = AdaPruner(4, 0.5, Schedule(1, 3))
    resumed.load_state_dict(parts.state_dict())
    for pruner in (whole, resumed):
        pruner.observe([2], np.array([9.0]))
        pruner.end_epoch()
        pruner.end_epoch()  # in which nothing was heard
        assert pruner.epoch_losses == [2.0, 6.0]
