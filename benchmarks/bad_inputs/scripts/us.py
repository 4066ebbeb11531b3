"""A user's training script with three lines of this project, which registers COCO data itself."""

from detectron2.config import get_cfg
from detectron2.data.datasets import register_coco_instances
from detectron2.engine import DefaultTrainer, default_argument_parser, default_setup

from adapruner_det import PruningMixin, add_adapruner_config


class Trainer(DefaultTrainer):
    """The user's."""


class PruningTrainer(PruningMixin, Trainer):
    """The same, pruning."""


def main(args):
    cfg = get_cfg()
    add_adapruner_config(cfg)
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    for entry in args.coco:
        name, annotations, images = entry.split(":")
        register_coco_instances(name, {}, annotations, images)
    default_setup(cfg, args)
    trainer = PruningTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


if __name__ == "__main__":
    parser = default_argument_parser()
    parser.add_argument("--coco", nargs="*", default=[])
    main(parser.parse_args())
