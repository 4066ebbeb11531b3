import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.engine import hooks
from detectron2.utils.events import EventStorage, JSONWriter, TensorboardXWriter
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adapruner_det import AdaPruner
from adapruner_det.core import Schedule
from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.detection.training.leaving import MOST, SIDE, LeavingHook, drawn, falling
from adapruner_det.methods.recorder import Recorder
from tests.detection.toy import squares


def trainer_with(tmp_path, kind):
    writer = (
        TensorboardXWriter(str(tmp_path / "events"))
        if kind == "tensorboard"
        else JSONWriter(str(tmp_path / "metrics.json"))
    )
    return SimpleNamespace(
        iter=0, _hooks=[hooks.PeriodicWriter([writer])], storage=EventStorage(0), writer=writer
    )


class Run:
    """A run of epochs of two steps over eight images, of which two leave by the second."""

    def __init__(self, tmp_path, kind="tensorboard", guide=None):
        self.index = SampleIndex.from_dicts({"toy": squares(tmp_path / "images", 8)})
        self.guide = guide or AdaPruner(8, 0.5, Schedule(1, 3))
        self.trainer = trainer_with(tmp_path, kind)
        self.hook = LeavingHook(self.guide, self.index, 4)
        self.hook.trainer = self.trainer
        self.hook.before_train()

    def epoch(self, **logits):
        """Two steps; in between the logits of some samples become others."""
        for _ in range(2):
            for row, value in logits.items():
                self.guide.mask.column("logit")[int(row[1:])] = value
            self.hook.after_step()
            self.trainer.iter += 1
        shown, self.trainer.storage._vis_data = self.trainer.storage._vis_data, []
        return shown


def test_at_an_epochs_end_those_that_fell_most_are_shown(tmp_path):
    run = Run(tmp_path)
    run.guide.end_epoch()
    run.hook.before_train()
    shown = run.epoch(i2=-30.0, i5=-20.0, i6=30.0)
    assert [name for name, _, _ in shown] == ["leaving/1", "leaving/2"]
    assert all(image.dtype == np.uint8 and image.shape[0] == 3 for _, image, _ in shown)
    first = np.asarray(drawn(run.index.dicts[2], words_of(run, 2))).transpose(2, 0, 1)
    assert np.array_equal(shown[0][1][:, 14:], first[:, 14:])
    assert run.epoch() == []  # they have gone already


def words_of(run, row):
    return f"0.50 to 0.00  {run.index.keys[row]}"


def test_within_an_epoch_and_while_nothing_moves_nothing_is_shown(tmp_path):
    run = Run(tmp_path)
    run.guide.mask.column("logit")[0] = -30.0
    run.hook.after_step()
    assert not run.trainer.storage._vis_data
    assert Run(tmp_path / "other").epoch() == []


@pytest.mark.parametrize("kind", ["no writer for images", "no mask"])
def test_without_a_writer_or_a_mask_it_does_nothing(tmp_path, kind):
    guide = Recorder(8) if kind == "no mask" else None
    run = Run(tmp_path, "json" if guide is None else "tensorboard", guide)
    run.hook.trainer.iter = 1
    if guide is None:
        run.guide.mask.column("logit")[0] = -30.0
    run.hook.after_step()
    assert not run.trainer.storage._vis_data


def test_they_reach_the_file_of_events(tmp_path):
    run = Run(tmp_path)
    run.guide.mask.column("logit")[3] = -30.0
    run.trainer.iter = 1
    run.hook.after_step()
    with run.trainer.storage:
        run.trainer.writer.write()
    run.trainer.writer.close()
    assert not run.trainer.storage._vis_data  # which would grow without end
    events = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert events.Tags()["images"] == ["leaving/1"]


def test_no_random_number_is_drawn_and_nothing_is_moved(tmp_path):
    run = Run(tmp_path)
    torch.manual_seed(0), np.random.seed(0), random.seed(0)  # noqa: NPY002
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    run.guide.mask.column("logit")[3] = -30.0
    before = run.guide.mask.column("logit").copy()
    run.trainer.iter = 1
    run.hook.after_step()
    assert run.trainer.storage._vis_data
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])
    assert np.array_equal(run.guide.mask.column("logit"), before)
    assert run.hook.state_dict() == {}  # so that older runs resume


def test_an_image_that_is_gone_is_one_warning_and_the_last(tmp_path, caplog):
    run = Run(tmp_path)
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    run.epoch(i1=-30.0)
    run.epoch(i2=-30.0)
    (record,) = caplog.records
    assert "on their way out" in record.getMessage() and "is not there" in record.getMessage()


def test_the_falling_are_those_that_will_go_the_fastest_first():
    before = np.array([0.9, 0.6, 0.9, 0.5, 0.49, 0.5, 0.6, 0.7, 0.8])
    now = np.array([0.6, 0.1, 0.4, 0.49, 0.45, 0.9, 0.3, 0.2, 0.1])
    assert falling(before, now).tolist() == [8, 1, 2, 7]
    assert len(falling(before, now)) == MOST
    assert falling(before, before).tolist() == []
    assert falling(np.array([0.5]), np.array([0.455])).tolist() == []


def test_a_picture_is_small_and_has_its_boxes_where_they_are(tmp_path):
    pixels = Image.new("RGB", (1024, 512), (10, 20, 30))
    pixels.save(tmp_path / "a.png")
    box = {"bbox": [256, 128, 256, 128], "bbox_mode": 1, "category_id": 0}
    image = drawn({"file_name": str(tmp_path / "a.png"), "annotations": [box]}, "0.5 to 0.1  ä/b")
    assert image.size == (SIDE, SIDE // 2 + 14)
    for place in ((64, 60), (128, 60), (90, 46), (90, 78)):  # a quarter of the box's, and the line
        assert image.getpixel(place) == (255, 255, 0)
    assert image.getpixel((66, 60)) == (0, 0, 0)
    assert image.getpixel((96, 62)) == (10, 20, 30)  # inside
    assert image.getpixel((150, 100)) == (10, 20, 30)  # outside
    assert any(image.getpixel((x, y)) > (90, 90, 90) for x in range(40) for y in range(14))
