"""Cut other keep ratios from a run that is done, without training.

    adapruner cut --selection output/selection.json --keep-ratio 0.95 0.9 0.8 0.7

Writes one selection a ratio, selection-keep95.json and so on, beside the run's own or into
--output-dir. The sets are nested, and each file says which keep ratio it was cut from. With --drop
another end of the samples goes: easy or hard ones, both, those with faults, or twins; the file is
then selection-easy-keep95.json. --drop auto finds out which on held-out training images, by some
25 trainings of the run's model for each ratio; it takes the run's configuration:

    adapruner cut --selection output/selection.json --keep-ratio 0.8 --drop auto \\
        --config-file configs/classification/digits.yaml

--suspects takes a list of images that go first, in the order of its lines: the one that the command
suspects wrote of this data set, or what you left of it. The others go as they would without it, and
the file is called selection-suspects-keep95.json.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from os.path import realpath
from pathlib import Path

import numpy as np

from ..command import config_path
from ..core import ENDS
from ..errors import DataError, reported
from ..experiment.auto import settle_run
from ..experiment.task import Task
from ..files import require_writable
from ..methods.adapruner import SUSPECT, drop_end, suspects_first
from ..report.summary import dropped_as
from ..report.suspects import read_list
from ..selection import Selection, check_keep_ratio, warnings_of
from ..settings import AUTO
from .arguments import add_trust_switch, as_keep_ratio, plain_parser, split_overrides
from .tasks import task_of


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments and write the cuts."""
    parser = plain_parser("cut.py", __doc__)
    parser.add_argument("--selection", type=Path, required=True, help="the .json of a run")
    parser.add_argument("--keep-ratio", nargs="+", required=True, metavar="RATIO")
    parser.add_argument("--output-dir", type=Path, help="by default where the selection is")
    parser.add_argument(
        "--drop",
        choices=(*ENDS, AUTO),
        default="",
        help="the end that goes, in place of what the run's objective would drop",
    )
    parser.add_argument(
        "--suspects", type=Path, metavar="CSV", help="a list, with a column key, of what goes first"
    )
    parser.add_argument(
        "--config-file", type=config_path, metavar="FILE", help="of the run, for --drop auto"
    )
    add_trust_switch(parser)
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="overrides of that configuration")
    words, overrides = split_overrides(list(sys.argv[1:] if argv is None else argv))
    args = parser.parse_args(words)
    with reported():
        folder = args.output_dir or args.selection.parent
        ratios = [as_keep_ratio(word) for word in args.keep_ratio]
        if args.drop == AUTO and not args.config_file:
            raise DataError("--drop auto trains the run's model: give its --config-file")
        overrides = [*args.opts, *overrides]
        if args.drop != AUTO and (args.config_file or args.trust_pickle or overrides):
            spare = overrides or ["--config-file" if args.config_file else "--trust-pickle"]
            raise DataError(
                f"{' '.join(spare)} has no effect: a configuration, its overrides and weights are "
                "for --drop auto, any other cut reads the selection alone"
            )
        if args.drop == AUTO and args.suspects:
            raise DataError(
                "--suspects has no effect on --drop auto: name an end, or leave --drop out"
            )
        make_task = partial(task_of, args.config_file, overrides, args.trust_pickle)
        write_cuts(args.selection, ratios, folder, args.drop, args.suspects, make_task)


def write_cuts(
    path: Path,
    keep_ratios: list[float],
    output_dir: Path,
    drop: str = "",
    suspects: Path | None = None,
    make_task: Callable[[], Task] | None = None,
) -> None:
    """Write the cuts of the run at ``path``, and say so.

    What the list ``suspects`` names goes first. The end ``auto`` trains what ``make_task`` makes.
    """
    run = Selection.load(path)
    what = "-".join(filter(None, (drop, "suspects" if suspects else "")))
    places = output_files(path, keep_ratios, output_dir, what)
    require_writable(output_dir, "--output-dir")
    made_for = run.keep_ratio if run.cut_from is None else run.cut_from
    cuts = {}
    if drop == AUTO and make_task is not None:
        logging.basicConfig(level=logging.INFO, format="%(message)s")
        task = make_task()
        for place, keep_ratio in places.items():
            work = output_dir / AUTO
            cuts[place], verdict = settle_run(task, run, keep_ratio, work)
            print(f"keep ratio {keep_ratio:g}:\n{verdict.text(task.metric)}")
    else:
        if suspects is not None:
            listed = read_list(suspects, run.columns["key"].tolist())
            run, drop = suspects_first(drop_end(run, drop, run.keep_ratio), listed), ""
        cuts = {place: drop_end(run, drop, keep_ratio) for place, keep_ratio in places.items()}
    for place, cut in cuts.items():  # all are checked, then written
        why = dropped_as(cut)
        print(
            f"{cut.save(place)}: {cut.num_kept} of {cut.num_samples} kept, "
            f"cut from a run made for keep ratio {made_for:g}{_suspects_gone(cut)}"
            + (f"; dropped as {why}" if why else "")
        )
        for line in warnings_of(cut):
            sys.stderr.write(f"warning: {place}: {line}\n")


def _suspects_gone(selection: Selection) -> str:
    """How many of those on a list have gone; nothing where there is none."""
    if SUSPECT not in selection.columns:
        return ""
    listed, kept = selection.columns[SUSPECT], selection.columns["kept"]
    return f"; {np.count_nonzero(listed & ~kept)} of {np.count_nonzero(listed)} suspects dropped"


def output_files(
    path: Path, keep_ratios: list[float], output_dir: Path, what: str = ""
) -> dict[Path, float]:
    """File → keep ratio, of the cuts of the run at ``path``; ``what`` goes first is in its name.

    Raises:
        DataError: a ratio outside (0, 1], two ratios that would share a file, or the run's own.
    """
    places: dict[Path, float] = {}
    for keep_ratio in keep_ratios:
        check_keep_ratio(keep_ratio)
        end = f"-{what}" if what else ""
        place = output_dir / f"{path.stem}{end}-keep{100 * keep_ratio:g}.json"
        if places.setdefault(place, keep_ratio) != keep_ratio:
            raise DataError(
                f"the keep ratios {places[place]} and {keep_ratio} would both be written to "
                f"{place}; give ratios of at most six digits"
            )
        for suffix in (".json", ".npz"):
            if realpath(place.with_suffix(suffix)) == realpath(path.with_suffix(suffix)):
                raise DataError(f"{place} is the run that is cut; give another --output-dir")
    return places
