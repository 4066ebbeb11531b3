import pytest

from tests.detection.toy import process_restored, register, squares


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
