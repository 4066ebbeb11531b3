"""Train the plain detector on the images that a selection keeps.

adapruner train-pruned --config-file configs/voc_yolov3tiny.yaml --selection FILE
adapruner train-pruned --config-file ... --selection FILE --same-iterations
adapruner train-pruned --config-file ... --eval-only MODEL.WEIGHTS output/model_final.pth

It begins from scratch, or from MODEL.WEIGHTS, and is evaluated on DATASETS.TEST at the end.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from ..command import config_path, help_text, program
from ..detection.data.kept_splits import leave_out_excluded, register_kept, register_selection
from ..detection.data.samples import SampleIndex
from ..detection.modeling import require_known_anchors
from ..detection.setup import (
    check_datasets,
    check_training_inputs,
    few_steps,
    load_config,
    require_elsewhere,
    run,
)
from ..detection.training.checkpoints import WholeCheckpointer, check_weights
from ..detection.training.lazy import named_as_in
from ..detection.training.processes import num_processes, process_parser, say_once, warn_once
from ..detection.training.run_state import TRAIN, run_identity
from ..detection.training.schedule import scale_schedule
from ..detection.training.trainer import EvaluatingTrainer
from ..errors import DataError, reported
from ..selection import Selection, warnings_of
from .arguments import add_trust_switch


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments, then train and evaluate, or evaluate alone."""
    parser = process_parser(help_text(__doc__))
    add_trust_switch(parser)
    parser.prog = program("train_pruned.py")
    parser.add_argument("--selection", help="the .json of a selection; without it, all images")
    parser.add_argument(
        "--same-iterations",
        action="store_true",
        help="as many steps as on all images; by default as many epochs",
    )
    args = parser.parse_args(argv)
    args.config_file = config_path(args.config_file)
    warn_once(args)
    with reported(), named_as_in(args.config_file):
        cfg, identity = prepare(args)
        run(args, cfg, train, identity=identity)


def prepare(args: argparse.Namespace) -> tuple[Any, dict[str, Any] | None]:
    """The checked configuration of a training and its identity, or of an evaluation and None."""
    require_effect(args)
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
        require_its_sets(selection, cfg)
        leave_out_excluded(selection)
    lines: list[str] = []
    check_training_inputs(  # on all images: what follows from the data is that of the pruning run
        cfg, trust_pickle=args.trust_pickle, processes=num_processes(args), say=lines.append
    )
    if selection:
        cfg.DATASETS.TRAIN = tuple(register_kept(selection))
    index = SampleIndex.from_config(cfg)  # refuses other data, before the schedule is spoken of
    for line in lines:
        say_once(args, line)
    if selection:
        fit_schedule(cfg, args, selection)
    return cfg, run_identity(TRAIN, cfg, index)


def require_effect(args: argparse.Namespace) -> None:
    """Raise a DataError for an option that would change nothing."""
    if args.eval_only and args.selection is not None:
        raise DataError("--selection has no effect with --eval-only, which trains on nothing")
    if args.same_iterations and args.selection is None:
        raise DataError(
            "--same-iterations has no effect without --selection: give one, or leave it out"
        )


def require_its_sets(selection: Selection, cfg: Any) -> None:
    """Raise a DataError unless ``cfg`` trains on the data sets that the selection is of.

    What follows from the data, such as the length of the run, follows from those of ``cfg``.
    """
    own, named = sorted(selection.datasets), sorted(cfg.DATASETS.TRAIN)
    if own != named:
        raise DataError(
            f"the selection is of {', '.join(own)}, and DATASETS.TRAIN names "
            f"{', '.join(named) or 'nothing'}: name the data sets that it is of"
        )


def fit_schedule(cfg: Any, args: argparse.Namespace, selection: Selection) -> None:
    """Fit the schedule of ``cfg`` to what the selection keeps, its training set by now."""
    for line in warnings_of(selection):
        say_once(args, f"warning: {line}", sys.stderr)
    length = f"Training on the kept images for all {cfg.SOLVER.MAX_ITER} iterations"
    say_once(args, length if args.same_iterations else scale_schedule(cfg, selection))
    if line := few_steps(cfg, cfg.SOLVER.MAX_ITER):
        say_once(args, f"warning: {line}", sys.stderr)


def train(cfg: Any, args: argparse.Namespace) -> None:
    """What each process of a run does."""
    if args.selection is not None:
        register_selection(args.selection)  # again, where this is another process
    EvaluatingTrainer.trust_pickle = args.trust_pickle
    if args.eval_only:
        model = EvaluatingTrainer.build_model(cfg)
        checkpointer = WholeCheckpointer(model, cfg.OUTPUT_DIR, trust_pickle=args.trust_pickle)
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        EvaluatingTrainer.test(cfg, model)
        return
    trainer = EvaluatingTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train()
