"""Show what a selection does to the classes: t-SNE, Dunn index, distances.

    adapruner analyze --selection output/selection.json --features features.npy --output output/look
    adapruner analyze --selection output/selection.json --output output/look \\
        --config-file configs/classification/mnist_resnet18.yaml --weights output/full \\
        --weights-of-kept output/kept

Features are (N, D) numbers of all samples in the order of their keys, from a file, or those of a
classifier: --weights is the OUTPUT_DIR of a training on all images, --weights-of-kept that of one
on the kept ones. Writes embedding.png, embedding.svg, clusters.md and embedding.npz. Lengths in
t-SNE's plane hang on its seed and on how many points there are: give several --seeds, and mind the
line of as many samples drawn at random. Overrides, KEY VALUE, come last.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..analysis.figures import draw, save
from ..analysis.study import Study, single_labels, study, table
from ..command import config_path
from ..errors import DataError, reported
from ..files import require_writable, write_text, write_whole
from ..overrides import refuse_options
from ..selection import Selection
from .arguments import plain_parser, split_overrides
from .tasks import make


def main(argv: Sequence[str] | None = None) -> None:
    """Read the arguments, embed, and write what was found."""
    words, overrides = split_overrides(list(sys.argv[1:] if argv is None else argv))
    args = _parser().parse_args(words)
    args.opts += overrides
    _log_to_terminal()
    with reported():
        start = time.perf_counter()
        if wrong := [seed for seed in args.seeds if not 0 <= seed < 2**32]:
            raise DataError(f"--seeds has {wrong[0]}; a seed of t-SNE is from 0 to 2^32 - 1")
        if len(set(args.seeds)) < len(args.seeds):
            raise DataError(f"--seeds are {args.seeds}; give each once")
        selection = Selection.load(args.selection)
        features, other = all_features(selection, args)
        own = read_labels(args.labels, selection) if args.labels else single_labels(selection)
        require_writable(args.output, "--output")
        found = study(
            features,
            own,
            selection.columns["kept"].astype(bool),
            class_names=selection.class_names,
            seeds=args.seeds,
            control=not args.no_control,
            other=other,
        )
        print(write(found, selection, args.output))
        print(f"\n{args.output}: embedding.png, after {time.perf_counter() - start:.0f} s")


def write(found: Study, selection: Selection, output: Path) -> str:
    """Write the figure, the table and the coordinates; the text of the table.

    Args:
        found: of the samples of ``selection``.
        selection: what was kept.
        output: the folder.
    """
    text = (
        f"{selection.method}, {selection.num_kept} of {selection.num_samples} samples kept "
        f"({', '.join(selection.datasets)}); t-SNE seeds {', '.join(map(str, found.seeds))}. "
        "Lengths are those of t-SNE's plane, without unit.\n\n" + table(found)
    )
    arrays: dict[str, Any] = {"key": selection.columns["key"], "label": found.labels}
    for part, points in found.embeddings.items():
        for seed, rows, own in zip(found.seeds, found.rows[part], points, strict=True):
            name = f"{part} {seed}".replace(" ", "_").replace(",", "")
            arrays |= {f"rows_{name}": rows, f"points_{name}": own}
    figure = draw(found)
    save(figure, output / "embedding.png")
    save(figure, output / "embedding.svg")
    write_whole(output / "embedding.npz", lambda file: np.savez_compressed(file, **arrays))
    write_text(output / "clusters.md", f"{text}\n")
    return text


def all_features(
    selection: Selection, args: argparse.Namespace
) -> tuple[np.ndarray, np.ndarray | None]:
    """(N, D) of all samples, and those of the second model where there is one.

    Raises:
        DataError: no source of features or two, or one that does not fit the selection.
    """
    refuse_options(args.opts)
    if bool(args.features) == bool(args.weights):
        raise DataError("give either --features FILE, or --config-file FILE and --weights DIR")
    spare = _of_a_model(args) if args.features else _of_files(args)
    if spare:
        raise DataError(
            f"{' '.join(spare)} has no effect: features come either from --features and "
            "--features-of-kept, or from --weights and --weights-of-kept with a configuration"
        )
    if args.features:
        second = args.features_of_kept
        other = read_features(second, selection) if second else None
        return read_features(args.features, selection), other
    if not args.config_file:
        raise DataError("--weights are of a classifier: give its --config-file")
    task = make("classification", args.config_file, args.opts)
    selection.check(task.samples.keys, task.samples.digests)
    kept = args.weights_of_kept
    return task.features(args.weights), task.features(kept) if kept else None


def _of_a_model(args: argparse.Namespace) -> list[str]:
    """What was given that models alone need."""
    named = {"--weights-of-kept": args.weights_of_kept, "--config-file": args.config_file}
    return [name for name, value in named.items() if value] + args.opts


def _of_files(args: argparse.Namespace) -> list[str]:
    """What was given that files of features alone have."""
    return ["--features-of-kept"] if args.features_of_kept else []


def read_features(path: Path, selection: Selection) -> np.ndarray:
    """(N, D) float64 from an .npy file.

    Raises:
        DataError: a file that is none, or of other samples.
    """
    found = _read(path)
    if found.ndim != 2 or len(found) != selection.num_samples or found.dtype.kind not in "fiu":
        raise DataError(
            f"{path} holds {found.dtype} of shape {found.shape}; it must hold numbers of shape "
            f"({selection.num_samples}, D), a row a sample in the order of the selection's keys"
        )
    return found.astype(np.float64)


def read_labels(path: Path, selection: Selection) -> np.ndarray:
    """(N,) int64 from an .npy file; below 0 where a sample has no class.

    Raises:
        DataError: a file that is none, or of other samples.
    """
    found = _read(path)
    if found.shape != (selection.num_samples,) or found.dtype.kind not in "iu":
        raise DataError(
            f"{path} holds {found.dtype} of shape {found.shape}; it must hold whole numbers of "
            f"shape ({selection.num_samples},)"
        )
    return found.astype(np.int64)


def _read(path: Path) -> np.ndarray:
    if not path.is_file():
        raise DataError(f"there is no file {path}; np.save writes an .npy of numbers")
    try:  # mapped, so that a header of more than the file has is found out before it is read
        return np.asarray(np.lib.format.open_memmap(path, "r"))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, EOFError) as error:
        raise DataError(f"{path} is no .npy file of numbers, which np.save writes") from error


def _log_to_terminal() -> None:
    """Progress as it is, since t-SNE of many samples takes its time; warnings as such."""

    class Lines(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            start = "warning: " if record.levelno >= logging.WARNING else ""
            return start + record.getMessage()

    handler = logging.StreamHandler()
    handler.setFormatter(Lines())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("adapruner_det").setLevel(logging.INFO)


def _parser() -> argparse.ArgumentParser:
    parser = plain_parser("analyze.py", __doc__)
    add = parser.add_argument
    add("--selection", type=Path, required=True, metavar="FILE", help="the .json of a run")
    add("--output", type=Path, required=True, metavar="DIR", help="the folder to write to")
    add("--features", type=Path, metavar="FILE", help="an .npy of shape (N, D)")
    add("--features-of-kept", type=Path, metavar="FILE", help="by a model trained on the kept")
    add("--labels", type=Path, metavar="FILE", help="an .npy of shape (N,), one class a sample")
    add("--weights", type=Path, metavar="DIR", help="of a training on all images")
    add("--weights-of-kept", type=Path, metavar="DIR", help="of a training on the kept images")
    add("--seeds", type=int, nargs="+", default=[0], metavar="SEED", help="of t-SNE")
    add("--no-control", action="store_true", help="draw no samples at random to compare with")
    add("--config-file", type=config_path, default="", metavar="FILE", help="of the classifier")
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides")
    return parser
