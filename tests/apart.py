"""What the tests of the neutral modules share: processes of their own, and a limit to waiting."""

import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "adapruner_det"

#: The package without what it imports, for PyTorch takes seconds and these modules have no need.
PRELUDE = f"""
import sys, types
package = sys.modules["adapruner_det"] = types.ModuleType("adapruner_det")
package.__path__ = [{str(PACKAGE)!r}]
"""


def start(code, *arguments, **options):
    """A process that runs ``code``, which finds its arguments in ``sys.argv``."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
    words = [sys.executable, "-c", PRELUDE + code, *map(str, arguments)]
    return subprocess.Popen(words, **options)


def run(code, *arguments, **options):
    """(exit code, stdout, stderr) of :func:`start`."""
    with start(code, *arguments, **options) as process:
        out, err = process.communicate(timeout=60)
    return process.returncode, out, err


@contextmanager
def within(seconds=10):
    """Fail what takes longer, be it in a call that would wait for ever."""

    def fail(*_):
        pytest.fail(f"it takes more than {seconds} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
