"""What a detector's first step would show, known before it."""

from __future__ import annotations

import copy
import logging
from typing import Any

import numpy as np
import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import nn

from ...errors import one_line
from ...random_states import random_states_kept
from ..data.loader import Mapper
from ..data.samples import SampleIndex
from ..per_image import APART, LossSource
from ..per_image.serial import names_of_scalars

logger = logging.getLogger(__name__)


def two_images(index: SampleIndex, mapper: Mapper) -> list[dict[str, Any]]:
    """Two samples as the detector takes them, with objects where there are any."""
    places = np.argsort(index.samples.sizes == 0, kind="stable")[:2]
    return [mapper(index.dicts[int(place)]) for place in places]


def settle(source: LossSource, detector: nn.Module, index: SampleIndex, mapper: Mapper) -> None:
    """Let ``source`` go serial now where it would in its first step.

    That is where the detector's own forward adds a loss of the whole batch. The mask of a run is
    made for what the detector shows, and a serial one shows nothing. A copy is asked, and random
    states are put back: a run that does not go serial is the run that it was. Where the copy fails
    the first step is left to say why. A collective call where several processes train.

    Args:
        source: of the run.
        detector: whose losses it gives.
        index: of the samples.
        mapper: of the training.
    """
    if source.way != APART:
        return
    found = comm.all_gather(_scalars(detector, index, mapper))
    if names := next(filter(None, found), ""):
        source.go_serial(f"{names} is one value for the whole batch")


def _scalars(detector: nn.Module, index: SampleIndex, mapper: Mapper) -> str:
    """The keys of the losses that are one value for a whole batch; empty where none is."""
    try:
        with random_states_kept(), EventStorage(0), torch.no_grad():
            batch = two_images(index, copy.deepcopy(mapper))
            losses = copy.deepcopy(detector).train()(batch)
        return names_of_scalars(losses)
    except Exception as error:  # of a detector and a mapper that may be anybody's
        logger.debug("%s: %s", type(error).__name__, one_line(error))
        return ""
