import pytest
import torch

from tests.detection.toy import catalogues_restored, register, squares


@pytest.fixture(autouse=True)
def alone():
    """One thread, since threads waiting for each other take longer than these small layers do;
    and no data set left behind for the next test."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with catalogues_restored():
        yield
    torch.set_num_threads(threads)


@pytest.fixture
def toy(tmp_path):
    """The data set ``toy``: its ten dicts."""
    dicts = squares(tmp_path / "images")
    register("toy", dicts)
    return dicts
