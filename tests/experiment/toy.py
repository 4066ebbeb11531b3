"""A task that trains in milliseconds: softmax regression in numpy, and methods that read it.

Every call of ``train`` is a line in ``calls.txt``; a training that is to be killed waits for that.
"""

import json
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from adapruner_det.core.cut import kept_count
from adapruner_det.errors import DataError
from adapruner_det.experiment.board import Board, rows_of
from adapruner_det.experiment.grid import Grid, cells
from adapruner_det.experiment.task import Run
from adapruner_det.files import write_whole
from adapruner_det.methods import base
from adapruner_det.methods.base import Choice
from adapruner_det.samples import Samples, fingerprints
from adapruner_det.stopping import Stopped, StopRequest
from tests.methods import evidence

N, CLASSES, DIM, EPOCHS, BATCH = 60, 3, 5, 4, 12
SMALL = Grid(("random",), (0.7, 0.4))
OPTIONS = {**evidence.OPTIONS, "KEEP_RATIO": 0.7}
METHODS = ("toy_guided", "toy_loss", "toy_margin", "toy_thumb", "toy_fails", "toy_waits")


def make_toy(folder, **settings):
    """As a grid makes it in each of its processes."""
    register_methods()
    return Toy(Path(folder), **settings)


def make_samples():
    labels = np.random.default_rng(7).integers(0, CLASSES, N)
    keys = sorted(f"toy/{i:03d}" for i in range(N))
    digests = np.arange(N, dtype=np.uint64)
    return Samples(
        keys,
        digests,
        fingerprints(keys, digests, ["toy"]),
        classes=[[int(label)] for label in labels],
        class_names=["a", "b", "c"],
        read_image=lambda i: np.random.default_rng(i).integers(0, 256, (9, 16, 3), dtype=np.uint8),
    )


@dataclass
class Toy:
    """The task; ``folder`` is where calls are written down.

    With ``pause``, the name of a file, the training that is there first makes it, with its
    process's number, in the third epoch, and waits for a signal. ``meet`` is how many processes
    must have begun before any goes on. ``broken`` is a seed that cannot be trained.
    """

    folder: Path
    pause: str = ""
    meet: int = 1
    broken: int = -1
    given: tuple = ("margin",)
    name: str = "toy"
    title: str = "60 points, softmax"
    metric: str = "accuracy"
    identity: str = "toy-1"
    config_digest: str = "c" * 64
    libraries: tuple = ()
    device: str = "cpu"
    options: dict = field(default_factory=OPTIONS.copy)
    epochs: int = EPOCHS
    pretrained: bool = True
    offers: frozenset = frozenset({"features", "predictions", "thumbnails"})
    samples: Samples = field(default_factory=make_samples)

    def __post_init__(self):
        self.signals = frozenset(self.given)
        rng = np.random.default_rng(11)
        self.labels = np.array([own[0] for own in self.samples.classes])
        centres = rng.normal(size=(CLASSES, DIM))
        self.x = centres[self.labels] + rng.normal(size=(N, DIM))
        self.test_labels = rng.integers(0, CLASSES, 200)
        self.test_x = centres[self.test_labels] + rng.normal(size=(200, DIM))

    def train(
        self, seed, folder, *, kept=None, guide=None, budget="epochs", test=None, resume=True
    ):
        folder.mkdir(parents=True, exist_ok=True)
        if guide is not None and guide.signals - self.signals:
            raise DataError(f"no {sorted(guide.signals - self.signals)} here")
        ids = np.arange(N) if kept is None else np.flatnonzero(kept.columns["kept"])
        epochs = EPOCHS if budget == "epochs" else round(EPOCHS * N / len(ids))
        weights = np.random.default_rng(seed).normal(size=(DIM, CLASSES)) * 0.1
        start, before = 0, time.perf_counter()
        path = folder / "checkpoint.pt"
        if resume and path.exists():
            state = torch.load(path, weights_only=True)
            start, weights = state["epoch"], state["weights"].numpy()
            if guide is not None:
                guide.load_state_dict(state["guide"])
        self.note(folder, seed, start)
        if seed == self.broken:
            raise DataError("this seed\ncannot be trained")
        with StopRequest().listening() as stop:
            for epoch in range(start, epochs):
                if epoch == 2:
                    self.wait_for_a_signal(stop)
                order = np.random.default_rng([seed, epoch]).permutation(ids)
                self.run_epoch(order, weights, guide)
                state = {"epoch": epoch + 1, "weights": torch.from_numpy(weights)}
                if guide is not None:
                    state["guide"] = guide.state_dict()
                write_whole(path, lambda file, state=state: torch.save(state, file))
                if stop.signum:
                    raise Stopped(stop.signum)
        value = 100 * float(np.mean((self.test_x @ weights).argmax(1) == self.test_labels))
        seconds = time.perf_counter() - before
        return Run("accuracy", value, len(ids), epochs * len(ids) // BATCH, epochs, seconds, seed)

    def run_epoch(self, order, weights, guide):
        for ids in np.split(order, range(BATCH, len(order), BATCH)):
            own = np.arange(len(ids))
            p = softmax(self.x[ids] @ weights)
            losses = -np.log(p[own, self.labels[ids]])
            scale = np.ones(len(ids))
            if guide is not None:
                scale = np.asarray(guide.weights(ids))
                guide.observe(ids, losses, margin=2 * p[own, self.labels[ids]] - 1)
            p[own, self.labels[ids]] -= 1
            weights -= 0.3 * self.x[ids].T @ (p * scale[:, None]) / len(ids)
        if guide is not None:
            guide.end_epoch()

    def wait_for_a_signal(self, stop):
        if not self.pause:
            return
        own = Path(f"{self.pause}-{os.getpid()}")
        own.write_text(str(os.getpid()))
        with suppress(FileExistsError):  # another training was there first
            os.link(own, self.pause)
            until(lambda: stop.signum)

    def note(self, folder, seed, start):
        line = {"cell": folder.parent.name, "seed": seed, "from": start, "pid": os.getpid()}
        with (self.folder / "calls.txt").open("a") as file:
            file.write(json.dumps(line) + "\n")
        until(lambda: len({call["pid"] for call in calls(self.folder)}) >= self.meet)

    def tidy(self, folder, *, model):
        if not model:
            (folder / "checkpoint.pt").unlink(missing_ok=True)

    def features(self, folder):
        return (self.x @ self.weights(folder)).astype(np.float32)

    def predictions(self, folder):
        return softmax(self.x @ self.weights(folder)).astype(np.float32)

    def weights(self, folder):
        return torch.load(folder / "checkpoint.pt", weights_only=True)["weights"].numpy()


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def until(condition):
    """Wait for it, two minutes at most."""
    for _ in range(12_000):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError


def calls(folder):
    """The lines of ``calls.txt``, oldest first."""
    path = Path(folder) / "calls.txt"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Half:
    """A guide that halves all losses and adds up what it hears."""

    signals = frozenset()

    def __init__(self):
        self.total = np.zeros(N)

    def weights(self, ids):
        return torch.full((len(ids),), 0.5)

    def observe(self, ids, losses, **signals):
        np.add.at(self.total, ids, losses)
        return np.array([], dtype=int)

    def end_epoch(self):
        return ""

    def scalars(self):
        return {}

    def state_dict(self):
        return {"total": torch.from_numpy(self.total.copy())}

    def load_state_dict(self, state):
        self.total = state["total"].numpy().copy()


def register_methods():
    """Make the methods known here; ``forget_methods`` before other tests look at the registry."""
    options = ["ALPHA_END", "WARMUP_EPOCHS"]
    base.register("toy_guided", per_ratio=True, options=options)(toy_guided)
    base.register("toy_loss", needs=["loss"])(toy_loss)
    base.register("toy_margin", needs=["margin", "features", "predictions"])(toy_margin)
    base.register("toy_thumb", needs=["thumbnails"], per_ratio=True)(toy_thumb)
    base.register("toy_fails")(toy_fails)
    base.register("toy_waits")(toy_waits)


def forget_methods():
    for name in METHODS:
        base._METHODS.pop(name, None)


def toy_guided(evidence, keep_ratio):
    guide = Half()
    evidence.train(guide)
    return Choice(abs(guide.total - evidence.options["ALPHA_END"]))


def toy_loss(evidence, keep_ratio):
    return Choice(evidence.signal("loss").mean(0))


def toy_margin(evidence, keep_ratio):
    spread = evidence.signal("margin").std(0)
    return Choice(spread + evidence.features().max(1) + evidence.predictions().max(1))


def toy_thumb(evidence, keep_ratio):
    near = (evidence.features("thumbnails") @ evidence.features("thumbnails")[0]).argsort()
    kept = np.zeros(N, dtype=bool)
    kept[near[: kept_count(N, keep_ratio)]] = True
    return Choice(np.where(kept, 0.0, 1.0), kept)


def toy_fails(evidence, keep_ratio):
    raise RuntimeError("it went\nwrong")


def toy_waits(evidence, keep_ratio):
    raise AssertionError("nobody calls it")


def board_of(grid, make, root):
    return Board(cells(grid, make()), root)


def cell_of(grid, make, kind, method="", ratio=None):
    found = [
        cell
        for cell in cells(grid, make())
        if (cell.kind, cell.method, cell.keep_ratio) == (kind, method, ratio)
    ]
    return found[0]


def values_of(grid, make, root):
    return {
        (row.method, row.keep_ratio, row.seed): row.value
        for row in rows_of(board_of(grid, make, root))
    }


def limited(function, count):
    """``function``, and nothing more to do after ``count`` calls."""
    done = []

    def call(*arguments):
        done.append(1)
        return function(*arguments) if len(done) <= count else (False, False)

    return call
