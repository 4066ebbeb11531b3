"""List every faulty sample of all that a detection run would read.

    adapruner check-data --config-file configs/own_yolov3tiny.yaml \\
        ADAPRUNER.VOC_FOLDERS "['my_train=/data/my:trainval']" DATASETS.TRAIN "('my_train',)"

Boxes that are left out or cut off are said as a run says them, and so are images without objects
that it would not train on; neither is a fault. Exits with 2 where there are faults. Images that
were looked at before and have not changed since are not read again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from ..detection.data.checks import find_faults, usable_boxes, warn_of_similar_classes
from ..detection.data.samples import require_datasets, require_same_classes, warn_of_empty
from ..detection.setup import load_config
from ..detection.training.lazy import named_as_in
from ..errors import DataError, one_line, reported
from .arguments import config_parser, warn_on_terminal


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments and print what is faulty."""
    args = config_parser("check_data.py", __doc__).parse_args(argv)
    warn_on_terminal()
    with reported(), named_as_in(args.config_file):
        cfg = load_config(args.config_file, args.opts)
        names = list(dict.fromkeys([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]))
        if not names:
            raise DataError("DATASETS.TRAIN and DATASETS.TEST name no data set to look at")
        require_datasets(names)
        count = sum(report(cfg, name) for name in names)
        require_same_classes(names)
        if count:
            raise DataError(f"{count} sample(s) are faulty; they are listed above")


def report(cfg: Any, name: str) -> int:
    """Print the faults of one data set, or that it has none, and what a run would leave out of it.

    The number of the faults.
    """
    samples, faults = find_faults(name)
    for fault in faults:
        print(one_line(DataError(fault.problem)))  # a name may hold what a terminal obeys
    samples, _ = usable_boxes(name, samples)
    warn_of_similar_classes(name)
    if name in cfg.DATASETS.TRAIN:
        warn_of_empty(cfg, name, samples)
    boxes = sum(len(d.get("annotations", ())) for d in samples)
    print(f"{name}: {len(samples)} image(s) with {boxes} box(es) are fit, {len(faults)} faulty")
    sys.stdout.flush()
    return len(faults)
