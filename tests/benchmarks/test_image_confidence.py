"""The draws that the trial compares, and its table."""

import numpy as np
import pytest

from adapruner_det.core.cut import kept_count
from adapruner_det.core.inclusion import Inclusion
from adapruner_det.core.terms import Uncertainty, as_share, beta_powers, beta_weight
from adapruner_det.samples import Samples
from benchmarks.image_confidence import CUTS, chance, counts, cuts, shares, table

N, EPOCHS, MOST, KEEP = 600, 20, 8, 0.6


@pytest.fixture
def samples():
    sizes = 1 + np.arange(N) % MOST
    boxes = [np.zeros((size, 4), np.float32) for size in sizes]
    keys = [f"set/{place:03d}" for place in range(N)]
    digests = np.arange(N, dtype=np.uint64)
    return Samples(keys, digests, {"set": "x"}, [[0] * s for s in sizes], boxes=boxes)


@pytest.fixture
def shown(samples):
    """(fault, confidence, quality) of boxes that err independently of each other."""
    rng = np.random.default_rng(0)
    quality = np.clip(0.3 + 0.15 * rng.normal(size=(EPOCHS, N, MOST)), 0.01, 0.99)
    quality[:, np.arange(MOST) >= counts(samples)[:, None]] = np.nan
    fault = np.full((EPOCHS, N), 0.5)
    fault[:, :5] = 0.9
    return fault, np.full((EPOCHS, N), 0.5), quality


def test_all_keep_as_many_and_three_drop_what_is_faulty(samples, shown):
    found = cuts(*shown, samples, 0, KEEP)
    assert tuple(found) == CUTS[KEEP]
    assert {own.sum() for own in found.values()} == {kept_count(N, KEEP)}
    assert not any(found[cut][:5].any() for cut in CUTS[KEEP][1:])
    other = cuts(*shown, samples, 1, KEEP)
    assert all((found[cut] != other[cut]).any() for cut in found)


def test_the_lots_are_the_same_ones(samples, shown):
    """Where all chances are alike the draws are."""
    fault, confidence, quality = shown
    quality = np.where(np.isnan(quality), np.nan, quality[:, :1, :1])
    found = cuts(fault * 0, confidence, quality, samples, 0, KEEP)
    for cut in ("softmin", "mean"):
        np.testing.assert_array_equal(found[cut], found["random"])


def test_the_mean_and_the_worst_box_keep_images_of_one_box_and_the_sum_does_not(samples, shown):
    kept = {cut: shares(own, samples) for cut, own in cuts(*shown, samples, 0, KEEP).items()}
    for cut in ("softmin", "mean"):
        assert kept[cut]["one"] > kept["random"]["one"] + 0.03
        assert kept[cut]["crowded"] < kept["random"]["crowded"] - 0.02
    assert kept["sum"]["crowded"] > kept["random"]["crowded"] + 0.02
    assert kept["sum"]["one"] < kept["random"]["one"]


def test_a_crop_that_has_lost_a_box_is_taken_for_the_one_before(samples, shown):
    fault, confidence, quality = shown
    before = quality.copy()
    before[3, 7:9] = before[2, 7:9]
    quality[3, 7:9] = np.nan
    found, expected = (cuts(fault, confidence, own, samples, 0, KEEP) for own in (quality, before))
    for cut in ("mean", "sum"):
        np.testing.assert_array_equal(found[cut], expected[cut])


def test_a_visit_without_a_box_counts_as_the_one_before_it(samples, shown):
    fault, confidence, quality = shown
    before = quality.copy()
    before[3] = before[2]
    quality[3] = np.nan
    found, expected = (cuts(fault, confidence, own, samples, 0, KEEP) for own in (quality, before))
    for cut in ("mean", "sum"):
        np.testing.assert_array_equal(found[cut], expected[cut])


def test_chances_are_those_that_a_mask_learns():
    rng = np.random.default_rng(2)
    confidence, size = rng.beta(4, 2, (EPOCHS, N)), rng.integers(1, 9, N).astype(float)
    flagged = rng.random(N) < 0.1
    term = Uncertainty.of_run(EPOCHS)
    state = {name: np.zeros(N, dtype=kind) for name, kind in term.learnt.items()}
    for seen, shown in enumerate(confidence):
        state |= term.observe(np.full(N, seen), state, {"confidence": shown})
    w, p = as_share(state["uncertainty"]) * size, as_share(state["confidence"])
    top = np.argsort(np.where(flagged, 1.0, -w))[: Inclusion.TOP]
    informed = w * beta_weight(p, beta_powers(p[top].mean(), KEEP))
    expected = 0.25 + 0.75 * informed / informed[~flagged].mean()
    np.testing.assert_allclose(chance(confidence, size, flagged, KEEP), expected, rtol=0.01)


def test_what_is_kept_is_told_of_boxes_and_of_images(samples):
    keep = np.zeros(N, dtype=bool)
    keep[[0, 3, 8, 9]] = True  # of one, four, one and two boxes
    many = (counts(samples) >= 4).sum()
    expected = {"boxes": 8 / counts(samples).sum(), "one": 2 / (N / MOST), "crowded": 1 / many}
    assert shares(keep, samples) == pytest.approx(expected)


def test_chances_have_the_mean_of_an_even_draw_and_the_floor():
    rng = np.random.default_rng(1)
    flagged = rng.random(N) < 0.1
    found = chance(rng.random((EPOCHS, N)), rng.integers(1, 9, N), flagged, KEEP)
    assert found[~flagged].mean() == pytest.approx(1.0) and found.min() >= 0.25


def test_the_table_counts_only_seeds_of_which_all_is_done():
    shares_kept = {"boxes": 0.6, "one": 0.5, "crowded": 0.1}
    rows = [
        {"keep": keep, "seed": s, "cut": c, "AP50": 50.0 + s + i, **shares_kept}
        for keep, names in CUTS.items()
        for s in range(3)
        for i, c in enumerate(names)
    ][:-1]
    deep, light = table(rows).split("80% kept, ")
    assert deep.startswith("60% kept, 3 seeds: 0, 1, 2\n") and light.startswith("2 seeds: 0, 1\n")
    line = next(line for line in deep.splitlines() if line.startswith("| sum"))
    ahead = ["+3.00", "+2.00"]
    assert [p.strip() for p in line.split("|")[1:-1]] == ["sum", "54.00", *ahead, "60", "50", "10"]
