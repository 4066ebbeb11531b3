#!/usr/bin/env python3
"""Train a classifier on the images that a selection keeps, and evaluate its last epoch.

    tools/train_cls.py --selection output/digits/selection.json OUTPUT_DIR output/digits_kept
    tools/train_cls.py --config-file configs/classification/cifar10_resnet50.yaml \\
        --selection output/c10/selection.json                # pruned with another architecture
    tools/train_cls.py --config-file ... --selection FILE --keep-ratio 0.8   # cut anew

Without --selection it trains on all images. Data and draws must be those of the pruning run.
"""

import argparse
import logging
from pathlib import Path

from adapruner_det.classification.config import load_config
from adapruner_det.classification.data import load_data
from adapruner_det.classification.run import train
from adapruner_det.errors import reported
from adapruner_det.selection import Selection

DEFAULT = Path(__file__).parents[1] / "configs" / "classification" / "digits.yaml"


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", default=str(DEFAULT), help="default: %(default)s")
    parser.add_argument("--selection", help="the .json of a selection; without it, all images")
    parser.add_argument("--keep-ratio", type=float, help="cut the selection at another ratio")
    parser.add_argument("--resume", action="store_true", help="go on from OUTPUT_DIR's checkpoint")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides")
    return parser.parse_args()


def main():
    args = parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    with reported():
        cfg = load_config(args.config_file, args.opts)
        selection = Selection.load(args.selection) if args.selection else None
        if selection is not None and args.keep_ratio is not None:
            selection = selection.cut(args.keep_ratio)
        result = train(cfg, load_data(cfg), selection, resume=args.resume)
    print(
        f"{result.accuracy:.2f}% on {result.evaluated_on} after {result.epochs} epochs of "
        f"{result.images} images ({result.seconds:.0f} s, seed {result.seed})"
    )


if __name__ == "__main__":
    main()
