"""How the soft ratio and α went, from what a run of Detectron2 leaves beside its selection."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from ..values import is_number

#: What a run writes a line of JSON into, every few steps.
METRICS = "metrics.json"

_RATIO, _ALPHA, _STEP = "adapruner/soft_ratio", "adapruner/alpha", "iteration"
_MOST_BYTES = 2**27
_MOST_POINTS = 400


@dataclass(frozen=True)
class History:
    """E points of a run.

    Attributes:
        steps: (E,) of training, rising.
        ratios: (E,) soft ratios r, before the final cut.
        alphas: (E,) of the mask.
    """

    steps: tuple[int, ...]
    ratios: tuple[float, ...]
    alphas: tuple[float, ...]


def read_history(folder: Path) -> History | None:
    """The history of the run in ``folder``; None where nothing of it is there.

    A run that was resumed writes some steps twice: the last line of a step counts. Lines that
    cannot be read, such as a torn last one, are left out.
    """
    path = folder / METRICS
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            return None
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    points = {step: (ratio, alpha) for step, ratio, alpha in _points(text)}
    if len(points) < 2:
        return None
    steps = sorted(points)
    stride = -(-len(steps) // _MOST_POINTS)
    steps = steps[::-1][::stride][::-1]  # the last one stays
    ratios, alphas = zip(*(points[step] for step in steps), strict=True)
    return History(tuple(steps), ratios, alphas)


def _points(text: str) -> Iterator[tuple[int, float, float]]:
    for line in text.splitlines():
        try:
            own = json.loads(line)
        except ValueError:
            continue
        if isinstance(own, Mapping) and all(is_number(own.get(n)) for n in (_RATIO, _ALPHA)):
            step = own.get(_STEP)
            if isinstance(step, int) and not isinstance(step, bool) and step >= 0:
                yield step, float(own[_RATIO]), float(own[_ALPHA])
