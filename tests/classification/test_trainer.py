import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from adapruner_det.classification.augment import channel_statistics
from adapruner_det.classification.models import build_model
from adapruner_det.classification.run import build_pruner
from adapruner_det.classification.trainer import Trainer, cosine
from adapruner_det.errors import DataError
from tests.classification.tiny import Listener, same_state, tiny_config, tiny_set


def plain_loop(cfg, images, pruner=None):
    """The same training in plain PyTorch, without augmentation: the reference."""
    torch.manual_seed(cfg.SEED)
    model = build_model(cfg, 3, 3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    mean, std = channel_statistics([images.images])
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


def test_a_mask_that_stands_still_changes_nothing():
    cfg = tiny_config(SOLVER__EPOCHS=3, AUGMENT__CUTOUT=3)
    plain = Trainer(cfg, tiny_set())
    plain.train(save=False)
    cfg.merge_from_list(["ADAPRUNER.WARMUP_EPOCHS", 3])
    pruner = build_pruner(tiny_config(ADAPRUNER__WARMUP_EPOCHS=3), tiny_set())
    masked = Trainer(cfg, tiny_set(), pruner)
    masked.train(save=False)
    assert same_state(plain.model.state_dict(), masked.model.state_dict())


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
    mean, std = channel_statistics([images.images])
    x = (images.images.float() - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        right = (trainer.model.eval()(x).argmax(1) == images.labels).double().mean()
    assert trainer.evaluate(images) == pytest.approx(100 * float(right))
    assert trainer.evaluate(images) > 90


def test_the_learning_rate_falls_along_half_a_cosine():
    rates = [cosine(step, 10, 0.1) for step in range(10)]
    assert rates[0] == 0.1 and rates[5] == pytest.approx(0.05)
    assert rates == sorted(rates, reverse=True) and 0 < rates[-1] < 0.005
