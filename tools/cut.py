#!/usr/bin/env python3
"""Cut other keep ratios from a run that is done, without training again.

    tools/cut.py --selection output/selection.json --keep-ratio 0.95 0.9 0.8 0.7

Writes one selection a ratio, selection-keep95.json and so on, beside the run's own or into
--output-dir. The sets are nested, and each file says which keep ratio it was cut from.
"""

import argparse
from pathlib import Path

from adapruner_det.errors import reported
from adapruner_det.selection import Selection


def main(path: Path, keep_ratios: list[float], output_dir: Path) -> None:
    run = Selection.load(path)
    for cut in [run.cut(keep_ratio) for keep_ratio in keep_ratios]:  # all are checked, then written
        name = f"{path.stem}-keep{100 * cut.keep_ratio:g}.json"
        print(
            f"{cut.save(output_dir / name)}: {cut.num_kept} of {cut.num_samples} kept, "
            f"cut from a run made for keep ratio {cut.cut_from:g}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--selection", type=Path, required=True, help="the .json of a run")
    parser.add_argument("--keep-ratio", type=float, nargs="+", required=True, metavar="RATIO")
    parser.add_argument("--output-dir", type=Path, help="by default where the selection is")
    args = parser.parse_args()
    with reported():
        main(args.selection, args.keep_ratio, args.output_dir or args.selection.parent)
