"""What the trials on held-out images share: the split, the task, the rows, the command line."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adapruner_det.detection.task import DetectionTask, make_task
from adapruner_det.errors import DataError, reported
from adapruner_det.experiment.evidence import TaskEvidence
from adapruner_det.experiment.tables import gap, interval_text
from adapruner_det.experiment.task import Task
from adapruner_det.selection import part_of

ROWS = "trainings.jsonl"


def held_out(data: Path, test: Collection[str], folder: Path) -> Path:
    """``folder``, in which ``trainval`` of a VOC folder is split: ``test`` and the others."""
    (folder / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
    for name in ("JPEGImages", "Annotations"):
        if not (folder / name).exists():
            (folder / name).symlink_to((data / name).resolve())
    for split, wanted in (("trainval", False), ("test", True)):
        own = "".join(f"{name}\n" for name in ids_of(data) if (name in test) == wanted)
        (folder / f"ImageSets/Main/{split}.txt").write_text(own)
    return folder


def ids_of(data: Path) -> list[str]:
    """The images of a VOC folder's ``trainval``."""
    return (data / "ImageSets/Main/trainval.txt").read_text().split()


def task_of(config: Path, folder: Path, name: str) -> DetectionTask:
    """The task of a configuration on such a folder, by the objective ``inclusion``."""
    splits = [f"{name}_train={folder}:trainval", f"{name}_test={folder}:test"]
    places = ["ADAPRUNER.VOC_FOLDERS", splits, "DATASETS.TRAIN", (f"{name}_train",)]
    places += ["DATASETS.TEST", (f"{name}_test",), "ADAPRUNER.OBJECTIVE", "inclusion"]
    return make_task(str(config), list(map(str, places)))


def evidence_of(
    task: Task, seed: int, work: Path, options: dict[str, Any] | None = None
) -> TaskEvidence:
    """What `adapruner` reads; it takes thumbnails itself where no cell of a grid has them."""
    found = TaskEvidence(task, seed, work, options=options)
    found.offers = found.offers - {"thumbnails"}
    return found


def value_of(task: DetectionTask, keep: np.ndarray, seed: int, work: Path) -> float:
    """AP50 of a training on a part, (N,) bool; its folder is removed."""
    found = task.train(seed, work, kept=part_of(task.samples, keep, "trial"))
    shutil.rmtree(work)
    return found.value


def add(out: Path, row: dict[str, Any]) -> None:
    """Write a row down and print it."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ROWS).open("a") as stream:
        stream.write(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)


def read(out: Path) -> list[dict[str, Any]]:
    """The rows that are there."""
    file = out / ROWS
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def complete(rows: Sequence[dict[str, Any]], cuts: Sequence[str]) -> list[int]:
    """The seeds of which every cut is there.

    Raises:
        DataError: there is none.
    """
    have = {(row["seed"], row["cut"]) for row in rows}
    seeds = sorted({row["seed"] for row in rows})
    if found := [seed for seed in seeds if all((seed, cut) in have for cut in cuts)]:
        return found
    raise DataError("no seed has all of its trainings yet: run first")


def difference(values: Sequence[float]) -> str:
    """Mean and Student's 95% interval."""
    return interval_text(gap(values))


def main(
    doc: str | None,
    run: Callable[..., None],
    table: Callable[[list[dict[str, Any]]], str],
    seeds: Sequence[int],
    **places: str,
) -> None:
    """Read the arguments, and run or print the table.

    Args:
        doc: of the script.
        run: is called with the places and the seeds, by their names.
        table: of the rows in ``out``.
        seeds: unless others are given.
        places: name of an option → where it lies unless it is given; ``out`` is one.
    """
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("run", "table"))
    for name, place in places.items():
        parser.add_argument(f"--{name}", type=Path, default=Path(place))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(seeds))
    args = parser.parse_args()
    torch.set_num_threads(1)
    with reported():
        if args.action == "run":
            run(**{name: getattr(args, name) for name in places}, seeds=args.seeds)
        else:
            print(table(read(args.out)))
