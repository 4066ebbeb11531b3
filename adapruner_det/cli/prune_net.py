"""Learn which training images a detector can do without.

adapruner prune-net --config-file configs/voc_yolov3tiny.yaml ADAPRUNER.KEEP_RATIO 0.9
adapruner prune-net --config-file ... --resume            # go on with a killed run
adapruner prune-net --config-file lazy_config.py ADAPRUNER.KEEP_RATIO=0.9
torchrun --nproc_per_node 2 -m adapruner_det prune-net --config-file ...

OUTPUT_DIR/selection.json says what is kept, report.html shows it; the last line of the output
trains on it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch.distributed as dist

from ..command import beside, config_path, help_text, program, sibling_command, with_output
from ..detection.data.pictures import pictures_of
from ..detection.data.samples import SampleIndex
from ..detection.flagged import predictions_of_flagged
from ..detection.setup import check_pruning_inputs, load_config, run
from ..detection.task import make_task
from ..detection.training.lazy import named_as_in
from ..detection.training.processes import (
    is_first,
    num_processes,
    process_parser,
    say_once,
    warn_once,
)
from ..detection.training.run_state import PRUNE, run_identity
from ..detection.training.trainer import SELECTION_FILE, PruningTrainer
from ..errors import DataError, reported
from ..experiment.auto import settle_file
from ..report.summary import summarize
from ..selection import Selection
from ..settings import AUTO
from .arguments import add_report_switch, add_trust_switch, command_of_run, leave_report


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments, prune, and print the summary."""
    parser = process_parser(help_text(__doc__))
    add_trust_switch(parser)
    parser.prog = program("prune_net.py")
    add_report_switch(parser)
    args = parser.parse_args(argv)
    args.words = argv
    args.config_file = config_path(args.config_file)
    warn_once(args)
    with reported(), named_as_in(args.config_file):
        if args.eval_only:
            other = program("train_pruned.py")
            raise DataError(f"there is nothing to evaluate here: use {other} --eval-only")
        cfg = load_config(args.config_file, args.opts)
        args.command = command_of_run("prune_net.py", argv, args.config_file, args.opts)
        index = check_pruning_inputs(
            cfg,
            trust_pickle=args.trust_pickle,
            processes=num_processes(args),
            say=partial(say_once, args),
        )
        run(args, cfg, prune, index, identity=run_identity(PRUNE, cfg, index))
        if cfg.ADAPRUNER.DROP == AUTO and is_first(args):
            settle(cfg, args)


def prune(cfg: Any, args: argparse.Namespace, index: SampleIndex) -> None:
    """What each process of a run does; the first one prints the summary."""
    start = time.perf_counter()
    PruningTrainer.trust_pickle, PruningTrainer.settles = args.trust_pickle, True
    trainer = PruningTrainer(cfg, index)
    trainer.command = args.command
    trainer.resume_or_load(resume=args.resume)
    trainer.train()
    if cfg.ADAPRUNER.DROP == AUTO:  # what goes is found out once the run is over
        return
    if not dist.is_initialized() or dist.get_rank() == 0:
        seconds = time.perf_counter() - start
        step = next_step(cfg, args, trainer.selection_path)
        assert trainer.selection is not None  # it is made at the last step
        show(cfg, args, trainer.selection)
        print(summarize(trainer.selection, seconds, trainer.selection_path, step))


def settle(cfg: Any, args: argparse.Namespace) -> None:
    """Find out which end goes, and print the trials and the summary."""
    start = time.perf_counter()
    path = str(Path(cfg.OUTPUT_DIR) / SELECTION_FILE)
    task = make_task(args.config_file, args.opts, tested=False, trust_pickle=args.trust_pickle)
    selection, verdict = settle_file(task, Path(path))
    show(cfg, args, selection)
    print(verdict.text(task.metric))
    print(summarize(selection, time.perf_counter() - start, path, next_step(cfg, args, path)))


def show(cfg: Any, args: argparse.Namespace, selection: Selection) -> None:
    """Leave the report of ``selection``."""
    leave_report(
        args,
        "prune_net.py",
        args.words,
        selection,
        cfg.OUTPUT_DIR,
        lambda: pictures_of(selection),
        lambda: predictions_of_flagged(cfg, selection),
    )


def next_step(cfg: Any, args: argparse.Namespace, selection: str) -> str:
    """The command that trains on the selection, with this run's configuration."""
    words = ["--config-file", args.config_file] if args.config_file else []
    words += ["--selection", selection]
    words += ["--num-gpus", str(args.num_gpus)] if args.num_gpus != 1 else []
    words += ["--trust-pickle"] if args.trust_pickle else []
    folder = beside(cfg.OUTPUT_DIR)
    words += with_output(args.opts, folder, lazy=args.config_file.endswith(".py"))
    return sibling_command("train_pruned.py", words)
