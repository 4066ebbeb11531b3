import logging

import pytest


@pytest.fixture(autouse=True)
def root_logger():
    """What ``basicConfig`` of a tool sets up ends with its test."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    root.handlers[:] = [h for h in before if type(h).__module__.startswith("_pytest")]
    yield
    root.handlers[:] = before
    root.setLevel(level)
    logging.captureWarnings(False)
