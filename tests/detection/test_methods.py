"""Every method that a detector serves, on one small training of one."""

from importlib.util import find_spec

import numpy as np
import pytest

from adapruner_det.detection.task import make_task
from adapruner_det.experiment.evidence import TaskEvidence, record, save_thumbnails
from adapruner_det.methods import get_method, method_names, select
from adapruner_det.methods.base import BOX_FEATURES, BOXES, THUMBNAILS
from tests.detection.toy import options_of, process_restored, register, squares

#: What a detector cannot give: it is classification's.
CLASSIFICATION = {
    *("aum", "aum-clean", "ccs", "cg-score", "d2", "el2n", "forgetting", "glister", "grand"),
    *("herding", "moderate", "tdds"),
}
#: They train anew; their own tests do so on a detector.
TRAINS = {"adapruner"}
SERVED = [
    name
    for name in method_names()
    if name not in CLASSIFICATION | TRAINS
    and get_method(name).choose.__module__.startswith("adapruner_det.")
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A task, its folder of evidence, and what is in it."""
    folder = tmp_path_factory.mktemp("detector")
    with process_restored():
        dicts = squares(folder / "images", 12)
        for one in dicts[::3]:
            one["annotations"].append(
                {"bbox": [2, 3, 12, 9], "bbox_mode": 0, "category_id": int(one["height"] > 48)}
            )
        dicts[7]["annotations"] = []
        options = [*options_of("yolo_darknet", folder), "DATASETS.TRAIN", (register("m", dicts),)]
        task = make_task("", [*options, "DATALOADER.FILTER_EMPTY_ANNOTATIONS", False], tested=False)
        task._evaluate = lambda cfg, model: 0.0  # there is nothing to test on
        needs = frozenset().union(*(get_method(name).needs for name in SERVED))
        record(task, 0, folder, needs - {BOXES, THUMBNAILS})
        save_thumbnails(task.samples, folder)
        yield task, folder, needs - {BOXES}


@pytest.mark.parametrize("name", SERVED)
def test_it_selects_of_a_trained_detector(name, trained):
    if name == "cleanlab" and not find_spec("cleanlab"):
        pytest.skip("no cleanlab")
    task, folder, needs = trained
    evidence = TaskEvidence(task, 0, folder, places=dict.fromkeys(needs, folder))
    run = select(name, evidence, 0.5)
    assert run.num_kept == 6
    for column, values in run.columns.items():
        if values.dtype.kind == "f":
            assert not np.isnan(values).any(), column


def test_there_is_a_feature_of_each_box_and_a_signal_of_each_in_each_epoch(trained):
    task, folder, needs = trained
    evidence = TaskEvidence(task, 0, folder, places=dict.fromkeys(needs, folder))
    assert task.samples.sizes.sum() == 15
    features = evidence.features(BOX_FEATURES)
    assert features.shape[0] == 15 and len(np.unique(features, axis=0)) == 15
    iou = evidence.signal("box_iou")
    assert iou.shape[1:] == (12, 2)
    seen = np.isfinite(iou).sum(axis=2)
    assert set(seen.ravel()) <= {0, 1, 2} and (seen <= task.samples.sizes).all()
    assert (seen > 0).mean() > 0.5


def test_what_a_detector_cannot_give_is_all_that_is_left_out(trained):
    from adapruner_det.experiment.evidence import offers

    task, *_ = trained
    lacking = {n for n in method_names() if get_method(n).needs - offers(task)}
    one_class = {n for n in method_names() if get_method(n).one_class}
    assert (lacking | one_class) & {*SERVED} == set()
