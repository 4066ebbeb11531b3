"""Write the kept samples as VOC, COCO, YOLO, FiftyOne, a list or CSV.

    adapruner export --selection output/selection.json --format yolo --output output/kept_yolo \\
        --config-file configs/own_yolov3tiny.yaml \\
        ADAPRUNER.VOC_FOLDERS "['my_train=/data/my:trainval']"

The configuration says where the data lie, as in the run that made the selection; without it that
which the run left beside the selection is taken. A CSV, of all samples with all that is
known of them, needs none. The folder --output appears whole or not at all.
It may replace another export; anything else that stands there is refused, or moved aside under
--overwrite. Overrides, KEY VALUE, come last.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

from ..command import config_path
from ..errors import reported
from ..export.formats import FORMATS, IMAGES, export, needs_records
from ..export.records import Records
from ..selection import Selection, warnings_of
from .arguments import config_beside, plain_parser, warn_on_terminal
from .tasks import detectron2_needed, kind_of_data


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments and write the export."""
    args = _parser().parse_args(argv)
    warn_on_terminal()
    with reported():
        selection = Selection.load(args.selection)
        args.config_file = args.config_file or config_beside(args.selection)
        records = kept_records(selection, args) if needs_records(args.format) else None
        place = export(
            selection,
            records,
            args.format,
            args.output,
            images=args.images,
            overwrite=args.overwrite,
        )
        for line in warnings_of(selection):
            logging.getLogger(__name__).warning(line)
        print(
            f"{place}: {args.format}, {selection.num_kept} of {selection.num_samples} samples kept"
        )


def kept_records(selection: Selection, args: argparse.Namespace) -> Records:
    """The kept samples, by the reader of the task that the configuration is of.

    Raises:
        DataError: data that are not there, or other than the selection was made from.
    """
    if kind_of_data(args, selection) == "classification":
        from ..classification.records import kept_records as of_classification

        return of_classification(selection, args.config_file, args.opts)
    with detectron2_needed(
        f"reading the samples of {', '.join(selection.datasets)}",
        "--format csv needs none, and a classification run's --config-file none",
    ):
        from ..detection.data.records import kept_records as of_detection
        from ..detection.setup import load_config
    load_config(args.config_file, args.opts)  # which registers the data sets that it names
    return of_detection(selection)


def _parser() -> argparse.ArgumentParser:
    parser = plain_parser("export.py", __doc__)
    add = parser.add_argument
    add("--selection", type=Path, required=True, metavar="FILE", help="the .json of a run")
    add("--format", choices=FORMATS, required=True)
    add("--output", type=Path, required=True, metavar="DIR", help="the folder that is made")
    add(
        "--images",
        choices=IMAGES,
        help="leave them where they are, link or copy them; default: link for yolo, else none",
    )
    add("--overwrite", action="store_true", help="move what stands at DIR aside, to DIR-old-1")
    add(
        "--config-file",
        type=config_path,
        default="",
        metavar="FILE",
        help="of the run that made the selection",
    )
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides")
    return parser
