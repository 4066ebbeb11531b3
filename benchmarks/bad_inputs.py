"""Every kind of bad input, to every tool: is each one read rightly, or refused in one clear line?

    python benchmarks/bad_inputs.py                    # all; exits with 1 if any failed
    python benchmarks/bad_inputs.py --only voc-image   # those whose name or kind has this in it
    python benchmarks/bad_inputs.py --list
    python benchmarks/bad_inputs.py --write            # and writes results/bad_inputs.md

A case is an input that a script writes, a command, and what is right: that the tool ends well and
what it trained on is what the input says; or that it exits with 2 and one line on stderr that
begins with "error: " and names what to mend, before a file is written. A traceback, a word too
little, a file too much or a wait without end is a failure.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from bad_inputs.case import Outcome
from bad_inputs.corpus import corpus
from bad_inputs.judge import clean, run_all, warm
from tabulate import tabulate
from tqdm import tqdm

RESULTS = Path(__file__).parent / "results" / "bad_inputs.md"
STATUSES = ("right", "one clear line", "failed")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[""], metavar="TEXT", help="in name or kind")
    parser.add_argument("--list", action="store_true", help="the names, and run nothing")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="cases side by side")
    parser.add_argument("--timeout", type=float, default=60, help="seconds a case may take")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave all inputs there")
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    return parser.parse_args()


def table(outcomes: list[Outcome], form: str = "simple") -> str:
    """Tried, right, one clear line and failed, of each kind and of all."""
    rows = []
    for kind in [*dict.fromkeys(o.case.kind for o in outcomes), "all"]:
        found = Counter(o.status for o in outcomes if kind in (o.case.kind, "all"))
        rows.append([kind, found.total(), *(found[status] for status in STATUSES)])
    return tabulate(rows, ["kind", "tried", *STATUSES], tablefmt=form)


def failures(outcomes: list[Outcome]) -> list[str]:
    return [f"{o.case.name}: {o.reason}" for o in outcomes if o.status == "failed"]


def write(outcomes: list[Outcome], seconds: float) -> None:
    wrong = failures(outcomes)
    tools = sorted(Counter(o.case.tool for o in outcomes).items())
    lines = [
        "# Bad inputs",
        "",
        "Made by `python benchmarks/bad_inputs.py --write`, which says what each word means.",
        f"{len(outcomes)} cases in {seconds:.0f} s on {os.cpu_count()} cores. "
        + "By tool: "
        + ", ".join(f"{tool} {count}" for tool, count in tools)
        + ".",
        "",
        table(outcomes, "pipe"),
        "",
        *(["Failed:", "", *(f"- {line}" for line in wrong)] if wrong else ["None failed."]),
    ]
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text("\n".join(lines) + "\n")


def main() -> int:
    args = parse_args()
    cases, bases = corpus()
    cases = [c for c in cases if any(text in f"{c.kind} {c.name}" for text in args.only)]
    if args.list:
        print("\n".join(f"{case.kind:<28} {case.name:<44} {case.tool}" for case in cases))
        return 0
    list(warm())
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="bad-inputs-", ignore_cleanup_errors=True) as folder:
        work = (args.keep or Path(folder)).resolve()
        work.mkdir(parents=True, exist_ok=True)
        try:
            with tqdm(total=len(cases), unit="case", disable=None) as bar:
                outcomes = run_all(
                    cases,
                    bases,
                    work,
                    args.processes,
                    args.timeout,
                    args.keep is not None,
                    lambda outcome: bar.update(),
                )
        finally:
            clean(work, keep=True)
    seconds = time.perf_counter() - start
    print(table(outcomes))
    wrong = failures(outcomes)
    print("\n".join(["", *wrong, f"{len(outcomes)} cases in {seconds:.0f} s"]))
    if args.write:
        write(outcomes, seconds)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
