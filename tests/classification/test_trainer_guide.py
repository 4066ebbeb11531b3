import copy
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from adapruner_det.classification.signals import SIGNALS
from adapruner_det.classification.trainer import Trainer
from adapruner_det.errors import DataError
from tests.classification.tiny import Listener, same_state, tiny_config, tiny_set


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
