"""This project's methods in OmniSelect-Benchmark, on its task of process faults (CPU, no download).

    git clone https://github.com/qzkinhit/OmniSelect-Benchmark FOLDER
    python benchmarks/omniselect/run.py FOLDER --out benchmarks/results/omniselect_tep.jsonl
    python benchmarks/omniselect/run.py --table benchmarks/results/omniselect_tep.jsonl

The benchmark makes the pool, plants its noise, trains and evaluates; README.md beside this file
says how a method of ours takes part. What is done is in the file already and is not done again.
"""

from __future__ import annotations

import argparse
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from adapruner_det.experiment.tables import gap, interval_text, spread

ROOT = Path(__file__).resolve().parents[2]
TASK = "scripts/run_tep_experiment.py"
#: Its own methods, as its task calls them, and ours, as `adapruner compare` does.
THEIRS = (
    "full random coreset auth_only influence_only herding kcenter el2n grand ccs semdedup density"
)
OURS = (
    "random stratified adapruner adapruner[OBJECTIVE=inclusion] forgetting el2n grand herding "
    "glister prototypes aum aum-clean ccs dyn-unc tdds dual dual-beta d2 moderate k-center "
    "semdedup image-loss"
)
#: The setting of the results that the benchmark publishes of this task.
SETTING = {"MODEL": "mlp", "PAIRED_RNG": "1", "BUDGET_FRAC": "0.3", "NOISE_FRAC": "0.4"}
#: Whose place a method of ours takes: it is given features, labels, how many to keep and a seed.
PLACE = "grand_expected", "grand"


def main() -> None:
    """Read the arguments, and run what is not done, or print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path, nargs="?", help="of OmniSelect-Benchmark")
    parser.add_argument("--out", type=Path, help="a line of JSON a method and seed")
    parser.add_argument("--table", type=Path, help="such a file, to print")
    parser.add_argument("--ours", nargs="*", default=OURS.split())
    parser.add_argument("--theirs", nargs="*", default=THEIRS.split())
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--within", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.table:
        print(table([json.loads(line) for line in args.table.read_text().splitlines()]))
    elif args.within:
        take_part(args.checkout, args.ours)
    elif args.checkout is None or args.out is None:
        parser.error("give the checkout and --out, or --table")
    else:
        run(args)


def run(args: argparse.Namespace) -> None:
    """One process a seed and party, each of which appends its rows."""
    rows = (
        [json.loads(line) for line in args.out.read_text().splitlines()]
        if args.out.exists()
        else []
    )
    done = {(row["by"], row["method"], row["seed"]) for row in rows}
    for seed in args.seeds:
        for by, names in (("theirs", args.theirs), ("ours", args.ours)):
            left = [name for name in names if (by, name, seed) not in done]
            if left:
                found = within(args.checkout, by, left, seed)
                with args.out.open("a") as file:
                    file.writelines(
                        json.dumps({"by": by, "seed": seed, **row}) + "\n" for row in found
                    )


def within(checkout: Path, by: str, names: list[str], seed: int) -> list[dict[str, Any]]:
    """The benchmark's rows of these methods, under their own names."""
    called = names if by == "theirs" else [PLACE[1]] * len(names)
    about = {"METHODS": ",".join(called), "SEED": str(seed), "RUN_ID": f"adapruner-{by}"}
    path = os.pathsep.join([str(ROOT), str(checkout / "src")])
    environment = {**os.environ, **SETTING, **about, "PYTHONPATH": path}
    command = [sys.executable, __file__, str(checkout), "--within"]
    command += ["--ours", *(names if by == "ours" else [])]
    subprocess.run(command, check=True, env=environment)
    (place,) = checkout.glob(f"outputs/tep/*/run_id=adapruner-{by}-*/seed_{seed}/results.json")
    rows = json.loads(place.read_text())["results"]
    return [{**row, "method": name} for name, row in zip(names, rows, strict=True)]


def take_part(checkout: Path, ours: list[str]) -> None:
    """Run the benchmark's task here; where it asks for GraNd it gets our methods, one a time."""
    if ours:
        import mmdataselect.selectors.external_baselines as baselines

        setattr(baselines, PLACE[0], Chooser(ours))
    script = checkout / TASK
    sys.argv = [str(script)]
    runpy.run_path(str(script), run_name="__main__")


class Chooser:
    """Selects by one of ``names`` after the other, on evidence that they share."""

    def __init__(self, names: list[str]) -> None:
        self._names, self._evidence = iter(names), None

    def __call__(
        self, vectors: np.ndarray, labels: np.ndarray, k: int, *, seed: int = 0
    ) -> list[int]:
        from adapruner_det.experiment.grid import parse_method
        from adapruner_det.methods import select
        from benchmarks.omniselect.evidence import PoolEvidence

        if self._evidence is None:
            self._evidence = PoolEvidence(vectors, labels, seed)
        method, options = parse_method(next(self._names), self._evidence.options)
        chosen = select(method.name, self._evidence.with_options(options), k / len(labels))
        return [int(i) for i in np.flatnonzero(chosen.columns["kept"])]


def table(rows: list[dict[str, Any]]) -> str:
    """Macro-F1, mean ± sd over the seeds, beside the benchmark's random; share of unspoilt samples.

    Differences are paired by seed, in points, with the 95% interval of Student's t.
    """
    drawn = {r["seed"]: r["f1"] for r in rows if (r["by"], r["method"]) == ("theirs", "random")}
    lines = []
    for by, method in dict.fromkeys((row["by"], row["method"]) for row in rows):
        own = [row for row in rows if (row["by"], row["method"]) == (by, method)]
        values = [100 * row["f1"] for row in own]
        pairs = [100 * (row["f1"] - drawn[row["seed"]]) for row in own if row["seed"] in drawn]
        against = ["", ""]
        if (by, method) != ("theirs", "random") and pairs:
            found = gap(pairs)
            against = [interval_text(found), f"{found.ahead} of {len(pairs)}"]
        clean = f"{100 * np.mean([row['clean%'] for row in own]):.0f}"
        line = [method, by, own[0]["n"], spread(values), *against, clean]
        lines.append((-np.mean(values), line))
    head = ["method", "by", "kept", "macro-F1", "against random, 95%", "ahead in", "unspoilt %"]
    ranked = [line for _, line in sorted(lines, key=lambda pair: pair[0])]
    return tabulate(ranked, head, tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    main()
