"""What is trained of each length, that it goes on, and the table of it."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from adapruner_det.classification.config import load_config
from adapruner_det.enough import late_fall
from adapruner_det.samples import Samples
from benchmarks import enough_training as module
from benchmarks.enough_training import RATIO, measure, run, settings, table

N = 50


class Task:
    """Tells its trainings apart by their accuracy, and what a recorder sees of one."""

    samples = Samples(
        [f"s/{i:02d}" for i in range(N)], np.arange(N, dtype=np.uint64), {"s": "x"}, [[0]] * N
    )

    def __init__(self):
        self.calls = []

    def train(self, seed, folder, *, kept=None, guide=None, budget="epochs"):
        self.calls.append((seed, folder.name, kept, budget))
        if guide is not None:
            for losses in np.outer([4.0, 2.0], np.linspace(0.5, 1.5, N)):
                losses[0] = np.nan  # one is never finite
                guide.observe(np.arange(N), losses)
                guide.end_epoch()
        value = 90.0 if kept is None else {"epochs": 80.0, "steps": 85.0}[budget]
        steps = kept.num_kept if kept is not None and budget == "epochs" else 0
        return SimpleNamespace(value=value, steps=steps)


def test_all_and_one_part_for_as_many_epochs_and_for_as_many_steps(monkeypatch):
    task = Task()
    monkeypatch.setattr(module, "make_task", lambda *_: task)
    found = measure("config", [], 7)
    mean = np.linspace(0.5, 1.5, N)[1:].mean()
    losses = found.pop("losses")
    assert losses == pytest.approx([4 * mean, 2 * mean], rel=1e-4)
    assert found == {"full": 90.0, "part": 80.0, "part_steps": 85.0, "steps": RATIO * N}
    assert [(seed, name, budget) for seed, name, _, budget in task.calls] == [
        (7, "full", "epochs"), (7, "part", "epochs"), (7, "steps", "steps"),
    ]  # fmt: skip
    full, part, steps = (kept for _, _, kept, _ in task.calls)
    assert full is None and part is steps and part.seed == 7


def test_what_is_in_the_file_is_not_trained_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "EPOCHS", {"mnist": (5, 10), "digits": (10,)})
    calls = []

    def measured(config, overrides, seed):
        calls.append((config.rpartition("/")[2], *overrides[-4:], seed))
        return {"full": 1.0}

    monkeypatch.setattr(module, "measure", measured)
    for seeds in ([0], [0, 1], [1]):
        run(tmp_path / "data", tmp_path / "out", ["mnist", "digits"], seeds)
    warm = ("ADAPRUNER.WARMUP_EPOCHS", "0")
    assert calls == [
        (f"{name}.yaml", "SOLVER.EPOCHS", epochs, *warm, seed)
        for seed in (0, 1)
        for name, epochs in (("mnist_cpu", "5"), ("mnist_cpu", "10"), ("digits", "10"))
    ]
    rows = [json.loads(x) for x in (tmp_path / "out/trainings.jsonl").read_text().splitlines()]
    assert [(r["data"], r["epochs"], r["seed"], r["full"]) for r in rows][:3] == [
        ("mnist", 5, 0, 1.0), ("mnist", 10, 0, 1.0), ("digits", 10, 0, 1.0),
    ]  # fmt: skip
    assert len(capsys.readouterr().out.splitlines()) == 6


@pytest.mark.parametrize("name", module.EPOCHS)
def test_the_configurations_are_there(name, tmp_path):
    cfg = load_config(*settings(name, tmp_path))
    small = (10000, 2, str(tmp_path / name)) if name != "digits" else (0, 1, cfg.DATA.ROOT)
    assert (cfg.DATA.NUM_TRAIN, cfg.DATA.SHRINK, cfg.DATA.ROOT) == small
    assert settings("mnist", tmp_path)[1][-1] == "1" and settings("cifar10", tmp_path)[1][-1] == "2"


def row(name, epochs, seed, full, part, part_steps, losses):
    return {"data": name, "epochs": epochs, "seed": seed, "full": full, "part": part,
            "part_steps": part_steps, "steps": 470, "losses": losses}  # fmt: skip


def test_the_table_has_means_over_the_seeds_and_the_spread_of_what_steps_are_worth(tmp_path):
    fast, slow = [8.0, 4.0, 3.0, 2.0], [8.0, 4.0, 2.5, 2.0]
    rows = [
        row("mnist", 5, 0, 98.0, 96.0, 97.0, fast),
        row("mnist", 10, 1, 90.0, 91.0, 90.5, slow),
        row("mnist", 5, 1, 97.0, 96.5, 98.5, slow),
        row("cifar10", 40, 0, 60.0, 57.0, 59.0, slow),
    ]
    (tmp_path / "rows").write_text("".join(json.dumps(own) + "\n" for own in rows))
    lines = [[c.strip() for c in x.split("|")[1:-1]] for x in table(tmp_path / "rows").splitlines()]
    falls = [100 * late_fall(fast), 100 * late_fall(slow)]
    assert falls == pytest.approx([100 / 6, 50 / 6])
    assert lines[2:] == [
        ["cifar10", "40", "470", "8.3", "2.000", "60.00", "-3.00", "+2.00", "1"],
        ["mnist", "5", "470", "12.5", "2.000", "97.50", "-1.25", "+1.50 ± 0.71", "2"],
        ["mnist", "10", "470", "8.3", "2.000", "90.00", "+1.00", "-0.50", "1"],
    ]
