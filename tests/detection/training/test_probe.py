"""Detectors whose own forward adds a loss of the whole batch, known before the first step."""

import copy
import logging
import random

import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.modeling import META_ARCH_REGISTRY, GeneralizedRCNN

from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.detection.per_image import APART, SERIAL, LossSource
from adapruner_det.detection.training import trainer as trainer_module
from adapruner_det.detection.training.probe import settle, two_images
from adapruner_det.errors import DataError
from adapruner_det.methods.recorder import Recorder
from tests.detection.toy import toy_cfg
from tests.detection.training.runs import (
    StopAfter,
    Stopped,
    assert_same_weights,
    files,
    prune,
    start,
    weights,
)
from tests.detection.training.test_weighting import detector


@META_ARCH_REGISTRY.register()
class SizedRCNN(GeneralizedRCNN):
    """It draws, too, from generators that no forward of Detectron2's draws from."""

    def forward(self, batched_inputs):
        losses = super().forward(batched_inputs)
        if self.training:
            scale = 1 + 0.1 * random.random() + 0.1 * np.random.rand()  # noqa: NPY002
            losses["loss_size"] = scale * next(self.parameters()).square().mean()
        return losses


def sized_cfg(output, objective="inclusion"):
    return toy_cfg(
        "faster_rcnn_fpn", output,
        "MODEL.META_ARCHITECTURE", "SizedRCNN",
        "ADAPRUNER.OBJECTIVE", objective,
        "SOLVER.MAX_ITER", 8,
    )  # fmt: skip


def ask(model, toy, mapper=None):
    source = LossSource(model)
    index = SampleIndex.from_dicts({"toy": toy})
    mapper = mapper or DatasetMapper(toy_cfg("faster_rcnn_fpn", "unused"), True)
    settle(source, model, index, mapper)
    return source


def sized(kind="faster_rcnn_fpn"):
    model = detector(kind)
    model.__class__ = SizedRCNN
    return model


def test_a_loss_of_the_whole_batch_is_found_before_the_first_step(toy, caplog):
    with caplog.at_level(logging.WARNING):
        source = ask(sized(), toy)
    assert source.way == SERIAL and not source.shows
    (message,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert "because loss_size is one value for the whole batch" in message


@pytest.mark.parametrize("build", [sized, lambda: detector("faster_rcnn_fpn")])
def test_asking_moves_neither_the_detector_nor_a_generator_nor_the_mapper(toy, build):
    class Counting(DatasetMapper):
        seen = 0

        def __call__(self, sample):
            self.seen += 1
            return super().__call__(sample)

    model, mapper = build(), Counting(toy_cfg("faster_rcnn_fpn", "unused"), True)
    before = copy.deepcopy(model.state_dict())
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # noqa: NPY002
    ask(model, toy, mapper)
    assert_same_weights(model.state_dict(), before)
    assert random.getstate() == states[0]
    assert np.random.get_state()[1].tolist() == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    assert mapper.seen == 0


def test_what_the_copy_cannot_tell_is_left_to_the_first_step(toy):
    def fails(sample):
        raise OSError("no such file")

    assert ask(sized(), toy, fails).way == APART


def test_images_with_objects_are_asked_about(toy):
    toy[0]["annotations"] = []
    index = SampleIndex.from_dicts({"toy": toy})
    assert [d["image_id"] for d in two_images(index, dict)] == ["im1", "im2"]


@pytest.mark.parametrize("objective", ["paper", "inclusion"])
def test_such_a_detector_is_judged_by_its_losses_alone(toy, tmp_path, objective):
    selection = prune(sized_cfg(tmp_path, objective)).selection
    assert selection.num_kept == 7
    assert not {"fault", "flagged"} & selection.columns.keys()
    assert "fault" not in selection.columns["why"].tolist()


def test_its_run_is_resumed_as_if_it_had_not_been_stopped(toy, tmp_path):
    prune(sized_cfg(tmp_path / "done"))
    cfg = sized_cfg(tmp_path / "cut")
    with pytest.raises(Stopped):
        prune(cfg, hooks=[StopAfter(5)])
    again = start(cfg, resume=True)
    assert again.start_iter == 4
    again.train()
    assert_same_weights(weights(tmp_path / "cut"), weights(tmp_path / "done"))
    assert files(tmp_path / "cut") == files(tmp_path / "done")


def test_a_detector_that_is_not_serial_runs_bit_for_bit_as_if_it_had_not_been_asked(
    toy, tmp_path, monkeypatch
):
    options = "ADAPRUNER.OBJECTIVE", "inclusion", "SOLVER.MAX_ITER", 8
    selection = prune(toy_cfg("faster_rcnn_fpn", tmp_path / "asked", *options)).selection
    assert "fault" in selection.columns
    monkeypatch.setattr(trainer_module, "settle", lambda *_: None)
    prune(toy_cfg("faster_rcnn_fpn", tmp_path / "not", *options))
    assert_same_weights(weights(tmp_path / "asked"), weights(tmp_path / "not"))
    assert files(tmp_path / "asked") == files(tmp_path / "not")


def test_a_guide_of_ones_own_that_asks_for_more_is_refused_still(toy, tmp_path):
    cfg = sized_cfg(tmp_path)
    with pytest.raises(DataError, match="Recorder asks for confidence"):
        trainer = trainer_module.PruningTrainer(cfg, guide=Recorder(10, signals=["confidence"]))
        trainer.resume_or_load(resume=False)
        trainer.train()
