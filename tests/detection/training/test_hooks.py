import io
import logging
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.engine import hooks
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.utils.events import EventStorage
from fvcore.common.checkpoint import Checkpointer

from adapruner_det import AdaPruner
from adapruner_det.core import Schedule
from adapruner_det.detection.data.loader import PruningLoader
from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.detection.training import hooks as module
from adapruner_det.detection.training.hooks import GuideHook, renamed_hooks
from adapruner_det.detection.training.weighting import Observation
from adapruner_det.errors import DataError
from adapruner_det.methods.recorder import Recorder
from tests.detection.toy import squares

NAN = float("nan")


class Run:
    """A hook beside a model and a trainer that are no more than what it asks of them."""

    def __init__(
        self, tmp_path, count=10, batch_size=4, schedule=None, periods=(), guide=None, max_iter=100
    ):
        index = SampleIndex.from_dicts({"toy": squares(tmp_path, count)})
        loader = PruningLoader(index, dict, batch_size=batch_size, seed=7)
        self.loader = loader
        self.guide = guide or AdaPruner(count, 0.7, schedule or Schedule(1, 3))
        self.model = torch.nn.Module()
        self.model.observed = None
        self.hook = GuideHook(self.guide, self.model, loader, periods)
        self.hook.trainer = SimpleNamespace(
            iter=0, start_iter=0, max_iter=max_iter, _hooks=[self.hook]
        )
        self.count, self.batch_size = count, batch_size
        self.storage = EventStorage(0)

    def step(self, losses=None, ids=None, **signals):
        first = self.hook.trainer.iter * self.batch_size
        ids = torch.arange(first, first + self.batch_size) % self.count if ids is None else ids
        losses = 1.0 + ids % 3 if losses is None else losses
        losses = torch.as_tensor(losses, dtype=torch.float32)
        signals = {name: torch.as_tensor(value) for name, value in signals.items()}
        self.model.observed = Observation(ids, losses, signals)
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
    seen = run.guide.mask.column("times_seen")
    assert seen.tolist() == [0, 1, 1, 1, 0, 0, 0, 0, 1, 0]
    assert run.guide.mask.column("last_loss")[8] == 4.0
    assert run.model.observed is None


def test_an_epoch_ends_when_as_many_images_were_read_as_there_are(tmp_path):
    run = Run(tmp_path, count=10, batch_size=4)
    epochs = []
    for _ in range(10):
        run.step()
        epochs.append(run.guide.epoch)
    # 4 8 | 12 16 20 | | 24 28 | 32 36 40
    assert epochs == [0, 0, 1, 1, 2, 2, 2, 3, 3, 4]


def test_a_batch_larger_than_the_data_ends_several_epochs_at_once(tmp_path):
    run = Run(tmp_path, count=3, batch_size=8)
    run.step(torch.ones(3), torch.arange(3))
    assert run.guide.epoch == 2


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
    assert run.storage.latest()["adapruner/soft_ratio"][0] == run.guide.status().ratio


def test_a_step_without_losses_is_an_error(tmp_path):
    run = Run(tmp_path)
    with pytest.raises(RuntimeError, match="no losses"):
        run.hook.after_step()


def test_an_image_whose_loss_is_nan_is_named_and_moves_no_mask(tmp_path, caplog):
    run = Run(tmp_path, schedule=Schedule(0, 3))
    before = run.guide.mask.column("logit").copy()
    with caplog.at_level(logging.WARNING):
        run.step([1.0, NAN, 2.0, float("inf")], torch.tensor([0, 5, 2, 9]))
    assert "Iteration 0: the loss of 2 image(s) is NaN or infinite" in caplog.text
    assert "toy/im5, toy/im9" in caplog.text
    moved = run.guide.mask.column("logit") != before
    assert np.flatnonzero(moved).tolist() == [0, 2]
    assert run.guide.mask.column("times_seen")[[5, 9]].tolist() == [0, 0]


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
    assert other.guide.epoch == run.guide.epoch == 1
    assert np.array_equal(other.guide.mask.column("logit"), run.guide.mask.column("logit"))
    assert other.guide.status() == run.guide.status()
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
        run.hook = GuideHook(run.guide, run.model, run.loader)
    state = first.hook.state_dict()
    assert state["loss_normalizers"] == {"dense": 37.5}
    other.hook.load_state_dict(state)
    assert other.model.dense.loss_normalizer == 37.5


def test_the_selection_is_made_once_after_the_mask_has_moved_for_the_last_time(tmp_path):
    run = Run(tmp_path, schedule=Schedule(0, 3))
    run.hook.trainer.max_iter = 4
    visits = []
    seen = run.guide.mask.column("times_seen")
    run.hook._on_last_step = lambda: visits.append(int(seen.sum()))
    for _ in range(4):
        assert visits == []
        run.step()
    assert visits == [16]  # of four steps of four


class Listening:
    """A guide that notes what it hears."""

    def __init__(self, signals=()):
        self.signals, self.heard, self.ended = frozenset(signals), [], 0

    def weights(self, ids):
        return torch.ones(len(ids))

    def observe(self, ids, losses, **signals):
        self.heard.append((ids.tolist(), losses.tolist(), signals))
        return np.array([], dtype=int)

    def end_epoch(self):
        self.ended += 1
        return f"heard {len(self.heard)} steps"

    def scalars(self):
        return {"steps": float(len(self.heard))}

    def state_dict(self):
        return {"heard": len(self.heard)}

    def load_state_dict(self, state):
        self.heard = [None] * state["heard"]


def test_a_guide_hears_of_the_signals_it_asks_for_and_of_no_others(tmp_path):
    run = Run(tmp_path, guide=Listening(["loss_a"]))
    run.step([1.0, 2.0, 3.0, 4.0], loss_a=[0.5, 1.0, 1.5, 2.0], loss_b=[9.0] * 4)
    ((ids, losses, signals),) = run.guide.heard
    assert (ids, losses) == ([0, 1, 2, 3], [1.0, 2.0, 3.0, 4.0])
    assert {name: value.tolist() for name, value in signals.items()} == {
        "loss_a": [0.5, 1.0, 1.5, 2.0]
    }
    silent = Run(tmp_path, guide=Listening())
    silent.step(loss_a=[1.0] * 4)
    assert silent.guide.heard[0][2] == {}


def test_a_recorder_has_the_signals_of_a_run_by_epoch(tmp_path):
    run = Run(tmp_path, count=8, batch_size=4, guide=Recorder(8, ["loss_a"]))
    for value in (1.0, 2.0, 3.0, 4.0):
        run.step([2 * value] * 4, loss_a=[value, NAN, value, value])
    assert run.guide.signal("loss")[:, 0].tolist() == [2.0, 6.0]
    assert run.guide.signal("loss_a")[:, [0, 4]].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert np.isnan(run.guide.signal("loss_a")[:, 1]).all()


def test_a_guide_that_asks_for_what_there_is_not_is_refused_in_the_first_step(tmp_path):
    run = Run(tmp_path, guide=Listening(["loss_b", "margin", "loss_z"]))
    with pytest.raises(DataError) as refused:
        run.step(loss_a=[1.0] * 4, loss_b=[1.0] * 4)
    assert str(refused.value) == (
        "Listening asks for loss_z, margin, which the detector does not give; besides the loss it "
        "gives loss_a, loss_b"
    )
    assert run.guide.heard == []


def test_a_key_that_a_later_batch_lacks_is_0_there_and_nan_for_a_bad_image(tmp_path):
    run = Run(tmp_path, guide=Listening(["loss_a"]))
    run.step(loss_a=[1.0] * 4)
    run.step([1.0, NAN, 1.0, float("inf")])
    found = run.guide.heard[1][2]["loss_a"].tolist()
    assert found == pytest.approx([0.0, NAN, 0.0, NAN], nan_ok=True)


def test_the_log_says_at_each_epochs_end_what_the_guide_says(tmp_path, caplog):
    run = Run(tmp_path, count=10, batch_size=4, guide=Listening(), max_iter=12)
    with caplog.at_level(logging.INFO):
        for _ in range(6):
            run.step()
    said = [r.getMessage() for r in caplog.records]
    assert said == ["Epoch 1 of 4: heard 3 steps", "Epoch 2 of 4: heard 5 steps"]
    assert run.storage.latest()["adapruner/steps"] == (6.0, 0)


def test_a_resumed_run_ends_its_epochs_where_one_without_a_break_does(tmp_path):
    whole = Run(tmp_path, guide=Listening())
    for _ in range(4):
        whole.step()
    other = Run(tmp_path, guide=Listening())
    other.hook.load_state_dict(whole.hook.state_dict())
    other.hook.trainer.iter = 4
    ended = []
    for _ in range(6):
        other.step()
        ended.append(other.guide.ended)
    assert ended == [1, 1, 1, 2, 2, 3]  # after 20, 30 and 40 images


def test_the_state_of_version_0_1_is_read(tmp_path):
    run, other = Run(tmp_path), Run(tmp_path)
    for _ in range(3):
        run.step()
    state = run.hook.state_dict()
    state["pruner"] = state.pop("guide")
    del state["random_states"]["generators"]
    other.hook.load_state_dict(state)
    assert other.guide.epoch == 1
    assert other.guide.status() == run.guide.status()
    other.hook.before_step()
    trainer = {"iteration": 3, "hooks": {"PruningHook": state, "LRScheduler": {}}}
    assert renamed_hooks(trainer) == {
        "iteration": 3,
        "hooks": {"GuideHook": state, "LRScheduler": {}},
    }
    assert renamed_hooks({"iteration": 3}) == {"iteration": 3}


def test_with_several_processes_the_guide_is_gathered_when_a_checkpoint_may_follow(
    tmp_path, monkeypatch
):
    """One process saves alone, so it must not be the one to call the others then."""
    run, gathers = of_two_processes(tmp_path, monkeypatch, periods=(3, 0), max_iter=5)
    run.hook.before_train()
    for _ in range(5):
        run.step()
    assert gathers == [0, 2, 4]


def test_the_checkpointers_of_a_users_own_are_gathered_for(tmp_path, monkeypatch):
    run, gathers = of_two_processes(tmp_path, monkeypatch, periods=(100,), max_iter=7)
    saver = Checkpointer(torch.nn.Module())
    own = hooks.PeriodicCheckpointer(saver, 2), hooks.BestCheckpointer(3, saver, "bbox/AP")
    main = Run(tmp_path)
    main.hook.trainer._hooks += own
    monkeypatch.setattr("detectron2.utils.comm.all_gather", lambda mine: [[2, 3], mine])
    assert module._periods_of(main.hook.trainer._hooks) == [2, 3]
    run.hook.before_train()  # of the other process, whose hooks have no checkpointer
    for done in range(1, 8):
        run.step()
        if done % 2 == 0 or done % 3 == 0 or done == 7:
            run.hook.state_dict()
    assert [step + 1 for step in gathers[1:]] == [2, 3, 4, 6, 7]


@pytest.mark.parametrize("first", [0, 40])
def test_no_checkpoint_has_the_model_of_one_step_and_the_mask_of_another(
    tmp_path, monkeypatch, first
):
    run, _ = of_two_processes(tmp_path, monkeypatch, periods=(3,), max_iter=100)
    run.hook.trainer.iter = run.hook.trainer.start_iter = first
    run.hook.before_train()
    run.hook.state_dict()  # before the first step
    run.step()
    with pytest.raises(DataError, match=f"after step {first + 1}, for which .* have not gathered"):
        run.hook.state_dict()
    run.hook.gather()  # as for one that is saved on a signal
    run.hook.state_dict()


def of_two_processes(tmp_path, monkeypatch, **options):
    """A run whose other process is not there, and the steps in which it gathers."""
    run, gathers = Run(tmp_path, **options), []
    state_dict = run.guide.state_dict
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    monkeypatch.setattr("detectron2.utils.comm.all_gather", lambda own: [own, own])
    monkeypatch.setattr(
        run.guide, "state_dict", lambda: gathers.append(run.hook.trainer.iter) or state_dict()
    )
    monkeypatch.setattr(run.guide, "observe", lambda ids, losses: np.array([], dtype=int))
    return run, gathers


@pytest.mark.parametrize(("rank", "expected"), [(0, "main"), (1, "second"), (2, None)])
def test_each_process_goes_on_with_random_states_of_its_own(tmp_path, monkeypatch, rank, expected):
    run = Run(tmp_path)
    state = {**run.hook.state_dict(), "random_states": "main"}
    monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda: rank)
    run.hook.load_state_dict({**state, "rank_random_states": ["older", "second"]})
    assert run.hook._random_states == expected
    del state["rank_random_states"]  # of a run of one process, or of an earlier version
    run.hook.load_state_dict(state)
    assert run.hook._random_states == ("main" if rank == 0 else None)
