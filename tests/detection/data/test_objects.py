import numpy as np
import pytest
from detectron2.structures import BoxMode

from adapruner_det.detection.data.objects import objects_of


def annotation(category, box, mode=BoxMode.XYXY_ABS, **rest):
    return {"category_id": category, "bbox": box, "bbox_mode": mode, **rest}


DICTS = [
    {"width": 40, "height": 20, "annotations": [
        annotation(2, [1, 2, 11, 6]), annotation(0, [1, 2, 10, 4], BoxMode.XYWH_ABS),
    ]},
    {"width": 10, "height": 30, "annotations": []},
    {"width": 10, "height": 30, "annotations": [
        annotation(1, [0, 0, 9, 9], iscrowd=1), annotation(1, np.array([3.0, 4, 5, 6]), iscrowd=0),
    ]},
    {"width": 10, "height": 30},
]  # fmt: skip


def test_boxes_of_either_form_are_corners_and_crowds_are_none():
    found = objects_of(DICTS)
    assert found.sample.tolist() == [0, 0, 2] and found.classes.tolist() == [2, 0, 1]
    assert found.boxes.tolist() == [[1, 2, 11, 6], [1, 2, 11, 6], [3, 4, 5, 6]]
    assert found.image_sizes.tolist() == [[40, 20], [10, 30], [10, 30], [10, 30]]


@pytest.mark.parametrize("missing", ["width", "height"])
def test_without_sizes_of_images_there_are_no_boxes(missing):
    dicts = [*DICTS[:2], {k: v for k, v in DICTS[2].items() if k != missing}]
    found = objects_of(dicts)
    assert found.boxes is None and found.image_sizes is None and len(found.classes) == 3


def test_of_nothing_there_is_nothing():
    assert objects_of([]).boxes.shape == (0, 4) and objects_of(
        [{"width": 1, "height": 1}]
    ).boxes.shape == (0, 4)
