import multiprocessing
import os
import signal
import time

import pytest

from adapruner_det.classification.folder import load_folder
from adapruner_det.classification.run import build_pruner
from adapruner_det.classification.trainer import Trainer
from adapruner_det.errors import DataError
from adapruner_det.stopping import Stopped
from tests.apart import signal_job
from tests.classification.tiny import same_state, tiny_config, tiny_set, write_folder


def signal_at(monkeypatch, step, signum):
    """Send this process and its workers a signal in the midst of a step, as a scheduler does."""
    own, others = Trainer._train_step, multiprocessing.active_children()

    def train_step(self, ids, images):
        losses = own(self, ids, images)
        if self.step + 1 == step:
            signal_job(signum, others)
        return losses

    monkeypatch.setattr(Trainer, "_train_step", train_step)


def children():
    """The processes that this one has started, those of other tests among them."""
    return {child.pid for child in multiprocessing.active_children()}


@pytest.mark.parametrize(
    ("step", "signum", "workers"),
    [
        (3, signal.SIGTERM, 0),
        (5, signal.SIGINT, 0),
        (15, signal.SIGTERM, 0),
        (4, signal.SIGTERM, 1),
        (4, signal.SIGINT, 1),
    ],
)
def test_a_signal_ends_the_run_after_its_step_and_it_goes_on_bit_for_bit(
    tmp_path, monkeypatch, caplog, step, signum, workers
):
    cfg = tiny_config(OUTPUT_DIR=str(tmp_path / "out"), SOLVER__EPOCHS=3, DATA__WORKERS=workers)
    images = tiny_set()
    if workers:
        images, _ = load_folder(write_folder(tmp_path / "files", per_class=12), 8, memory_mb=0)
    whole = Trainer(cfg, images, build_pruner(cfg, tiny_set()))
    whole.train(save=False)
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    others = children()
    with monkeypatch.context() as patch:
        signal_at(patch, step, signum)
        with pytest.raises(Stopped) as stop:
            Trainer(cfg, images, build_pruner(cfg, tiny_set())).train()
    assert stop.value.code == 128 + signum
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
    lines = [text for text in caplog.messages if "stopped after step" in text]
    assert len(lines) == 1 and f"stopped after step {step} of 15, which is saved" in lines[0]
    assert "--resume as its first option" in lines[0] and "out" in lines[0]
    assert children() <= others
    resumed = Trainer(cfg, images, build_pruner(cfg, tiny_set()))
    assert resumed.resume() and resumed.step == step
    resumed.train()
    assert same_state(whole.model.state_dict(), resumed.model.state_dict())
    assert same_state(whole.guide.state_dict(), resumed.guide.state_dict())


def test_a_run_that_saves_nothing_says_so_when_it_is_stopped(monkeypatch, caplog, tmp_path):
    signal_at(monkeypatch, 2, signal.SIGTERM)
    with pytest.raises(Stopped):
        Trainer(tiny_config(OUTPUT_DIR=str(tmp_path)), tiny_set()).train(save=False)
    assert "after step 2 of 20; nothing is saved." in caplog.text and not list(tmp_path.iterdir())


@pytest.mark.parametrize("signum", [0, signal.SIGTERM])
def test_a_worker_that_is_killed_ends_the_run_with_one_line(tmp_path, monkeypatch, caplog, signum):
    cfg = tiny_config(OUTPUT_DIR=str(tmp_path / "out"), DATA__WORKERS=1)
    images, _ = load_folder(write_folder(tmp_path / "files", per_class=12), 8, memory_mb=0)
    trainer = Trainer(cfg, images)
    own, others = Trainer._train_step, children()

    def train_step(self, ids, pixels):
        trainer._stop.signum = signum
        (worker,) = children() - others
        os.kill(worker, signal.SIGKILL)
        time.sleep(5)  # which PyTorch's error interrupts
        return own(self, ids, pixels)

    monkeypatch.setattr(Trainer, "_train_step", train_step)
    with pytest.raises(Stopped if signum else DataError) as error:
        trainer.train()
    if signum:
        assert "Stopped; to go on, give the same command" in caplog.text
    else:
        assert "has ended: DataLoader worker" in str(error.value)
        assert "lower DATA.WORKERS; to go on, give the same command with --resume" in str(
            error.value
        )
