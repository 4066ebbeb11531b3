#!/usr/bin/env python3
"""Learn which training images a detector can do without, and write the selection of the rest.

tools/prune_net.py --config-file configs/voc_yolov3tiny.yaml ADAPRUNER.KEEP_RATIO 0.9
tools/prune_net.py --config-file ... --resume            # go on with a killed run
tools/prune_net.py --config-file lazy_config.py ADAPRUNER.KEEP_RATIO=0.9
torchrun --nproc_per_node 2 tools/prune_net.py --config-file ...
"""

import time

from detectron2.data import MetadataCatalog
from detectron2.engine import default_argument_parser
from detectron2.utils import comm

from adapruner_det.detection.setup import check_pruning_inputs, load_config, run
from adapruner_det.detection.summary import class_kept_shares, summarize
from adapruner_det.detection.trainer import PruningTrainer
from adapruner_det.errors import DataError, reported


def main(cfg, args):
    start = time.perf_counter()
    trainer = PruningTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()
    if comm.is_main_process():
        classes = MetadataCatalog.get(cfg.DATASETS.TRAIN[0]).thing_classes
        shares = class_kept_shares(trainer.selection, trainer.index.dicts, classes)
        seconds = time.perf_counter() - start
        path = trainer.selection_path
        print(summarize(trainer.selection, shares, seconds, path, args.config_file))


if __name__ == "__main__":
    arguments = default_argument_parser(epilog=__doc__).parse_args()
    with reported():
        if arguments.eval_only:
            raise DataError("there is nothing to evaluate here: use train_pruned.py --eval-only")
        config = load_config(arguments.config_file, arguments.opts)
        check_pruning_inputs(config)
        run(arguments, config, main)
