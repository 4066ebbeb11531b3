"""Each term against a direct computation, and the promises of the objectives made of them."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapruner_det.core import AdaPruner, Balance, ClassSets, Inclusion, Paper, Schedule, Terms
from adapruner_det.core.cut import cut, kept_count
from adapruner_det.core.mask import SampleMask
from adapruner_det.core.neighbours import Neighbours
from adapruner_det.core.objective import pressure
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


def digests(n, seed=0):
    return np.random.default_rng(seed).integers(0, 2**64, n, dtype=np.uint64)


def twin_pairs(n, pairs):
    """Neighbours of n samples of which 2i and 2i + 1 are exact copies, for i below ``pairs``."""
    rng = np.random.default_rng(5)
    points = rng.normal(size=(n, 8))
    points[1 : 2 * pairs : 2] = points[0 : 2 * pairs : 2]
    distance = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    np.fill_diagonal(distance, np.inf)
    index = np.argsort(distance, axis=1, kind="stable")[:, :15]
    return Neighbours(index, np.take_along_axis(distance, index, axis=1))


class Stream:
    """What a run of E epochs shows: (E, N) losses, confidences and fault signals."""

    def __init__(self, n, epochs, seed=0, wrong=0):
        rng = np.random.default_rng(seed)
        ease = 0.45 + 0.5 * rng.beta(2, 1, n)
        ease[:wrong] = 0.05
        noise = 0.1 * rng.normal(size=(epochs, n))
        self.confidence = np.clip(ease + noise, 0.01, 0.99)
        self.losses = -np.log(self.confidence)
        other = np.where(np.arange(n) < wrong, 0.9, 0.5) * (1.0 - self.confidence)
        self.fault = (1.0 - self.confidence + other) / 2.0


def inclusion(n, keep_ratio=0.7, epochs=20, **options):
    return Inclusion(digests(n), 3, keep_ratio, epochs, **options)


def new(n, keep_ratio=0.7, epochs=20, pruner=None, **options):
    objective = inclusion(n, keep_ratio, epochs, **options)
    schedule = Schedule(5, epochs - 5)
    return AdaPruner(
        n, keep_ratio, schedule, objective=objective, normalize="none", **(pruner or {})
    )


def train(pruner, stream, first=0, last=None, batch=16, signals=("confidence", "fault")):
    n = pruner.num_samples
    for epoch in range(first, last or pruner.schedule.epochs):
        order = np.random.default_rng(epoch).permutation(n)
        for start in range(0, n, batch):
            ids = order[start : start + batch]
            given = {name: getattr(stream, name)[epoch, ids] for name in signals}
            pruner.observe(ids, stream.losses[epoch, ids], **given)
        pruner.end_epoch()
    return pruner


# --- the paper's loss term -----------------------------------------------------------------------


def test_the_papers_pressure_is_eq_4_and_5s():
    losses = np.logspace(-4, 4, 100)
    np.testing.assert_array_equal(Paper().pressure(losses, {}), pressure(losses))
    np.testing.assert_array_equal(
        Paper(use_classification=False).pressure(losses, {}),
        pressure(losses, use_classification=False),
    )
    np.testing.assert_array_equal(
        Paper(use_selection=False).pressure(losses, {}), pressure(losses, use_selection=False)
    )


def test_paper_is_the_objective_that_is_taken_unless_told():
    stream = Stream(80, 20)
    found = []
    for options in ({}, {"objective": Paper()}):
        pruner = AdaPruner(80, 0.7, Schedule(5, 15), **options)
        train(pruner, stream)  # its signals are passed over
        found.append((pruner.select(), pruner.mask.column("logit").copy()))
        assert pruner.objective.name == "paper" and pruner.signals == frozenset()
    np.testing.assert_array_equal(*(kept for kept, _ in found))
    np.testing.assert_array_equal(*(logit for _, logit in found))
    plain = AdaPruner(80, 0.7, Schedule(5, 15))
    train(plain, stream, signals=())
    np.testing.assert_array_equal(plain.mask.column("logit"), found[0][1])


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


def test_twins_of_a_faulty_one_that_are_no_twins_of_each_other_both_stay():
    """0 lies between 40 and 41. While the mask learns 0 stays in their place; it is faulty."""
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
    assert Redundancy.spare(pruner.mask.column("copies")[[0, 40, 41]]).tolist() == [0, 1, 1]
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


# --- inclusion as a whole ------------------------------------------------------------------------


def test_the_chances_are_what_the_formula_says():
    """v·N from the columns of a run, against the plain formula on all that the stream showed."""
    n, epochs = 200, 60
    stream = Stream(n, epochs, wrong=30)
    neighbours = twin_pairs(n, 0)
    pruner = train(new(n, 0.3, epochs, neighbours=neighbours), stream)
    q = stream.confidence[:30]
    windows = q.reshape(3, 10, n)
    w, p = (windows.std(1) * (1 - windows.mean(1))).mean(0), q.mean(0)
    flagged = stream.fault[:30].mean(0) > 0.5
    top = np.flatnonzero(~flagged)[np.argsort(-w[~flagged])[:10]]
    b = 15 * (1 - p[top].mean()) * (1 - 0.7**4)
    value = w * p ** (15 - b) * (1 - p) ** (b - 1) / neighbours.copies
    expected = 0.25 + 0.75 * value / value[~flagged].mean()
    columns = pruner.columns()
    np.testing.assert_array_equal(columns["flagged"], flagged)
    np.testing.assert_allclose(columns["chance"][~flagged], expected[~flagged], rtol=0.08)
    gumbel = -np.log(-np.log(columns["draw"].astype(float)))
    order = np.argsort(np.where(flagged, np.inf, -np.log(columns["chance"]) - gumbel))
    expected_kept = np.zeros(n, dtype=bool)
    expected_kept[order[:60]] = True
    np.testing.assert_array_equal(pruner.select(), expected_kept)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), keep_ratio=st.sampled_from([0.05, 0.3, 0.7, 0.95, 1.0]))
def test_cuts_are_exact_and_nested_and_no_chance_is_below_the_floor(seed, keep_ratio):
    n = 60
    stream = Stream(n, 12, seed, wrong=6)
    pruner = train(new(n, keep_ratio, 12, neighbours=twin_pairs(n, 8), floor=0.4), stream)
    assert pruner.select().sum() == kept_count(n, keep_ratio)
    columns = pruner.columns()
    assert columns["chance"].min() >= 0.4 - 1e-6
    assert columns["chance"][~columns["flagged"]].mean() == pytest.approx(1.0, abs=0.01)
    logit, score = pruner.ranking()
    np.testing.assert_array_equal(score, columns["score"])
    before = np.zeros(n, dtype=bool)
    for count in range(n + 1):
        kept = cut(logit, score, count)
        assert kept.sum() == count and np.all(kept[before])
        before = kept


def test_a_floor_of_one_is_an_even_draw():
    pruner = train(new(100, floor=1.0), Stream(100, 20))
    draw = pruner.columns()["draw"]
    np.testing.assert_array_equal(np.flatnonzero(pruner.select()), np.sort(np.argsort(-draw)[:70]))


def test_the_mask_goes_where_the_cut_goes():
    """The soft ratio is held, and the logits lean the way the final order does."""
    pruner = train(new(400, 0.6, 60), Stream(400, 60, wrong=30))
    status = pruner.status()
    assert abs(status.ratio - 0.6) <= 0.02 and status.binary_share > 0.95
    assert np.mean((pruner.mask.column("logit") > 0) == pruner.select()) > 0.95
    assert not (pruner.mask.column("logit")[:30] > 0).any(), "faults stop training the model"


def test_losses_alone_are_enough():
    """e^(−L) is p of the label; where losses are normalised it is e^(−L / typical L)."""
    stream = Stream(100, 20)
    told, alone = new(100), new(100)
    train(told, stream, signals=("confidence",))
    train(alone, stream, signals=())
    np.testing.assert_array_equal(told.select(), alone.select())
    assert np.abs(told.columns()["uncertainty"] - alone.columns()["uncertainty"]).max() < 1e-4
    scaled = AdaPruner(100, 0.7, Schedule(5, 15), objective=inclusion(100))
    stream.losses *= 1000.0
    train(scaled, stream, signals=())
    assert 0.3 < scaled.columns()["confidence"].mean() < 0.7
    assert scaled.columns()["uncertainty"].max() > 0.01


def test_the_sample_decides_not_its_place():
    """The same samples under other indices, visited in the same order: the same ones are kept."""
    n, epochs = 90, 20
    stream, keys = Stream(n, epochs), digests(n)
    place = np.random.default_rng(9).permutation(n)  # sample i has the index place[i]
    moved_keys = np.empty_like(keys)
    moved_keys[place] = keys
    plain, moved = (
        AdaPruner(
            n,
            0.6,
            Schedule(5, 15),
            objective=Inclusion(own, 3, 0.6, epochs),
            normalize="none",
        )
        for own in (keys, moved_keys)
    )
    for epoch in range(epochs):
        order = np.random.default_rng(epoch).permutation(n)
        for ids in np.split(order, 9):
            given = {"confidence": stream.confidence[epoch, ids], "fault": stream.fault[epoch, ids]}
            plain.observe(ids, stream.losses[epoch, ids], **given)
            moved.observe(place[ids], stream.losses[epoch, ids], **given)
        plain.end_epoch(), moved.end_epoch()
    np.testing.assert_array_equal(plain.select(), moved.select()[place])


def test_a_step_touches_only_the_batch():
    pruner = new(50, neighbours=twin_pairs(50, 5))
    train(pruner, Stream(50, 20), last=7)
    names = (*pruner.mask.saved, "draw", "copies")
    before = {name: pruner.mask.column(name).copy() for name in names}
    pruner.observe([3, 7], [0.5, 2.0], fault=[0.1, 0.9])
    for name in names:
        changed = np.flatnonzero(pruner.mask.column(name) != before[name])
        assert set(changed) <= {3, 7}, name
    assert (pruner.mask.column("fault") != before["fault"]).any()
    np.testing.assert_array_equal(pruner.mask.column("draw"), before["draw"])


def test_a_sample_takes_at_most_28_bytes_with_all_on(tmp_path):
    pruner = new(1000, neighbours=twin_pairs(1000, 5), pruner={"directory": tmp_path})
    arrays = [np.load(path, mmap_mode="r") for path in tmp_path.iterdir()]
    assert sum(array.nbytes for array in arrays) == 28 * 1000
    assert all(pruner.mask.column(name).flags.aligned for name in pruner.mask.saved)


def test_a_memory_mapped_one_gives_the_same(tmp_path):
    stream = Stream(60, 20, wrong=5)
    in_ram, mapped = (
        train(new(60, neighbours=twin_pairs(60, 6), pruner={"directory": d}), stream)
        for d in (None, tmp_path)
    )
    for name in (*in_ram.mask.saved, "draw", "copies"):
        np.testing.assert_array_equal(in_ram.mask.column(name), mapped.mask.column(name))
    np.testing.assert_array_equal(in_ram.select(), mapped.select())


@pytest.mark.parametrize("stop", [0, 2, 7, 13, 19])
def test_a_resumed_run_goes_on_bit_for_bit(stop, tmp_path):
    stream, neighbours = Stream(60, 20, wrong=8), twin_pairs(60, 6)
    whole = train(new(60, neighbours=neighbours), stream)
    first = train(new(60, neighbours=neighbours), stream, last=stop) if stop else None
    resumed = new(60, neighbours=neighbours)
    if first is not None:
        first.observe([1, 2], [0.3, 0.4], fault=[0.5, 0.6])  # in mid-epoch
        whole = train(new(60, neighbours=neighbours), stream, last=stop)
        whole.observe([1, 2], [0.3, 0.4], fault=[0.5, 0.6])
        train(whole, stream, stop)
        torch.save(first.state_dict(), tmp_path / "state.pt")
        resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    train(resumed, stream, stop)
    for name in whole.mask.saved:
        np.testing.assert_array_equal(whole.mask.column(name), resumed.mask.column(name), name)
    for name, column in whole.columns().items():
        np.testing.assert_array_equal(column, resumed.columns()[name], name)
    assert whole.status() == resumed.status()
    np.testing.assert_array_equal(whole.select(), resumed.select())


def test_a_checkpoint_between_the_last_batch_and_the_epochs_end_loses_nothing():
    stream = Stream(60, 20, wrong=8)
    whole = train(new(60), stream, last=7)
    whole.observe(np.arange(60), stream.losses[7], fault=stream.fault[7])
    resumed = new(60)
    resumed.load_state_dict(whole.state_dict())
    whole.end_epoch(), resumed.end_epoch()
    assert whole.objective.state_dict() == resumed.objective.state_dict()


class SecondOfTwo:
    """The exchange of a process that owns the odd indices; the other one has three clear faults."""

    rank, world = 1, 2

    def sum(self, values):
        return values + [3, 0]


def test_a_process_knows_which_samples_its_rows_are():
    """Ties in w go by the index, which must be that of the sample and not of the row."""
    objective = inclusion(7)
    mask = SampleMask(7, learnt=objective.learnt, given=objective.given, exchange=SecondOfTwo())
    objective.start(mask)
    mask.column("times_seen")[:] = 1
    (part,) = objective._parts(mask)
    assert part["index"].tolist() == [1, 3, 5]
    np.testing.assert_array_equal(part["draw"], Draw(digests(7), 3).stored[1::2])


def test_the_gate_opens_by_what_all_processes_have():
    gate = FaultGate(10)
    mask = SampleMask(9, learnt=gate.learnt, exchange=SecondOfTwo())
    mask.column("fault")[:] = stored_share(np.array([0.1, 0.6, 0.6, 0.8]))
    gate.end_epoch(mask)
    assert gate.open


def test_a_run_never_goes_on_with_another_objective():
    paper = AdaPruner(60, 0.7, Schedule(5, 15))
    with pytest.raises(ValueError, match="has the objective 'paper', this run 'inclusion'"):
        new(60).load_state_dict(paper.state_dict())
    with pytest.raises(ValueError, match="has the objective 'inclusion', this run 'paper'"):
        paper.load_state_dict(new(60).state_dict())
    with pytest.raises(ValueError, match="no column 'fault'"):
        new(60).load_state_dict(new(60, gate=False).state_dict())
    old = paper.state_dict()
    del old["objective"]  # as it was before there were two
    paper.load_state_dict(old)


def test_samples_that_were_never_seen_are_kept_last():
    stream = Stream(60, 20)
    stream.losses[:, [4, 9]] = np.nan
    pruner = train(new(60, 0.9, neighbours=twin_pairs(60, 6)), stream)
    kept = pruner.select()
    assert kept.sum() == 54 and not kept[[4, 9]].any()
    assert np.isinf(pruner.columns()["score"][[4, 9]]).all()


def test_a_balance_holds_for_it_too():
    sets = ClassSets.from_sets([[i % 4] for i in range(200)], 4)
    stream = Stream(200, 20)
    stream.confidence[:, ::4] = np.clip(stream.confidence[:, ::4] + 0.3, 0, 1)
    balance = Balance(sets, 0.03)
    pruner = train(new(200, pruner={"balance": balance}), stream)
    kept = pruner.select()
    assert kept.sum() == 140 and not len(balance.off_band(kept, 0.7))


# --- refused -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signals", "message"),
    [
        ({"doubt": [0.1, 0.2]}, "no signal 'doubt'; there are confidence, fault"),
        ({"fault": [0.1]}, "fault of shape"),
        ({"fault": [0.1, 1.1]}, r"fault runs beyond \[0, 1\]: 0.1 to 1.1"),
        ({"confidence": [-0.2, 0.5]}, r"confidence runs beyond \[0, 1\]"),
    ],
)
def test_refused_signals(signals, message):
    for pruner in (new(4), AdaPruner(4, 0.5, Schedule(0, 2))):
        with pytest.raises(ValueError, match=message):
            pruner.observe([0, 1], [1.0, 2.0], **signals)
        assert not pruner.mask.column("times_seen").any()


def test_a_signal_that_is_not_a_number_is_a_visit_that_did_not_happen():
    pruner, other = new(6), new(6)
    found = pruner.observe([0, 1, 2], [1.0, 2.0, 3.0], fault=torch.tensor([0.1, np.nan, 0.2]))
    assert found.tolist() == [1] and pruner.nonfinite == 1
    other.observe([0, 2], [1.0, 3.0], fault=[0.1, 0.2])
    for name in pruner.mask.saved:
        np.testing.assert_array_equal(pruner.mask.column(name), other.mask.column(name))


def test_a_signal_that_the_objective_does_not_use_is_passed_over_whatever_it_is():
    pruner = AdaPruner(4, 0.5, Schedule(0, 2))
    assert len(pruner.observe([0, 1], [1.0, 2.0], fault=[np.nan, 0.5])) == 0
    assert pruner.nonfinite == 0


def test_a_probability_that_rounding_took_a_little_beyond_one_is_taken():
    new(4).observe([0], [0.1], confidence=torch.tensor([1.0004], dtype=torch.float16))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: inclusion(4, floor=1.5), r"floor is 1.5; it must lie in \[0, 1\]"),
        (lambda: inclusion(4, neighbours=twin_pairs(20, 2)), "neighbours of 20 of 4 samples"),
        (lambda: AdaPruner(5, 0.5, Schedule(0, 2), objective=inclusion(4)), "4 digests for 5"),
        (
            lambda: AdaPruner(4, 0.5, Schedule(0, 2), objective=inclusion(4), controller="paper"),
            "needs the controller 'dual'",
        ),
        (
            lambda: AdaPruner(
                4, 0.5, Schedule(0, 2), objective=inclusion(4), terms=Terms(selection=False)
            ),
            "all terms of the paper",
        ),
    ],
)
def test_refused_options(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_of_the_faults_the_clearest_go_first_twins_or_not():
    pruner = new(60, 0.5, neighbours=twin_pairs(60, 6))
    confidence, fault = np.full(60, 0.5), np.full(60, 0.1)
    fault[6:26] = np.random.default_rng(0).permutation(np.linspace(0.6, 1.0, 20))
    for _ in range(20):
        pruner.observe(np.arange(60), np.ones(60), confidence=confidence, fault=fault)
        pruner.end_epoch()
    flagged = pruner.columns()["flagged"]
    assert np.flatnonzero(flagged).tolist() == list(range(6, 26))
    last = np.argsort(pruner.ranks())[::-1][:20]
    assert set(last) == set(range(6, 26))
    assert np.corrcoef(fault[last], np.arange(20))[0, 1] < -0.9
    state = pruner.objective._all(pruner.mask.full_column)
    pressure, spare = pruner.objective.pressure(np.ones(60), state), state["copies"] > 127
    assert (spare & flagged).any() and (spare & ~flagged).any()
    assert pressure[flagged].min() > pressure[spare & ~flagged].max()
    assert pressure[spare & ~flagged].min() > pressure[~spare & ~flagged].max()


def test_of_parts_clear_faults_go_first_then_spare_twins_then_doubtful_faults():
    pruner = AdaPruner(
        60,
        0.5,
        Schedule(1, 19),
        objective=Inclusion(digests(60), 0, 0.5, 20, neighbours=twin_pairs(60, 6), parts=True),
    )
    fault = np.full(60, 0.3)
    fault[20:26], fault[30:36] = 0.8, 0.73
    for _ in range(20):
        pruner.observe(np.arange(60), np.ones(60), confidence=np.full(60, 0.5), fault=fault)
        pruner.end_epoch()
    last = np.argsort(pruner.ranks())[::-1]
    assert set(last[:6]) == set(range(20, 26))
    assert len(set(last[6:12]) & set(range(12))) == 6
    assert set(last[12:18]) == set(range(30, 36))
    state = pruner.objective._all(pruner.mask.full_column)
    pressure, spare = pruner.objective.pressure(np.ones(60), state), state["copies"] > 127
    tiers = [fault == 0.8, spare, fault == 0.73, ~spare & (fault == 0.3)]
    for before, after in itertools.pairwise(tiers):
        assert pressure[before].min() > pressure[after].max()


def test_of_the_worst_of_many_parts_a_higher_limit_holds_and_the_gate_is_open():
    gate = FaultGate(30, limit=0.65)
    stored = stored_share(np.array([0.2, 0.55, 0.64, 0.66, 0.9]))
    assert gate.flagged(stored).tolist() == [False, False, False, True, True]
    mask = SampleMask(5, learnt=gate.learnt)
    mask.column("fault")[:] = stored
    gate.end_epoch(mask)  # in which more lie below CLEAR than above
    assert gate.flagged(stored).tolist() == [False, False, False, True, True]


def test_evidence_of_parts_counts_for_the_whole_run():
    """A sample that speaks against its annotation from the twentieth visit on is flagged."""
    for parts, flagged in ((True, True), (False, False)):
        pruner = AdaPruner(
            40,
            0.8,
            Schedule(5, 95),
            objective=Inclusion(digests(40), 0, 0.8, 100, parts=parts),
        )
        ids, confidence = np.arange(40), np.full(40, 0.5)
        for epoch in range(100):
            fault = np.full(40, 0.1)
            fault[:4] = 0.9 if epoch >= 20 else 0.1
            pruner.observe(ids, np.ones(40), confidence=confidence, fault=fault)
            pruner.end_epoch()
        found = pruner.columns()
        assert found["flagged"][:4].tolist() == [flagged] * 4
        assert not found["flagged"][4:].any()
