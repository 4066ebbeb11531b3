import pytest
import torch

from adapruner_det.devices import found_device, lacks_gpu
from adapruner_det.errors import DataError


def test_a_gpu_is_lacked_where_there_is_none(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert lacks_gpu("cuda") and lacks_gpu("cuda:1") and not lacks_gpu("cpu")
    assert found_device("cuda:7", "DEVICE") == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert not lacks_gpu("cuda")


def test_the_numbers_of_the_gpus_that_are_there_are_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for device in ("cpu", "cuda", "cuda:0", "cuda:1"):
        assert found_device(device, "DEVICE") == device
    with pytest.raises(DataError) as caught:
        found_device("cuda:2", "OWN.DEVICE")
    assert str(caught.value) == (
        "OWN.DEVICE is 'cuda:2', which this machine lacks; it has cuda:0, cuda:1"
    )
