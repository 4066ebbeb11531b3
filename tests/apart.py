"""What the tests of the neutral modules share: processes of their own, and a limit to waiting."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
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


def signal_job(signum, others):
    """Signal this process and those that it has started but ``others``, as a cluster does.

    It comes from another process: what a parent sends is another matter. Ends once a worker that
    it has ended has been seen to.
    """
    workers = [child.pid for child in multiprocessing.active_children() if child not in others]
    words = [f"-{int(signum)}", *map(str, [*workers, os.getpid()])]
    subprocess.run(["kill", *words], check=True)
    time.sleep(0.5 if workers else 0)


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
