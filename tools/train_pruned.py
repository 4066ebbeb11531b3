#!/usr/bin/env python3
"""Train the plain detector from scratch on the images that a selection keeps, and evaluate it.

tools/train_pruned.py --config-file configs/voc_yolov3tiny.yaml --selection FILE
tools/train_pruned.py --config-file ... --selection FILE --same-iterations
tools/train_pruned.py --config-file ... --eval-only MODEL.WEIGHTS output/model_final.pth
"""

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import default_argument_parser

from adapruner_det.detection.catalog import register_selection
from adapruner_det.detection.setup import check_datasets, load_config, run
from adapruner_det.detection.trainer import EvaluatingTrainer, scale_schedule
from adapruner_det.errors import reported
from adapruner_det.selection import Selection


def main(cfg, args):
    if args.selection:
        register_selection(args.selection)  # again, where this is another process
    if args.eval_only:
        model = EvaluatingTrainer.build_model(cfg)
        checkpointer = DetectionCheckpointer(model, cfg.OUTPUT_DIR)
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        return EvaluatingTrainer.test(cfg, model)
    trainer = EvaluatingTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def parse_args():
    parser = default_argument_parser(epilog=__doc__)
    parser.add_argument("--selection", help="the .json of a selection; without it, all images")
    parser.add_argument(
        "--same-iterations",
        action="store_true",
        help="as many steps as on all images; by default as many epochs",
    )
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse_args()
    with reported():
        config = load_config(arguments.config_file, arguments.opts)
        if arguments.selection:
            config.DATASETS.TRAIN = register_selection(arguments.selection)
            selection = Selection.load(arguments.selection)
            if arguments.same_iterations:
                print(f"Training on the kept images for all {config.SOLVER.MAX_ITER} iterations")
            else:
                print(scale_schedule(config, selection))
        check_datasets(config, train=not arguments.eval_only)
        run(arguments, config, main)
