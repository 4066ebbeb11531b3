#!/usr/bin/env python3
"""Train one detector on all images, on a random part and on the selected part, and compare.

    tools/compare.py --config-file FILE --seeds 0 1 2 ADAPRUNER.KEEP_RATIO 0.9

Each seed prunes, draws and trains for itself. Outputs go to OUTPUT_DIR/seed<seed>/<part>.
"""

import logging

from detectron2.engine import default_argument_parser

from adapruner_det.detection.compare import compare, table, verdict
from adapruner_det.detection.config import resolve_device
from adapruner_det.detection.setup import check_pruning_inputs, load_config
from adapruner_det.errors import reported


def main():
    parser = default_argument_parser(epilog=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args()
    with reported():
        cfg = load_config(args.config_file, args.opts)
        check_pruning_inputs(cfg)
        resolve_device(cfg)
        logging.getLogger("detectron2").setLevel(logging.WARNING)
        runs, _ = compare(cfg, args.seeds)
    print(table(runs))
    print(verdict(runs))


if __name__ == "__main__":
    main()
