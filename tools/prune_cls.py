#!/usr/bin/env python3
"""Learn which training images a classifier can do without, and write the selection of the rest.

    tools/prune_cls.py                                       # scikit-learn's digits, seconds
    tools/prune_cls.py --config-file configs/classification/cifar10_resnet18.yaml \\
        ADAPRUNER.KEEP_RATIO 0.9 OUTPUT_DIR output/c10
    tools/prune_cls.py --config-file ... --resume            # go on with a killed run
    tools/prune_cls.py --config-file ... --without warmup    # the paper's Tables 4 and 5
"""

import argparse
import logging
import shlex
import time
from pathlib import Path

from adapruner_det.classification.config import ABLATIONS, ablate, load_config
from adapruner_det.classification.data import load_data
from adapruner_det.classification.run import SELECTION_FILE, prune
from adapruner_det.classification.summary import summarize
from adapruner_det.errors import reported

DEFAULT = Path(__file__).parents[1] / "configs" / "classification" / "digits.yaml"


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", default=str(DEFAULT), help="default: %(default)s")
    parser.add_argument("--resume", action="store_true", help="go on from OUTPUT_DIR's checkpoint")
    parser.add_argument("--without", choices=ABLATIONS, help="leave one part of the method out")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides")
    return parser.parse_args()


def main():
    args = parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    start = time.perf_counter()
    with reported():
        cfg = load_config(args.config_file, args.opts)
        if args.without:
            ablate(cfg, args.without)
        data = load_data(cfg)
        selection = prune(cfg, data.train, resume=args.resume)
    command = ["tools/train_cls.py", "--config-file", args.config_file]
    command += ["--selection", f"{cfg.OUTPUT_DIR}/{SELECTION_FILE}", *args.opts]
    next_step = shlex.join([*command, "OUTPUT_DIR", f"{cfg.OUTPUT_DIR}_kept"])
    print(summarize(selection, data.train, time.perf_counter() - start, next_step))


if __name__ == "__main__":
    main()
