import numpy as np
import pytest
import torch

from adapruner_det.classification import trainer as module
from adapruner_det.classification.folder import load_folder
from adapruner_det.classification.run import build_pruner
from adapruner_det.classification.trainer import Trainer
from adapruner_det.errors import DataError
from adapruner_det.methods.recorder import Recorder
from tests.classification.tiny import same_state, tiny_config, tiny_set, write_folder


def stop_after(trainer, step):
    """Train until that step is saved, as a run that is killed then."""

    class Killed(Exception):
        pass

    def save():
        Trainer.save_checkpoint(trainer)
        if trainer.step == step:
            raise Killed

    trainer.save_checkpoint = save
    with pytest.raises(Killed):
        trainer.train()


def test_a_run_of_so_many_steps_is_gone_on_with_bit_for_bit_and_not_as_another(tmp_path):
    cfg = tiny_config(OUTPUT_DIR=str(tmp_path), SOLVER__CHECKPOINT_PERIOD=6)
    whole, stopped, resumed = (Trainer(cfg, tiny_set(), Recorder(36), steps=8) for _ in range(3))
    whole.train(save=False)
    stop_after(stopped, 6)
    assert resumed.resume() and resumed.step == 6
    resumed.train()
    assert same_state(whole.model.state_dict(), resumed.model.state_dict())
    np.testing.assert_array_equal(whole.guide.signal("loss"), resumed.guide.signal("loss"))
    for steps in (None, 9):
        with pytest.raises(DataError, match="another configuration or other data; "):
            Trainer(cfg, tiny_set(), Recorder(36), steps=steps).resume()
    cfg.SOLVER.LR *= 2
    with pytest.raises(DataError, match=r"other data \(SOLVER\.LR is 0\.1 there and 0\.2 here\);"):
        Trainer(cfg, tiny_set(), Recorder(36), steps=8).resume()


def test_a_run_goes_on_with_other_checkpoints_as_it_was(tmp_path):
    cfg, rarer = (
        tiny_config(OUTPUT_DIR=str(tmp_path), SOLVER__EPOCHS=2, SOLVER__CHECKPOINT_PERIOD=period)
        for period in (3, 0)
    )
    whole, stopped, resumed = (Trainer(own, tiny_set(), Recorder(36)) for own in (cfg, cfg, rarer))
    whole.train(save=False)
    stop_after(stopped, 3)
    assert resumed.resume() and resumed.step == 3
    resumed.train()
    assert same_state(whole.model.state_dict(), resumed.model.state_dict())


@pytest.mark.parametrize(("took", "saved"), [(0.4, [5, 10, 15, 20, 25, 30]), (0.6, [5, 20, 30])])
def test_what_takes_long_to_save_waits_for_its_share_of_the_time(
    tmp_path, monkeypatch, took, saved
):
    """An epoch takes 5 seconds here; the last one is saved in any case."""
    cfg = tiny_config(OUTPUT_DIR=str(tmp_path), SOLVER__EPOCHS=6)
    trainer, clock, steps = Trainer(cfg, tiny_set()), [0.0], []
    assert trainer.steps_per_epoch == 5
    step = trainer._train_step

    def train_step(*arguments):
        clock[0] += 1.0
        return step(*arguments)

    def save(state, folder):
        clock[0] += took
        steps.append(state["step"])

    monkeypatch.setattr(trainer, "_train_step", train_step)
    monkeypatch.setattr(module, "save_checkpoint", save)
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock[0])
    trainer.train()
    assert steps == saved


@pytest.mark.parametrize("step", [3, 5])
def test_a_record_goes_on_where_it_stood(tmp_path, step):
    cfg = tiny_config(OUTPUT_DIR=str(tmp_path), SOLVER__CHECKPOINT_PERIOD=3, SOLVER__EPOCHS=2)
    names = ("margin", "probabilities")
    whole, stopped, resumed = (Trainer(cfg, tiny_set(), Recorder(36, names)) for _ in range(3))
    whole.train(save=False)
    stop_after(stopped, step)
    assert resumed.resume()
    resumed.train()
    for name in ("loss", *names):
        found = resumed.guide.signal(name)
        assert np.array_equal(found, whole.guide.signal(name)) and not np.isnan(found).any()
        assert found.shape == ((2, 36, 3) if name == "probabilities" else (2, 36))
    for other in (None, Recorder(36), build_pruner(cfg, tiny_set())):
        with pytest.raises(DataError, match="another configuration|no checkpoint of this run"):
            Trainer(cfg, tiny_set(), other).resume()


def test_the_seconds_of_a_run_are_those_before_it_was_stopped_too(tmp_path, monkeypatch):
    clock = iter(range(1000))
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock))
    cfg = tiny_config(OUTPUT_DIR=str(tmp_path), SOLVER__EPOCHS=2)
    stopped, resumed = Trainer(cfg, tiny_set()), Trainer(cfg, tiny_set())
    assert stopped.seconds == 0
    stop_after(stopped, 5)
    before = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["seconds"]
    assert 0 < before
    resumed.resume()
    assert resumed.seconds == before
    resumed.train()
    assert resumed.seconds == resumed.seconds > before  # each look would add one while it trains


@pytest.mark.parametrize("in_files", [False, True])
@pytest.mark.parametrize("pruning", [False, True])
@pytest.mark.parametrize("step", [3, 5, 7])  # in mid-epoch, at an epoch's end, in the next
def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path, pruning, step, in_files):
    cfg = tiny_config(
        OUTPUT_DIR=str(tmp_path / "out"),
        SOLVER__CHECKPOINT_PERIOD=step,
        AUGMENT__CUTOUT=3,
        SOLVER__EPOCHS=3,
    )
    images = tiny_set()
    if in_files:
        images, _ = load_folder(write_folder(tmp_path / "files", per_class=12), 8, memory_mb=0)

    def make():
        return Trainer(cfg, images, build_pruner(cfg, tiny_set()) if pruning else None)

    whole, stopped, resumed = make(), make(), make()
    whole.train(save=False)
    stop_after(stopped, step)
    torch.manual_seed(99)  # another process has another random state
    resumed.resume()
    assert resumed.step == step
    resumed.train()
    assert same_state(whole.model.state_dict(), resumed.model.state_dict())
    if pruning:
        assert same_state(whole.guide.state_dict(), resumed.guide.state_dict())


def test_the_newest_whole_checkpoint_is_taken_and_another_number_of_threads_said(tmp_path, caplog):
    cfg = tiny_config(OUTPUT_DIR=str(tmp_path), SOLVER__EPOCHS=3)
    whole = Trainer(cfg, tiny_set())
    whole.train()
    torn = tmp_path / "checkpoint.pt"
    torn.write_bytes(torn.read_bytes()[:-100])
    torch.set_num_threads(2)
    resumed = Trainer(cfg, tiny_set())
    assert resumed.resume() and resumed.step == 10
    assert "it is damaged; going on from" in caplog.text
    assert "The run was on 1 thread(s) and goes on with 2" in caplog.text
    torch.set_num_threads(1)
    resumed.train()
    assert same_state(whole.model.state_dict(), resumed.model.state_dict())


def test_resuming_without_a_checkpoint_starts_from_the_beginning(tmp_path, caplog):
    trainer = Trainer(tiny_config(OUTPUT_DIR=str(tmp_path)), tiny_set())
    with caplog.at_level("INFO"):
        assert not trainer.resume()
    assert trainer.step == 0 and "starting from the beginning" in caplog.text


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    cfg = tiny_config(OUTPUT_DIR=str(tmp_path), SOLVER__EPOCHS=1)
    Trainer(cfg, tiny_set().subset(torch.arange(33))).train()
    other_pixels = tiny_set().subset(torch.arange(33))
    other_pixels.images[7, 0, 0, 0] ^= 1
    other = tiny_config(OUTPUT_DIR=str(tmp_path), SOLVER__EPOCHS=2)
    for trainer in (
        Trainer(other, tiny_set().subset(torch.arange(33))),
        Trainer(cfg, tiny_set().subset(torch.arange(1, 34))),
        Trainer(cfg, other_pixels),
        Trainer(cfg, tiny_set().subset(torch.arange(33)), build_pruner(other, tiny_set(33))),
    ):
        with pytest.raises(DataError, match="another configuration or other data"):
            trainer.resume()
    cfg.DATA.WORKERS, cfg.DATA.MEMORY_MB, cfg.OUTPUT_DIR = 3, 1, f"{tmp_path}/."
    assert Trainer(cfg, tiny_set().subset(torch.arange(33))).resume()
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    for key in ("optimizer", "model", "threads"):
        torch.save({**state, key: 3}, tmp_path / "checkpoint.pt")
        if key != "threads":
            with pytest.raises(DataError, match="is no checkpoint of this run"):
                Trainer(cfg, tiny_set().subset(torch.arange(33))).resume()
    (tmp_path / "checkpoint.pt").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"checkpoint\.pt cannot be read"):
        Trainer(cfg, tiny_set()).resume()
