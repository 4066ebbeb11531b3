"""Detection behind experiment.task.Task, with trainings whose outcome is known."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from adapruner_det.detection import task as module
from adapruner_det.detection.evidence import EVIDENCE
from adapruner_det.detection.setup import load_config
from adapruner_det.detection.task import make_task
from adapruner_det.errors import DataError
from adapruner_det.methods.base import BOX_FEATURES, BOXES, FEATURES, PREDICTIONS, THUMBNAILS
from adapruner_det.methods.recorder import Recorder
from adapruner_det.selection import part_of
from adapruner_det.settings import config_digest
from tests.detection.task_toy import YOLO_KEYS, options, part
from tests.detection.test_any_detector import RegisteredCentreNet  # noqa: F401
from tests.detection.toy import write_voc_folder

FCOS = str(Path(__file__).parent / "fcos_toy.py")


# --- what a task says of itself -------------------------------------------------------------------


def test_a_task_says_what_it_is(task):
    assert (task.name, task.metric, task.libraries) == ("detection", "AP50", ("detectron2",))
    assert task.device == "cpu"
    assert task.title == "task_train (10 images), YOLOv3Tiny"
    assert task.epochs == 6  # 15 steps of 4 images
    assert len(task.samples) == 10 and task.samples.class_names == ("blue", "green")
    assert task.samples.image(0).dtype == np.uint8
    assert task.options["WARMUP_EPOCHS"] == 2
    assert task.pretrained is False


def test_what_is_planted_is_what_the_folder_says(voc, task):
    assert task.planted == {}
    ids = (voc / "ImageSets/Main/train.txt").read_text().split()
    kinds = {name: {"kind": "missing_box" if name == ids[2] else "clean"} for name in ids}
    (voc / "truth.json").write_text(json.dumps({"images": kinds}))
    found = make_task("", options(voc)).planted
    assert list(found) == ["missing box"]
    (place,) = np.flatnonzero(found["missing box"])
    assert task.samples.keys[place] == f"task_train/{ids[2]}"


@pytest.mark.parametrize("same", [("SEED", 7), ("ADAPRUNER.KEEP_RATIO", 0.2), ("OUTPUT_DIR", "o")])
def test_another_seed_ratio_or_folder_is_no_other_task(task, voc, same):
    other = make_task("", options(voc, *same))
    assert (other.identity, other.config_digest) == (task.identity, task.config_digest)


@pytest.mark.parametrize("other", [("SOLVER.BASE_LR", 0.5), ("ADAPRUNER.ALPHA_END", 3.0)])
def test_another_configuration_is_another_task(task, voc, other):
    assert make_task("", options(voc, *other)).identity != task.identity


@pytest.mark.parametrize("split", ["train", "test"])
def test_another_box_in_either_set_is_another_task(task, voc, split):
    image = (voc / f"ImageSets/Main/{split}.txt").read_text().split()[0]
    file = voc / "Annotations" / f"{image}.xml"
    text = file.read_text()
    other = text.replace("blue", "green") if "blue" in text else text.replace("green", "blue")
    file.write_text(other)
    again = make_task("", options(voc))
    assert again.config_digest == task.config_digest
    assert again.identity != task.identity


@pytest.mark.parametrize(("names", "said"), [((), "0 data sets .none."), (("a", "b"), "2 data")])
def test_one_set_is_tested_on(voc, names, said):
    with pytest.raises(DataError, match=f"DATASETS.TEST names {said}"):
        make_task("", options(voc, "DATASETS.TEST", names))


def test_what_a_lazy_config_lacks_is_told_by_its_own_field():
    with pytest.raises(DataError, match=r"^dataloader\.test\.dataset\.names names 0 data sets"):
        make_task(FCOS, ["dataloader.test.dataset.names=[]"])


def test_a_detector_of_proposals_is_not_compared_by_ap50(voc):
    with pytest.raises(DataError, match="ProposalNetwork gives no instances, and a comparison"):
        make_task("", options(voc, "MODEL.META_ARCHITECTURE", "ProposalNetwork"))


def test_its_signals_are_losses_and_evidence_which_no_random_number_tells(task):
    torch.manual_seed(3), np.random.seed(3)  # noqa: B018, NPY002
    expected = torch.rand(()), np.random.rand()  # noqa: NPY002
    torch.manual_seed(3), np.random.seed(3)  # noqa: B018, NPY002
    assert task.signals == YOLO_KEYS | EVIDENCE
    assert task.offers == {FEATURES, BOX_FEATURES, BOXES, PREDICTIONS, THUMBNAILS}
    assert (torch.rand(()), np.random.rand()) == expected  # noqa: NPY002


def test_signals_of_other_detectors(voc):
    rcnn = make_task("", options(voc, detector="faster_rcnn_c4"))
    keys = {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}
    assert rcnn.signals == keys | EVIDENCE
    own = ("MODEL.META_ARCHITECTURE", "RegisteredCentreNet", "INPUT.MIN_SIZE_TRAIN", (48,))
    serial = make_task("", options(voc, *own))
    assert serial.signals == {"loss_centre", "loss_class"}
    assert serial.offers == {BOXES, PREDICTIONS, THUMBNAILS}  # it has no backbone


def test_a_lazy_config_is_a_task_too(voc):
    load_config("", options(voc))  # registers its data sets
    names = (
        'dataloader.train.dataset.names="task_train"',
        'dataloader.test.dataset.names="task_test"',
    )
    task = make_task(FCOS, [*names, "dataloader.evaluator=null"])
    assert task.title == "task_train (10 images), fcos_toy"
    assert task.signals == {"loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr"} | EVIDENCE


def test_a_detector_whose_losses_fail_has_no_signals_and_says_so(task, monkeypatch, caplog):
    def broken(*_):
        raise FloatingPointError("not a number")

    monkeypatch.setattr(module.LossSource, "losses", broken)
    assert task.signals == frozenset()
    assert "could not be found out (FloatingPointError: not a number)" in caplog.text


# --- with trainings whose outcome is known --------------------------------------------------------


def worth(images):
    """The AP50 of a stubbed training on these images (im0 to im9): no two sets have the same."""
    return 100 * sum(2 ** int(image[2:]) for image in images) / 1023


class Training:
    """Stands for a trainer; its model is the ids of the images that it was given."""

    log: list = []

    def __init__(self, cfg, index, guide=None):
        self.cfg, self.guide, self.drawn = cfg, guide, np.random.random()  # noqa: NPY002
        dicts = [d for name in cfg.DATASETS.TRAIN for d in DatasetCatalog.get(name)]
        self.model = sorted(d["image_id"] for d in dicts)
        assert self.model == [key.split("/")[1] for key in index.keys]
        self.start_iter, self.max_iter, self.trained = 0, cfg.SOLVER.MAX_ITER, False
        Training.log.append(self)

    def register_hooks(self, hooks):
        self.hooks = hooks

    def resume_or_load(self, resume):
        self.resume = resume

    def train(self):
        self.trained = True

    @classmethod
    def test(cls, cfg, model):
        assert cfg.DATASETS.TEST == ("task_test",)
        return {"bbox": {"AP": -1.0, "AP50": worth(model), "AP75": -2.0}}


@pytest.fixture
def stubbed(task, monkeypatch):
    monkeypatch.setattr(module, "EvaluatingTrainer", Training)
    monkeypatch.setattr(module, "PruningTrainer", Training)
    monkeypatch.setattr(Training, "log", [])
    return task


def test_a_run_is_of_the_images_it_was_given_and_of_the_test_set(stubbed, tmp_path):
    kept = part(stubbed)
    images = [key.split("/")[1] for key in kept.kept_keys]
    runs = [
        stubbed.train(3, tmp_path / "all"),
        stubbed.train(3, tmp_path / "kept", kept=kept),
        stubbed.train(4, tmp_path / "steps", kept=kept, budget="steps"),
    ]
    everything = [f"im{i}" for i in range(10)]
    assert [r.value for r in runs] == pytest.approx([worth(everything), *[worth(images)] * 2])
    assert [(r.metric, r.images, r.seed) for r in runs] == [
        ("AP50", 10, 3),
        ("AP50", 7, 3),
        ("AP50", 7, 4),
    ]
    # 15 steps of 4 images; of seven images as many epochs, or as many steps.
    assert [r.steps for r in runs] == [15, 10, 15]
    assert [r.epochs for r in runs] == pytest.approx([6.0, 40 / 7, 60 / 7])
    assert [t.cfg.SOLVER.STEPS for t in Training.log] == [(9,), (6,), (9,)]
    assert [t.cfg.SEED for t in Training.log] == [3, 3, 4]
    assert [t.cfg.OUTPUT_DIR for t in Training.log] == [
        str(tmp_path / name) for name in ("all", "kept", "steps")
    ]
    assert all(t.cfg.DATASETS.TEST == () for t in Training.log), "it would test within the time"
    assert all(t.trained and t.resume is False for t in Training.log)
    drawn = [t.drawn for t in Training.log]
    assert drawn[0] == drawn[1] != drawn[2], "the generators start from the seed"


def test_a_guide_stands_in_the_training_that_it_is_given_to(stubbed, tmp_path):
    guide = Recorder(10)
    stubbed.train(0, tmp_path / "guided", guide=guide)
    stubbed.train(0, tmp_path / "plain")
    assert [t.guide for t in Training.log] == [guide, None]


def test_a_training_is_the_same_one_whatever_this_process_trained_before(task, tmp_path):
    def digest():
        return config_digest(task._settings(0, tmp_path, part(task, seed=1), "epochs"))

    alone = digest()
    for name in [own for own in DatasetCatalog.list() if own.startswith("task_train@")]:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    task._settings(0, tmp_path, part(task, seed=0), "epochs")
    assert digest() == alone


def test_a_selection_of_another_data_set_is_refused(stubbed, tmp_path):
    other = part(stubbed).with_dataset_name("elsewhere")
    with pytest.raises(DataError, match="the selection is of elsewhere, but the training set is"):
        stubbed.train(0, tmp_path / "run", kept=other)
    assert not (tmp_path / "run").exists()


def test_a_data_set_of_which_a_part_has_nothing_is_left_out_of_training_and_test(
    voc, tmp_path, monkeypatch
):
    other = write_voc_folder(tmp_path / "other", train=3)
    folders = [f"{name}={where}:train" for name, where in (("one", voc), ("two", other))]
    data = ["ADAPRUNER.VOC_FOLDERS", folders, "DATASETS.TRAIN", ("one", "two")]
    task = make_task("", [*options(voc), *data, "DATASETS.TEST", ()], tested=False)
    monkeypatch.setattr(module, "EvaluatingTrainer", Training)
    monkeypatch.setattr(Training, "log", [])
    tests = []

    def test(cfg, model):
        tests.append(cfg.DATASETS.TEST)
        return {"bbox": {"AP50": 50.0}}

    monkeypatch.setattr(Training, "test", test)
    of_one = np.array([key.startswith("one/") for key in task.samples.keys])
    kept = of_one & (np.arange(13) < 7)
    run = task.train(
        0,
        tmp_path / "run",
        kept=part_of(task.samples, kept),
        test=part_of(task.samples, of_one & ~kept),
    )
    (trained,), (tested,) = Training.log[0].cfg.DATASETS.TRAIN, *tests
    assert trained.startswith("one@") and tested.startswith("one@") and trained != tested
    assert (run.images, run.value) == (7, 50.0)


@pytest.mark.parametrize(("found", "value"), [((40.0, float("nan")), 40.0), ((40.0, 60.0), 50.0)])
def test_of_several_test_sets_those_count_that_have_an_object(task, monkeypatch, found, value):
    sets = {f"set{i}": {"bbox": {"AP50": own}} for i, own in enumerate(found)}
    monkeypatch.setattr(module.EvaluatingTrainer, "test", lambda cfg, model: sets)
    cfg = task._cfg.clone()
    cfg.DATASETS.TEST = tuple(sets)
    assert task._evaluate(cfg, None) == value
    sets.update(dict.fromkeys(sets, {"bbox": {"AP50": float("nan")}}))
    assert np.isnan(task._evaluate(cfg, None))


def test_a_selection_of_other_annotations_is_refused(stubbed, voc, tmp_path):
    kept = part(stubbed)
    image = (voc / "ImageSets/Main/train.txt").read_text().split()[0]
    file = voc / "Annotations" / f"{image}.xml"
    file.write_text(file.read_text().replace("<xmin>", "<xmin>1"))
    with pytest.raises(DataError, match=f"task_train/{image}"):
        stubbed.train(0, tmp_path / "run", kept=kept)
