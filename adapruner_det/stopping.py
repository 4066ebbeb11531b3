"""SIGTERM and SIGINT: the step in hand is finished and saved before the process ends."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
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

    @contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Take SIGTERM and SIGINT as requests inside; the second one ends the process at once.

        Signals go to a process's main thread alone; in another one nothing changes.
        """
        before = {}
        try:
            for number in SIGNALS:
                before[number] = signal.signal(number, self._receive)
        except ValueError:
            pass  # not the main thread
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _receive(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        logger.warning(
            "%s: finishing this step and saving; a second signal stops at once.",
            signal.Signals(signum).name,
        )
