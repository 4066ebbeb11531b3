"""Folds, what each is trained on, and how a run that was stopped goes on."""

import shutil
import time
from contextlib import suppress

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from torch import nn

from adapruner_det.detection import held_out as module
from adapruner_det.detection import inference
from adapruner_det.detection.held_out import (
    FILE,
    HeldOutTask,
    all_images,
    held_out_losses,
    labels_of,
    predict_held_out,
    steps_done,
)
from adapruner_det.detection.setup import load_config
from adapruner_det.errors import DataError
from adapruner_det.predictions import Predictions
from tests.detection.per_image.tiny import random_batch, tiny_cfg
from tests.detection.toy import options_of, register, squares, write_voc_folder


@pytest.fixture
def voc(tmp_path):
    return write_voc_folder(tmp_path / "voc", train=10)


def settings(voc, *more):
    data = ["ADAPRUNER.VOC_FOLDERS", [f"held={voc}:train"], "DATASETS.TRAIN", ("held",)]
    return load_config("", [*options_of("yolo_darknet", "unused"), *data, *more])


class Untrained(HeldOutTask):
    """Says what it was trained on in place of predicting."""

    fails = ()

    def __init__(self, cfg):
        super().__init__(cfg)
        self.trained = {}

    def train(self, seed, folder, *, kept=None, **_):
        if folder.name in self.fails:
            raise RuntimeError("killed")
        folder.mkdir(parents=True, exist_ok=True)
        self.trained[folder.name] = set(kept.kept_keys)

    def look_at(self, folder, rows):
        keys = [self.everything.keys[row] for row in rows]
        nothing = {"boxes": np.zeros((0, 4)), "scores": np.zeros(0), "classes": np.zeros(0, int)}
        return Predictions(keys, [nothing] * len(rows), np.ones(len(rows)), np.zeros(len(rows)))


# --- folds ---


@pytest.mark.parametrize("folds", [1, 11])
def test_folds_that_cannot_be_are_refused(voc, tmp_path, folds):
    with pytest.raises(DataError, match=f"{folds} folds of 10 images: take 2 or more"):
        predict_held_out(Untrained(settings(voc)), folds, 0, tmp_path / "run")


def test_near_copies_are_held_out_together(voc, tmp_path):
    for copy in (3, 4, 8):
        shutil.copy(voc / "JPEGImages/im0.png", voc / f"JPEGImages/im{copy}.png")
        label = (voc / "Annotations/im0.xml").read_text()
        (voc / f"Annotations/im{copy}.xml").write_text(label.replace("im0", f"im{copy}"))
    for seed in range(3):
        whole = predict_held_out(Untrained(settings(voc)), 2, seed, tmp_path / f"run{seed}")
        folds = dict(zip(whole.keys, whole.folds.tolist(), strict=True))
        assert len({folds[f"held/im{i}"] for i in (0, 3, 4, 8)}) == 1
        assert sorted(np.bincount(whole.folds).tolist()) == [5, 5]


def test_no_image_is_predicted_by_a_detector_that_was_trained_on_it(voc, tmp_path):
    task = Untrained(settings(voc))
    whole = predict_held_out(task, 3, 0, tmp_path / "run")
    assert whole.keys == list(task.everything.keys)
    for key, fold in zip(whole.keys, whole.folds.tolist(), strict=True):
        assert key not in task.trained[f"fold-{fold + 1}"]
        others = set(task.trained) - {f"fold-{fold + 1}"}
        assert all(key in task.trained[name] for name in others)
    saved = Predictions.load(tmp_path / "run" / FILE)
    assert saved.keys == whole.keys
    names = list(task.samples.class_names)
    assert saved.about == {"folds": 3, "seed": 0, "title": task.title, "class_names": names}


def test_an_image_without_objects_is_predicted_and_not_trained_on(voc, tmp_path):
    file = voc / "Annotations" / "im3.xml"
    text = file.read_text()
    file.write_text(text[: text.index("<object>")] + text[text.index("</object>") + 9 :])
    task = Untrained(settings(voc))
    whole = predict_held_out(task, 2, 0, tmp_path / "run")
    assert "held/im3" in whole.keys and len(whole) == 10
    assert all("held/im3" not in keys for keys in task.trained.values())
    assert [len(own.boxes) for own in labels_of(task.everything)].count(0) == 1


def test_too_little_to_train_on_is_said(voc):
    task = Untrained(settings(voc))
    with pytest.raises(DataError, match="none of the 10 training images is left"):
        task.part(task.samples.keys)


# --- going on ---


def test_what_is_done_is_not_done_again(voc, tmp_path):
    stopped = Untrained(settings(voc))
    stopped.fails = ("fold-2",)
    with suppress(RuntimeError):
        predict_held_out(stopped, 3, 0, tmp_path / "run")
    assert set(stopped.trained) == {"fold-1"}
    assert not (tmp_path / "run" / FILE).exists()
    later = Untrained(settings(voc))
    whole = predict_held_out(later, 3, 0, tmp_path / "run")
    assert set(later.trained) == {"fold-2", "fold-3"} and len(whole) == 10
    last = Untrained(settings(voc))
    again = predict_held_out(last, 3, 0, tmp_path / "run")
    assert last.trained == {} and again.folds.tolist() == whole.folds.tolist()


@pytest.mark.parametrize("change", ["seed", "folds", "settings", "label"])
def test_what_was_done_otherwise_is_refused(voc, tmp_path, change):
    predict_held_out(Untrained(settings(voc)), 2, 0, tmp_path / "run")
    more = ["SOLVER.BASE_LR", 0.02] if change == "settings" else []
    if change == "label":
        file = voc / "Annotations" / "im3.xml"
        file.write_text(file.read_text().replace("<xmin>", "<xmin>1"))
    task = Untrained(settings(voc, *more))
    folds, seed = 3 if change == "folds" else 2, 1 if change == "seed" else 0
    with pytest.raises(
        DataError, match=r"made from other labels.* --predictions .*run.predictions"
    ):
        predict_held_out(task, folds, seed, tmp_path / "run")
    assert task.trained == {}


def test_what_was_stopped_has_no_predictions_to_judge_other_labels_by(voc, tmp_path):
    stopped = Untrained(settings(voc))
    stopped.fails = ("fold-2",)
    with suppress(RuntimeError):
        predict_held_out(stopped, 2, 0, tmp_path / "run")
    task = Untrained(settings(voc, "SOLVER.BASE_LR", 0.02))
    with pytest.raises(DataError, match=r"made from other labels.*to train anew$"):
        predict_held_out(task, 2, 0, tmp_path / "run")


# --- progress ---


def test_progress_rises_to_1_and_counts_the_steps_of_a_fold(voc, tmp_path, monkeypatch):
    class Slow(Untrained):
        def train(self, seed, folder, **rest):
            super().train(seed, folder, **rest)
            (folder / "metrics.json").write_text('{"iteration": 3}\n{"iteration": 4, "lr": 1}\n')
            time.sleep(0.05)

    monkeypatch.setattr(module, "POLL", 0.01)
    told = []
    task = Slow(settings(voc))
    assert task.steps == 15
    predict_held_out(task, 3, 0, tmp_path / "run", told.append)
    assert told == sorted(told) and told[-1] == 1
    assert any(share == pytest.approx((1 + 5 / 10) / 3) for share in told)  # 5 of 15·2/3 steps


@pytest.mark.parametrize("text", ["", "{", '{"lr": 1}', "[]", '{"iteration": "x"}'])
def test_a_training_that_says_nothing_yet_is_at_its_beginning(tmp_path, text):
    assert steps_done(tmp_path) == 0
    (tmp_path / "metrics.json").write_text(text)
    assert steps_done(tmp_path) == 0


# --- what is looked at ---


def test_labels_are_those_of_the_data_set_crowds_too(tmp_path):
    dicts = squares(tmp_path / "images", 2)
    dicts[0]["annotations"][0]["iscrowd"] = 1
    dicts[1]["annotations"][0] |= {"bbox": [5, 6, 10, 20], "bbox_mode": 1}
    register("plain", dicts)
    cfg = settings_of_plain()
    first, second = labels_of(all_images(cfg))
    assert first.crowd.tolist() == [True] and second.crowd.tolist() == [False]
    assert second.boxes.tolist() == [[5, 6, 15, 26]]
    assert second.classes.tolist() == [dicts[1]["annotations"][0]["category_id"]]


def settings_of_plain():
    return load_config("", ["DATASETS.TRAIN", ("plain",)])


def test_a_data_set_that_is_not_there_is_named():
    with pytest.raises(DataError, match="no data set named 'plain'"):
        all_images(settings_of_plain())


def test_data_sets_of_other_classes_are_refused(tmp_path):
    register("plain", squares(tmp_path / "plain", 2))
    DatasetCatalog.register("other", lambda: squares(tmp_path / "other", 2))
    MetadataCatalog.get("other").set(thing_classes=["green", "blue"])
    with pytest.raises(DataError, match="classes of 'plain' and 'other' differ"):
        all_images(load_config("", ["DATASETS.TRAIN", ("plain", "other")]))


class Net(nn.Module):
    """Its loss is what a batch norm and a dropout make of an image, and a random number."""

    def __init__(self):
        super().__init__()
        self.norm, self.drop = nn.BatchNorm2d(3), nn.Dropout(0.5)
        self.losses_per_image = self.forward

    def forward(self, batch):
        assert self.training and not torch.is_grad_enabled()
        image = torch.stack([own["image"].float() for own in batch])
        value = self.drop(self.norm(image)).mean(dim=(1, 2, 3))
        return {"a": value, "b": torch.rand(len(batch))}


def test_losses_are_those_of_a_trained_detector_and_come_again():
    images = torch.arange(1, 5).float()[:, None, None, None] * torch.ones(4, 3, 8, 8)
    net = Net().eval()
    batches = [[{"image": image}] for image in images]
    keys = ["a/1", "a/2", "a/3", "a/4"]
    first = held_out_losses(net, keys, batches)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    torch.rand(5)
    assert held_out_losses(net, keys, batches).tolist() == first.tolist()
    assert held_out_losses(net, keys[2:], batches[2:]).tolist() == first[2:].tolist()
    assert not net.training
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name
    random = first - images[:, 0, 0, 0].numpy() / np.sqrt(1 + 1e-5)
    assert ((random >= 0) & (random < 1)).all() and len(set(random.tolist())) == 4


def test_losses_of_a_detector_with_a_moving_normalizer_hang_on_no_other_image():
    torch.manual_seed(0)
    model = build_model(tiny_cfg("COCO-Detection/retinanet_R_50_FPN_1x.yaml"))
    batches = [[sample] for sample in random_batch()]
    keys = [f"a/{place}" for place in range(len(batches))]
    forwards = held_out_losses(model, keys, batches)
    backwards = held_out_losses(model, keys[::-1], batches[::-1])
    assert len(set(forwards)) == len(batches) > 1 and not hasattr(model, "loss_normalizer")
    assert backwards[::-1].tolist() == forwards.tolist()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_what_a_detector_draws_on_a_gpu_hangs_on_the_key_too():
    class Draws(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, device="cuda"))
            self.losses_per_image = self.forward

        def forward(self, batch):
            return {"a": torch.rand(len(batch), device="cuda")}

    keys, state = ["a/1", "a/2"], torch.cuda.get_rng_state()
    first = held_out_losses(Draws(), keys, [[{}], [{}]])
    assert held_out_losses(Draws(), keys[::-1], [[{}], [{}]])[::-1].tolist() == first.tolist()
    assert first[0] != first[1] and torch.equal(torch.cuda.get_rng_state(), state)


@pytest.fixture
def trained(voc, tmp_path):
    """A task, and a folder with a model of it that was hardly trained."""
    task = HeldOutTask(settings(voc, "SOLVER.MAX_ITER", 2))
    run = task.train(0, tmp_path / "run", kept=task.part(task.samples.keys[:5]))
    assert np.isnan(run.value)  # nothing was evaluated
    return task, tmp_path / "run"


def test_a_training_is_looked_at_in_the_order_of_its_rows(trained):
    task, folder = trained
    rows = [7, 2, 3]
    some = task.look_at(folder, rows)
    all_of_them = task.look_at(folder, list(range(10)))
    assert some.keys == [task.everything.keys[row] for row in rows]
    for place, row in enumerate(rows):
        for name, own in some.found[place].items():
            np.testing.assert_array_equal(own, all_of_them.found[row][name])
    assert (some.losses > 0).all() and len(set(some.losses)) == 3
    assert some.losses == pytest.approx(all_of_them.losses[rows])
    assert steps_done(folder) in (1, 2)  # the last step is not always written


def test_boxes_that_are_not_upright_are_refused(trained, monkeypatch):
    task, folder = trained
    rotated = {"boxes": np.zeros((1, 5)), "scores": np.zeros(1), "classes": np.zeros(1, int)}
    monkeypatch.setattr(inference, "detections", lambda *_: [rotated])
    with pytest.raises(DataError, match="YOLOv3Tiny predicts boxes that are not upright"):
        task.look_at(folder, [0])


@pytest.mark.parametrize(
    ("width", "name", "match"),
    [
        (5, "GeneralizedRCNN", "boxes that are not upright"),
        (4, "ProposalNetwork", "gives no boxes"),
    ],
)
def test_a_detector_without_upright_boxes_is_refused_before_it_is_trained(
    voc, monkeypatch, width, name, match
):
    def rotated(*_):
        return [{"boxes": np.zeros((1, width)), "scores": np.zeros(1), "classes": np.zeros(1, int)}]

    if width == 5:
        monkeypatch.setattr(inference, "detections", rotated)
    data = ["ADAPRUNER.VOC_FOLDERS", [f"held={voc}:train"], "DATASETS.TRAIN", ("held",)]
    options = [*options_of("faster_rcnn_fpn", "unused"), "MODEL.META_ARCHITECTURE", name]
    with pytest.raises(DataError, match=f"{name} .*{match}"):
        HeldOutTask(load_config("", [*options, *data]))


@pytest.mark.parametrize("first", [False, True])
def test_an_image_of_too_few_keypoints_to_be_trained_on_is_looked_at(tmp_path, first):
    samples = squares(tmp_path, 4)
    for sample in samples:
        sample["annotations"][0]["keypoints"] = [20.0, 20.0, 2] * 3
    own = samples[3]["annotations"]
    own.insert(0 if first else 1, {k: v for k, v in own[0].items() if k != "keypoints"})
    own[1 if first else 0]["keypoints"] = [0.0] * 9
    flips = {"keypoint_names": ["l", "r", "top"], "keypoint_flip_map": [("l", "r")]}
    register("people", samples, **flips)
    options = options_of("faster_rcnn_fpn", "unused")
    options += ["DATASETS.TRAIN", ("people",), "MODEL.KEYPOINT_ON", True]
    options += ["MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", 3]
    task = HeldOutTask(load_config("", [*options, "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", [8]]))
    assert len(task.samples) == 3 and len(task.everything) == 4
    torch.save({"model": build_model(task._cfg).state_dict()}, tmp_path / "model_final.pth")
    assert np.isfinite(task.look_at(tmp_path, [3]).losses).all()
