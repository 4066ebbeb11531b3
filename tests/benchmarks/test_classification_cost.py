"""Ratios of paired times, which way round they are, and that both sides are really run."""

from argparse import Namespace

import numpy as np
import pytest
import torch

from benchmarks import classification_cost as module
from benchmarks.classification_cost import Clock, data_paths, overhead, path_row, report, step_row

ARGS = Namespace(
    device="cpu", models=["small"], pairs=3, big_pairs=1, batch_size=8, big_batch_size=4, images=16,
    epochs=2, workers=0,
)  # fmt: skip


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_step_is_pruning_over_plain_pair_by_pair():
    times = np.array([[0.010, 0.011], [0.020, 0.022], [0.040, 0.060], [0.010, 0.010]])
    ratios = [1.1, 1.1, 1.5, 1.0]  # their median is not the ratio of the medians, 16.5 / 15
    low, high = np.percentile(ratios, [25, 75])
    assert step_row("small, batch 8", times, 0.0003) == [
        "small, batch 8", "4", "15.0", "16.5", f"1.100 ({low:.3f} to {high:.3f})", "0.30 (1.0200)",
    ]  # fmt: skip
    times[3] = [0.010, 0.005]
    assert step_row("x", times, 0.0)[4].startswith("1.100 (0.950 to 1.200)")
    times[:2, 1] = [0.012, 0.028]
    assert step_row("x", times, 0.0)[4].startswith("1.300 ")  # of the medians it would be 1.33


def test_an_epoch_is_the_recipe_over_the_tensor_path():
    times = np.array([[3.0, 1.0], [8.0, 2.0], [5.0, 1.0]])
    assert path_row("alone", times) == ["alone", "5.00", "1.00", "4.00 (3.00 to 5.00)"]


class Times(Clock):
    """Runs what it is to time, and says what it has been told that this takes."""

    def __init__(self, given):
        super().__init__("cpu")
        self.given = iter(given)

    def time(self, work):
        work()
        return next(self.given)

    def timed(self, work, into):
        def call(*args):
            into.append(0.4 if work.__name__ == "weights" else 0.6)  # seconds
            return work(*args)

        return call


@pytest.fixture
def taken(monkeypatch):
    """(trainer, ids) of each step."""
    steps, real = [], module.Trainer._train_step

    def step(self, ids, pixels):
        steps.append((self, ids))
        return real(self, ids, pixels)

    monkeypatch.setattr(module.Trainer, "_train_step", step)
    return steps


def test_both_trainers_take_each_step_and_the_first_two_pairs_do_not_count(monkeypatch, taken):
    """The order of the two alternates: the pruning step comes first in even pairs."""
    pairs = [(9.0, 2.0), (2.0, 9.0), (2.2, 2.0), (1.0, 1.2), (4.4, 4.0)]  # as they are timed
    clock = Times(second for pair in pairs for second in pair)
    monkeypatch.setattr(module, "Clock", lambda device: clock)
    found = overhead(ARGS, "small")
    assert found[:4] == ["small, batch 8", "3", "2000.0", "2200.0"]
    assert found[4].startswith("1.100 (")
    assert found[5] == "1000.00 (1.5000)"  # of one call of each
    first = [own.guide is not None for own, _ in taken[::2]]
    assert first == [True, False, True, False, True] and len(taken) == 10
    assert [own.guide is None for own, _ in taken[1::2]] == first
    for (_, mine), (_, theirs) in zip(taken[::2], taken[1::2], strict=True):
        torch.testing.assert_close(torch.as_tensor(mine), torch.as_tensor(theirs))


def test_epochs_of_both_paths_with_the_model_and_without_it(monkeypatch, taken):
    times = [9.0, 1.0, 3.0, 1.0, 4.0, 1.0, 9.0, 1.0, 6.0, 2.0, 8.0, 2.0]  # the first of each is not
    clock, real, trained = Times(times), module.recipe_epoch, []

    def epoch(loader, trainer, device):
        trained.append((trainer is not None, len(taken)))
        real(loader, trainer, device)

    monkeypatch.setattr(module, "Clock", lambda device: clock)
    monkeypatch.setattr(module, "recipe_epoch", epoch)
    assert data_paths(ARGS, "small") == [
        ["batches alone", "3.50", "1.00", "3.50 (3.00 to 4.00)"],
        ["whole epoch with small", "7.00", "2.00", "3.50 (3.00 to 4.00)"],
    ]
    # The steps of the tensor path before each epoch of the recipe.
    assert trained == [(False, 0), (False, 0), (False, 0), (True, 0), (True, 2), (True, 4)]
    assert len(taken) == 6


def test_the_page_has_both_tables(monkeypatch):
    monkeypatch.setattr(module, "overhead", lambda args, model: [model, *"abcde"])
    monkeypatch.setattr(module, "data_paths", lambda args, model: [["alone", *"xyz"]])
    text = report(ARGS)
    assert "CPU, one thread, CPU time" in text and "epoch of 16 images" in text
    lines = [[c.strip() for c in x.split("|")[1:-1]] for x in text.splitlines() if x[:2] == "| "]
    assert lines[1] == ["small", *"abcde"] and lines[3] == ["alone", *"xyz"]
    assert lines[0][2:5] == ["plain, ms", "pruning, ms", "ratio, median (quartiles)"]
    assert lines[2][1:] == ["recipe, s (0 workers)", "tensors, s", "ratio, median (range)"]
