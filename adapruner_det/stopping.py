"""SIGTERM and SIGINT: the step in hand is finished and saved before the process ends."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from .errors import DataError, one_line

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def how_to_go_on(folder: str) -> str:
    """How a training goes on that was stopped, alone or as a cell of a comparison.

    Args:
        folder: where its checkpoints are.
    """
    return (
        "to go on, give the same command with --resume as its first option; a comparison goes on "
        f"without it. The checkpoint is in {folder}"
    )


class Stopped(SystemExit):
    """A run that a signal ended after it had saved its state; the exit code is 128 + the signal's.

    Args:
        signum: the signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)


class StopRequest:
    """Whether a signal has asked the run to stop: ``signum`` is 0 until then."""

    def __init__(self) -> None:
        self.signum = 0
        self._pid = 0

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Take SIGTERM and SIGINT as requests inside; the second one ends the process at once.

        Signals go to a process's main thread alone; in another one nothing changes. A process that
        is forked inside (a loader's worker) ends on SIGTERM and leaves SIGINT, which a terminal
        sends to all, to this one.
        """
        before = {}
        self._pid = os.getpid()
        try:
            for number in SIGNALS:
                before[number] = signal.signal(number, self._receive)
        except ValueError:
            pass  # not the main thread
        try:
            yield self
        finally:
            for number, handler in before.items():
                # None: one that was not set from Python and cannot be set from here.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    @contextmanager
    def naming_lost_workers(self, setting: str, go_on: str) -> Iterator[None]:
        """End in one line where a loader's worker ends before its time.

        Args:
            setting: what sets their number.
            go_on: how the run goes on.

        Raises:
            Stopped: a signal has asked for the end, which the worker has had too. The step in hand
                may be half done, so that nothing can be saved.
            DataError: nothing has asked for it.
        """
        try:
            yield
        except RuntimeError as error:  # PyTorch's, wherever the loop is when a worker ends
            if not is_lost_worker(error):
                raise
            time.sleep(0 if self.signum else 0.5)  # what is sent to all comes to one after another
            if self.signum:
                logger.warning("Stopped; %s", go_on)
                raise Stopped(self.signum) from error
            raise DataError(
                f"a process that reads images has ended: {one_line(error)}; if memory ran out, "
                f"lower {setting}; {go_on}"
            ) from error

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            _receive_in_child(signum)
            return
        self.signum = signum
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        with suppress(Exception):  # a stream in the midst of a write takes no other
            logger.warning(
                "%s: finishing this step and saving; a second signal stops at once.",
                signal.Signals(signum).name,
            )


def _receive_in_child(signum: int) -> None:
    if signum != signal.SIGINT:
        signal.signal(signum, signal.SIG_DFL)
        os.kill(os.getpid(), signum)


def is_lost_worker(error: BaseException | None) -> bool:
    """Whether it is PyTorch's word for a loader's worker that has ended before its time."""
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")


def heed_the_main_process(worker: int) -> None:
    """Leave it to the main process when a loader's worker ends: a ``worker_init_fn``.

    Ctrl-C in a terminal does not reach it any more, nor does SIGTERM end it where a cluster sends
    that to all processes of a job. Once the main process is gone, PyTorch ends its workers.
    """
    os.setsid()
    if sys.platform == "linux":  # others cannot tell who sent a signal
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        threading.Thread(target=_exit_when_told, daemon=True).start()


def _exit_when_told() -> None:
    while signal.sigwaitinfo([signal.SIGTERM]).si_pid != os.getppid():
        pass
    os._exit(0)
