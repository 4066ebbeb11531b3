import io
import logging
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.utils.events import EventStorage

from adapruner_det import AdaPruner
from adapruner_det.core import Schedule
from adapruner_det.detection.data.loader import PruningLoader
from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.detection.training.hooks import PruningHook
from adapruner_det.detection.training.weighting import Observation
from tests.detection.toy import squares

NAN = float("nan")


class Run:
    """A hook beside a model and a trainer that are no more than what it asks of them."""

    def __init__(self, tmp_path, count=10, batch_size=4, schedule=None, periods=()):
        index = SampleIndex.from_dicts({"toy": squares(tmp_path, count)})
        loader = PruningLoader(index, dict, batch_size=batch_size, seed=7)
        self.loader = loader
        self.pruner = AdaPruner(count, 0.7, schedule or Schedule(1, 3))
        self.model = torch.nn.Module()
        self.model.observed = None
        self.hook = PruningHook(self.pruner, self.model, loader, periods)
        self.hook.trainer = SimpleNamespace(iter=0, max_iter=100)
        self.count, self.batch_size = count, batch_size
        self.storage = EventStorage(0)

    def step(self, losses=None, ids=None):
        first = self.hook.trainer.iter * self.batch_size
        ids = torch.arange(first, first + self.batch_size) % self.count if ids is None else ids
        losses = 1.0 + ids % 3 if losses is None else losses
        self.model.observed = Observation(ids, torch.as_tensor(losses, dtype=torch.float32))
        with self.storage:
            self.hook.trainer.storage = self.storage
            self.hook.before_step()
            self.hook.after_step()
        self.hook.trainer.iter += 1


def draw():
    return random.random(), np.random.rand(), torch.rand(()).item()  # noqa: NPY002


def test_the_mask_moves_by_the_steps_losses(tmp_path):
    run = Run(tmp_path, schedule=Schedule(0, 3))
    run.step([4.0, 1.0, 1.0, 2.0], torch.tensor([8, 1, 2, 3]))
    seen = run.pruner.mask.column("times_seen")
    assert seen.tolist() == [0, 1, 1, 1, 0, 0, 0, 0, 1, 0]
    assert run.pruner.mask.column("last_loss")[8] == 4.0
    assert run.model.observed is None


def test_an_epoch_ends_when_as_many_images_were_read_as_there_are(tmp_path):
    run = Run(tmp_path, count=10, batch_size=4)
    epochs = []
    for _ in range(10):
        run.step()
        epochs.append(run.pruner.epoch)
    # 4 8 | 12 16 20 | | 24 28 | 32 36 40
    assert epochs == [0, 0, 1, 1, 2, 2, 2, 3, 3, 4]


def test_a_batch_larger_than_the_data_ends_several_epochs_at_once(tmp_path):
    run = Run(tmp_path, count=3, batch_size=8)
    run.step(torch.ones(3), torch.arange(3))
    assert run.pruner.epoch == 2


def test_alpha_follows_the_epochs_and_is_logged_with_the_other_numbers(tmp_path):
    run = Run(tmp_path, schedule=Schedule(1, 3, alpha_start=0.1, alpha_end=5.0))
    alphas = []
    for _ in range(10):
        run.step()
        alphas.append(run.storage.latest()["adapruner/alpha"][0])
    # Warm-up and first pruning epoch, second and third; what remains stays at the end.
    assert alphas == pytest.approx([0.1] * 4 + [2.55] * 3 + [5.0] * 3)
    names = {"soft_ratio", "alpha", "multiplier", "binary_share"}
    assert {f"adapruner/{name}" for name in names} <= run.storage.latest().keys()
    assert run.storage.latest()["adapruner/soft_ratio"][0] == run.pruner.status().ratio


def test_a_step_without_losses_is_an_error(tmp_path):
    run = Run(tmp_path)
    with pytest.raises(RuntimeError, match="no losses"):
        run.hook.after_step()


def test_an_image_whose_loss_is_nan_is_named_and_moves_no_mask(tmp_path, caplog):
    run = Run(tmp_path, schedule=Schedule(0, 3))
    before = run.pruner.mask.column("logit").copy()
    with caplog.at_level(logging.WARNING):
        run.step([1.0, NAN, 2.0, float("inf")], torch.tensor([0, 5, 2, 9]))
    assert "Iteration 0: the loss of 2 image(s) is NaN or infinite" in caplog.text
    assert "toy/im5, toy/im9" in caplog.text
    moved = run.pruner.mask.column("logit") != before
    assert np.flatnonzero(moved).tolist() == [0, 2]
    assert run.pruner.mask.column("times_seen")[[5, 9]].tolist() == [0, 0]


def test_a_run_whose_losses_stay_nan_for_an_epoch_stops(tmp_path):
    run = Run(tmp_path)
    run.step([NAN] * 4)
    run.step([NAN] * 4)
    run.step([NAN, NAN, NAN, 1.0])
    run.step([NAN] * 4)
    run.step([NAN] * 4)
    with pytest.raises(FloatingPointError, match="3 steps in a row.*SOLVER.BASE_LR"):
        run.step([NAN] * 4)


def test_the_state_survives_a_file_without_pickled_objects_and_restores_everything(tmp_path):
    run = Run(tmp_path, schedule=Schedule(0, 3))
    for _ in range(4):
        run.step()
    file = io.BytesIO()
    torch.save(run.hook.state_dict(), file)
    expected = draw()
    file.seek(0)

    other = Run(tmp_path, schedule=Schedule(0, 3))
    other.hook.seed = 0
    other.hook.load_state_dict(torch.load(file, weights_only=True))
    assert other.hook.seed == 7
    assert other.pruner.epoch == run.pruner.epoch == 1
    assert np.array_equal(other.pruner.mask.column("logit"), run.pruner.mask.column("logit"))
    assert other.pruner.status() == run.pruner.status()
    torch.manual_seed(99)
    other.hook.before_step()
    assert draw() == expected
    other.hook.before_step()  # later steps draw on
    assert draw() != expected


def test_what_dense_losses_are_divided_by_is_saved_and_resumed(tmp_path):
    """Detectron2 keeps it in no state dict."""
    first, other = Run(tmp_path), Run(tmp_path)
    for run, value in ((first, 37.5), (other, 100.0)):
        detector = DenseDetector.__new__(DenseDetector)
        torch.nn.Module.__init__(detector)
        detector.loss_normalizer = value
        run.model.dense = detector
        run.hook = PruningHook(run.pruner, run.model, run.loader)
    state = first.hook.state_dict()
    assert state["loss_normalizers"] == {"dense": 37.5}
    other.hook.load_state_dict(state)
    assert other.model.dense.loss_normalizer == 37.5


def test_the_selection_is_made_once_after_the_mask_has_moved_for_the_last_time(tmp_path):
    run = Run(tmp_path, schedule=Schedule(0, 3))
    run.hook.trainer.max_iter = 4
    visits = []
    seen = run.pruner.mask.column("times_seen")
    run.hook._on_last_step = lambda: visits.append(int(seen.sum()))
    for _ in range(4):
        assert visits == []
        run.step()
    assert visits == [16]  # of four steps of four


def test_with_several_processes_the_mask_is_gathered_when_a_checkpoint_may_follow(
    tmp_path, monkeypatch
):
    """One process saves alone, so it must not be the one to call the others then."""
    run = Run(tmp_path, periods=(3, 0))
    run.hook.trainer.max_iter = 5
    gathers = []
    state_dict = run.pruner.state_dict
    monkeypatch.setattr(run.pruner.mask, "world", 2)
    monkeypatch.setattr(run.pruner.mask, "full_column", run.pruner.mask.column)
    monkeypatch.setattr(
        run.pruner, "state_dict", lambda: gathers.append(run.hook.trainer.iter) or state_dict()
    )
    monkeypatch.setattr(run.pruner, "observe", lambda ids, losses: np.array([], dtype=int))
    run.hook.before_train()
    for _ in range(5):
        run.step()
        run.hook.state_dict()
    assert gathers == [0, 2, 4]
