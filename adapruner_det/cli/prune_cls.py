"""Learn which training images a classifier can do without.

    adapruner prune-cls                                      # scikit-learn's digits, seconds
    adapruner prune-cls --config-file configs/classification/cifar10_resnet18.yaml \\
        ADAPRUNER.KEEP_RATIO 0.9 OUTPUT_DIR output/c10
    adapruner prune-cls --resume --config-file ...           # go on with a run that was stopped
    adapruner prune-cls --config-file ... --without warmup   # the paper's Tables 4 and 5

OUTPUT_DIR/selection.json says what is kept, report.html shows it. The overrides stand last.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from . import classifying  # before the rest: it silences what others say as they are imported

# isort: split
from ..classification import run
from ..classification.checkpoint import SELECTION_FILE
from ..classification.config import ABLATIONS, ablate, load_config
from ..classification.data import load_data
from ..classification.pictures import pictures_of
from ..classification.task import ClassificationTask
from ..command import config_path
from ..core import kept_count
from ..experiment.auto import settle_file
from ..report.summary import summarize
from ..settings import AUTO
from .arguments import add_report_switch, command_of_run, leave_report


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments, prune, and print the summary."""
    parser = classifying.parser("prune_cls.py", __doc__)
    parser.add_argument("--without", choices=ABLATIONS, help="leave one part of the method out")
    add_report_switch(parser)
    args = parser.parse_args(argv)
    start = time.perf_counter()
    with classifying.running():
        cfg = load_config(config_path(args.config_file), args.opts)
        if args.without:
            ablate(cfg, args.without)
        data = load_data(cfg)
        classifying.warn_of_few_steps(cfg, kept_count(len(data.train), cfg.ADAPRUNER.KEEP_RATIO))
        selection = run.prune(
            cfg,
            data.train,
            resume=args.resume,
            command=command_of_run("prune_cls.py", argv, args.config_file, args.opts),
        )
        path = Path(cfg.OUTPUT_DIR) / SELECTION_FILE
        if cfg.ADAPRUNER.DROP == AUTO:
            task = ClassificationTask(cfg, data)
            selection, verdict = settle_file(task, path)
            print(verdict.text(task.metric))
        next_step = classifying.train_command(args.config_file, path, args.opts, cfg.OUTPUT_DIR)
        seconds = time.perf_counter() - start
        leave_report(
            args,
            "prune_cls.py",
            argv,
            selection,
            cfg.OUTPUT_DIR,
            lambda: pictures_of(data.train.kept(selection.cut(1.0))),
        )
        print(summarize(selection, seconds, str(path), next_step))
