"""Compare methods: train on all samples and on what each method keeps, seed by seed.

    adapruner compare --config-file configs/demo_yolov3tiny.yaml --num-seeds 3
    adapruner compare run --config-file FILE --methods random 'adapruner[WARMUP_EPOCHS=0]' \\
        --keep-ratios 0.9 0.6 --processes 4 --folder output/grid SOLVER.BASE_LR 0.01
    adapruner compare --config-file configs/own_yolov3tiny.yaml \\
        --transfer configs/own_faster_rcnn.yaml ...
    adapruner compare --grid configs/grids/digits_transfer.yaml
    adapruner compare list ...    says which cells are done, running and waiting
    adapruner compare table ...   tabulates what is done, also while others run

Without list, run or table in front it runs, then tabulates. It can be killed and called again at
any time, and called on several machines that share --folder: each does what no other has done or is
doing. Results are in cells.json, table.md, changes.md and, as pictures, accuracy-*.png there.
Overrides, KEY VALUE, come last. With --transfer the first configuration's model selects and the
other's is trained. A --grid names several tasks, and all else that the options here do not.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..command import OUTPUT_KEYS, config_path
from ..errors import DataError, reported
from ..experiment.board import CellsLeft, Part, board_of
from ..experiment.grid import Grid
from ..experiment.plan import Plan, TaskPlan, read_plan
from ..experiment.results import write_results
from ..experiment.running import run_parts, submit
from ..experiment.task import Task
from ..experiment.transfer import Transfer
from ..files import require_writable
from ..methods import method_names
from ..methods.base import dynamic_names
from .arguments import (
    TRANSFER_OPTIONS,
    add_trust_switch,
    as_keep_ratio,
    log_to,
    plain_parser,
    split_overrides,
)
from .tasks import KINDS, guess_task, make, settings

NUM_SEEDS = 3
ACTIONS = ("list", "run", "table")

#: Of a job, unless it is said.
MINUTES = 240
#: An option of jobs → what submitit calls it.
_JOBS = {
    "slurm_partition": "slurm_partition",
    "slurm_minutes": "timeout_min",
    "slurm_gpus": "gpus_per_node",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments, and list, run or tabulate the grids that they describe."""
    words = list(sys.argv[1:] if argv is None else argv)
    action = words.pop(0) if words and words[0] in ACTIONS else "run, then table"
    words, overrides = split_overrides(words)
    args = _parser().parse_args(words)
    with reported():
        if words and not words[0].startswith("-"):
            raise DataError(f"{words[0]!r} is no action; there are {', '.join(ACTIONS)}")
        counts = (args.processes, args.num_seeds, args.slurm, args.slurm_minutes, args.slurm_gpus)
        if min(count for count in counts if count is not None) < 1:
            raise DataError(
                "--processes, --num-seeds, --slurm, --slurm-minutes and --slurm-gpus must be 1 or "
                "more"
            )
        _require_jobs(args, action)
        if args.seeds and args.num_seeds is not None:
            raise DataError("give either --seeds or --num-seeds")
        plan = plan_of(args, (*args.opts, *overrides))
        parts = [Part(grid_of(plan, own, args), make_of(own, args)) for own in plan.tasks]
        tasks = [part.make_task() for part in parts]
        root = Path(plan.folder or settings_of(plan.tasks[0], args.task).OUTPUT_DIR)
        board, _ = board_of(parts, tasks, root)
        if action == "list":
            print("\n".join(f"{cell.name}  {board.state(cell)}" for cell in board.cells))
            return
        require_writable(root, "--folder")  # which works beside --grid too
        if "run" in action and args.slurm:
            print(_submit(args, parts, root))
            return
        try:
            if "run" in action:
                log_to(root / "log.txt")
                say(f"{len(board.cells)} cells in {root}, with the log in log.txt")
                run_parts(parts, root, processes=args.processes, tasks=tasks)
        except CellsLeft as left:  # what there is makes a table all the same
            try:
                _tabulate(plan, parts, tasks, root, action)
            finally:
                raise left
        _tabulate(plan, parts, tasks, root, action)


def _tabulate(
    plan: Plan, parts: Sequence[Part], tasks: Sequence[Task], root: Path, action: str
) -> None:
    """Write and print what there is of the grids, where the action asks for that."""
    if "table" in action:
        pairs = zip(parts, tasks, strict=True)
        boards = [board_of([part], [task], root)[0] for part, task in pairs]
        names = [own.name for own in plan.tasks]
        print(write_results(root, list(zip(names, boards, tasks, strict=True))))
        say(f"The tables, pictures and what changed in the data are in {root}.")


def say(text: str) -> None:
    """Where things are, beside what is printed, which may go into a file."""
    print(text, file=sys.stderr, flush=True)


def plan_of(args: argparse.Namespace, overrides: Sequence[str]) -> Plan:
    """What the arguments ask for: a file's plan, or one of one task; options come before a file.

    Raises:
        DataError: neither a configuration nor a grid, or both, or what :func:`read_plan` raises.
    """
    if bool(args.grid) == bool(args.config_file):
        raise DataError("give --config-file FILE, or --grid FILE for several tasks")
    train_on = args.transfer or ""
    more = _transfer_options(args.transfer_opts, train_on)
    if args.grid:
        plan = read_plan(args.grid)
        given = plan.tasks
    else:
        plan = Plan(())
        given = (TaskPlan(args.config_file),)
    tasks = []
    for task in given:
        other = (train_on, more) if train_on else (task.train_on, task.train_overrides)
        tasks.append(TaskPlan(task.config_file, task.name, (*task.overrides, *overrides), *other))
        has_ratios, folder = args.keep_ratios or plan.keep_ratios, args.folder or plan.folder
        _require_effect(tasks[-1], has_ratios=bool(has_ratios), has_folder=bool(folder))
    ratios = [as_keep_ratio(word) for word in args.keep_ratios or ()]
    counted = () if args.num_seeds is None else range(args.num_seeds)
    return Plan(
        tasks=tuple(tasks),
        methods=tuple(args.methods or plan.methods or ("random", "adapruner")),
        keep_ratios=tuple(ratios or plan.keep_ratios),
        seeds=tuple(args.seeds or counted or plan.seeds or range(NUM_SEEDS)),
        budgets=tuple(args.budgets or plan.budgets or ("epochs",)),
        dynamic=tuple(args.dynamic or plan.dynamic),
        folder=args.folder or plan.folder,
    )


def _require_jobs(args: argparse.Namespace, action: str) -> None:
    """Raise a DataError for an option of jobs where none are submitted."""
    given = [f"--{name.replace('_', '-')}" for name in _JOBS if getattr(args, name) is not None]
    if given and args.slurm is None:
        raise DataError(f"{given[0]} is of the jobs that --slurm JOBS submits: give that too")
    if args.slurm is not None and args.processes > 1:
        raise DataError("--processes are of this machine, and --slurm submits jobs: give one")
    if args.slurm is not None and "run" not in action:
        raise DataError(f"--slurm submits what is to be run: leave it out of {action}")


def _require_effect(task: TaskPlan, *, has_ratios: bool, has_folder: bool) -> None:
    """Raise a DataError for an override that a comparison would pass over."""
    own = _keys(task.overrides, task.config_file)
    other = _keys(task.train_overrides, task.train_on)
    for seed in sorted({"SEED", "train.seed"} & (own | other)):
        raise DataError(f"{seed} has no effect in a comparison: give --seeds, or seeds in the grid")
    for key in sorted({"ADAPRUNER.KEEP_RATIO", *OUTPUT_KEYS} & other):
        raise DataError(f"{key} has no effect for the trained model alone: give it for both")
    if "ADAPRUNER.KEEP_RATIO" in own and has_ratios:
        raise DataError(
            "ADAPRUNER.KEEP_RATIO has no effect beside --keep-ratios, or keep_ratios in the grid: "
            "leave one of them out"
        )
    for key in sorted({*OUTPUT_KEYS} & own) if has_folder else ():
        raise DataError(f"{key} has no effect beside --grid or --folder: give --folder")


def _keys(overrides: Sequence[str], config_file: str) -> set[str]:
    """What overrides of a yaml, or of a LazyConfig, set."""
    if config_file.endswith(".py"):
        return {word.lstrip("+").partition("=")[0] for word in overrides}
    return {*overrides[::2]}


def _transfer_options(words: Sequence[str], train_on: str) -> tuple[str, ...]:
    """KEY=VALUE each, as the configuration takes them: one word of a LazyConfig, else two."""
    if words and not train_on:
        raise DataError("--transfer-opts are overrides of what --transfer names: give that too")
    if wrong := [word for word in words if "=" not in word]:
        raise DataError(f"--transfer-opts has {wrong[0]!r}; its words are KEY=VALUE")
    if train_on.endswith(".py"):
        return tuple(words)
    return tuple(part for word in words for part in word.split("=", 1))


def grid_of(plan: Plan, task: TaskPlan, args: argparse.Namespace) -> Grid:
    """What is compared on one task; without keep ratios its configuration's."""
    ratios = plan.keep_ratios or (settings_of(task, args.task).ADAPRUNER.KEEP_RATIO,)
    return Grid(plan.methods, ratios, plan.seeds, plan.budgets, plan.dynamic)  # type: ignore[arg-type]


def settings_of(task: TaskPlan, kind: str | None) -> Any:
    """The configuration that selects, whose KEEP_RATIO and OUTPUT_DIR a grid takes."""
    kind = kind or guess_task(task.config_file, task.overrides)
    return settings(kind, task.config_file, task.overrides)


def make_of(task: TaskPlan, args: argparse.Namespace) -> functools.partial[Task]:
    """What makes the task, and can be sent to another process."""
    kind, trust = args.task or guess_task(task.config_file, task.overrides), args.trust_pickle
    chooser = functools.partial(make, kind, task.config_file, task.overrides, trust)
    if not task.train_on:
        return chooser
    overrides = (*task.overrides, *task.train_overrides)
    other = guess_task(task.train_on, overrides)
    learner = functools.partial(make, other, task.train_on, overrides, trust)
    return functools.partial(make_transfer, chooser, learner)


def make_transfer(chooser: functools.partial[Task], learner: functools.partial[Task]) -> Task:
    """A task of two models, from what makes each."""
    return Transfer(chooser(), learner())


def _submit(args: argparse.Namespace, parts: Sequence[Part], root: Path) -> str:
    chosen = {own: getattr(args, name) for name, own in _JOBS.items()}
    parameters = {"timeout_min": MINUTES} | {n: own for n, own in chosen.items() if own is not None}
    jobs = submit(parts, root, args.slurm, **parameters)
    return f"submitted {', '.join(jobs)}; list, in place of run, says how far they are"


def _parser() -> argparse.ArgumentParser:
    parser = plain_parser("compare.py", __doc__)
    add = parser.add_argument
    add("--config-file", type=config_path, metavar="FILE", help="of a detector or a classifier")
    add("--grid", type=config_path, metavar="FILE", help="a yaml with tasks, methods and the rest")
    add("--transfer", type=config_path, metavar="FILE", help="trained on what the first one keeps")
    add(
        TRANSFER_OPTIONS,
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="overrides of --transfer alone; those that come last hold for both",
    )
    add("--task", choices=KINDS, help="by default what the configuration is of")
    add(
        "--methods",
        nargs="+",
        metavar="METHOD",
        help=f"of {', '.join(method_names())}; default: random adapruner",
    )
    add("--keep-ratios", nargs="+", metavar="RATIO", help="default: KEEP_RATIO")
    add("--seeds", type=int, nargs="+", metavar="SEED")
    add("--num-seeds", type=int, metavar="N", help=f"seeds 0 to N - 1 ({NUM_SEEDS})")
    add("--budgets", nargs="+", metavar="BUDGET", help="epochs (the default), steps or both")
    add(
        "--dynamic",
        nargs="+",
        metavar="NAME",
        help=f"references that prune while they train: {', '.join(dynamic_names())}",
    )
    add("--folder", help="of the grid; default: OUTPUT_DIR")
    add("--processes", type=int, default=1, help="side by side, of one thread each")
    add("--slurm", type=int, metavar="JOBS", help="submit so many jobs instead, with submitit")
    add("--slurm-partition", metavar="NAME")
    minutes = f"of a job ({MINUTES}); it goes on in another"
    add("--slurm-minutes", type=int, metavar="M", help=minutes)
    add("--slurm-gpus", type=int, metavar="N", help="of a job")
    add_trust_switch(parser)
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides")
    return parser
