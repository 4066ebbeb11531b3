"""List every faulty sample of all that a detection run would read.

    adapruner check-data --config-file configs/own_yolov3tiny.yaml \\
        ADAPRUNER.VOC_FOLDERS "['my_train=/data/my:trainval']" DATASETS.TRAIN "('my_train',)"

Exits with 2 where there are faults. Images that were looked at before and have not changed since
are not read again.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ..detection.data.checks import checked_set, find_faults
from ..detection.data.samples import require_datasets, require_same_classes
from ..detection.setup import load_config
from ..errors import DataError, one_line, reported
from .arguments import config_parser, warn_on_terminal


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments and print what is faulty."""
    args = config_parser("check_data.py", __doc__).parse_args(argv)
    warn_on_terminal()
    with reported():
        cfg = load_config(args.config_file, args.opts)
        names = list(dict.fromkeys([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]))
        if not names:
            raise DataError("DATASETS.TRAIN and DATASETS.TEST name no data set to look at")
        require_datasets(names)
        count = sum(report(name) for name in names)
        require_same_classes(names)
        if count:
            raise DataError(f"{count} sample(s) are faulty; they are listed above")


def report(name: str) -> int:
    """Print the faults of one data set, or that it has none. Their number."""
    samples, faults = find_faults(name)
    for fault in faults:
        print(one_line(DataError(fault.problem)))  # a name may hold what a terminal obeys
    if not faults:
        checked_set(name)  # warns of faulty boxes
    boxes = sum(len(d.get("annotations", ())) for d in samples)
    print(f"{name}: {len(samples)} image(s) with {boxes} box(es) are fit, {len(faults)} faulty")
    sys.stdout.flush()
    return len(faults)
