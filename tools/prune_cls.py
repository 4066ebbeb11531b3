#!/usr/bin/env python3
"""Learn which training images a classifier can do without, and write the selection of the rest.

    tools/prune_cls.py                                       # scikit-learn's digits, seconds
    tools/prune_cls.py --config-file configs/classification/cifar10_resnet18.yaml \\
        ADAPRUNER.KEEP_RATIO 0.9 OUTPUT_DIR output/c10
    tools/prune_cls.py --resume --config-file ...            # go on with a run that was stopped
    tools/prune_cls.py --config-file ... --without warmup    # the paper's Tables 4 and 5

The overrides stand last.
"""

import time
from pathlib import Path

from adapruner_det.classification import command
from adapruner_det.classification.checkpoint import SELECTION_FILE
from adapruner_det.classification.config import ABLATIONS, ablate, load_config
from adapruner_det.classification.data import load_data
from adapruner_det.classification.run import prune
from adapruner_det.classification.summary import summarize


def main():
    parser = command.parser(__doc__)
    parser.add_argument("--without", choices=ABLATIONS, help="leave one part of the method out")
    args = parser.parse_args()
    start = time.perf_counter()
    with command.running():
        cfg = load_config(args.config_file, args.opts)
        if args.without:
            ablate(cfg, args.without)
        data = load_data(cfg)
        selection = prune(cfg, data.train, resume=args.resume)
        path = Path(cfg.OUTPUT_DIR) / SELECTION_FILE
        next_step = command.train_command(args.config_file, path, args.opts, cfg.OUTPUT_DIR)
        print(summarize(selection, data.train, time.perf_counter() - start, next_step))


if __name__ == "__main__":
    main()
