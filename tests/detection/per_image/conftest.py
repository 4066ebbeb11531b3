import pytest
import torch
from detectron2.utils.events import EventStorage


@pytest.fixture(autouse=True)
def storage():
    """Detectron2's losses log; without an EventStorage they raise."""
    torch.manual_seed(0)
    with EventStorage(0) as storage:
        yield storage
