"""What the objective ``inclusion`` promises."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adapruner_det.core import AdaPruner, Balance, ClassSets, Inclusion, Schedule, Terms
from adapruner_det.core.cut import cut, kept_count
from adapruner_det.core.mask import SampleMask
from adapruner_det.core.terms import (
    Draw,
    FaultGate,
    stored_share,
)
from tests.core.stream import Stream, digests, inclusion, new, train, twin_pairs


@pytest.mark.parametrize("sizes", [None, np.arange(200) % 5])
def test_the_chances_are_what_the_formula_says(sizes):
    """v·N from the columns of a run, against the plain formula on all that the stream showed."""
    n, epochs = 200, 60
    stream = Stream(n, epochs, wrong=30)
    neighbours = twin_pairs(n, 0)
    pruner = train(new(n, 0.3, epochs, {"sizes": sizes}, neighbours=neighbours), stream)
    q = stream.confidence[:30]
    windows = q.reshape(3, 10, n)
    w, p = (windows.std(1) * (1 - windows.mean(1))).mean(0), q.mean(0)
    w = w * (1 if sizes is None else np.maximum(sizes, 1))
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


@settings(max_examples=15)
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


def test_images_of_many_boxes_stay_as_often_as_others_of_as_many_parts():
    """The mean over n parts that err on their own moves 1/√n as much; their sum √n times."""
    n, epochs = 4000, 20
    sizes, rng = np.repeat([1, 9], n // 2), np.random.default_rng(0)
    stream = Stream(n, epochs)
    noise = 0.2 * rng.normal(size=(epochs, n)) / np.sqrt(sizes)
    stream.confidence = np.clip(0.5 + noise, 0.0, 1.0)
    chance = train(new(n, 0.9, epochs, {"sizes": sizes}), stream).columns()["chance"] - 0.25
    ratio = chance[n // 2 :].mean() / chance[: n // 2].mean()
    assert ratio == pytest.approx(3.0, rel=0.05)


@pytest.mark.parametrize("sizes", [np.arange(100) % 5, np.arange(100) % 2 + 3])
def test_how_many_parts_a_sample_has_is_a_column_where_that_differs(sizes):
    found = train(new(100, pruner={"sizes": sizes}), Stream(100, 20)).columns()
    assert found["parts"].tolist() == np.maximum(sizes, 1).tolist()
    for alike in ({}, {"sizes": np.full(100, 3)}):
        assert "parts" not in train(new(100, pruner=alike), Stream(100, 20)).columns()


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


def test_of_samples_that_move_alike_the_first_say_what_is_half_learnt():
    objective = inclusion(15, gate=False)
    mask = SampleMask(15, learnt=objective.learnt, given=objective.given)
    objective.start(mask)
    mask.column("times_seen")[:] = 1
    mask.column("uncertainty")[:] = 9
    shares = np.arange(15)[::-1] / 20
    mask.column("confidence")[:] = stored_share(shares)
    objective._moved = True
    objective.end_epoch(mask)
    assert objective.known.middle == pytest.approx(shares[: objective.TOP].mean(), abs=1e-4)


def test_a_batch_in_which_one_sample_is_new_counts():
    """The visits of the others are over; what they have to say is known."""
    stream = Stream(16, 20)
    losses = stream.losses.copy()
    stream.losses[:, 3] = np.nan
    pruner = train(new(16), stream)
    before = pruner.objective.state_dict()
    pruner.end_epoch()
    assert pruner.objective.state_dict() == before
    pruner.observe(np.arange(16), losses[0], confidence=np.linspace(0.1, 0.9, 16))
    pruner.end_epoch()
    assert pruner.objective.state_dict() != before


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
    stream.losses[1:, 20] = np.nan  # seen once
    pruner = train(new(60, 0.9, neighbours=twin_pairs(60, 6)), stream)
    kept = pruner.select()
    assert kept.sum() == 54 and not kept[[4, 9]].any()
    np.testing.assert_array_equal(np.flatnonzero(np.isinf(pruner.ranking()[0])), [4, 9])
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
    ("make", "message"),
    [
        (lambda: inclusion(4, floor=1.5), r"floor is 1.5; it must lie in \[0, 1\]"),
        (lambda: inclusion(4, neighbours=twin_pairs(20, 2)), "neighbours of 20 of 4 samples"),
        (lambda: AdaPruner(5, 0.5, Schedule(0, 2), objective=inclusion(4)), "4 digests for 5"),
        (
            lambda: AdaPruner(4, 0.5, Schedule(0, 2), objective=inclusion(4), controller="paper"),
            "needs the controller 'dual'",
        ),
        *(
            (
                lambda terms=terms: AdaPruner(
                    4, 0.5, Schedule(0, 2), objective=inclusion(4), terms=terms
                ),
                "all terms of the paper",
            )
            for terms in (Terms(selection=False), Terms(classification=False))
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
