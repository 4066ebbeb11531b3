"""Train a classifier on the images that a selection keeps.

    adapruner train-cls --selection output/digits/selection.json OUTPUT_DIR output/digits_kept
    adapruner train-cls --config-file configs/classification/cifar10_resnet50.yaml \\
        --selection output/c10/selection.json                # pruned with another architecture
    adapruner train-cls --config-file ... --selection FILE --keep-ratio 0.8  # cut anew

Without --selection it trains on all images. Data and draws must be those of the pruning run. The
accuracy is that of the last epoch. The overrides stand last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from . import classifying  # before the rest: it silences what others say as they are imported

# isort: split
from ..classification import run
from ..classification.config import load_config
from ..classification.data import load_data
from ..command import config_path
from ..errors import DataError
from .arguments import as_keep_ratio


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments, train, and print the accuracy."""
    parser = classifying.parser("train_cls.py", __doc__)
    parser.add_argument("--selection", help="the .json of a selection; without it, all images")
    parser.add_argument("--keep-ratio", help="cut the selection at another ratio")
    args = parser.parse_args(argv)
    with classifying.running():
        cfg = load_config(config_path(args.config_file), args.opts)
        if args.keep_ratio is not None and args.selection is None:
            raise DataError("--keep-ratio cuts a selection anew; give one with --selection")
        ratio = None if args.keep_ratio is None else as_keep_ratio(args.keep_ratio)
        selection = classifying.given_selection(args.selection)
        if selection is not None and ratio is not None:
            selection = selection.cut(ratio)
        data = load_data(cfg)
        if selection is not None:
            data = replace(data, train=run.kept_images(data.train, selection))
            classifying.warn_of_few_steps(cfg, len(data.train))
        result = run.train(cfg, data, resume=args.resume, selection_file=args.selection)
        print(
            f"{result.accuracy:.2f}% on {result.evaluated_on} after {result.epochs} epochs of "
            f"{result.images} images ({result.seconds:.0f} s, seed {result.seed})"
        )
