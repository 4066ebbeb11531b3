#!/usr/bin/env python3
"""Train a classifier on the images that a selection keeps, and evaluate its last epoch.

    tools/train_cls.py --selection output/digits/selection.json OUTPUT_DIR output/digits_kept
    tools/train_cls.py --config-file configs/classification/cifar10_resnet50.yaml \\
        --selection output/c10/selection.json                # pruned with another architecture
    tools/train_cls.py --config-file ... --selection FILE --keep-ratio 0.8   # cut anew

Without --selection it trains on all images. Data and draws must be those of the pruning run. The
overrides stand last.
"""

from adapruner_det.classification import command
from adapruner_det.classification.config import load_config
from adapruner_det.classification.data import load_data
from adapruner_det.classification.run import train
from adapruner_det.errors import DataError
from adapruner_det.selection import Selection


def main():
    parser = command.parser(__doc__)
    parser.add_argument("--selection", help="the .json of a selection; without it, all images")
    parser.add_argument("--keep-ratio", type=float, help="cut the selection at another ratio")
    args = parser.parse_args()
    with command.running():
        cfg = load_config(args.config_file, args.opts)
        if args.keep_ratio is not None and not args.selection:
            raise DataError("--keep-ratio cuts a selection anew; give one with --selection")
        selection = Selection.load(args.selection) if args.selection else None
        if selection is not None and args.keep_ratio is not None:
            selection = selection.cut(args.keep_ratio)
        data = load_data(cfg)
        result = train(cfg, data, selection, resume=args.resume, selection_file=args.selection)
        print(
            f"{result.accuracy:.2f}% on {result.evaluated_on} after {result.epochs} epochs of "
            f"{result.images} images ({result.seconds:.0f} s, seed {result.seed})"
        )


if __name__ == "__main__":
    main()
