"""A step's losses although some images have none that is finite.

Shape letters: B images of this rank's batch, G of them good: with a finite loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from detectron2.utils import comm
from torch import Tensor

from .forward_state import ForwardState, Moment

Batch = list[dict[str, Any]]

#: (images, what takes the forward back) → the (B,) losses of each loss key.
LossesOf = Callable[[Batch, Callable[[], None]], dict[str, Tensor]]


def finite_losses(
    losses_of: LossesOf, state: ForwardState, batch: Batch
) -> tuple[dict[str, Tensor], list[int], Tensor]:
    """The losses of the images whose losses are finite, as if no others had been there.

    A NaN or infinite loss must not enter the sum even with weight 0: its gradient would still be
    NaN. So the step is computed anew without its image. Where batch norms carry it to all images of
    the batch, the guilty are those that are not finite alone. Where batch norms of several
    processes share statistics no image of this process is good, for the others would wait for ever
    in a second forward.

    Args:
        losses_of: computes the losses of some of the images; it may raise FloatingPointError, as
            Detectron2's RPN does for boxes or scores that are not finite.
        state: what a forward moves besides. It ends as one forward on the good images leaves it,
            and as it was where there are none.
        batch: B dicts, as the detector takes them.

    Returns:
        The (G,) losses of each key; the G places of the good images in the batch; the (B,) totals
        over all keys, detached, NaN or infinite where an image is not good. Without good images the
        losses are the (B,) of the one attempt, and the step counts for nothing.

    Raises:
        FloatingPointError: what ``losses_of`` raised, where no image is good.
    """
    before = state.now()
    losses, total, error = _attempt(losses_of, state, batch, before)
    if torch.isfinite(total).all():
        return losses, list(range(len(batch))), total
    good: list[int] = []
    if comm.get_world_size() == 1 or not state.synchronised():
        for place, image in enumerate(batch):
            own = total[place]
            if not torch.isfinite(own):
                _, own, _ = _attempt(losses_of, state, [image], before)
                state.restore(before)
            if torch.isfinite(own).all():
                good.append(place)
    if 0 < len(good) < len(batch):
        again, part, _ = _attempt(losses_of, state, [batch[i] for i in good], before)
        if torch.isfinite(part).all():
            total = torch.full_like(total, float("nan"), dtype=part.dtype, device=part.device)
            total[good] = part
            return again, good, total
    if error is not None:
        raise error
    return losses, [], total


def _attempt(
    losses_of: LossesOf, state: ForwardState, batch: Batch, before: Moment
) -> tuple[dict[str, Tensor], Tensor, FloatingPointError | None]:
    """The (B,) losses of each key, and their (B,) totals: NaN with the error, if one is raised.

    It starts from ``before``, and goes back there unless all is finite.
    """
    error = None
    try:
        losses = losses_of(batch, lambda: state.restore(before))
        total = torch.stack([value.detach() for value in losses.values()]).sum(dim=0)
    except FloatingPointError as raised:
        losses, total, error = {}, torch.full((len(batch),), float("nan")), raised
    if not torch.isfinite(total).all():
        state.restore(before)
    return losses, total, error
