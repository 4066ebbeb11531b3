"""The paper's Figure 3: MNIST embedded in full, as AdaPruner leaves it, and by the pruned model.

    python benchmarks/figure3.py --data ../shared/data/mnist --seeds 0 1 2 --write
    python benchmarks/figure3.py --data ../shared/data/mnist --name mnist_2000 -- \\
        DATA.NUM_TRAIN 2000 MODEL.NAME small SOLVER.EPOCHS 15 ADAPRUNER.WARMUP_EPOCHS 3
    python benchmarks/figure3.py --name digits --config-file configs/classification/digits.yaml

Keeps 90% as the paper does, trains one model on all images and one on the kept ones, and embeds
their features by t-SNE: (a) all by the first model, (b) which of them are dropped, (c) the kept by
the first model, (d) as many drawn at random, (e) all by the second model. The paper's Figure 3 has
(a), (c) and (e); it gives no seeds and no count of embeddings, does not say which clusters are
adjacent, and leaves open whether figures are of t-SNE's plane or of the features. Here they are of
the plane, with clusters adjacent as adapruner_det/analysis/clusters.py has it.

What is trained and embedded lies in --folder, where a run that was stopped goes on. With --write
the table and the figure go to benchmarks/results/figure3_<name>.*. Shape letters: N samples, D
features.
"""

from __future__ import annotations

import argparse
import json
import logging
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from adapruner_det.analysis.figures import draw, save
from adapruner_det.analysis.study import ALL, KEPT, Study, single_labels, study, table
from adapruner_det.classification.config import load_config, resolve_device
from adapruner_det.classification.data import load_data
from adapruner_det.classification.run import prune
from adapruner_det.classification.task import ClassificationTask
from adapruner_det.errors import reported
from adapruner_det.experiment.task import Run
from adapruner_det.selection import Selection

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
MNIST = str(ROOT / "configs" / "classification" / "mnist_resnet18.yaml")

#: What the paper's text says of its Figure 3: (b) there is the kept, (c) all by the other model.
PAPER = json.loads(Path(__file__).with_name("paper.json").read_text(encoding="utf-8"))["fig3"]


def main(words: Sequence[str]) -> None:
    args = parse(words)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    with reported():
        start = time.perf_counter()
        selection, runs, found = figure3(args)
        text = report(args, words, selection, runs, found, time.perf_counter() - start)
        print(text)
        place = RESULTS if args.write else args.folder
        place.mkdir(parents=True, exist_ok=True)
        (place / f"figure3_{args.name}.md").write_text(text, encoding="utf-8")
        with_a_palette(save(draw(found), place / f"figure3_{args.name}.png"))


def with_a_palette(picture: Path) -> None:
    """Write a picture of many points anew in 256 colours, which takes a quarter of the bytes."""
    with Image.open(picture) as found:
        small = found.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    small.save(picture, optimize=True)


def figure3(args: argparse.Namespace) -> tuple[Selection, dict[str, Run], Study]:
    """Prune, train on all and on the kept, embed, measure."""
    cfg = load_config(args.config_file, overrides(args))
    data = load_data(cfg)
    cfg.OUTPUT_DIR = str(args.folder / "prune")
    selection = prune(cfg, data.train, resume=True)
    task = ClassificationTask(cfg, data)
    runs = {
        ALL: task.train(args.seed, args.folder / "full"),
        KEPT: task.train(args.seed, args.folder / "kept", kept=selection),
    }
    found = study(
        task.features(args.folder / "full"),
        single_labels(selection),
        selection.columns["kept"].astype(bool),
        class_names=selection.class_names,
        seeds=args.seeds,
        other=task.features(args.folder / "kept"),
        folder=args.folder / "embeddings",
    )
    return selection, runs, found


def overrides(args: argparse.Namespace) -> list[str]:
    """KEY VALUE pairs, those of the command line last."""
    data = ["DATA.NAME", "packed", "DATA.ROOT", str(args.data)] if args.data else []
    return [*data, "ADAPRUNER.KEEP_RATIO", "0.9", "SEED", str(args.seed), *args.opts]


def report(
    args: argparse.Namespace,
    words: Sequence[str],
    selection: Selection,
    runs: dict[str, Run],
    found: Study,
    seconds: float,
) -> str:
    cfg = load_config(args.config_file, overrides(args))
    device = resolve_device(cfg)
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else "a CPU"
    classes = len(np.unique(found.labels))
    lines = [
        f"# Figure 3: {args.name}",
        "",
        f"    python benchmarks/figure3.py {shlex.join(words)}",
        "",
        f"{selection.num_kept} of {selection.num_samples} images of {classes} classes kept; "
        f"{cfg.MODEL.NAME}, {cfg.SOLVER.EPOCHS} epochs, seed {args.seed}; one pruning run and one "
        "training each.",
        f"Test accuracy: {runs[ALL].value:.2f}% trained on all, {runs[KEPT].value:.2f}% on the "
        "kept.",
        f"t-SNE seeds {' '.join(map(str, args.seeds))}; torch {torch.__version__} on {on}; "
        f"{seconds:.0f} s.",
        "Lengths are those of t-SNE's plane, without unit. In brackets: each seed. The paper's",
        "column is what its text says, without a seed or a spread.",
        "",
        table(found, PAPER),
        "",
    ]
    return "\n".join(lines)


def parse(words: Sequence[str]) -> argparse.Namespace:
    own = list(words)
    opts = own[own.index("--") + 1 :] if "--" in own else []
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", default=MNIST)
    parser.add_argument("--data", type=Path, help="a packed folder, such as MNIST's four files")
    parser.add_argument("--name", default="mnist")
    parser.add_argument("--folder", type=Path, help="default: output/figure3_<name>")
    parser.add_argument("--seed", type=int, default=0, help="of pruning and training")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of t-SNE")
    parser.add_argument("--write", action="store_true", help="to benchmarks/results")
    args = parser.parse_args(own[: own.index("--")] if "--" in own else own)
    args.opts = opts
    args.folder = args.folder or Path("output") / f"figure3_{args.name}"
    return args


if __name__ == "__main__":
    main(sys.argv[1:])
