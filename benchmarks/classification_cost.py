"""What pruning costs beside plain training, and the tensor path beside a DataLoader.

    python benchmarks/classification_cost.py
    python benchmarks/classification_cost.py --models small resnet18 --device cuda

All is paired in one run. Overhead: two trainers of the same model, one with a mask in its pruning
epochs, take steps in turn on the same batches; a pair's ratio is pruning / plain. Beside it stands
what the mask's own calls take within those steps, as a part of the plain step, which is steadier
where a step takes a second. Data: an epoch of
the tensor path and one of torchvision's usual recipe (PIL crop and flip, ToTensor, Normalize in a
DataLoader) in turn, with the model and without it. On a CPU the time is this process's CPU time on
one thread, which other work on the machine does not lengthen; on a GPU it is wall-clock time with
the device synchronised. Shape letters: B samples of a batch.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from fvcore.common.config import CfgNode
from PIL import Image
from tabulate import tabulate
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from adapruner_det.classification.batches import split_order
from adapruner_det.classification.config import load_config
from adapruner_det.classification.image_set import ImageSet, from_arrays
from adapruner_det.classification.run import build_pruner
from adapruner_det.classification.trainer import Trainer

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "classification_cost.md"
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


class Clock:
    """Seconds of CPU time of this process, or of wall-clock time on a GPU."""

    def __init__(self, device: str) -> None:
        self._cuda = device.startswith("cuda")

    def __call__(self) -> float:
        if self._cuda:
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def timed(self, work: Callable, into: list[float]) -> Callable:
        """``work`` with the seconds of each call appended to ``into``; CPU work, nothing waits."""
        own = time.process_time if not self._cuda else time.perf_counter

        def call(*args: object) -> object:
            start = own()
            result = work(*args)
            into.append(own() - start)
            return result

        return call

    def time(self, work: Callable[[], object]) -> float:
        start = self()
        work()
        return self() - start


def images_like_cifar(count: int) -> ImageSet:
    """Random pixels: what they show does not change what they cost."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)
    return from_arrays("random", pixels, np.arange(count) % 10, [str(c) for c in range(10)])


def config(args: argparse.Namespace, model: str, batch_size: int) -> CfgNode:
    overrides = ["MODEL.NAME", model, "DEVICE", args.device, "SOLVER.EPOCHS", "100000"]
    overrides += ["ADAPRUNER.WARMUP_EPOCHS", "1", "SOLVER.BATCH_SIZE", str(batch_size)]
    return load_config(str(ROOT / "configs/classification/cifar10_cpu.yaml"), overrides)


def overhead(args: argparse.Namespace, model: str) -> list[str]:
    """Median step times and the median ratio of pairs, after the warm-up epoch."""
    small = model == "small"
    pairs = args.pairs if small else args.big_pairs
    batch_size = args.batch_size if small else args.big_batch_size
    images = images_like_cifar(16 * batch_size)
    cfg, clock = config(args, model, batch_size), Clock(args.device)
    pruner = build_pruner(cfg, images)
    trainers = [Trainer(cfg, images), Trainer(cfg, images, pruner)]
    for ids in torch.randperm(len(images)).split(batch_size):
        pruner.observe(ids, torch.rand(len(ids)))
    pruner.end_epoch()
    weighting: list[float] = []
    observing: list[float] = []
    pruner.weights = clock.timed(pruner.weights, weighting)
    pruner.observe = clock.timed(pruner.observe, observing)
    batches = split_order(torch.randperm(len(images)), batch_size)
    times = np.zeros((pairs, 2))
    for i in range(-2, pairs):
        ids = batches[i % len(batches)]
        pixels = images.images[ids].to(trainers[0].device)
        for k in (0, 1) if i % 2 else (1, 0):
            seconds = clock.time(lambda t=trainers[k], x=pixels, j=ids: t._train_step(j, x))
            if i >= 0:
                times[i, k] = seconds
    # A step observes what the one before it has shown, so there is one of these calls less.
    mask = np.mean(weighting) + np.mean(observing)
    return step_row(f"{model}, batch {batch_size}", times, float(mask))


def step_row(name: str, times: np.ndarray, mask: float) -> list[str]:
    """A line of the table of steps.

    Args:
        name: of the model.
        times: (pairs, 2) seconds of a plain step and of a pruning one.
        mask: seconds of its calls within a step, mean.
    """
    ratios = times[:, 1] / times[:, 0]
    low, high = np.percentile(ratios, [25, 75])
    plain, pruning = 1000 * np.median(times, axis=0)
    return [
        *(name, str(len(times)), f"{plain:.1f}", f"{pruning:.1f}"),
        f"{np.median(ratios):.3f} ({low:.3f} to {high:.3f})",
        f"{1000 * mask:.2f} ({1 + 1000 * mask / plain:.4f})",
    ]


class Recipe(Dataset):
    """The usual torchvision recipe: one image at a time, through PIL."""

    def __init__(self, images: ImageSet) -> None:
        self._pixels = images.images.permute(0, 2, 3, 1).numpy()
        self._labels = images.labels.tolist()
        self._transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self._transform(Image.fromarray(self._pixels[i])), self._labels[i]


def recipe_epoch(loader: DataLoader, trainer: Trainer | None, device: str) -> None:
    """An epoch of the recipe; without a trainer only its batches."""
    for x, y in loader:
        x, y = x.to(device, non_blocking=True), y.to(device, non_blocking=True)
        if trainer is not None:
            loss = nn.functional.cross_entropy(trainer.model(x), y)
            loss.backward()
            trainer._optimizer.step()
            trainer._optimizer.zero_grad()


def tensor_epoch(trainer: Trainer, with_model: bool) -> None:
    """An epoch of the tensor path; without the model only its augmented batches."""
    order = split_order(torch.randperm(trainer.num_samples), trainer.cfg.SOLVER.BATCH_SIZE)
    for ids, pixels in trainer._batches.read(order):
        if with_model:
            trainer._train_step(ids, pixels)
        else:
            trainer._augmented(pixels)


def data_paths(args: argparse.Namespace, model: str) -> list[list[str]]:
    images = images_like_cifar(args.images)
    trainer, clock = Trainer(config(args, model, args.batch_size), images), Clock(args.device)
    cuda = args.device.startswith("cuda")
    loader = DataLoader(
        Recipe(images), args.batch_size, shuffle=True, num_workers=args.workers, pin_memory=cuda
    )
    rows = []
    for with_model in (False, True):
        used = trainer if with_model else None
        times = np.array(
            [
                (
                    clock.time(lambda t=used: recipe_epoch(loader, t, args.device)),
                    clock.time(lambda w=with_model: tensor_epoch(trainer, w)),
                )
                for _ in range(args.epochs + 1)
            ][1:]
        )
        label = f"whole epoch with {model}" if with_model else "batches alone"
        rows.append(path_row(label, times))
    return rows


def path_row(label: str, times: np.ndarray) -> list[str]:
    """A line of the table of epochs, of (epochs, 2) seconds of the recipe and the tensor path."""
    ratios = times[:, 0] / times[:, 1]
    recipe, tensor = np.median(times, axis=0)
    return [
        *(label, f"{recipe:.2f}", f"{tensor:.2f}"),
        f"{np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})",
    ]


def report(args: argparse.Namespace) -> str:
    steps = [overhead(args, model) for model in args.models]
    paths = data_paths(args, args.models[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    where = "GPU" if args.device.startswith("cuda") else "CPU, one thread, CPU time"
    table = {"tablefmt": "github", "disable_numparse": True}
    head = ["model", "pairs", "plain, ms", "pruning, ms", "ratio, median (quartiles)"]
    head += ["mask alone, ms (ratio)"]
    recipe = f"recipe, s ({args.workers} workers)"
    return "\n".join(
        [
            "# What classification costs",
            "",
            "Made by `python benchmarks/classification_cost.py`, which says what is measured.",
            f"torch {torch.__version__}, {where}. Times are for the ratios only.",
            "",
            "## A step: pruning / plain",
            "",
            tabulate(steps, head, **table),
            "",
            f"## An epoch of {args.images} images: torchvision's recipe / the tensor path",
            "",
            tabulate(paths, ["", recipe, "tensors, s", "ratio, median (range)"], **table),
            "",
            f"Peak resident memory of the whole benchmark: {peak:.0f} MiB.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["small", "resnet18"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--big-batch-size", type=int, default=32, help="of other models than small")
    parser.add_argument("--big-pairs", type=int, default=12, help="of other models than small")
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--workers", type=int, default=0)
    args = parser.parse_args()
    if not args.device.startswith("cuda"):
        torch.set_num_threads(1)
    text = report(args)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
