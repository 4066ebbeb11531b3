"""Take and restore every generator that training may draw from, so that a run goes on bit for bit.

What is taken is tensors and plain Python, which ``torch.load(weights_only=True)`` reads.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def random_states(**generators: torch.Generator) -> dict[str, Any]:
    """The states of Python's, NumPy's and PyTorch's generators, and of ``generators`` by name.

    A GPU that this process has not used is left alone: nothing was drawn there.
    """
    numpy_state: Any = np.random.get_state()  # noqa: NPY002
    name, keys, position, has_gauss, gauss = numpy_state
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, gauss),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "generators": {name: own.get_state() for name, own in generators.items()},
    }


def restore_random_states(states: Mapping[str, Any], **generators: torch.Generator) -> None:
    """Set what :func:`random_states` gave, or version 0.1, which had no ``generators``.

    Args:
        states: on any device; those of GPUs that are not here are passed over.
        generators: by the names they were taken under.

    Raises:
        KeyError: one of ``generators`` whose state was not taken.
    """
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, gauss = states["numpy"]
    own = name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss
    np.random.set_state(own)  # noqa: NPY002
    torch.set_rng_state(states["torch"].cpu())
    if torch.cuda.is_available():
        for device, state in enumerate(states["cuda"][: torch.cuda.device_count()]):
            torch.cuda.set_rng_state(state.cpu(), device)
    for name, generator in generators.items():
        generator.set_state(states["generators"][name].cpu())


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Put the states back afterwards, whatever is drawn inside and however it ends."""
    states = random_states()
    try:
        yield
    finally:
        restore_random_states(states)
