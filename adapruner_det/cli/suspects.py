"""List the images whose labels a detector contradicts that was not trained on them.

    adapruner suspects --config-file configs/own_yolov3tiny.yaml OUTPUT_DIR output/suspects \\
        ADAPRUNER.VOC_FOLDERS "['my_train=/data/my:trainval']" DATASETS.TRAIN "('my_train',)"
    adapruner suspects --config-file ... --predictions output/suspects/predictions.npz

The detector is trained --folds times, each time without one part of the images, which it then
predicts; a run that was stopped goes on when it is called again. With --predictions nothing is
trained: after labels have been mended, the same predictions judge the new ones in seconds.
Writes suspects.csv and suspects.json into OUTPUT_DIR, and prints the top of the list.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..command import sibling_command
from ..detection.held_out import (
    FILE,
    HeldOutTask,
    Progress,
    all_images,
    labels_of,
    predict_held_out,
)
from ..detection.setup import load_config
from ..detection.training.lazy import named_as_in
from ..errors import DataError, reported
from ..files import require_writable
from ..predictions import Predictions
from ..report.suspects import FEW_FOUND, Annotated, Suspects, find_suspects
from .arguments import add_trust_switch, config_parser, log_to

logger = logging.getLogger(__name__)

FOLDS = 3


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments, predict, judge, and print what to look at first."""
    parser = config_parser("suspects.py", __doc__)
    add = parser.add_argument
    add("--folds", type=int, metavar="K", help=f"trainings, each on the rest ({FOLDS})")
    add("--predictions", type=Path, metavar="FILE", help="predictions.npz of an earlier run")
    add("--top", type=int, default=20, metavar="N", help="images that are printed (20)")
    add_trust_switch(parser)
    args = parser.parse_args(argv)
    with reported(), named_as_in(args.config_file):
        for name, least in (("top", 1), ("folds", 2)):
            if (given := getattr(args, name)) is not None and given < least:
                raise DataError(f"--{name} is {given}; it must be {least} or more")
        cfg = load_config(args.config_file, args.opts)
        if not cfg.DATASETS.TRAIN:
            raise DataError("DATASETS.TRAIN names no data set whose labels could be looked at")
        folder = Path(cfg.OUTPUT_DIR)
        require_writable(folder)
        predictions, index = predicted(cfg, args, folder)
        samples = index.samples
        annotated = Annotated(
            keys=samples.keys,
            files=[str(sample["file_name"]) for sample in index.dicts],
            labels=labels_of(index),
            class_names=samples.class_names,
        )
        found = find_suspects(annotated, predictions)
        lists = found.save(folder)
        again = ["--config-file", args.config_file] if args.config_file else []
        used = args.predictions or folder / FILE
        command = sibling_command(
            "suspects.py", [*again, "--predictions", str(used), *map(str, args.opts)]
        )
        print(summary(found, args.top, lists, command))


def predicted(cfg: Any, args: argparse.Namespace, folder: Path) -> tuple[Predictions, Any]:
    """Predictions, made or read, and the index of the images that they are of."""
    if args.predictions is not None:
        if args.folds is not None:
            raise DataError("--folds has no effect: with --predictions nothing is trained")
        return Predictions.load(args.predictions), all_images(cfg)
    log_to(folder / "log.txt")
    task = HeldOutTask(cfg, trust_pickle=args.trust_pickle)
    folds = FOLDS if args.folds is None else args.folds
    steps = round(task.steps * (folds - 1) / folds)
    print(f"{task.title}: {folds} trainings of {steps} steps", flush=True)
    with bar() as progress:
        found = predict_held_out(task, folds, max(cfg.SEED, 0), folder, progress)
    return found, task.everything


@contextmanager
def bar() -> Iterator[Progress]:
    """A progress bar with the time that is left; what an earlier run did counts as done."""
    form = "{l_bar}{bar}| {elapsed} gone, {remaining} left"
    with logging_redirect_tqdm(), tqdm(total=1.0, bar_format=form, desc="training") as shown:

        def progress(share: float) -> None:
            if not shown.n:
                shown.initial = share
            shown.n = max(share, shown.n)
            shown.refresh()

        yield progress


def summary(found: Suspects, top: int, lists: tuple[Path, Path], command: str) -> str:
    """The top of the list, how far it can be relied on, and what to do next."""
    count = len(found.annotated.keys)
    words = ["--selection", "RUN.json", "--keep-ratio", "RATIO", "--suspects", str(lists[0])]
    cut = sibling_command("cut.py", words)
    lines = [
        found.table(top),
        "",
        f"{count} images judged; {100 * found.found:.0f}% of their boxes were found by detectors "
        "that had not seen them.",
    ]
    if found.found < FEW_FOUND:
        lines.append(
            "That is few: the list says as much of the detector as of the labels. Train longer, or "
            "with larger images."
        )
    lines += [
        f"All, in this order: {lists[0]} (a line each) and {lists[1]} (with the box of each kind).",
        "A score is no verdict: hard but right images are among them. Look at the images from the "
        "top, mend what is wrong in the label files, and judge again without training:",
        f"  {command}",
        "Or let them go first when a pruning run on these labels is cut; take out the lines of "
        "images that are right:",
        f"  {cut}",
    ]
    return "\n".join(lines)
