import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from adapruner_det.core import AdaPruner, Balance, ClassSets, Schedule, cut, kept_shares
from adapruner_det.core.balance import balanced_cut

SETS = [{0}, {0, 1}, set(), {2}, {1, 2}]


def one_class_each(labels, num_classes):
    return ClassSets.from_sets(([label] for label in labels), num_classes)


# --- class sets ----------------------------------------------------------------------------------


def test_pairs_and_counts():
    sets = ClassSets.from_sets(SETS, 4)
    assert len(sets) == 5
    rows, classes = sets.pairs(np.array([4, 2, 1]))
    assert list(zip(rows.tolist(), classes.tolist(), strict=True)) == [
        (0, 1),
        (0, 2),
        (2, 0),
        (2, 1),
    ]
    assert sets.of(1).tolist() == [0, 1] and sets.of(2).tolist() == []
    assert sets.count().tolist() == [2, 2, 2, 0]
    assert sets.count(np.array([True, True, True, False, False])).tolist() == [2, 1, 0, 0]
    assert [len(part) for part in sets.pairs(np.array([], dtype=np.int64))] == [0, 0]


def test_kept_shares():
    shares = kept_shares(np.array([True, False, True, True, True]), ClassSets.from_sets(SETS, 4))
    np.testing.assert_array_equal(shares, [0.5, 0.5, 1.0, np.nan])


def test_repeats_count_once():
    assert ClassSets.from_sets([[1, 1, 0]], 2).count().tolist() == [1, 1]


# --- the cut -------------------------------------------------------------------------------------


@given(data=st.data(), n=st.integers(1, 40), classes=st.integers(1, 4))
def test_one_class_a_sample_every_class_is_in_its_band(data, n, classes):
    """With one class a sample the bounds can always be met, as the counts of each are free."""
    labels = data.draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))
    logit = np.array(data.draw(st.lists(st.sampled_from([-1.0, 0.0, 1.0]), min_size=n, max_size=n)))
    keep_ratio = data.draw(st.sampled_from([0.5, 0.7, 0.9, 1.0]))
    balance = Balance(one_class_each(labels, classes), band=0.05)
    fewest, most = balance.bounds(keep_ratio)
    count = max(1, round(keep_ratio * n))
    kept = balanced_cut(logit, np.zeros(n), count, balance, keep_ratio)
    assert np.count_nonzero(kept) == count
    if fewest.sum() <= count <= most.sum():
        assert len(balance.off_band(kept, keep_ratio)) == 0
    present = balance.sets.count() > 0
    if count >= present.sum():
        assert np.all(balance.sets.count(kept)[present] >= 1)


@given(data=st.data(), n=st.integers(1, 40))
def test_several_classes_a_sample_the_count_is_exact(data, n):
    sets = data.draw(st.lists(st.sets(st.integers(0, 3)), min_size=n, max_size=n))
    count = data.draw(st.integers(0, n))
    logit = np.array(data.draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=n, max_size=n)))
    balance = Balance(ClassSets.from_sets(sets, 4), band=0.1)
    assert balanced_cut(logit, np.zeros(n), count, balance, 0.7).sum() == count


def test_a_cut_within_the_band_is_left_alone():
    logit = np.linspace(1, -1, 20)
    balance = Balance(one_class_each(np.arange(20) % 2, 2), band=0.1)
    plain = cut(logit, np.zeros(20), 10)
    np.testing.assert_array_equal(balanced_cut(logit, np.zeros(20), 10, balance, 0.5), plain)


def test_swaps_go_by_the_order_of_the_cut():
    """Class 1 holds the ten worst of 20 at 0.5 ± 0.1: its four best come, the four worst go."""
    logit = np.linspace(1, -1, 20)
    balance = Balance(one_class_each(np.arange(20) // 10, 2), band=0.1)
    kept = balanced_cut(logit, np.zeros(20), 10, balance, 0.5)
    assert np.flatnonzero(kept).tolist() == [0, 1, 2, 3, 4, 5, 10, 11, 12, 13]


def test_for_the_one_that_comes_the_worst_goes_whose_class_has_room():
    """At 0.5 ± 0.1 class 2 of three has one too few, and the last that are kept are of 0 and 1."""
    classes = [0, 1, 2] * 3 + [0, 1] * 3 + [2] * 7 + [0, 1] * 4
    logit = np.linspace(1, -1, 30)
    balance = Balance(one_class_each(classes, 3), band=0.1)
    kept = balanced_cut(logit, np.zeros(30), 15, balance, 0.5)
    assert np.flatnonzero(kept).tolist() == [*range(14), 15]


def test_samples_without_an_order_fill_no_band():
    """Class 1 has two samples with a logit and eight without, which no band brings back."""
    logit = np.where(np.arange(20) < 12, np.linspace(1, -1, 20), -np.inf)
    balance = Balance(one_class_each(np.arange(20) // 10, 2), band=0.1)
    kept = balanced_cut(logit, np.zeros(20), 10, balance, 0.5)
    assert np.flatnonzero(kept).tolist() == [*range(8), 10, 11]
    kept = balanced_cut(logit, np.zeros(20), 14, balance, 0.7)
    assert np.flatnonzero(kept).tolist() == list(range(14))


@given(data=st.data(), n=st.integers(1, 30))
def test_samples_without_an_order_stay_only_where_no_others_are_left(data, n):
    sets = data.draw(st.lists(st.sets(st.integers(0, 3)), min_size=n, max_size=n))
    choices = st.sampled_from([-np.inf, -1.0, 1.0])
    logit = np.array(data.draw(st.lists(choices, min_size=n, max_size=n)))
    count = data.draw(st.integers(0, n))
    balance = Balance(ClassSets.from_sets(sets, 4), band=data.draw(st.sampled_from([0.01, 0.2])))
    kept = balanced_cut(logit, np.zeros(n), count, balance, 0.7)
    assert np.count_nonzero(kept) == count
    assert np.count_nonzero(kept & np.isinf(logit)) == max(0, count - np.isfinite(logit).sum())


# --- the run -------------------------------------------------------------------------------------


def skewed_run(balance_band, keep_ratio=0.8, epochs=20, several=False):
    """Six classes of very different losses and sizes; the last has four samples."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(6), [400, 250, 200, 100, 46, 4])
    extra = rng.integers(0, 6, size=1000)
    sets = [{a, b} if several else {a} for a, b in zip(labels, extra, strict=True)]
    classes = ClassSets.from_sets(sets, 6)
    losses = np.exp(0.7 * rng.normal(size=1000) + np.linspace(-1.5, 1.5, 6)[labels])
    balance = None if balance_band is None else Balance(classes, balance_band)
    pruner = AdaPruner(1000, keep_ratio, Schedule(1, epochs), balance=balance)
    for _ in range(epochs + 1):
        for ids in rng.permutation(1000).reshape(-1, 50):
            pruner.observe(ids, losses[ids] * np.exp(0.3 * rng.normal(size=50)))
        status = pruner.end_epoch()
    return pruner, status, classes


def test_without_balance_classes_go_out_of_the_band():
    """What the option is for; it shows that the next test could fail."""
    pruner, _, classes = skewed_run(None)
    assert np.abs(kept_shares(pruner.select(), classes) - 0.8).max() > 0.2


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("keep_ratio", [0.5, 0.8])
def test_with_balance_every_class_is_in_the_band(keep_ratio, several, caplog):
    pruner, status, classes = skewed_run(0.05, keep_ratio, several=several)
    assert abs(status.ratio - keep_ratio) <= 0.02 and status.binary_share >= 0.98
    kept = pruner.select()
    assert kept.sum() == round(keep_ratio * 1000)
    shares, sizes = kept_shares(kept, classes), classes.count()
    assert np.all(np.abs(shares - keep_ratio) <= 0.05 + 1.0 / sizes)
    assert np.all(shares > 0)
    assert not caplog.records


def test_the_duals_do_most_of_the_work_before_the_cut():
    pruner, _, classes = skewed_run(0.05)
    shares = kept_shares(pruner.mask.column("logit") > 0, classes)
    assert np.abs(shares - 0.8)[:5].max() <= 0.06


def test_a_resumed_run_goes_on_bit_for_bit(tmp_path):
    rng = np.random.default_rng(0)
    balance = Balance(one_class_each(np.arange(60) % 3, 3))
    batches = [(rng.integers(0, 60, size=16), np.exp(rng.normal(size=16))) for _ in range(40)]

    def go(pruner, first, last):
        for k in range(first, last):
            pruner.observe(*batches[k])
            if k % 4 == 3:
                pruner.end_epoch()
        return pruner

    whole, part, resumed = (AdaPruner(60, 0.7, Schedule(1, 9), balance=balance) for _ in range(3))
    go(whole, 0, 40)
    torch.save(go(part, 0, 22).state_dict(), tmp_path / "state.pt")
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    go(resumed, 22, 40)
    np.testing.assert_array_equal(whole.mask.column("logit"), resumed.mask.column("logit"))
    np.testing.assert_array_equal(whole.select(), resumed.select())


def test_a_class_without_samples_is_left_out():
    pruner = AdaPruner(4, 0.5, Schedule(0, 2), balance=Balance(one_class_each([0, 0, 2, 2], 3)))
    pruner.observe([0, 1, 2, 3], [1.0, 2.0, 3.0, 4.0])
    pruner.end_epoch()
    assert pruner.select().sum() == 2


# --- refused -------------------------------------------------------------------------------------


def test_refused():
    sets = one_class_each([0, 1], 2)
    with pytest.raises(ValueError, match="the band is 0"):
        Balance(sets, 0.0)
    with pytest.raises(ValueError, match="classes run from 0 to 2; there are 2"):
        ClassSets.from_sets([[0], [2]], 2)
    with pytest.raises(ValueError, match="all 3 samples; it got 'dual' and those of 2"):
        AdaPruner(3, 0.5, Schedule(0, 2), balance=Balance(sets))
    with pytest.raises(ValueError, match="needs the controller 'dual'"):
        AdaPruner(2, 0.5, Schedule(0, 2), balance=Balance(sets), controller="paper")


def test_classes_that_cannot_be_balanced_are_said(caplog):
    """Three classes of one sample each, of which one sample may stay."""
    pruner = AdaPruner(3, 1 / 3, Schedule(1, 8), balance=Balance(one_class_each([0, 1, 2], 3)))
    for _ in range(9):
        pruner.observe(np.arange(3), np.array([1.0, 2.0, 3.0]))
        pruner.end_epoch()
    assert pruner.select().sum() == 1
    assert "could not be brought within 0.050" in caplog.text
