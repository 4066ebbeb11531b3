"""What a trained model makes of a task's samples: features and predictions."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, DatasetMapper
from detectron2.modeling import build_model

from adapruner_det.detection.setup import load_config
from adapruner_det.detection.task import MODEL_FILE, make_task
from adapruner_det.errors import DataError
from tests.detection.task_toy import model, options


def trained(task, folder, voc, detector):
    """A model in ``folder`` whose weights are those it began with, and the same by itself."""
    cfg = load_config("", options(voc, detector=detector))
    torch.manual_seed(5)
    own = build_model(cfg).eval()
    folder.mkdir()
    torch.save({"model": own.state_dict()}, folder / MODEL_FILE)
    return own, cfg


@pytest.mark.parametrize("detector", ["yolo_darknet", "faster_rcnn_fpn"])
def test_features_are_those_of_the_backbones_last_map_in_the_order_of_the_index(
    voc, tmp_path, detector
):
    task = make_task("", options(voc, detector=detector))
    own, cfg = trained(task, tmp_path / "run", voc, detector)
    found = task.features(tmp_path / "run")
    mapper = DatasetMapper(cfg, is_train=False)
    by_id = {d["image_id"]: d for d in DatasetCatalog.get("task_train")}
    expected = []
    for key in task.samples.keys:
        with torch.no_grad():
            images = own.preprocess_image([mapper(by_id[key.split("/")[1]])])
            maps = own.backbone(images.tensor)
        smallest = min(maps.values(), key=lambda m: m.shape[-1] * m.shape[-2])
        assert smallest is list(maps.values())[-1]
        expected.append(smallest[0].mean(dim=(1, 2)).numpy())
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-5)
    assert found.dtype == np.float32
    assert len(np.unique(found.round(6), axis=0)) == 10


def test_predictions_are_the_detections_in_pixels_of_the_image(voc, tmp_path):
    more = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
    task = make_task("", options(voc, *more, detector="faster_rcnn_fpn"))
    trained(task, tmp_path / "run", voc, "faster_rcnn_fpn")
    cfg = load_config("", options(voc, *more, detector="faster_rcnn_fpn"))
    own = build_model(cfg).eval()
    own.load_state_dict(model(tmp_path / "run"))
    found = task.predictions(tmp_path / "run")
    assert len(found) == 10
    mapper = DatasetMapper(cfg, is_train=False)
    by_id = {d["image_id"]: d for d in DatasetCatalog.get("task_train")}
    total = 0
    for key, mine in zip(task.samples.keys, found, strict=True):
        sample = by_id[key.split("/")[1]]
        with torch.no_grad():
            (output,) = own([mapper(sample)])
        boxes = output["instances"].pred_boxes.tensor.numpy()
        np.testing.assert_array_equal(mine["boxes"], boxes)
        np.testing.assert_array_equal(mine["scores"], output["instances"].scores.numpy())
        np.testing.assert_array_equal(mine["classes"], output["instances"].pred_classes.numpy())
        assert [mine[name].dtype for name in ("boxes", "scores", "classes")] == [
            np.float32,
            np.float32,
            np.int64,
        ]
        assert mine["boxes"].shape == (len(boxes), 4)
        total += len(boxes)
        if len(boxes):  # the network sees it larger
            assert boxes[:, 2].max() <= sample["width"] and boxes[:, 3].max() <= sample["height"]
    assert total > 0


def test_without_a_trained_model_there_are_no_features(task, tmp_path):
    with pytest.raises(DataError, match=f"no trained model at {tmp_path}/model_final.pth; train"):
        task.features(tmp_path)


def test_a_model_of_another_detector_is_refused(task, voc, tmp_path):
    trained(task, tmp_path / "run", voc, "faster_rcnn_c4")
    with pytest.raises(DataError, match="model_final.pth is of another detector"):
        task.predictions(tmp_path / "run")
