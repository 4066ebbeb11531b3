#!/usr/bin/env python3
"""Learn which training images a detector can do without, and write the selection of the rest.

tools/prune_net.py --config-file configs/voc_yolov3tiny.yaml ADAPRUNER.KEEP_RATIO 0.9
tools/prune_net.py --config-file ... --resume            # go on with a killed run
tools/prune_net.py --config-file lazy_config.py ADAPRUNER.KEEP_RATIO=0.9
torchrun --nproc_per_node 2 tools/prune_net.py --config-file ...
"""

import time

from detectron2.utils import comm

from adapruner_det.command import beside, sibling_command, with_output
from adapruner_det.detection.arguments import num_processes, tool_parser
from adapruner_det.detection.setup import check_pruning_inputs, load_config, run
from adapruner_det.detection.summary import summarize
from adapruner_det.detection.training.run_state import PRUNE, run_identity
from adapruner_det.detection.training.trainer import PruningTrainer
from adapruner_det.errors import DataError, reported


def main(cfg, args, index):
    start = time.perf_counter()
    PruningTrainer.trust_pickle = args.trust_pickle
    trainer = PruningTrainer(cfg, index)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()
    if comm.is_main_process():
        seconds = time.perf_counter() - start
        step = next_step(cfg, args, trainer.selection_path)
        print(summarize(trainer.selection, seconds, trainer.selection_path, step))


def next_step(cfg, args, selection):
    """The command that trains on the selection, with this run's configuration."""
    words = ["--config-file", args.config_file] if args.config_file else []
    words += ["--selection", selection]
    words += ["--num-gpus", str(args.num_gpus)] if args.num_gpus != 1 else []
    words += ["--trust-pickle"] if args.trust_pickle else []
    folder = beside(cfg.OUTPUT_DIR)
    words += with_output(args.opts, folder, lazy=args.config_file.endswith(".py"))
    return sibling_command("train_pruned.py", words)


if __name__ == "__main__":
    arguments = tool_parser(__doc__).parse_args()
    with reported():
        if arguments.eval_only:
            raise DataError("there is nothing to evaluate here: use train_pruned.py --eval-only")
        config = load_config(arguments.config_file, arguments.opts)
        index = check_pruning_inputs(
            config,
            trust_pickle=arguments.trust_pickle,
            processes=num_processes(arguments),
            say=print,
        )
        run(arguments, config, main, index, identity=run_identity(PRUNE, config, index))
