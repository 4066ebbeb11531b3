"""What comes of grids, as files: tables, pictures, and what the selections changed in the data."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tabulate import tabulate

from ..analysis.figures import save
from ..enough import too_few_steps
from ..errors import DataError
from ..files import write_text
from ..methods.recorder import LOSS
from ..methods.shared import mean_of_visits
from ..report.changes import Changes, Objects, changes
from ..selection import Selection
from .board import SELECTION, Board, lost_classes_of, rows_of, selections_of
from .cells import Cell, write_json
from .figures import draw
from .origin import mixed_lines
from .tables import Row, Setting, report, settings_of
from .task import Task
from .transfer import chooser_of

logger = logging.getLogger(__name__)

CELLS, TABLE, CHANGES = "cells.json", "table.md", "changes.md"

#: What a column is called.
SIDE = "median side, % of the image's"

#: Class names in a line, of those of which least is kept.
SHOWN = 3

Named = tuple[str, Board, Task]


class Change(NamedTuple):
    """What one selection changed."""

    method: str
    keep_ratio: float
    seed: int
    changes: Changes


def write_results(root: Path, parts: Sequence[Named]) -> str:
    """Write all that there is to say of grids into the folder that they share.

    Those are ``cells.json``, ``table.md``, ``changes.md`` and ``changes.json``, and a picture for
    each task and budget.

    Args:
        root: the folder.
        parts: of each task its name, its cells, and itself; one alone needs no name.

    Returns:
        The text of ``table.md``.
    """
    write_json(root / CELLS, _plain_cells(parts))
    found = {name: changes_of(board, task) for name, board, task in parts}
    write_json(
        (root / CHANGES).with_suffix(".json"),
        [
            {"task": name, **own._asdict(), "changes": own.changes.plain()}
            for name, changed in found.items()
            for own in changed
        ],
    )
    several = len(parts) > 1
    write_text(root / TABLE, "\n".join(_section(root, part, several) for part in parts))
    pages = [changes_report(found[name], task, name * several) for name, _, task in parts]
    write_text(root / CHANGES, "\n".join(pages))
    return (root / TABLE).read_text(encoding="utf-8")


def _section(root: Path, part: Named, several: bool) -> str:
    """The tables of one task; its pictures are written beside them."""
    name, board, task = part
    rows = rows_of(board)
    results = [found for cell in board.cells if (found := board.result(cell)) is not None]
    title = f"{name}: {task.title}" if several else task.title
    lines = [report(rows, title, task.metric, len(board.cells), len(results))]
    short = [] if task.pretrained else short_lines(rows)
    if warnings := [*lost_lines(board), *short, *mixed_lines(results)]:
        lines += [*(f"- Warning: {line}" for line in warnings), ""]
    for budget in sorted({setting.budget for setting in settings_of(rows)}):
        place = f"accuracy-{f'{name}-' if several else ''}{budget}.png"
        save(draw(rows, title, task.metric, budget), root / place)
        lines += [f"![{task.metric} by keep ratio, equal {budget}]({place})", ""]
    return "\n".join(lines)


def short_lines(rows: Sequence[Row]) -> list[str]:
    """One line for each setting at which a part was trained on for too few steps to be judged."""
    found = {}
    for row in rows:
        known = row.steps > 0 and row.method != "full" and not row.dynamic
        if known and (line := too_few_steps(row.steps)):
            found[Setting(row.keep_ratio, row.budget)] = line
    return [f"{own}: {found[own]}" for own in settings_of(rows) if own in found]


def lost_lines(board: Board) -> list[str]:
    """One line for each method and keep ratio that leaves a class without an image."""
    found: dict[tuple[str, str], list[int]] = {}
    for cell in _chosen(board):
        try:
            lines = lost_classes_of(cell, board)
        except DataError as error:  # of a file that was damaged since
            logger.warning("%s", error)
            continue
        for line in lines:
            found.setdefault((cell.label, line), []).append(cell.seed)
    return [f"{line} (seed {', '.join(map(str, seeds))})" for (_, line), seeds in found.items()]


def changes_of(board: Board, task: Task) -> list[Change]:
    """What each selection that is done changed, at every ratio that it is trained on."""
    chooser = chooser_of(task)
    objects = getattr(chooser, "objects", None) or Objects.of_classes(task.samples.classes)
    losses = _losses(board)
    found = []
    for cell in _chosen(board):
        try:
            cuts = selections_of(cell, board)
        except DataError as error:
            logger.warning("%s", error)
            continue
        for ratio, cut in cuts:
            own = changes(
                objects,
                cut.columns["kept"],
                task.samples.class_names,
                planted=getattr(chooser, "planted", None),
                losses=losses.get(cell.seed),
                why=cut.columns.get("why"),
            )
            found.append(Change(cell.label, ratio, cell.seed, own))
    return found


def changes_report(found: Sequence[Change], task: Task, name: str = "") -> str:
    """A page in Markdown: by keep ratio a line a method, then the classes of each."""
    title = f"{name}: {task.title}" if name else task.title
    lines = [
        f"# What changed in the data of {title}",
        "",
        "Means over the seeds, in percent where nothing else is said. A third is of all objects by "
        "the side of the box relative to the image's, or of all images by their objects; tall is "
        "below 2:3, wide above 3:2. Hard, right are the tenth with the highest loss of the samples "
        "in which nothing is planted; times chance is the share of the dropped by that of all. By "
        "class: the kept share of the images with it, and after a stroke of its objects where "
        "those are more.",
    ]
    for ratio in sorted({own.keep_ratio for own in found}, reverse=True):
        own = [change for change in found if change.keep_ratio == ratio]
        lines += ["", f"## {100 * ratio:g}% kept", "", _changes_table(own), ""]
        if own[0].changes.dropped:
            lines += [planted_table(own), ""]
        lines.append(_class_table(own))
    return "\n".join(lines) + "\n"


def _changes_table(found: Sequence[Change]) -> str:
    lines = []
    if (full := found[0].changes).median_side is not None:
        figures = {"objects an image": full.per_image[0], SIDE: 100 * full.median_side[0]}
        lines.append(
            {"method": "full", "seeds": "", **{name: f"{own:.2f}" for name, own in figures.items()}}
        )
    for method, own in _by_method(found).items():
        line = {"method": method, "seeds": str(len(own))}
        names = list(own[0].kept)
        boxes = own[0].median_side is not None
        if boxes:
            line["objects an image"] = _mean([c.per_image[1] for c in own], 1.0, 2)
        if boxes or names != ["all"]:
            line |= {f"{n} kept": _mean([c.kept[n] for c in own]) for n in names}
        if boxes:
            sides = [c.median_side[1] for c in own if c.median_side]
            line[SIDE] = _mean(sides, digits=2)
        line["least kept classes"] = _least(own)
        lines.append(line)
    return tabulate(lines, "keys", tablefmt="github", disable_numparse=True)


def planted_table(found: Sequence[Change]) -> str:
    """A line for each method and what is planted: how much of it went, and why.

    Args:
        found: of one task and keep ratio.
    """
    lines = []
    for method, seeds in _by_method(found).items():
        for name in dict.fromkeys(name for c in seeds for name in c.dropped):
            # Of a grid that is not complete, not every seed tells yet which samples are hard.
            own = [c for c in seeds if name in c.dropped]
            share, chance = ([c.dropped[name][i] for c in own] for i in (0, 1))
            times = [s / c if c else float("nan") for s, c in zip(share, chance, strict=True)]
            reasons: Counter[str] = Counter()
            for c in own:
                reasons.update(c.reasons.get(name, {}))
            lines.append(
                {
                    "method": method,
                    "planted": name,
                    "% of all": _mean(chance),
                    "% of the dropped": _mean(share),
                    "times chance": _mean(times, 1.0, 2),
                    "each seed": " ".join(_mean([t], 1.0, 2) for t in times),
                    "why": ", ".join(
                        f"{why} {100 * n / reasons.total():.0f}%"
                        for why, n in reasons.most_common()
                    ),
                }
            )
    return tabulate(lines, "keys", tablefmt="github", disable_numparse=True)


def _class_table(found: Sequence[Change]) -> str:
    """Class by class: images and objects of all samples, and the share of each that is kept."""
    methods = _by_method(found)
    some = found[0].changes
    lines = []
    for name, (images, _) in some.images.items():
        objects = some.objects[name][0]
        line = [name, str(images), str(objects)]
        for own in methods.values():
            shares = [c.images[name][1] / images for c in own]
            more = [c.objects[name][1] / objects for c in own]
            line.append(_mean(shares) + ("" if images == objects else f" / {_mean(more)}"))
        lines.append(line)
    head = ["class", "images", "objects", *methods]
    return tabulate(lines, head, tablefmt="github", disable_numparse=True)


def _least(own: Sequence[Changes]) -> str:
    shares = {
        name: float(np.mean([c.images[name][1] / total for c in own]))
        for name, (total, _) in own[0].images.items()
    }
    order = sorted(shares, key=lambda name: shares[name])[:SHOWN]
    return ", ".join(f"{name} {100 * shares[name]:.1f}" for name in order)


def _by_method(found: Sequence[Change]) -> dict[str, list[Changes]]:
    methods: dict[str, list[Changes]] = {}
    for own in found:
        methods.setdefault(own.method, []).append(own.changes)
    return methods


def _mean(values: Sequence[float], scale: float = 100.0, digits: int = 1) -> str:
    known = [value for value in values if not np.isnan(value)]
    return f"{scale * np.mean(known):.{digits}f}" if known else ""


def _chosen(board: Board) -> list[Cell]:
    return [c for c in board.cells if c.kind == "select" and board.result(c) is not None]


def _losses(board: Board) -> dict[int, np.ndarray]:
    """Seed → (N,) the mean loss of each sample while all were trained on: of the recorded training
    where that kept losses, else of the first method that tells its own."""
    found: dict[int, np.ndarray] = {}
    damaged = (DataError, OSError, ValueError, EOFError)  # a file, since it was written
    for cell in board.cells:
        if cell.kind == "record" and LOSS in cell.signals and board.result(cell) is not None:
            with suppress(*damaged):
                losses = np.load(cell.folder(board.root) / f"{LOSS}.npy", allow_pickle=False)
                found[cell.seed] = mean_of_visits(losses)
    for cell in _chosen(board):
        if cell.seed not in found:
            with suppress(*damaged):
                columns = Selection.load(cell.folder(board.root) / SELECTION).columns
                if "mean_loss" in columns:  # which is 0 of what was never seen
                    seen = columns.get("times_seen", np.ones(1)) > 0
                    found[cell.seed] = np.where(seen, columns["mean_loss"], np.nan)
    return found


def _plain_cells(parts: Sequence[Named]) -> list[dict[str, Any]]:
    """Each cell that is done, once, with the names of the tasks that it is of."""
    found: dict[str, dict[str, Any]] = {}
    for name, board, _ in parts:
        for cell in board.cells:
            result = board.result(cell)
            if result is not None:
                own = {"name": cell.name, "tasks": [], "config": cell.config, "result": result}
                found.setdefault(cell.name, own)["tasks"].append(name)
    return list(found.values())
