#!/usr/bin/env python3
"""Train one detector on all images, on a random part and on the selected part, and compare.

    tools/compare.py --config-file FILE --num-seeds 3 ADAPRUNER.KEEP_RATIO 0.9

Each seed prunes, draws and trains for itself. Outputs go to OUTPUT_DIR/seed<seed>/<part>.
"""

import argparse

from adapruner_det.detection.compare import compare, log_to_file, table, verdict
from adapruner_det.detection.setup import check_pruning_inputs, load_config, run_folder
from adapruner_det.errors import DataError, reported


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--num-seeds", type=int, default=3, help="seeds 0 to this, exclusive")
    parser.add_argument("--processes", type=int, default=1, help="seeds side by side")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="KEY VALUE overrides")
    args = parser.parse_args()
    with reported():
        cfg = load_config(args.config_file, args.opts)
        if args.num_seeds < 1 or args.processes < 1:
            raise DataError("--num-seeds and --processes must be 1 or more")
        if not cfg.DATASETS.TEST:
            raise DataError("DATASETS.TEST names no data set; the trainings are compared on one")
        check_pruning_inputs(cfg, say=print)
        with run_folder(cfg):
            log_to_file(cfg.OUTPUT_DIR)
            runs, _ = compare(cfg, list(range(args.num_seeds)), args.processes)
    print(table(runs))
    print(verdict(runs))


if __name__ == "__main__":
    main()
