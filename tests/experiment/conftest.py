from functools import partial

import pytest

from adapruner_det.experiment import memory, running
from tests.experiment import toy


@pytest.fixture(autouse=True)
def memory_is_kept(request, monkeypatch):
    """Looking for what can be freed takes longer than a cell of the toy does."""
    if request.module.__name__.rpartition(".")[2] != "test_memory":
        monkeypatch.setattr(memory, "_give_back", lambda: None)


@pytest.fixture(autouse=True)
def toy_methods():
    """The toy's methods, in this test alone: others run over all methods that there are."""
    toy.register_methods()
    yield
    toy.forget_methods()


@pytest.fixture
def make(tmp_path):
    """Makes the toy, as a grid does in each of its processes."""
    return partial(toy.make_toy, tmp_path)


@pytest.fixture
def root(tmp_path):
    """The folder of a grid."""
    return tmp_path / "grid"


@pytest.fixture
def no_endless_loop(monkeypatch):
    """What is tried for ever fails; after so many cells nothing is left."""
    monkeypatch.setattr(running, "_run_next", toy.limited(running._run_next, 60))
