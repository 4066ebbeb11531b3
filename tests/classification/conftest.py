import pytest
import torch


@pytest.fixture(autouse=True)
def one_thread():
    """Threads waiting for each other take longer than these small layers do, and a run repeats
    bit for bit with one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    """What is known of checked images stays within a test."""
    monkeypatch.setenv("ADAPRUNER_CACHE", str(tmp_path_factory.mktemp("cache")))
