import copy
import math
import multiprocessing
import os
import signal
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional

from adapruner_det.classification import trainer as module
from adapruner_det.classification.augment import channel_statistics
from adapruner_det.classification.folder import load_folder
from adapruner_det.classification.models import build_model
from adapruner_det.classification.run import build_pruner
from adapruner_det.classification.signals import SIGNALS
from adapruner_det.classification.trainer import Trainer, cosine
from adapruner_det.errors import DataError
from adapruner_det.methods.recorder import Recorder
from adapruner_det.stopping import Stopped
from tests.apart import signal_job
from tests.classification.tiny import same_state, tiny_config, tiny_set, write_folder


def plain_loop(cfg, images, pruner=None):
    """The same training in plain PyTorch, without augmentation: the reference."""
    torch.manual_seed(cfg.SEED)
    model = build_model(cfg, 3, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    mean, std = channel_statistics(images.images)
    n, size, epochs = len(images), cfg.SOLVER.BATCH_SIZE, cfg.SOLVER.EPOCHS
    total, step = epochs * math.ceil(n / size), 0
    for epoch in range(epochs):
        order = np.random.default_rng([cfg.SEED, epoch]).permutation(n)
        for start in range(0, n, size):
            ids = torch.from_numpy(order[start : start + size])
            x = (images.images[ids].float() - mean[:, None, None]) / std[:, None, None]
            for group in optimizer.param_groups:
                group["lr"] = 0.05 * (1 + math.cos(math.pi * step / total))
            logits = model(x.contiguous(memory_format=torch.channels_last))
            losses = functional.cross_entropy(logits, images.labels[ids], reduction="none")
            weights = 1.0 if pruner is None else pruner.weights(ids)
            (weights * losses).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            if pruner is not None:
                pruner.observe(ids, losses)  # at once, where the trainer does it a step later
            step += 1
        if pruner is not None:
            pruner.end_epoch()
    return model


def bare_config(**settings):
    return tiny_config(AUGMENT__CROP=0, AUGMENT__FLIP=False, **settings)


def test_plain_training_is_the_plain_loop():
    cfg, images = bare_config(), tiny_set()
    trainer = Trainer(cfg, images)
    trainer.train(save=False)
    assert same_state(trainer.model.state_dict(), plain_loop(cfg, images).state_dict())


def test_pruning_is_the_core_s_own_loop_to_the_bit():
    cfg, images = bare_config(ADAPRUNER__KEEP_RATIO=0.7), tiny_set()
    pruner, reference = build_pruner(cfg, tiny_set()), build_pruner(cfg, tiny_set())
    trainer = Trainer(cfg, images, pruner)
    trainer.train(save=False)
    model = plain_loop(cfg, images, reference)
    assert same_state(pruner.state_dict(), reference.state_dict())
    assert same_state(trainer.model.state_dict(), model.state_dict())
    assert pruner.mask.column("times_seen").tolist() == [4] * 36


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


class Listener:
    """A guide that writes down what it is told, and weights losses as it is told to."""

    def __init__(self, signals=(), weight=None):
        self.signals, self.weight = frozenset(signals), weight
        self.heard, self.ended, self.calls = [], 0, []

    def weights(self, ids):
        self.calls.append(("weights", ids.tolist()))
        return torch.ones(len(ids)) if self.weight is None else self.weight[ids]

    def observe(self, ids, losses, **signals):
        self.calls.append(("observe", ids.tolist()))
        self.heard.append((ids.clone(), losses.clone(), {k: v.clone() for k, v in signals.items()}))

    def end_epoch(self):
        self.ended += 1
        return f"heard {len(self.heard)} batches"

    def scalars(self):
        return {"heard": float(len(self.heard))}

    def state_dict(self):
        return {"ended": self.ended}

    def load_state_dict(self, state):
        self.ended = state["ended"]


def told_by_hand(model, x, labels):
    """Loss and signals of a batch, from a copy of the model as it stood before the step."""
    z = model.train()(x)
    losses = functional.cross_entropy(z, labels, reduction="none")
    head = [model.fc.weight, model.fc.bias]
    gradients = [torch.autograd.grad(loss, head, retain_graph=True) for loss in losses]
    p = z.detach().softmax(1)
    truth = functional.one_hot(labels, 3)
    return {
        "loss": losses.detach(),
        "confidence": p[truth.bool()],
        "fault": (1 - p[truth.bool()] + p.masked_fill(truth.bool(), 0).amax(1)) / 2,
        "margin": (z - z.masked_fill(truth.bool(), -1e9).amax(1, True)).detach()[truth.bool()],
        "correct": (p.argmax(1) == labels).float(),
        "error_norm": ((p - truth) ** 2).sum(1).sqrt(),
        "gradient_norm": torch.stack([(w.square().sum() + b.square().sum()).sqrt()
                                      for w, b in gradients]),
        "probabilities": p,
    }  # fmt: skip


def test_a_guide_hears_what_its_own_step_s_logits_say(monkeypatch):
    images, guide, expected = tiny_set(), Listener(SIGNALS), []
    trainer = Trainer(tiny_config(AUGMENT__CUTOUT=3, SOLVER__EPOCHS=2), images, guide)
    own = trainer._train_step
    augmented = trainer._augmented

    def train_step(ids, pixels):
        before = copy.deepcopy(trainer.model)
        seen = []
        monkeypatch.setattr(trainer, "_augmented", lambda x: seen.append(augmented(x)) or seen[0])
        total = own(ids, pixels)
        expected.append((ids, told_by_hand(before, seen[0], images.labels[ids])))
        return total

    monkeypatch.setattr(trainer, "_train_step", train_step)
    trainer.train(save=False)
    assert len(guide.heard) == len(expected) == 2 * 5 and guide.ended == 2
    for (ids, losses, told), (own_ids, by_hand) in zip(guide.heard, expected, strict=True):
        assert torch.equal(ids, own_ids) and told.keys() == SIGNALS.keys()
        for name, value in {"loss": losses, **told}.items():
            torch.testing.assert_close(value, by_hand[name], msg=name)
            assert not value.requires_grad


@pytest.mark.parametrize("signals", [(), ("margin",), ("gradient_norm", "probabilities")])
def test_a_guide_of_ones_changes_nothing_and_hears_what_it_asked_for(signals):
    cfg = tiny_config(SOLVER__EPOCHS=3, AUGMENT__CUTOUT=3)
    plain, guide = Trainer(cfg, tiny_set()), Listener(signals)
    guided = Trainer(cfg, tiny_set(), guide)
    plain.train(save=False)
    guided.train(save=False)
    assert same_state(plain.model.state_dict(), guided.model.state_dict())
    assert all(told.keys() == set(signals) for *_, told in guide.heard)
    heard = sorted(i for ids, *_ in guide.heard for i in ids.tolist())
    assert heard == sorted([*range(36)] * 3)


def test_a_guide_s_weights_multiply_the_losses():
    """Images of weight 0 leave no trace: whatever their labels, the model is the same."""
    weight = (torch.arange(36) >= 6).float()
    images, wrong = tiny_set(), tiny_set()
    wrong.labels[:6] = (wrong.labels[:6] + 1) % 3
    models = []
    for given, own in ((images, weight), (wrong, weight), (wrong, None)):
        trainer = Trainer(tiny_config(SOLVER__EPOCHS=2), given, Listener(weight=own))
        trainer.train(save=False)
        models.append(trainer.model.state_dict())
    assert same_state(models[0], models[1]) and not same_state(models[0], models[2])


def test_a_guide_hears_of_a_step_before_the_one_after_the_next_and_before_the_epoch_ends():
    guide = Listener()
    trainer = Trainer(tiny_config(SOLVER__EPOCHS=2), tiny_set(), guide)
    ended = guide.end_epoch

    def end_epoch():
        assert len(guide.heard) % 5 == 0
        return ended()

    guide.end_epoch = end_epoch
    trainer.train(save=False)
    assert guide.ended == 2
    waiting = 0
    for name, _ in guide.calls:
        waiting += 1 if name == "weights" else -1
        assert 0 <= waiting <= 2
    assert waiting == 0


def test_a_guide_that_asks_for_what_there_is_not_is_refused_before_anything_is_made(tmp_path):
    cfg = tiny_config(OUTPUT_DIR=str(tmp_path / "out"))
    with pytest.raises(DataError, match=r"iou, scale is asked for.*it gives confidence, correct, "):
        Trainer(cfg, tiny_set(), Listener(["margin", "scale", "iou"]))
    assert not (tmp_path / "out").exists()


def test_the_log_and_the_bar_say_what_the_guide_says(caplog):
    trainer = Trainer(tiny_config(SOLVER__EPOCHS=1), tiny_set(), Listener())
    with caplog.at_level("INFO"):
        trainer.train(save=False)
    assert [text for text in caplog.messages if text.endswith("; heard 5 batches")]
    trainer._bar = SimpleNamespace(set_postfix=lambda shown, refresh: bar.update(shown))
    bar = {}
    trainer._end_epoch(2, 0.25)
    assert bar == {"epoch": "3", "loss": "0.250", "heard": "5"}


@pytest.mark.parametrize("steps", [7, 10, 13])  # in mid-epoch, at the end of one, in the third
def test_a_run_of_so_many_steps_ends_with_them_and_its_rate_falls_over_them(steps, monkeypatch):
    cfg, rates, guide = tiny_config(SOLVER__EPOCHS=2), [], Listener()
    trainer = Trainer(cfg, tiny_set(), guide, steps=steps)
    own = trainer._train_step
    monkeypatch.setattr(
        trainer,
        "_train_step",
        lambda *a: (own(*a), rates.append(trainer._optimizer.param_groups[0]["lr"]))[0],
    )
    trainer.train(save=False)
    assert trainer.step == trainer.total_steps == steps == len(guide.heard)
    assert rates == [cosine(step, steps, cfg.SOLVER.LR) for step in range(steps)]
    assert trainer.epochs == steps / 5 and guide.ended == math.ceil(steps / 5)


def test_the_mean_loss_of_an_epoch_that_is_cut_short_is_that_of_its_images(monkeypatch):
    guide, means = Listener(), []
    trainer = Trainer(tiny_config(), tiny_set(), guide, steps=7)
    own = trainer._end_epoch
    monkeypatch.setattr(trainer, "_end_epoch", lambda e, mean: (means.append(mean), own(e, mean)))
    trainer.train(save=False)
    losses = [torch.cat([x for _, x, _ in guide.heard[k : k + 5]]).mean() for k in (0, 5)]
    assert means == pytest.approx([float(x) for x in losses], rel=1e-5)


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
        with pytest.raises(DataError, match="another configuration or other data"):
            Trainer(cfg, tiny_set(), Recorder(36), steps=steps).resume()


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


def test_a_mask_that_stands_still_changes_nothing():
    cfg = tiny_config(SOLVER__EPOCHS=3, AUGMENT__CUTOUT=3)
    plain = Trainer(cfg, tiny_set())
    plain.train(save=False)
    cfg.merge_from_list(["ADAPRUNER.WARMUP_EPOCHS", 3])
    pruner = build_pruner(tiny_config(ADAPRUNER__WARMUP_EPOCHS=3), tiny_set())
    masked = Trainer(cfg, tiny_set(), pruner)
    masked.train(save=False)
    assert same_state(plain.model.state_dict(), masked.model.state_dict())


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
        assert "Stopped; the same command with --resume" in caplog.text
    else:
        assert "has ended: DataLoader worker" in str(error.value)
        assert "lower DATA.WORKERS; the same command with --resume" in str(error.value)


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


def test_training_that_diverges_says_so(tmp_path):
    cfg = bare_config(SOLVER__LR=1e20, OUTPUT_DIR=str(tmp_path / "out"))
    with pytest.raises(DataError, match=r"training diverged; lower SOLVER\.LR"):
        Trainer(cfg, tiny_set()).train()
    assert not (tmp_path / "out" / "model.pt").exists()


def test_a_checkpoint_never_holds_a_run_that_has_diverged(tmp_path, monkeypatch):
    cfg = bare_config(SOLVER__CHECKPOINT_PERIOD=1, OUTPUT_DIR=str(tmp_path))
    own = Trainer._train_step

    def train_step(self, ids, images):
        losses = own(self, ids, images)
        return losses * float("nan") if self.step == 3 else losses

    monkeypatch.setattr(Trainer, "_train_step", train_step)
    with pytest.raises(DataError, match="in epoch 1: training diverged"):
        Trainer(cfg, tiny_set()).train()
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 3


def test_one_image_is_too_few():
    with pytest.raises(DataError, match="there is 1 image to train on"):
        Trainer(tiny_config(), tiny_set().subset(torch.tensor([0])))


def test_bf16_and_a_compiled_model_learn_too(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    trainer = Trainer(
        bare_config(SOLVER__AMP=True, SOLVER__COMPILE=True, SOLVER__EPOCHS=8), tiny_set(60)
    )
    trainer.train(save=False)
    assert compiled == [trainer.model]
    assert trainer.evaluate(tiny_set(60, seed=1)) > 90


def test_a_model_that_cannot_be_compiled_is_one_line(monkeypatch):
    def compiled(model):
        def forward(images):
            raise torch._dynamo.exc.BackendCompilerFailed(print, ValueError("no compiler"), None)

        return forward

    monkeypatch.setattr(torch, "compile", compiled)
    with pytest.raises(DataError, match=r"cannot be compiled: .*no compiler; set SOLVER\.COMPILE"):
        Trainer(bare_config(SOLVER__COMPILE=True), tiny_set()).train(save=False)


def test_under_bf16_the_mask_hears_float32_losses(monkeypatch):
    cfg = bare_config(SOLVER__AMP=True, SOLVER__EPOCHS=2)
    pruner = build_pruner(cfg, tiny_set())
    seen = []
    observe = pruner.observe
    monkeypatch.setattr(pruner, "observe", lambda i, x: (seen.append(x.dtype), observe(i, x))[1])
    Trainer(cfg, tiny_set(), pruner).train(save=False)
    assert set(seen) == {torch.float32} and len(seen) == 2 * 5


def test_accuracy_counts_right_answers():
    images = tiny_set(30)
    trainer = Trainer(bare_config(SOLVER__EPOCHS=10), images)
    trainer.train(save=False)
    mean, std = channel_statistics(images.images)
    x = (images.images.float() - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        right = (trainer.model.eval()(x).argmax(1) == images.labels).double().mean()
    assert trainer.evaluate(images) == pytest.approx(100 * float(right))
    assert trainer.evaluate(images) > 90


def test_the_learning_rate_falls_along_half_a_cosine():
    rates = [cosine(step, 10, 0.1) for step in range(10)]
    assert rates[0] == 0.1 and rates[5] == pytest.approx(0.05)
    assert rates == sorted(rates, reverse=True) and 0 < rates[-1] < 0.005
