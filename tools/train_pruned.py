#!/usr/bin/env python3
"""Train the plain detector from scratch on the images that a selection keeps, and evaluate it.

tools/train_pruned.py --config-file configs/voc_yolov3tiny.yaml --selection FILE
tools/train_pruned.py --config-file ... --selection FILE --same-iterations
tools/train_pruned.py --config-file ... --eval-only MODEL.WEIGHTS output/model_final.pth
"""

import sys

from adapruner_det.detection.arguments import num_processes, tool_parser
from adapruner_det.detection.data.samples import (
    SampleIndex,
    leave_out_excluded,
    register_kept,
    register_selection,
)
from adapruner_det.detection.modeling import require_known_anchors
from adapruner_det.detection.setup import (
    check_datasets,
    check_training_inputs,
    load_config,
    require_elsewhere,
    run,
)
from adapruner_det.detection.training.checkpoints import WholeCheckpointer, check_weights
from adapruner_det.detection.training.run_state import TRAIN, run_identity
from adapruner_det.detection.training.trainer import EvaluatingTrainer, scale_schedule
from adapruner_det.errors import reported
from adapruner_det.selection import Selection, lost_classes_line


def main(cfg, args):
    if args.selection is not None:
        register_selection(args.selection)  # again, where this is another process
    EvaluatingTrainer.trust_pickle = args.trust_pickle
    if args.eval_only:
        model = EvaluatingTrainer.build_model(cfg)
        checkpointer = WholeCheckpointer(model, cfg.OUTPUT_DIR, trust_pickle=args.trust_pickle)
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        return EvaluatingTrainer.test(cfg, model)
    trainer = EvaluatingTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def parse_args():
    parser = tool_parser(__doc__)
    parser.add_argument("--selection", help="the .json of a selection; without it, all images")
    parser.add_argument(
        "--same-iterations",
        action="store_true",
        help="as many steps as on all images; by default as many epochs",
    )
    return parser.parse_args()


def take_selection(cfg, args, selection):
    """Make what the selection keeps the training set of ``cfg``."""
    if warning := lost_classes_line(selection):
        print(f"warning: {warning}", file=sys.stderr)
    cfg.DATASETS.TRAIN = tuple(register_kept(selection))
    if args.same_iterations:
        print(f"Training on the kept images for all {cfg.SOLVER.MAX_ITER} iterations")
    else:
        print(scale_schedule(cfg, selection))


def prepare(args):
    """The checked configuration of a training and its identity, or of an evaluation and None."""
    cfg = load_config(args.config_file, args.opts)
    if args.eval_only:
        require_known_anchors(cfg)
        check_weights(cfg, args.trust_pickle)
        check_datasets(cfg, train=False)
        return cfg, None
    selection = None
    if args.selection is not None:
        selection = Selection.load(args.selection)
        require_elsewhere(args.selection, cfg)
        leave_out_excluded(selection)
    check_training_inputs(  # on all images: what follows from the data is that of the pruning run
        cfg, trust_pickle=args.trust_pickle, processes=num_processes(args), say=print
    )
    if selection:
        take_selection(cfg, args, selection)
    return cfg, run_identity(TRAIN, cfg, SampleIndex.from_config(cfg))


if __name__ == "__main__":
    arguments = parse_args()
    with reported():
        config, identity = prepare(arguments)
        run(arguments, config, main, identity=identity)
