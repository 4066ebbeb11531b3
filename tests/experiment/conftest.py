import pytest

from tests.experiment import toy


@pytest.fixture(autouse=True)
def toy_methods():
    """The toy's methods, in this test alone: others run over all methods that there are."""
    toy.register_methods()
    yield
    toy.forget_methods()
