"""Figures of a comparison, in the manner of the paper's Figure 2: the metric by keep ratio.

They can be read in colour, with any kind of colour vision, and in grey: lines differ in marker and
in dashes besides. Many methods are spread over several panels, each with random and all samples.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from .tables import RANDOM, Row, Setting, by_seed, gap, methods_of, settings_of

#: Methods of one panel, besides random.
MOST = 5

#: Characters of the title above each column of panels.
TITLE_WIDTH = 60

#: Of two seeds the interval is 13 times as wide as their spread, and would hide all else.
FEWEST_SEEDS = 3

#: Points of the keep ratio that a panel shows where there is one ratio.
WIDTH = 10.0

#: Colours of Okabe and Ito, told apart with any colour vision; dashes in points, (on, off, ...).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v")
DASHES = ((), (6, 2), (1.5, 1.5), (6, 2, 1.5, 2), (10, 3))


class Curve(NamedTuple):
    """A method at one budget.

    Attributes:
        ratios: keep ratios in percent, rising.
        means: of the metric over the seeds.
        halves: of the 95% intervals of the means; NaN below :data:`FEWEST_SEEDS`.
    """

    ratios: np.ndarray
    means: np.ndarray
    halves: np.ndarray


def curve(rows: Sequence[Row], method: str, budget: str) -> Curve:
    """What there is of a method at a budget."""
    points = []
    for ratio in sorted({s.keep_ratio for s in settings_of(rows) if s.budget == budget}):
        found = by_seed(rows, method, Setting(ratio, budget))
        if found:
            points.append((100 * ratio, *_mean([row.value for row in found.values()])))
    columns = np.array(points).reshape(-1, 3).T
    return Curve(*columns)


def _mean(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half of its interval; NaN of too few."""
    own = gap(values)
    return own.mean, own.half if len(values) >= FEWEST_SEEDS else float("nan")


def draw(rows: Sequence[Row], title: str, metric: str, budget: str) -> Figure:
    """The metric against the keep ratio, a line a method with the 95% interval of its mean.

    The dashed black line is of the training on all samples, in a band of its interval. A point that
    is far below random's is drawn as an arrow at the lower edge, with its value.
    """
    curves = {name: curve(rows, name, budget) for name in methods_of(rows)}
    curves = {name: own for name, own in curves.items() if len(own.means)}
    others = [name for name in curves if name != RANDOM]
    count = max(-(-len(others) // MOST), 1)
    parts = [list(part) for part in np.array_split(np.array(others, dtype=object), count)]
    columns = min(count, 3)
    lines = -(-count // columns)
    figure = Figure(figsize=(5.4 * columns + 0.4, 5.0 * lines + 0.5), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
    full = [row.value for row in by_seed(rows, "full", Setting(1.0, "epochs")).values()]
    limits = _limits(curves, full)
    for panel, names in zip(panels, parts, strict=False):
        _full(panel, full)
        if RANDOM in curves:
            _line(panel, RANDOM, curves[RANDOM], "0.35", "X", (3, 3), 0, limits[0])
        for place, name in enumerate(names):
            style = (COLOURS[place], MARKERS[place], DASHES[place])
            shift = place - len(names) // 2 + 0.5  # never 0, where random's interval is
            _line(panel, name, curves[name], *style, shift, limits[0])
        panel.set_ylim(*limits)
        panel.grid(color="0.9", linewidth=0.6)
        panel.set_axisbelow(True)
        if rows:
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.13), "ncols": 2}
            panel.legend(fontsize=8, handlelength=4, frameon=False, **below)  # over no point
    ratios = sorted({ratio for own in curves.values() for ratio in own.ratios})
    panels[0].set_xticks(ratios)
    if len(ratios) == 1:  # or methods beside each other would fill the panel
        panels[0].set_xlim(ratios[0] - WIDTH / 2, ratios[0] + WIDTH / 2)
    for panel in panels[max(count - columns, 0) : count]:  # where there is no panel below
        panel.tick_params(labelbottom=True)
        panel.set_xlabel("kept, % of the training images")
    for panel in panels[count:]:
        panel.remove()
    words = f"{title}: trained for equal {budget}"
    figure.suptitle(textwrap.fill(words, TITLE_WIDTH * columns), fontsize=11)
    figure.supylabel(f"{metric} on the test set, %")
    return figure


def _limits(curves: dict[str, Curve], full: Sequence[float]) -> tuple[float, float]:
    """Of the values that are shown: not farther below random's lowest than it is below the top.

    The intervals of those that are not below it have room too, but on either side no more than
    twice that of the values.
    """
    points = [(m, h) for own in curves.values() for m, h in zip(own.means, own.halves, strict=True)]
    points += [_mean(full)] if full else []
    high, low = max((m for m, _ in points), default=1.0), min((m for m, _ in points), default=0.0)
    drawn = float(curves[RANDOM].means.min()) if RANDOM in curves else low
    low = max(low, drawn - max(high - drawn, 0.5))
    ends = [m + side * np.nan_to_num(h) for m, h in points if m >= drawn for side in (-1.0, 1.0)]
    reach = max(2.0 * (high - low), 1.0)
    low, high = max(min([low, *ends]), low - reach), min(max([high, *ends]), high + reach)
    room = max(0.08 * (high - low), 0.2)
    return low - room, high + room


def _full(panel: Axes, values: Sequence[float]) -> None:
    if not values:
        return
    mean, half = _mean(values)
    panel.axhline(mean, color="black", linestyle=(0, (8, 4)), linewidth=1.2, label="full")
    if half > 0:
        panel.axhspan(mean - half, mean + half, color="0.9", zorder=0)


def _line(
    panel: Axes,
    name: str,
    own: Curve,
    colour: str,
    marker: str,
    dashes: Sequence[float],
    shift: float,
    low: float,
) -> None:
    """One method; intervals are moved aside by ``shift``, or they would lie on each other."""
    width = np.ptp(own.ratios) if len(own.ratios) > 1 else WIDTH
    x = own.ratios + 0.012 * width * shift
    halves = np.where(np.isfinite(own.halves), own.halves, 0.0)
    panel.errorbar(
        x,
        own.means,
        yerr=halves if halves.any() else None,
        color=colour,
        marker=marker,
        markersize=6,
        markeredgecolor="white",
        markeredgewidth=0.6,
        linestyle=(0, tuple(dashes)) if dashes else "-",
        linewidth=1.6,
        elinewidth=0.9,
        capsize=2.5,
        label=name,
    )
    for place, mean in zip(x, own.means, strict=True):
        if mean < low:
            named = [t.xy[0] for t in panel.texts if isinstance(t, Annotation)]
            beside = sum(abs(other - place) < 0.1 * width for other in named)
            panel.annotate(
                f"{mean:.1f}",
                xy=(place, low),
                xytext=(0, 13 + 10 * beside),  # above those of other methods
                textcoords="offset points",
                arrowprops={"arrowstyle": "->", "color": colour},
                color=colour,
                fontsize=8,
                ha="center",
            )
