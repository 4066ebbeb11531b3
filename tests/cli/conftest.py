import logging

import pytest


@pytest.fixture(autouse=True)
def logging_restored():
    """What a tool sets up for its messages ends with its test."""
    root, package = logging.getLogger(), logging.getLogger("adapruner_det")
    before = [(logger, list(logger.handlers), logger.level) for logger in (root, package)]
    root.handlers[:] = [h for h in root.handlers if type(h).__module__.startswith("_pytest")]
    yield
    for logger, handlers, level in before:
        logger.handlers[:] = handlers
        logger.setLevel(level)
    logging.captureWarnings(False)
