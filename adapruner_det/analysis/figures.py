"""Figures of embeddings, readable in colour, with any kind of colour vision, and in grey.

Classes differ in lightness, in marker and by their name, which stands in their midst.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from ..files import write_whole
from .study import ALL, KEPT, OTHER, RANDOM, Study

MARKERS = "osD^vP<X>*"
MOST_COLUMNS = 3
MOST_NAMES = 30  # more would cover each other

_TITLES = {
    ALL: "all {n:,} samples",
    KEPT: "the {n:,} kept, embedded anew",
    RANDOM: "{n:,} drawn at random, embedded anew",
    OTHER: "all {n:,}, by the model trained on the kept",
}


def draw(found: Study) -> Figure:
    """One panel a part of the first seed, the second of which shows what of all was dropped."""
    parts = list(found.embeddings)
    count = len(parts) + 1
    rows = -(-count // MOST_COLUMNS)
    columns = -(-count // rows)
    figure = Figure(figsize=(4.6 * columns, 4.9 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    panels = iter(zip("abcdefgh", axes, strict=False))
    for part in parts:
        letter, panel = next(panels)
        chosen, points = found.rows[part][0], found.embeddings[part][0]
        _classes(panel, points, found.labels[chosen], found.class_names)
        _frame(panel, f"({letter}) {_TITLES[part].format(n=len(chosen))}")
        if part == ALL:
            letter, panel = next(panels)
            stays = np.isin(chosen, found.rows[KEPT][0])
            _dropped(panel, points, stays)
            dropped = f"{np.count_nonzero(~stays):,} dropped, black ×, on the kept, grey"
            _frame(panel, f"({letter}) as (a): {dropped}")
    for _, panel in panels:
        panel.remove()
    return figure


def save(figure: Figure, path: str | Path) -> Path:
    """Write a PNG or, with its points as one image, an SVG: by the suffix of ``path``."""
    kind = Path(path).suffix[1:]
    # Neither a date nor random ids: the same figure is the same file.
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "adapruner"}):
        return write_whole(
            path, lambda file: figure.savefig(file, format=kind, dpi=150, metadata=metadata)
        )


def _classes(axes: Axes, points: np.ndarray, labels: np.ndarray, names: Any) -> None:
    classes = np.unique(labels)
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.88, len(classes)))
    size = _size(len(points))
    for place, (own, shade) in enumerate(zip(classes, shades, strict=True)):
        marker = MARKERS[place % len(MARKERS)]
        x, y = points[labels == own].T
        # Snapped to pixels, the arms of a small + would have no width.
        axes.scatter(
            x, y, s=size, color=shade, marker=marker, linewidths=0, rasterized=True, snap=False
        )
    if len(classes) > MOST_NAMES:
        return
    for own in classes:
        x, y = np.median(points[labels == own], axis=0)
        name = str(names[own]) if own < len(names) else f"class {own}"
        text = axes.text(
            x, y, name[:20], ha="center", va="center", fontsize=11, weight="bold", parse_math=False
        )
        text.set_path_effects([withStroke(linewidth=3, foreground="white")])


def _dropped(axes: Axes, points: np.ndarray, stays: np.ndarray) -> None:
    size = _size(len(points))
    x, y = points[stays].T
    axes.scatter(x, y, s=size, color="0.8", marker="o", linewidths=0, rasterized=True)
    x, y = points[~stays].T
    axes.scatter(x, y, s=2 * size, color="black", marker="x", linewidths=0.7, rasterized=True)


def _frame(axes: Axes, title: str) -> None:
    axes.set_title(title, fontsize=11, loc="left")
    axes.set_xlabel("t-SNE dimension 1 (no unit)")
    axes.set_ylabel("t-SNE dimension 2 (no unit)")
    axes.set_aspect("equal", adjustable="datalim")
    axes.tick_params(labelsize=8)


def _size(count: int) -> float:
    """The area of a marker in square points: the more points, the smaller."""
    return float(np.clip(20_000 / count, 0.6, 14))
