"""Show what was kept and dropped on one page, and take a person's say.

    adapruner report --selection output/selection.json
    adapruner report --selection output/selection.json --weights output --output look.html \\
        --config-file configs/own_yolov3tiny.yaml \\
        ADAPRUNER.VOC_FOLDERS "['my_train=/data/my:trainval']"
    adapruner report --apply decisions.json --selection output/selection.json \\
        --output output/selection-mine.json

The page needs no network: it opens from the disk. The configuration says where the data lie, as in
the run that made the selection; by default it is the config.yaml beside the selection, where a run
leaves it. Without the data the page has no images. More than 2,000 thumbnails lie in
a folder beside it. Predictions come from --predictions, an .npz, or from the trained model in
--weights DIR. --apply makes a new selection of what was decided on the page. Overrides, KEY VALUE,
come last.
"""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..command import config_path, program
from ..errors import DataError, reported
from ..files import REPORT, require_writable
from ..predictions import save_predictions
from ..report.history import read_history
from ..report.overrule import apply, read_decisions, summary
from ..report.page import write_report
from ..report.pictures import Picture
from ..report.predictions import Predicted, read_predictions
from ..selection import Selection, warnings_of
from .arguments import config_beside, plain_parser, warn_on_terminal
from .tasks import detectron2_needed, kind_of_data, make

logger = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments and write the page, or the selection of what was decided on it."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = _parser().parse_args(words)
    warn_on_terminal()
    with reported():
        if args.apply:
            _require_alone(args)
            apply_decisions(args.apply, args.selection, args.output)
        else:
            make_page(args, shlex.join([program("report.py"), *words]))


def make_page(args: argparse.Namespace, command: str) -> None:
    """Write the page and say where it is."""
    start = time.perf_counter()
    selection = Selection.load(args.selection)
    output = args.output or args.selection.with_name(REPORT)
    if output.suffix.lower() not in (".html", ".htm"):
        raise DataError(f"--output is {output}; a page is called something.html")
    require_writable(output.parent, "--output")
    given = bool(args.config_file or args.opts)
    args.config_file = args.config_file or config_beside(args.selection)
    pictures = all_pictures(selection, args, required=given)
    path = write_report(
        selection,
        output,
        pictures,
        predictions=_predictions(args, selection),
        history=read_history(args.selection.parent),
        command=command,
        most_images=args.images,
        overwrite=args.overwrite,
    )
    size = path.stat().st_size / 2**20
    print(
        f"{path}: {size:.1f} MB, {selection.num_kept} of {selection.num_samples} samples kept, "
        f"after {time.perf_counter() - start:.0f} s"
    )


def apply_decisions(decisions: Path, path: Path, output: Path | None) -> None:
    """Write the selection of what was decided, and say so."""
    if output is None:
        raise DataError("--apply needs --output FILE, the .json of the new selection")
    if output.suffix != ".json":
        raise DataError(f"--output is {output}; a selection is called something.json")
    if output.resolve() == path.resolve():
        raise DataError(f"{output} is the selection that is overruled; give another --output")
    if output.resolve() == decisions.resolve():
        raise DataError(f"{output} is the file of decisions; give another --output")
    found = apply(Selection.load(path), read_decisions(decisions))
    require_writable(output.parent, "--output")
    print(f"{found.save(output)}: {summary(found)}")
    for line in warnings_of(found):
        sys.stderr.write(f"warning: {line}\n")


def _require_alone(args: argparse.Namespace) -> None:
    """Raise a DataError for what would have no effect beside --apply."""
    given = {
        "--predictions": args.predictions,
        "--weights": args.weights,
        "--images": args.images is not None,
        "--overwrite": args.overwrite,
        "--config-file": args.config_file,
    }
    spare = [name for name, value in given.items() if value]
    if spare or args.opts:
        raise DataError(
            f"{' '.join([*spare, *args.opts])} has no effect: --apply takes --selection and "
            "--output alone"
        )


def all_pictures(
    selection: Selection, args: argparse.Namespace, *, required: bool
) -> dict[str, Picture]:
    """Key → picture of all samples, by the reader of the task that the configuration is of.

    Unless they are ``required``, data that are not found are a warning.

    Raises:
        DataError: data that are not there, or other than the selection was made from.
    """
    try:
        return _read_pictures(selection, args)
    except DataError as error:
        if required:
            raise
        logger.warning("the page has no images: %s; --config-file says where the data lie", error)
        return {}


def _read_pictures(selection: Selection, args: argparse.Namespace) -> dict[str, Picture]:
    if kind_of_data(args, selection) == "classification":
        from ..classification.config import load_config as load
        from ..classification.data import load_files
        from ..classification.pictures import pictures_of

        train = load_files(load(args.config_file, args.opts)).train
        return pictures_of(train.kept(selection.cut(1.0)))
    with detectron2_needed("reading these data"):
        from ..detection.data.pictures import pictures_of as of_detection
        from ..detection.setup import load_config
    load_config(args.config_file, args.opts)  # which registers the data sets that it names
    return of_detection(selection)


def _predictions(args: argparse.Namespace, selection: Selection) -> dict[str, Predicted] | None:
    """Key → predictions, from a file or by the trained model in a folder."""
    if args.predictions and args.weights:
        raise DataError("give either --predictions FILE or --weights DIR")
    if args.weights:
        kind = kind_of_data(args, selection)
        task = make(kind, args.config_file, [*args.opts, *_without_weights(kind, args.config_file)])
        selection.check(task.samples.keys, task.samples.digests)
        place = (args.output or args.selection.with_name(REPORT)).with_suffix(".predictions.npz")
        args.predictions = save_predictions(
            place, task.samples.keys, task.predictions(args.weights)
        )
        print(f"{place}: predictions of {args.weights}, for --predictions")
    if not args.predictions:
        return None
    found = read_predictions(args.predictions, selection.class_names)
    _require_of(found, selection, args.predictions)
    return found


def _without_weights(kind: str, config_file: str) -> list[str]:
    """Overrides of a detector that begins with no weights: those of --weights are loaded, and what
    the training began from may be a pickle, which is not trusted here, or gone."""
    if kind != "detection":
        return []
    return ["train.init_checkpoint=''"] if config_file.endswith(".py") else ["MODEL.WEIGHTS", ""]


def _require_of(found: Mapping[str, Predicted], selection: Selection, path: Path) -> None:
    """Raise a DataError unless predictions are of the samples and classes of a selection.

    Some that are of other samples are a warning.
    """
    strange = sorted(found.keys() - set(selection.columns["key"].tolist()))
    if strange and len(strange) == len(found):
        raise DataError(f"{path} has predictions of other samples, first {strange[0]}")
    if strange:
        logger.warning(
            "%s has predictions of %d samples that the selection lacks, first %s",
            *(path, len(strange), strange[0]),
        )
    names = selection.class_names
    largest = max((int(own.classes.max(initial=-1)) for own in found.values()), default=-1)
    if names and largest >= len(names):
        raise DataError(
            f"{path} has the class {largest}; the selection's are 0 to {len(names) - 1}"
        )


def _images(word: str) -> int:
    if not (word.isascii() and word.isdecimal()):
        raise argparse.ArgumentTypeError(f"{word!r} is no whole number, 0 or more")
    return int(word)


def _parser() -> argparse.ArgumentParser:
    parser = plain_parser("report.py", __doc__)
    add = parser.add_argument
    add("--selection", type=Path, required=True, metavar="FILE", help="the .json of a run")
    add(
        "--output",
        type=Path,
        metavar="FILE",
        help="the page, by default report.html beside the selection; with --apply the selection",
    )
    add("--apply", type=Path, metavar="DECISIONS", help="a file that was saved on the page")
    add("--predictions", type=Path, metavar="FILE", help="an .npz; docs/report.md says of what")
    add("--weights", type=Path, metavar="DIR", help="OUTPUT_DIR of a training, to predict with")
    add(
        "--images",
        type=_images,
        metavar="N",
        help="thumbnails of so many samples, dropped ones first; default: all",
    )
    add("--overwrite", action="store_true", help="move what stands in the thumbnails' way aside")
    add("--config-file", type=config_path, default="", metavar="FILE", help="of the run")
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides")
    return parser
