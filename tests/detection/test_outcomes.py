"""What a run hands back, held against what is known beforehand: masks made by hand, and detectors
that find what they are told to."""

import os
import signal

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.engine import HookBase
from detectron2.evaluation import inference_on_dataset
from detectron2.structures import Boxes, Instances

from adapruner_det.core import AdaPruner, Balance, ClassSets, Schedule, Terms
from adapruner_det.detection.data.evaluators import build_evaluator
from adapruner_det.detection.data.samples import SampleIndex
from adapruner_det.detection.data.voc_folder import register_voc_folder
from adapruner_det.detection.training.trainer import EvaluatingTrainer, PruningTrainer, build_pruner
from adapruner_det.stopping import Stopped
from tests.detection.toy import toy_cfg, write_voc_folder

# --- what the configuration makes of the mask -----------------------------------------------------

#: Of each of the 36 samples; so they have 0 to 3 objects.
CLASSES = [[[0], [0, 1, 1], [], [1, 1]][i % 4] for i in range(36)]
SIZES = np.array([len(own) for own in CLASSES])


def index():
    box = {"bbox": [0, 0, 9, 9], "bbox_mode": 0}
    dicts = [
        {"image_id": f"im{i:02d}", "annotations": [{**box, "category_id": c} for c in own]}
        for i, own in enumerate(CLASSES)
    ]
    return SampleIndex.from_dicts(
        {"toy": [{"file_name": "", "height": 48, "width": 64, **sample} for sample in dicts]}
    )


def moved(pruner):
    """The logits and weights of a mask that has seen 8 epochs of the same losses."""
    rng = np.random.default_rng(0)
    base, weights = np.exp(rng.normal(size=36)) * (1 + SIZES), []
    for _ in range(8):
        for ids in np.split(rng.permutation(36), 4):
            weights.append(pruner.weights(ids).numpy())
            pruner.observe(ids, base[ids] * np.exp(0.3 * rng.normal(size=9)))
        pruner.end_epoch()
    return np.concatenate([pruner.mask.column("logit"), *weights])


def by_hand(keep_ratio=0.7, warmup=2, alphas=(0.1, 5.0), epochs=8, **options):
    options = {"sizes": SIZES, **options}
    return AdaPruner(36, keep_ratio, Schedule(warmup, epochs - warmup, *alphas), **options)


BALANCE = Balance(ClassSets.from_sets(CLASSES, 2), 0.02)


@pytest.mark.parametrize(
    ("settings", "expected", "other"),
    [
        ({}, {}, {"keep_ratio": 0.72}),
        ({"KEEP_RATIO": 0.6}, {"keep_ratio": 0.6}, {}),
        ({"WARMUP_EPOCHS": 3}, {"warmup": 3}, {}),
        ({"ALPHA_START": 0.5}, {"alphas": (0.5, 5.0)}, {}),
        ({"ALPHA_END": 8.0}, {"alphas": (0.1, 8.0)}, {}),
        ({"CONTROLLER": "paper"}, {"controller": "paper"}, {}),
        (
            {"CONTROLLER": "paper", "PAPER_SCALE": 7.0},
            {"controller": "paper", "paper_scale": 7.0},
            {"controller": "paper"},
        ),
        ({"NORMALIZE": "none"}, {"normalize": "none"}, {}),
        ({"NORMALIZE_BY_OBJECTS": False}, {"sizes": None}, {}),
        ({"CLASSIFICATION_LOSS": False}, {"terms": Terms(classification=False)}, {}),
        ({"SELECTION_LOSS": False}, {"terms": Terms(selection=False)}, {}),
        ({"COMPRESSION_LOSS": False}, {"terms": Terms(compression=False)}, {}),
        ({"CLASS_BAND": 0.02}, {"balance": BALANCE}, {}),
    ],
    ids=lambda value: "-".join(value),
)
def test_every_setting_makes_the_mask_that_it_makes_by_hand(settings, expected, other):
    options = [word for k, v in settings.items() for word in (f"ADAPRUNER.{k}", v)]
    cfg = toy_cfg("yolo_darknet", "x", *options, "SOLVER.MAX_ITER", 72)  # 8 epochs of 9 steps
    found = moved(build_pruner(cfg, index()))
    np.testing.assert_array_equal(found, moved(by_hand(**expected)))
    assert not np.array_equal(found, moved(by_hand(**other))), "the setting changes nothing"


# --- AP50 of a detector that finds what it is told to ---------------------------------------------


class Finds(torch.nn.Module):
    """Finds the boxes of the images ``ids``, moved to the right by a part of their width."""

    def __init__(self, name, ids, moved=0.0):
        super().__init__()
        self.dicts = {d["image_id"]: d for d in DatasetCatalog.get(name)}
        self.ids, self.moved = ids, moved

    def forward(self, batch):
        return [{"instances": self._found(sample["image_id"])} for sample in batch]

    def _found(self, image_id):
        sample = self.dicts[image_id]
        own = sample["annotations"] if image_id in self.ids else []
        boxes = torch.tensor([a["bbox"] for a in own], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 0::2] += self.moved * (boxes[:, 2:3] - boxes[:, :1])
        found = Instances((sample["height"], sample["width"]))
        found.pred_boxes, found.scores = Boxes(boxes), torch.full((len(own),), 0.9)
        found.pred_classes = torch.tensor([a["category_id"] for a in own], dtype=torch.int64)
        return found


@pytest.fixture
def known(tmp_path):
    """The configuration of a run that is tested on four images with a box each."""
    write_voc_folder(tmp_path / "voc", test=4)
    register_voc_folder("known_test", tmp_path / "voc", "test")
    return toy_cfg("yolo_darknet", tmp_path / "out", "DATASETS.TEST", ("known_test",))


@pytest.mark.parametrize("trainer", [EvaluatingTrainer, PruningTrainer])
def test_ap50_is_of_what_was_found(known, trainer):
    everything = set(Finds("known_test", ()).dicts)

    def ap(model):
        found = trainer.test(known, model)["bbox"]
        return found["AP50"], found["AP75"]

    assert ap(Finds("known_test", everything)) == pytest.approx((100, 100))
    assert ap(Finds("known_test", ())) == (0, 0)
    # Moved by a quarter of its width a box shares (1 − 1/4) / (1 + 1/4) with itself.
    assert ap(Finds("known_test", everything, moved=0.25)) == pytest.approx((100, 0))
    assert ap(Finds("known_test", everything, moved=0.5)) == (0, 0)
    dicts = DatasetCatalog.get("known_test")
    of_class = [
        [d["image_id"] for d in dicts if d["annotations"][0]["category_id"] == c] for c in (0, 1)
    ]
    assert all(of_class)
    # A class of which a part is found, at a precision of 1, has that part as its AP.
    some = sorted(everything)[:2]
    shares = [np.mean([image in some for image in own]) for own in of_class]
    assert ap(Finds("known_test", some))[0] == pytest.approx(100 * np.mean(shares))


def test_an_evaluation_knows_nothing_of_the_one_before_it(known):
    evaluator = build_evaluator(known, "known_test")
    everything = sorted(Finds("known_test", ()).dicts)
    loader = EvaluatingTrainer.build_test_loader(known, "known_test")
    found = [
        inference_on_dataset(Finds("known_test", ids), loader, evaluator)["bbox"]["AP50"]
        for ids in (everything, (), everything[:3], everything)
    ]
    assert (found[0], found[1], found[3]) == pytest.approx((100, 0, 100))
    assert 0 < found[2] < 100


# --- a run that a signal ends ---------------------------------------------------------------------


class Signalling(HookBase):
    """Sends SIGTERM to this process in the step ``iteration``."""

    def __init__(self, iteration):
        self._iteration = iteration

    def before_step(self):
        if self.trainer.iter == self._iteration:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_mask_that_processes_share_is_gathered_before_a_signal_s_checkpoint(
    toy, tmp_path, monkeypatch
):
    trainer = PruningTrainer(toy_cfg("yolo_darknet", tmp_path, "SOLVER.CHECKPOINT_PERIOD", 100))
    calls = []
    monkeypatch.setattr(trainer.guiding, "gather", lambda: calls.append(f"gather {trainer.iter}"))
    monkeypatch.setattr(trainer.checkpointer, "save", calls.append)
    trainer.register_hooks([Signalling(2)])
    trainer._hooks.insert(0, trainer._hooks.pop())  # before the one that stops the run
    with pytest.raises(Stopped):
        trainer.train()
    assert calls[-2:] == ["gather 2", "model_0000002"]
    assert not any("gather 1" in call for call in calls)
