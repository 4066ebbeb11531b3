import sys

import numpy as np
import pytest
import torch

from adapruner_det.experiment import memory as module
from adapruner_det.experiment.memory import MEGABYTE, Peak, peak_memory

linux = pytest.mark.skipif(
    sys.platform != "linux" or not module._reset(), reason="the high-water mark cannot be reset"
)


def fill(megabytes):
    """Have so many resident for a moment."""
    return float(np.ones(megabytes * MEGABYTE, dtype=np.uint8)[::4096].sum())


@linux
def test_what_was_resident_for_a_moment_is_in_the_peak():
    with peak_memory() as peak:
        fill(96)
    assert 90 < peak.added_mb < 160
    assert peak.memory_mb > peak.added_mb + 50  # Python and PyTorch besides


@linux
def test_what_an_earlier_piece_of_work_took_is_not():
    fill(300)
    with peak_memory() as peak:
        fill(8)
    assert peak.added_mb < 100


@linux
def test_an_error_passes_and_the_peak_is_known():
    with pytest.raises(KeyError), peak_memory() as peak:
        fill(96)
        raise KeyError
    assert peak.added_mb > 90


def marks(monkeypatch, *values):
    """A system without /proc, whose mark takes these values."""
    found = iter(values)
    monkeypatch.setattr(module, "_reset", lambda: False)
    monkeypatch.setattr(module, "_of_status", lambda name: None)
    monkeypatch.setattr(module, "_high_water", lambda: next(found))


def test_where_the_mark_cannot_be_reset_it_is_told_only_if_it_rose(monkeypatch):
    marks(monkeypatch, 500.0, 500.0)
    with peak_memory() as peak:
        pass
    assert peak.figures() == {}
    marks(monkeypatch, 500.0, 620.0)
    with peak_memory() as peak:
        pass
    assert peak.figures() == {"memory_mb": 620.0}


def test_a_system_that_says_nothing_is_no_error(monkeypatch):
    marks(monkeypatch, None, None)
    with peak_memory() as peak:
        pass
    assert peak.figures() == {}


def test_without_a_gpu_there_is_no_figure_of_one():
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with peak_memory() as peak:
        pass
    assert "gpu_mb" not in peak.figures()


def test_with_gpus_the_marks_are_reset_and_added_up(monkeypatch):
    reset = []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda gpu: (gpu + 1) * 3 * MEGABYTE)
    with peak_memory() as peak:
        assert reset == [0, 1]
    assert peak.gpu_mb == 9.0


def test_figures_are_those_that_are_known():
    assert Peak(3.0, None, 0.0).figures() == {"memory_mb": 3.0, "gpu_mb": 0.0}


def test_the_other_way_to_ask_agrees(monkeypatch):
    if not module.STATUS.exists():
        pytest.skip("there is one way here")
    own = module._high_water()
    monkeypatch.setattr(module, "STATUS", module.STATUS / "gone")
    assert module._high_water() >= 0.5 * own
