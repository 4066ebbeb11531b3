import numpy as np
import pytest
from detectron2.config import get_cfg

from adapruner_det.detection.data.masks import require_masks
from adapruner_det.errors import DataError

POLYGON = [[1.0, 1.0, 5.0, 1.0, 5.0, 5.0]]
RLE = {"size": [8, 10], "counts": "abc"}


def check(*masks, mask_on=True, form="polygon", **annotation):
    cfg = get_cfg()
    cfg.INPUT.MASK_FORMAT, cfg.MODEL.MASK_ON = form, mask_on
    annotations = [{"segmentation": mask, **annotation} for mask in masks]
    sample = {"file_name": "a/im1.png", "height": 8, "width": 10, "annotations": annotations}
    require_masks(cfg, "own", [{"file_name": "im0.png", "annotations": []}, sample])


def test_masks_that_can_be_learnt_are_taken():
    check(POLYGON, POLYGON)
    check(POLYGON, RLE, np.zeros((8, 10), dtype=bool), form="bitmask")
    check(None, mask_on=False)
    check(None, [], iscrowd=1)


@pytest.mark.parametrize(
    ("masks", "form", "message"),
    [
        ([POLYGON, None], "polygon", "without a mask, which MODEL.MASK_ON needs"),
        ([POLYGON, []], "bitmask", "without a mask"),
        ([RLE], "polygon", "no polygon: set INPUT.MASK_FORMAT bitmask in place of polygon"),
        ([{**RLE, "size": [10, 8]}], "bitmask", "mask is of 10 x 8 pixels, the image of 8 x 10"),
        ([np.zeros((9, 10))], "bitmask", "mask is of 9 x 10 pixels"),
        ([{"counts": "abc"}], "bitmask", "whose mask has no size"),
        ([np.zeros(10)], "bitmask", "whose mask has no size"),
    ],
)
def test_others_are_refused_with_file_and_cure(masks, form, message):
    with pytest.raises(DataError, match=f"^own: a/im1.png has an object .*{message}"):
        check(*masks, form=form)
