"""A page, and a browser to open it in."""

import pytest

from tests.report.browser import Opened, running
from tests.report.examples import HISTORY, predictions, written


@pytest.fixture(scope="module")
def browser():
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The page of ten samples, with predictions and a history."""
    return written(tmp_path_factory.mktemp("page"), predictions=predictions(), history=HISTORY)


@pytest.fixture
def opened(browser, report):
    """The page of ten samples, fresh; it may ask for nothing and complain of nothing."""
    found = Opened(browser, report)
    yield found
    found.close()
