"""Pre-train a classifier on the kept part of one set, fine-tune on another.

    adapruner prune-cls --config-file configs/classification/cifar100_resnet18.yaml
    adapruner transfer-cls --config-file configs/classification/cifar100_resnet18.yaml \\
        --selection output/cifar100_resnet18/selection.json \\
        --target-config-file configs/classification/cifar10_finetune.yaml OUTPUT_DIR output/transfer

The overrides stand last and hold for both runs, which write to OUTPUT_DIR/source and
OUTPUT_DIR/target.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from . import classifying  # before the rest: it silences what others say as they are imported

# isort: split
from ..classification import run
from ..classification.config import load_config
from ..classification.data import load_data
from ..command import config_path


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments, train twice, and print both accuracies."""
    parser = classifying.parser("transfer_cls.py", __doc__, config=False)
    parser.add_argument("--config-file", required=True, help="of the pre-training")
    parser.add_argument("--target-config-file", required=True, help="of the fine-tuning")
    parser.add_argument("--selection", help="of the source; without it, all its images")
    args = parser.parse_args(argv)
    with classifying.running():
        files = (args.config_file, args.target_config_file)
        cfgs = [load_config(config_path(file), args.opts) for file in files]
        for cfg, part in zip(cfgs, ("source", "target"), strict=True):
            cfg.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR) / part)
        selection = classifying.given_selection(args.selection)
        source, target = (load_data(cfg) for cfg in cfgs)
        results = run.transfer(
            *(cfgs[0], source, cfgs[1], target, selection),
            resume=args.resume,
            selection_file=args.selection,
        )
        for part, result in zip(("source", "target"), results, strict=True):
            print(
                f"{part}: {result.accuracy:.2f}% on {result.evaluated_on} after {result.epochs} "
                f"epochs of {result.images} images"
            )
