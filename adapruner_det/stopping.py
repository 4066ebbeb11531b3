"""SIGTERM and SIGINT: the step in hand is finished and saved before the process ends."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)


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
