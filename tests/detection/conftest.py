import pytest

from adapruner_det.detection.task import make_task
from tests.detection.task_toy import options
from tests.detection.toy import process_restored, register, squares, write_voc_folder


@pytest.fixture(autouse=True)
def alone():
    with process_restored():
        yield


@pytest.fixture
def toy(tmp_path):
    """The data set ``toy``: its ten dicts."""
    dicts = squares(tmp_path / "images")
    register("toy", dicts)
    return dicts


@pytest.fixture
def voc(tmp_path):
    """A small folder in the VOC layout."""
    return write_voc_folder(tmp_path / "voc", train=10, test=4)


@pytest.fixture
def task(voc):
    """The task on it."""
    return make_task("", options(voc))
