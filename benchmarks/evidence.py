#!/usr/bin/env python3
"""What the grids in grids/ show of the selections, in one page.

    adapruner compare --grid benchmarks/grids/digits.yaml
    python benchmarks/evidence.py collect digits
    python benchmarks/evidence.py

``collect`` takes the finished cells of a grid, its tables and pictures into results/evidence. Then
results/evidence.md is written from all that was collected: each data set and condition, the paired
differences to random and to all samples, how many cells are below random, and the difference pooled
over all pairs and over the sets' means. Of a grid that is not complete what is done counts. What
several grids have counts once: of trainings made again the mean of the differences.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tabulate import tabulate

from adapruner_det.errors import DataError, reported
from adapruner_det.experiment.cells import label_of
from adapruner_det.experiment.tables import RANDOM, Gap, gap, interval_text

ROOT = Path(__file__).resolve().parents[1]
GRIDS = ROOT / "benchmarks/grids"
RESULTS = ROOT / "benchmarks/results"
FULL = "full"
SHORT = {
    "adapruner": "paper",
    "adapruner[OBJECTIVE=inclusion]": "inclusion",
    "adapruner[DROP=auto,OBJECTIVE=inclusion]": "auto",
}
#: Those of which every cell is shown; the others are in each grid's own tables.
SHOWN = ("inclusion", "paper", "auto", "stratified", "matched-boxes", "balanced-boxes", "every-kth")
ACROSS = (
    "Pooled, the pairs of one set count as independent of each other, which they are not where "
    "sets differ. Here the mean of each set, in each condition, is one value."
)
#: With fewer of them nothing is known of a method.
SEEDS = 3
TITLES = {"accuracy": "Classification", "AP50": "Detection"}


@dataclass(frozen=True)
class Trained:
    """One training of a grid.

    Attributes:
        grid: the name of its folder, which grids of the same data share.
        task: of the grid.
        metric: what ``value`` is, in percent.
        method: what chose the part, ``full`` for all samples.
        keep_ratio, seed, images, value: of the training.
        source: the name of what was collected together, on one processor.
    """

    grid: str
    task: str
    metric: str
    method: str
    keep_ratio: float
    seed: int
    images: int
    value: float
    source: str = ""

    @property
    def setting(self) -> str:
        """The data set and its condition."""
        return self.grid if self.task in ("", self.grid) else f"{self.grid}, {self.task}"


def trained_in(grid: str, cells: Iterable[dict[str, Any]]) -> list[Trained]:
    """The trainings on equal epochs among the cells of a grid, as ``cells.json`` has them."""
    found = []
    for cell in cells:
        config, result = cell["config"], cell["result"]
        if config["kind"] != "train" or config["budget"] != "epochs":
            continue
        # At 100% besides all samples there are the dynamic references, which keep no part.
        if config["keep_ratio"] < 1 or config["method"] == FULL:
            label = label_of(config["method"], config["options"])
            for task in cell["tasks"]:
                found.append(
                    Trained(
                        *(grid, task, result["metric"], SHORT.get(label, label)),
                        *(config["keep_ratio"], config["seed"]),
                        *(result["images"], result["value"]),
                    )
                )
    return found


def collect(name: str) -> None:
    """Take what came of a grid into results/evidence."""
    path = GRIDS / f"{name}.yaml"
    if not path.is_file():
        raise DataError(f"{path} does not exist; name a file of benchmarks/grids without .yaml")
    folder = ROOT / yaml.safe_load(path.read_text())["folder"]
    if not (folder / "cells").is_dir():
        raise DataError(f"{folder}/cells does not exist; run adapruner compare --grid {path} first")
    tabulate_anew(path)
    out = RESULTS / "evidence"
    out.mkdir(parents=True, exist_ok=True)
    rows = trained_in(folder.name, json.loads((folder / "cells.json").read_text()))
    lines = [{k: v for k, v in asdict(row).items() if k != "source"} for row in rows]
    (out / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pages = [(folder / page).read_text() for page in ("table.md", "changes.md")]
    command = f"    adapruner compare --grid benchmarks/grids/{name}.yaml\n"
    pages = [page.replace("](accuracy-", f"]({name}-accuracy-") for page in pages]
    (out / f"{name}.md").write_text("\n".join([command, *pages]))
    for picture in folder.glob("accuracy-*.png"):
        shutil.copy(picture, out / f"{name}-{picture.name}")


def tabulate_anew(path: Path) -> None:
    """Let the folder of a grid have its tables: of those that share one, the last to be run has."""
    command = [sys.executable, "-m", "adapruner_det", "compare", "table", "--grid", str(path)]
    if subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL).returncode:  # it has said why
        raise DataError(f"what came of {path} cannot be tabulated")


def collected() -> list[Trained]:
    """All that was collected."""
    return [
        Trained(**json.loads(line), source=path.stem)
        for path in sorted((RESULTS / "evidence").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def difference(
    rows: Sequence[Trained], method: str, keep: float, other: str = RANDOM
) -> Gap | None:
    """Of a method to another, or to all samples, at one keep ratio, paired by setting and seed.

    Both are of the same source, as another processor gives the same training another value. A pair
    that several sources have counts once, by the mean of its differences.
    """
    than = {
        (r.source, r.setting, r.seed): r.value
        for r in rows
        if r.method == other and (other == FULL or r.keep_ratio == keep)
    }
    found: dict[tuple[str, int], list[float]] = {}
    for row in rows:
        pair = (row.source, row.setting, row.seed)
        if (row.method, row.keep_ratio) == (method, keep) and pair in than:
            found.setdefault((row.setting, row.seed), []).append(row.value - than[pair])
    return gap([float(np.mean(found[pair])) for pair in sorted(found)]) if found else None


def by_setting(rows: Sequence[Trained], method: str, keep: float) -> list[Gap]:
    """The difference to random of each setting that has one."""
    settings = sorted({row.setting for row in rows})
    own = [[row for row in rows if row.setting == setting] for setting in settings]
    return [found for part in own if (found := difference(part, method, keep))]


def page(rows: Sequence[Trained]) -> str:
    """The whole page, in Markdown, without the cells of methods that have too few seeds yet."""
    trainings = {(row.setting, row.method, row.keep_ratio, row.seed) for row in rows}
    seeds = Counter(training[:3] for training in trainings)
    rows = [r for r in rows if seeds[r.setting, r.method, r.keep_ratio] >= SEEDS]
    lines = [
        "# Evidence: what the selections are worth",
        "",
        "    python benchmarks/evidence.py",
        "",
        "Each cell is a data set in a condition at a keep ratio. Differences are paired by seed, "
        "with the 95% interval of Student's t. Every part is trained on for as many epochs as all "
        "samples are. Both sides of a difference are of one file in evidence/, which has what each "
        "grid is, and its other methods: another processor gives a training another value. A seed "
        "that several files have counts once, by the mean of its differences; tables of all "
        "methods are of the file with most of them.",
    ]
    for metric in sorted({row.metric for row in rows}, reverse=True):
        own = [row for row in rows if row.metric == metric]
        lines += ["", f"## {TITLES[metric]}", ""]
        lines += [cell_table(own), "", summary_table(own)]
        lines += ["", ACROSS, "", across_table(own)]
        many = settings_of_many(own)
        if many:
            lines += ["", "### All methods, all of their cells", "", overall_table(own)]
        for setting in many:
            lines += ["", f"### All methods: {setting}", "", methods_table(own, setting)]
    return "\n".join(lines) + "\n"


def cell_table(rows: Sequence[Trained]) -> str:
    """A line a setting and keep ratio."""
    methods = [name for name in SHOWN if any(row.method == name for row in rows)]
    lines = []
    for setting in sorted({row.setting for row in rows}):
        own = [row for row in rows if row.setting == setting]
        for keep in keeps_of(own):
            of_random = [row for row in own if (row.method, row.keep_ratio) == (RANDOM, keep)]
            drawn = [row.value for row in of_random]
            beside = {(row.source, row.seed) for row in of_random}
            full = [r.value for r in own if r.method == FULL and (r.source, r.seed) in beside]
            gaps = {name: difference(own, name, keep) for name in methods}
            paired = [len(found.values) for found in gaps.values() if found]
            paired = paired or [len({row.seed for row in of_random})]
            line = {
                "data": setting,
                "keep %": f"{100 * keep:g}",
                "seeds": " to ".join(map(str, sorted({min(paired), max(paired)}))),
                "all": f"{np.mean(full):.2f}" if full else "",
                RANDOM: f"{np.mean(drawn):.2f}" if drawn else "",
            }
            line |= {f"{name} − random": text(found) for name, found in gaps.items()}
            line["inclusion − all"] = text(difference(own, "inclusion", keep, FULL))
            lines.append(line)
    return tabulate(lines, "keys", tablefmt="github", disable_numparse=True)


def summary_table(rows: Sequence[Trained]) -> str:
    """A line a method: its cells, and its differences pooled over settings and seeds."""
    lines = []
    keeps = keeps_of(rows)
    for name in (name for name in methods_of(rows) if name in SHOWN):
        gaps = [found for keep in keeps for found in by_setting(rows, name, keep)]
        if not gaps:
            continue
        below = [found for found in gaps if found.mean < 0]
        line = {
            "method": name,
            "cells": str(len(gaps)),
            "mean over cells": f"{np.mean([found.mean for found in gaps]):+.2f}",
            "worst cell": interval_text(min(gaps, key=lambda found: found.mean)),
            "below random": str(len(below)),
            "with the interval": str(sum(found.is_sure for found in below)),
        }
        for keep in keeps:
            line[f"pooled at {100 * keep:g}%"] = text(difference(rows, name, keep), of="pairs")
        lines.append(line)
    return tabulate(lines, "keys", tablefmt="github", disable_numparse=True)


def across_table(rows: Sequence[Trained]) -> str:
    """A line a method: the mean over the settings of each one's mean difference to random."""
    lines = []
    keeps = keeps_of(rows)
    for name in (name for name in methods_of(rows) if name in SHOWN):
        line = {"method": name}
        for keep in keeps:
            means = [found.mean for found in by_setting(rows, name, keep)]
            across = gap(means) if means else None
            line[f"at {100 * keep:g}%"] = text(across, of="sets")
        lines.append(line)
    return tabulate(lines, "keys", tablefmt="github", disable_numparse=True)


def settings_of_many(rows: Sequence[Trained]) -> list[str]:
    """The settings in which methods were compared besides those of :data:`SHOWN`."""
    return sorted({row.setting for row in rows if row.method not in (*SHOWN, RANDOM, FULL)})


def methods_table(rows: Sequence[Trained], setting: str) -> str:
    """A line a method: its difference to random, best first, at the keep ratios that most have.

    A method that lacks one of them is left out, as its mean would be of others.
    """
    cells = shared_cells(rows, [setting])
    keeps = [keep for _, keep in cells]
    lines = []
    for name, own in whole_rows(cells).items():
        line = {"method": name, "mean": f"{np.mean([found.mean for found in own]):+.2f}"}
        lines.append(line | {f"at {100 * k:g}%": text(f) for k, f in zip(keeps, own, strict=True)})
    lines.sort(key=lambda line: -float(line["mean"]))
    return tabulate(lines, "keys", tablefmt="github", disable_numparse=True)


def overall_table(rows: Sequence[Trained]) -> str:
    """A line a method: the cells of all :func:`methods_table` together, best first."""
    cells = shared_cells(rows, settings_of_many(rows))
    keeps = sorted({keep for _, keep in cells}, reverse=True)
    lines = []
    for name, own in whole_rows(cells).items():
        means = [found.mean for found in own]
        below = [found for found in own if found.mean < 0]
        lowest = int(np.argmin(means))
        setting, keep = list(cells)[lowest]
        line = {"method": name, "cells": str(len(own)), "mean": f"{np.mean(means):+.2f}"}
        for each in keeps:
            part = [mean for mean, (_, keep) in zip(means, cells, strict=True) if keep == each]
            line[f"at {100 * each:g}%, {len(part)} sets"] = f"{np.mean(part):+.2f}"
        line["below random"] = str(len(below))
        line["with the interval"] = str(sum(found.is_sure for found in below))
        line["lowest cell"] = f"{means[lowest]:+.2f} ({setting} at {100 * keep:g}%)"
        lines.append(line)
    lines.sort(key=lambda line: -float(line["mean"]))
    return tabulate(lines, "keys", tablefmt="github", disable_numparse=True)


def shared_cells(
    rows: Sequence[Trained], settings: Sequence[str]
) -> dict[tuple[str, float], dict[str, Gap]]:
    """(setting, keep ratio) that most methods of it have → the difference of each to random."""
    cells = {}
    for setting in settings:
        own = side_by_side([row for row in rows if row.setting == setting])
        names = methods_of(own)
        for keep in keeps_of(own):
            found = {n: gap for n in names if (gap := difference(own, n, keep))}
            if 2 * len(found) > len(names):
                cells[setting, keep] = found
    return cells


def whole_rows(cells: Mapping[tuple[str, float], Mapping[str, Gap]]) -> dict[str, list[Gap]]:
    """Method → its differences in the order of ``cells``, of those that have all."""
    names = sorted({name for found in cells.values() for name in found})
    return {n: [f[n] for f in cells.values()] for n in names if all(n in f for f in cells.values())}


def side_by_side(rows: Sequence[Trained]) -> list[Trained]:
    """Those of a setting that are, at their keep ratio, of the source with most methods."""
    methods = {(r.keep_ratio, r.source, r.method) for r in rows}
    beside = Counter(place[:2] for place in methods)
    best = {keep: max(beside, key=lambda p: (p[0] == keep, beside[p], p)) for keep, _ in beside}
    return [row for row in rows if (row.keep_ratio, row.source) == best[row.keep_ratio]]


def keeps_of(rows: Iterable[Trained]) -> list[float]:
    """The keep ratios of parts, the lightest cut first."""
    return sorted({row.keep_ratio for row in rows if row.method != FULL}, reverse=True)


def methods_of(rows: Iterable[Trained]) -> list[str]:
    """What chose the parts, besides chance."""
    return sorted({row.method for row in rows} - {RANDOM, FULL})


def text(found: Gap | None, *, of: str = "") -> str:
    """The mean with its interval, and in how many ``of`` it is ahead; empty of nothing."""
    if found is None:
        return ""
    return interval_text(found) + (f", {found.ahead} of {len(found.values)} {of}" if of else "")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", nargs="?", choices=("collect",))
    parser.add_argument("grids", nargs="*", help="names of files in benchmarks/grids")
    args = parser.parse_args()
    if args.action and not args.grids:
        parser.error("collect what? Name grids of benchmarks/grids")
    with reported():
        for name in args.grids:
            collect(name)
        rows = collected()
        if not rows:
            raise DataError("nothing is collected yet; see collect")
        (RESULTS / "evidence.md").write_text(page(rows))
    print((RESULTS / "evidence.md").read_text())


if __name__ == "__main__":
    main()
