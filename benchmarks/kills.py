"""Kill pruning runs at random moments, resume them, and compare with runs that nobody touched.

    python benchmarks/kills.py                 # 10 SIGKILLs a task, checkpoints every 20 steps
    python benchmarks/kills.py --kills 20 --write    # and writes results/kills.md

A run is killed at a moment drawn from the time that a whole run takes, resumed with --resume, which
is killed too as often as a coin says, and so on until one is done. About half of the kills wait
from their moment on for a file that is half-written. selection.json, selection.npz and the final
weights must then be those of the uninterrupted run, byte for byte.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from bad_inputs import toys
from bad_inputs.judge import fork, run_tool, warm
from tabulate import tabulate
from tqdm import tqdm

RESULTS = Path(__file__).parent / "results" / "kills.md"
PERIOD = 20
CONFIG = ("--config-file", "config.yaml")


def detection(folder: Path) -> None:
    """A detector of 240 steps."""
    settings = {"SOLVER.MAX_ITER": 240, "SOLVER.CHECKPOINT_PERIOD": PERIOD}
    toys.voc(folder, {**settings, "DATASETS.TEST": []})


def classification(folder: Path) -> None:
    """A classifier of 4 epochs of 60 steps."""
    settings = {
        "SOLVER.EPOCHS": 4,
        "SOLVER.BATCH_SIZE": 2,
        "SOLVER.CHECKPOINT_PERIOD": PERIOD,
        "MODEL.WIDTH": 32,
    }
    toys.image_folder(folder, settings)
    for i in range(108):
        own = folder / toys.DATA / "train" / toys.CLASSES[i % 2]
        toys.picture(100 + i, 24, 24).save(own / f"more{i:03}.png", compress_level=1)


#: Task → what writes its input, its tool, and the file of its final weights.
TASKS = {
    "detection": (detection, "prune_net.py", "model_final.pth"),
    "classification": (classification, "prune_cls.py", "model.pt"),
}


@dataclass
class Chain:
    """A run that was killed and resumed until it was done.

    Attributes:
        kills: how often it was killed.
        writing: how many of the kills left a half-written file.
        codes: exit codes other than 0 of the parts that were not killed.
        differ: which of the compared files are other ones.
    """

    kills: int = 0
    writing: int = 0
    codes: list[int] = field(default_factory=list)
    differ: list[str] = field(default_factory=list)


def half_written(root: Path) -> bool:
    """Whether a file of the run in ``root`` is being written."""
    out = root / "in" / toys.OUT
    return any(out.glob(".*~")) or any(out.glob("*.part*"))


def run_part(
    root: Path, tool: str, resume: bool, kill_after: float | None, in_write: bool = False
) -> int | None:
    """One process of a run in ``root``: its exit code, or None if it was killed.

    With ``in_write`` it is killed at the first moment after ``kill_after`` that finds a file
    half-written.
    """
    args = (*(("--resume",) if resume else ()), *CONFIG)
    pid = fork(lambda _: run_tool(tool, args), root, fresh=False)
    start = time.monotonic()
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        due = kill_after is not None and time.monotonic() - start >= kill_after
        if due and (not in_write or half_written(root)):
            os.killpg(pid, signal.SIGKILL)
            status = os.waitpid(pid, 0)[1]
            code = os.waitstatus_to_exitcode(status)
            return None if code == -signal.SIGKILL else code
        time.sleep(0.0005)


def prepared(root: Path, task: str) -> Path:
    (root / "in").mkdir(parents=True)
    TASKS[task][0](root / "in")
    return root


def chain(
    root: Path, task: str, whole: Path, seconds: float, left: int, rng: random.Random
) -> Chain:
    """A run that is killed at least once and at most ``left`` times, compared with ``whole``."""
    made, tool, out = Chain(), TASKS[task][1], root / "in" / toys.OUT
    prepared(root, task)
    while True:
        again = made.kills == 0 or (made.kills < left and rng.random() < 0.5)
        moment = rng.uniform(0, seconds) if again else None
        code = run_part(root, tool, made.kills > 0, moment, in_write=rng.random() < 0.5)
        if code is None:
            made.kills += 1
            made.writing += half_written(root)
            continue
        if code:
            made.codes.append(code)
        break
    for name in ("selection.json", "selection.npz", TASKS[task][2]):
        mine = out / name
        if not mine.is_file() or mine.read_bytes() != (whole / name).read_bytes():
            made.differ.append(name)
    return made


def try_task(task: str, kills: int, work: Path, rng: random.Random) -> tuple[list[Chain], float]:
    """Chains with ``kills`` kills together, and the seconds of an uninterrupted run."""
    whole = prepared(work / "whole", task)
    start = time.monotonic()
    code = run_part(whole, TASKS[task][1], False, None)
    seconds = time.monotonic() - start
    if code:
        said = (whole / "stderr").read_text()[-2000:]
        raise SystemExit(f"the uninterrupted run of {task} ended with {code}:\n{said}")
    chains: list[Chain] = []
    with tqdm(total=kills, desc=task, unit="kill", disable=None) as bar:
        while (left := kills - sum(c.kills for c in chains)) > 0:
            root = work / f"chain{len(chains)}" / "run"
            chains.append(chain(root, task, whole / "in" / toys.OUT, seconds, left, rng))
            bar.update(chains[-1].kills)
            if not (chains[-1].differ or chains[-1].codes):
                shutil.rmtree(root.parent)
            if chains[-1].kills == 0:  # it ended before its moment came
                shutil.rmtree(root.parent, ignore_errors=True)
                chains.pop()
    return chains, seconds


def table(found: dict[str, tuple[list[Chain], float]], form: str) -> str:
    rows = []
    for task, (chains, seconds) in found.items():
        same = [
            f"{sum(name not in c.differ for c in chains)} of {len(chains)}"
            for name in ("selection.json", "selection.npz", TASKS[task][2])
        ]
        kills, writing = (sum(getattr(c, name) for c in chains) for name in ("kills", "writing"))
        rows.append([task, f"{seconds:.1f}", kills, writing, len(chains), *same])
    head = ["task", "seconds", "kills", "while writing", "runs", "same .json", "same .npz"]
    return tabulate(rows, [*head, "same weights"], tablefmt=form, disable_numparse=True)


def write(found: dict[str, tuple[list[Chain], float]], command: Sequence[str]) -> None:
    lines = [
        "# Kills",
        "",
        f"Made by `{' '.join(command)}`, which says what is compared; {os.cpu_count()} cores, one",
        f"thread, a checkpoint every {PERIOD} steps. While writing: a half-written file was left.",
        "",
        table(found, "pipe"),
    ]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text("\n".join(lines) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=10, help="of each task")
    parser.add_argument("--task", nargs="+", choices=TASKS, default=list(TASKS))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave runs that differ there")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    args = parser.parse_args()
    list(warm())
    found = {}
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        for task in args.task:
            work = (args.keep or Path(folder)) / task
            shutil.rmtree(work, ignore_errors=True)
            found[task] = try_task(task, args.kills, work.resolve(), random.Random(args.seed))
    print(table(found, "simple"))
    bad = [(task, c) for task, (chains, _) in found.items() for c in chains if c.differ or c.codes]
    for task, c in bad:
        print(f"{task}: differ {c.differ}, exit codes {c.codes}")
    if args.write:
        words = [f"--kills {args.kills}", f"--seed {args.seed}", "--write"]
        write(found, ["python benchmarks/kills.py", *words])
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
