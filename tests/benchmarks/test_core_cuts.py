"""Runs of the mask, cut and made anew, on a few digits; and what the page says of them."""

import numpy as np
import pytest
import torch

from adapruner_det.core import kept_count
from benchmarks import core_cuts as module
from benchmarks.core_cuts import RUN_RATIO, one_seed, overlap, page, prune, train

RATIOS = (0.9, RUN_RATIO, 0.5)
N = 150


@pytest.fixture
def small(monkeypatch):
    """200 of the digits, of which 150 are trained on, and six epochs."""
    images, labels = module.load_digits(return_X_y=True)
    monkeypatch.setattr(module, "load_digits", lambda **_: (images[:200], labels[:200]))
    for name, value in {"RATIOS": RATIOS, "WARMUP": 2, "EPOCHS": 6}.items():
        monkeypatch.setattr(module, name, value)
    return torch.from_numpy(images[:N].astype(np.float32) / 16), torch.from_numpy(labels[:N])


def test_a_cut_has_the_order_of_its_run(small):
    run = prune(*small, 0, RUN_RATIO)
    assert run.num_kept == kept_count(N, RUN_RATIO)
    light, deep = (run.cut(ratio).columns["kept"] for ratio in (0.9, 0.5))
    kept = run.columns["kept"]
    assert (light.sum(), deep.sum()) == (135, 75)
    assert not (kept & ~light).any() and not (deep & ~kept).any()
    again = [prune(*small, seed, RUN_RATIO).columns["kept"] for seed in (0, 1)]
    np.testing.assert_array_equal(again[0], kept)
    assert (again[1] != kept).any()


def test_the_mask_has_learnt_of_the_losses(small):
    """What is kept is not where the samples lie, nor what chance would keep of wrong labels."""
    images, labels = small
    labels = labels.clone()
    labels[:30] = (labels[:30] + 1) % 10
    dropped = ~prune(images, labels, 0, RUN_RATIO).columns["kept"]
    assert dropped[:30].mean() > 2 * (1 - RUN_RATIO)


class Deaf:
    """Gives the first 50 samples no weight, and sees the losses of the last epoch."""

    def __init__(self):
        self.losses = np.zeros(N)

    def weights(self, ids):
        return (ids >= 50).float()

    def observe(self, ids, losses):
        self.losses[ids] = losses.detach()

    def end_epoch(self):
        pass


def test_a_mask_weights_the_losses_of_its_training(small):
    images, labels = small
    labels = labels.clone()
    labels[:50] = (labels[:50] + 5) % 10  # which are not learnt from the others
    train(images, labels, 0, deaf := Deaf())
    assert deaf.losses[:50].min() > deaf.losses[50:].mean()
    assert deaf.losses[:50].mean() > 3 * deaf.losses[50:].mean()


def test_a_seed_is_of_one_split_and_compares_what_it_says(small, monkeypatch):
    trained, real = [], module.train

    def seen(images, labels, seed, pruner=None):
        ratio = None if pruner is None else pruner.keep_ratio
        trained.append((seed, ratio, len(images)))
        return real(images, labels, seed, pruner)

    monkeypatch.setattr(module, "train", seen)
    found = one_seed(3)
    assert trained[:2] == [(103, None, N), (3, RUN_RATIO, N)]
    for place, ratio in enumerate(RATIOS):
        part = (103, None, kept_count(N, ratio))  # cut, made and random: of equal size and seed
        assert trained[2 + 5 * place :][:5] == [(3, ratio, N), (53, ratio, N), part, part, part]
    # At its own ratio the run is the one made for it.
    assert found["cut overlap", RUN_RATIO] == 100.0
    assert found["cut accuracy", RUN_RATIO] == found["made accuracy", RUN_RATIO]
    assert all(found["cut overlap", r] < 100 for r in RATIOS if r != RUN_RATIO)
    assert all(found["again overlap", r] < 100 for r in RATIOS)
    assert all(found["cut overlap", r] > found["again overlap", r] for r in RATIOS)
    assert all(20 < value <= 100 for (what, _), value in found.items() if "accuracy" in what)


def test_an_overlap_is_of_what_the_made_one_drops():
    made = np.array([True, True, False, False, False, True])
    other = np.array([False, False, False, False, True, True])
    assert overlap(made, other) == pytest.approx(200 / 3)
    assert overlap(other, made) == pytest.approx(50)


def test_the_page_has_means_and_spreads_over_the_seeds(monkeypatch):
    monkeypatch.setattr(module, "RATIOS", (0.95, 0.5))
    values = {"cut overlap": 60, "again overlap": 20, "cut accuracy": 97, "made accuracy": 96}
    values["random accuracy"] = 95
    seeds = [
        {("full", 1.0): 98.0 + more}
        | {(what, r): value + 2 * more + r for what, value in values.items() for r in (0.95, 0.5)}
        for more in (0, 0, 3)
    ]
    text = page(seeds)
    assert "over 3 seeds, in percent" in text and "on all: 99.00 ± 1.73." in text
    lines = [[c.strip() for c in x.split("|")[1:-1]] for x in text.splitlines() if x[:3] == "| 0"]
    assert lines == [
        ["0.95", "62.95 ± 3.46", "22.95 ± 3.46", "5"],
        ["0.5", "62.50 ± 3.46", "22.50 ± 3.46", "50"],
        ["0.95", "99.95 ± 3.46", "98.95 ± 3.46", "97.95 ± 3.46"],
        ["0.5", "99.50 ± 3.46", "98.50 ± 3.46", "97.50 ± 3.46"],
    ]
