"""What tells one run from another, and how a run ends early without loss."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from detectron2.utils import comm

from ...errors import DISK_ERRORS, DataError
from ...methods.base import Guide
from ...settings import config_digest, settings_text
from ...stopping import Stopped, StopRequest, how_to_go_on, is_lost_worker
from ..data.samples import SampleIndex
from .checkpoints import compare_runs

logger = logging.getLogger(__name__)

PRUNE, TRAIN = "prune", "train"


def kind_of(guide: Guide | None) -> str:
    """What a run that prunes is called: with another guide than its own mask it is another."""
    return PRUNE if guide is None else f"{PRUNE} {type(guide).__name__}"


def run_identity(kind: str, cfg: CfgNode, index: SampleIndex) -> dict[str, Any]:
    """What a resumed run has in common with the one it goes on from; ``threads`` should be.

    Args:
        kind: ``train``, or what :func:`kind_of` says.
        cfg: the configuration that the trainer gets.
        index: the samples it trains on.
    """
    return {
        "kind": kind,
        "config": config_digest(cfg),
        "settings": settings_text(cfg),
        "data": index.samples.fingerprint[:16],
        "threads": torch.get_num_threads(),
    }


class RunState(HookBase):
    """Saves the identity of a run with each checkpoint, and refuses another run's.

    Args:
        identity: of this run.
    """

    def __init__(self, identity: dict[str, Any]) -> None:
        self.identity = identity

    def state_dict(self) -> dict[str, Any]:
        return dict(self.identity)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        compare_runs("the checkpoint", state, self.identity)


class RunClock(HookBase):
    """Counts the seconds of training; a run that goes on counts those before as well."""

    def __init__(self) -> None:
        self._before = 0.0
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """So far."""
        return self._before + (0.0 if self._since is None else time.perf_counter() - self._since)

    def before_train(self) -> None:
        self._since = time.perf_counter()

    def after_train(self) -> None:
        self._before, self._since = self.seconds, None

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._before = float(state["seconds"])


class StopHook(HookBase):
    """After a signal: saves once the step is done, and ends the run. It has to stand last.

    Args:
        request: where the signal shows.
        before_save: called by all processes, ahead of the save.
    """

    def __init__(
        self, request: StopRequest, before_save: Callable[[], None] = lambda: None
    ) -> None:
        self._request, self._before_save = request, before_save

    def after_step(self) -> None:
        signum = _largest(self._request.signum)
        done = self.trainer.iter + 1
        if not signum or done >= self.trainer.max_iter:  # the last step saves in any case
            return
        self._before_save()
        self.trainer.checkpointer.save(f"model_{self.trainer.iter:07d}")
        logger.warning(
            "Stopped by %s after %d of %d steps, which are saved; %s",
            signal.Signals(signum).name,
            done,
            self.trainer.max_iter,
            how_to_go_on(self.trainer.checkpointer.save_dir),
        )
        raise Stopped(signum)


def _largest(number: int) -> int:
    """The largest ``number`` of all processes, for a signal may reach one of them alone."""
    if comm.get_world_size() == 1:
        return number
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    numbers = torch.tensor([number], device=device)
    dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
    return int(numbers)


@contextmanager
def without_tracebacks() -> Iterator[None]:
    """Let no traceback be seen of what :func:`errors.reported` says in one line.

    Neither Detectron2's loop logs it, nor does the thread that writes TensorBoard's events print
    it, whose error the loop meets at the next event.
    """
    loop = logging.getLogger("detectron2.engine.train_loop")
    loop.addFilter(_is_fault_of_the_code)
    print_traceback = threading.excepthook

    def said_elsewhere(failed: threading.ExceptHookArgs) -> None:
        error = failed.exc_value
        if not (isinstance(error, OSError) and error.errno in DISK_ERRORS):
            print_traceback(failed)

    threading.excepthook = said_elsewhere
    try:
        yield
    finally:
        loop.removeFilter(_is_fault_of_the_code)
        threading.excepthook = print_traceback


def _is_fault_of_the_code(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, OSError):
        return error.errno not in DISK_ERRORS
    return not (isinstance(error, (DataError, FloatingPointError)) or is_lost_worker(error))
