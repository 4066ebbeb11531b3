import numpy as np

from adapruner_det.export.losses import Losses
from tests.export.examples import record


def test_each_kind_is_said_once_with_its_count_and_the_first(tmp_path, caplog):
    losses = Losses("yolo")
    plain = record(tmp_path, "toy/a")
    crowds = record(
        tmp_path, "toy/b", [(1, 1, 9, 9)] * 3, [0, 1, 2], flags=[(1, 0), (0, 1), (1, 0)]
    )
    spoilt = record(tmp_path, "toy/c", unusable=2)
    extras = [{"segmentation": [[1, 1, 9, 1, 9, 9]]}, {"segmentation": [], "area": 3}]
    masked = record(tmp_path, "toy/d", [(1, 1, 9, 9)] * 2, extras=extras)
    assert losses.without_crowds(plain) == [0]
    assert losses.without_crowds(crowds) == [1]
    assert losses.without_crowds(spoilt) == [0]
    assert losses.without_crowds(masked) == [0, 1]
    losses.without_crowds(crowds)
    losses.warn()
    lines = [line.getMessage() for line in caplog.records]
    assert sorted(lines) == [
        "yolo: 1 box(es) lose their mask or their keypoints, the first in toy/d",
        "yolo: 2 box(es) with which nothing can be trained are left out, the first in toy/c",
        "yolo: 4 box(es) around crowds are left out, the first in toy/b",
    ]


def test_nothing_lost_is_nothing_said(tmp_path, caplog):
    losses = Losses("coco")
    losses.unusable(record(tmp_path, "toy/a", np.zeros((0, 4))))
    losses.warn()
    assert caplog.text == "" and not losses.counts
