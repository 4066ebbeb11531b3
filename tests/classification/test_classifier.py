import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from adapruner_det.classification.augment import channel_statistics
from adapruner_det.classification.classifier import Classifier, load_classifier
from adapruner_det.classification.models import build_model
from adapruner_det.classification.trainer import Trainer
from adapruner_det.errors import DataError
from tests.classification.tiny import CLASSES, same_state, tiny_config, tiny_set


def trained(tmp_path, images=None, **settings):
    """The configuration, and the trainer of a run that has left its model in ``tmp_path``."""
    cfg = tiny_config(OUTPUT_DIR=str(tmp_path), SOLVER__EPOCHS=2, **settings)
    trainer = Trainer(cfg, images or tiny_set())
    trainer.train(save=False)
    trainer.save_model()
    return cfg, trainer


def by_hand(model, images, mean, std):
    """(features, logits) in evaluation mode, in one batch; the last layer is applied by hand."""
    x = (images.images.float() - mean[:, None, None]) / std[:, None, None]
    with torch.no_grad():
        layers = torch.nn.Sequential(*list(model.eval().children())[:-1])
        features = layers(x)
        return features, features @ model.fc.weight.T + model.fc.bias


def test_features_and_predictions_are_the_model_s_own_in_evaluation_mode(tmp_path):
    cfg, trainer = trained(tmp_path)
    images = tiny_set(1003, seed=4)  # more than one batch, and not a multiple
    features, logits = by_hand(trainer.model, images, *channel_statistics([tiny_set().images]))
    found = load_classifier(cfg, tmp_path, tiny_set())
    assert found.all_features(images).shape == (1003, 16)
    np.testing.assert_allclose(found.all_features(images), features, atol=1e-5)
    np.testing.assert_allclose(found.predictions(images), logits.softmax(1), atol=1e-6)
    assert found.predictions(images).dtype == found.all_features(images).dtype == np.float32
    assert found.accuracy(images) == trainer.evaluate(images)


@pytest.mark.parametrize(
    ("side", "batch", "sizes"),
    [(8, 4, [40]), (64, 4, [40]), (224, 4, [10] * 4), (224, 16, [16, 16, 8]), (224, 64, [40])],
)
def test_large_images_are_read_few_at_a_time(tmp_path, side, batch, sizes):
    """What has fitted into memory in training fits in evaluation."""
    cfg, _ = trained(tmp_path, SOLVER__BATCH_SIZE=batch)
    found = load_classifier(cfg, tmp_path, tiny_set())
    found.logits = lambda images: torch.zeros(len(images), len(CLASSES))
    images = replace(tiny_set(40), images=torch.zeros(40, 1, side, side, dtype=torch.uint8))
    assert [len(ids) for ids, _ in found.read(images)] == sizes


def test_a_model_is_normalised_by_the_images_that_it_was_trained_on(tmp_path):
    """A part of the images has a mean of its own; what is read later is taken as the part was."""
    part = tiny_set().subset(torch.arange(0, 36, 3))  # the dark ones
    cfg, trainer = trained(tmp_path, part)
    mean, std = channel_statistics([part.images])
    found = load_classifier(cfg, tmp_path, tiny_set())
    assert torch.equal(found.mean, mean) and torch.equal(found.std, std)
    _, logits = by_hand(trainer.model, tiny_set(), mean, std)
    np.testing.assert_allclose(found.predictions(tiny_set()), logits.softmax(1), atol=1e-6)


def test_what_is_kept_beside_the_weights_says_what_they_expect(tmp_path):
    _, trainer = trained(tmp_path)
    kept = json.loads((tmp_path / "model.json").read_text())
    mean, std = channel_statistics([tiny_set().images])
    assert kept == {"mean": mean.tolist(), "std": std.tolist(), "classes": CLASSES}
    weights = torch.load(tmp_path / "model.pt", weights_only=True)
    assert same_state(weights, trainer.model.state_dict())


def test_under_bf16_what_comes_out_is_float32(tmp_path):
    cfg, _ = trained(tmp_path, SOLVER__AMP=True)
    found = load_classifier(cfg, tmp_path, tiny_set())
    assert next(found.read(tiny_set()))[1].dtype == torch.bfloat16
    assert found.predictions(tiny_set()).dtype == np.float32
    np.testing.assert_allclose(found.predictions(tiny_set()).sum(1), 1, atol=1e-5)
    assert found.all_features(tiny_set()).dtype == np.float32


def test_the_weights_of_the_configuration_are_not_those_of_the_folder(tmp_path):
    cfg, trainer = trained(tmp_path / "out")
    cfg.MODEL.WEIGHTS = str(tmp_path / "gone.pt")
    found = load_classifier(cfg, tmp_path / "out", tiny_set())
    assert same_state(found.model.state_dict(), trainer.model.state_dict())
    assert cfg.MODEL.WEIGHTS == str(tmp_path / "gone.pt")


def remove_weights(folder):
    (folder / "model.pt").unlink()


def remove_meaning(folder):
    (folder / "model.json").unlink()


def empty_meaning(folder):
    (folder / "model.json").write_text("{}")


def tear_meaning(folder):
    (folder / "model.json").write_bytes(b'{"mean": [1.0\xff')


def no_numbers(folder):
    (folder / "model.json").write_text('{"mean": ["x"], "std": [1], "classes": ["a"]}')


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (remove_weights, r"there are no weights at .*model\.pt"),
        (remove_meaning, r"model\.json .*train in"),
        (empty_meaning, r"model\.json does not say .*mean.*train in"),
        (tear_meaning, r"model\.json does not say"),
        (no_numbers, r"model\.json does not say"),
    ],
)
def test_a_folder_without_a_whole_model_is_one_line(tmp_path, harm, message):
    cfg, _ = trained(tmp_path)
    harm(tmp_path)
    with pytest.raises(DataError, match=message):
        load_classifier(cfg, tmp_path, tiny_set())


@pytest.mark.parametrize(
    "other",
    [
        {"images": torch.zeros(36, 1, 8, 8, dtype=torch.uint8)},
        {"class_names": ["dark", "light", "green"]},
        {"class_names": CLASSES[:2]},
    ],
)
def test_a_model_of_other_data_is_one_line(tmp_path, other):
    cfg, _ = trained(tmp_path)
    with pytest.raises(DataError, match=r"is of 3 classes and 3 channel\(s\), which are not"):
        load_classifier(cfg, tmp_path, replace(tiny_set(), **other))


@pytest.mark.parametrize("backend", ["eager", None])
def test_features_are_those_of_the_last_batch_of_a_compiled_model_too(monkeypatch, backend):
    compiled = torch.compile
    if backend:
        monkeypatch.setattr(torch, "compile", lambda model: compiled(model, backend=backend))
    cfg = tiny_config(SOLVER__COMPILE=bool(backend))
    mean = torch.zeros(3)
    found = Classifier(cfg, build_model(cfg, 3, 3), torch.device("cpu"), mean, mean + 1)
    assert found.features is None
    found.keep_features()
    for count in (5, 3):
        x = torch.randn(count, 3, 8, 8)
        logits = found.logits(x)
        assert found.features.shape == (count, 16) and not found.features.requires_grad
        again = found.features @ found.model.fc.weight.T + found.model.fc.bias
        torch.testing.assert_close(again, logits)
