import pytest
import torch
from detectron2.utils.events import EventStorage


@pytest.fixture(autouse=True)
def storage():
    """Detectron2's losses log; without an EventStorage they raise.

    One thread: on layers this small, threads that wait for each other on a busy machine take
    ten times as long as the work.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with EventStorage(0) as storage:
        yield storage
    torch.set_num_threads(threads)
