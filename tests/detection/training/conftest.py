import pytest

from tests.detection.toy import toy_cfg
from tests.detection.training.runs import prune


@pytest.fixture
def finished(toy, tmp_path):
    """A finished run of YOLOv3-Tiny in tmp_path/done."""
    return prune(toy_cfg("yolo_darknet", tmp_path / "done"))
