"""Cases: a run that goes on, that is stopped, or that meets what an earlier run left; detection."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

from . import toys
from .case import Base, Build, Case, Expectation, Refused, Works, either, refused, works
from .outcomes import holds, kept, lacks, samples, whole_zips
from .toys import BAD, DATA, OUT, TRAIN, voc

KIND, STOPS = "runs that go on", "runs that are stopped"
CONFIG = ("--config-file", "config.yaml")
RESUME = ("--resume", *CONFIG)
LONG = ("SOLVER.MAX_ITER", "120", "SOLVER.CHECKPOINT_PERIOD", "5")

BASES = {
    "voc": Base(voc, (("prune_net.py", CONFIG),)),
    "voc-killed": Base(
        voc, (("prune_net.py", (*CONFIG, *LONG)),), kill_at=(f"{OUT}/model_00*.pth", 3)
    ),
    "voc-plain": Base(voc, (("train_pruned.py", CONFIG),)),
}


def nothing(folder: Path) -> None:
    """The run's folder as it is."""


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints in ``out``, the newest last."""
    return sorted((folder / OUT).glob("model_0*.pth"))


def newest(change: Callable[[bytes], bytes]) -> Build:
    """The run with another newest checkpoint."""

    def build(folder: Path) -> None:
        path = _tagged(folder)
        path.write_bytes(change(path.read_bytes()))

    return build


def _tagged(folder: Path) -> Path:
    return folder / OUT / (folder / OUT / "last_checkpoint").read_text().strip()


def every(change: Callable[[bytes], bytes]) -> Build:
    """The run with other checkpoints throughout."""

    def build(folder: Path) -> None:
        for path in checkpoints(folder):
            path.write_bytes(change(path.read_bytes()))

    return build


def tag(text: str | bytes) -> Build:
    """The run with another last_checkpoint."""
    data = text.encode() if isinstance(text, str) else text
    return lambda folder: (folder / OUT / "last_checkpoint").write_bytes(data)


def flip(data: bytes) -> bytes:
    raw = bytearray(data)
    raw[len(raw) // 2] ^= 0xFF
    return bytes(raw)


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


class Marker:
    """Pickled, it makes a file when it is loaded."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch marker",)


def hostile(path: Path, inside: bool = False) -> None:
    """Write a checkpoint that runs code in whoever trusts it."""
    if inside:
        torch.save({"model": {}, "iteration": 3, "x": Marker()}, path)
    else:
        path.write_bytes(pickle.dumps({"model": Marker()}))


def _outside(folder: Path) -> None:
    hostile(folder / "evil.pth", inside=True)
    tag("../evil.pth")(folder)


def _absolute(folder: Path) -> None:
    hostile(folder / "evil.pth", inside=True)
    tag(str(folder / "evil.pth"))(folder)


def _to_pickle(folder: Path) -> None:
    hostile(folder / OUT / "evil.pkl")
    tag("evil.pkl")(folder)


def _to_hostile(folder: Path) -> None:
    hostile(_tagged(folder), inside=True)


def _to_link(folder: Path) -> None:
    path = _tagged(folder)
    path.rename(folder / "away.pth")
    path.symlink_to(folder / "away.pth")


def _tag_instead(make: Callable[[Path], object]) -> Build:
    def build(folder: Path) -> None:
        (folder / OUT / "last_checkpoint").unlink()
        make(folder / OUT / "last_checkpoint")

    return build


def _moved_box(folder: Path) -> None:
    path = folder / f"{DATA}/Annotations/{BAD}.xml"
    path.write_text(path.read_text().replace("<xmax>", "<xmax>1"))


def _other_picture(folder: Path) -> None:
    toys.picture(44).save(folder / f"{DATA}/JPEGImages/{BAD}.png")


def _fewer(folder: Path) -> None:
    path = folder / f"{DATA}/ImageSets/Main/train.txt"
    path.write_text(path.read_text().replace(f"{BAD}\n", ""))


def _other_detector(folder: Path) -> None:
    toys.configure(folder, {**toys.FASTER_RCNN, **toys.TRAINING, **toys.VOC_SETS})


def _left_over(folder: Path) -> None:
    (folder / OUT / ".model_0000099.pth.abc123.part~").write_bytes(bytes(100))


def _locked(folder: Path) -> None:
    """Another run holds the folder, for as long as this process lives."""
    from adapruner_det import files

    lock = files.locked(folder / OUT)
    lock.__enter__()
    globals()["_held"] = lock


def _threads(folder: Path) -> None:
    os.environ["OMP_NUM_THREADS"] = "2"  # of the Python that the case starts


def _set_aside(folder: Path) -> str:
    """What the earlier run made is in another folder, and nothing is lost."""
    old = list((folder / OUT).glob("*/selection.json"))
    return "" if old else "the earlier selection is gone"


DONE = works(samples(TRAIN), kept(7), whole_zips)
FROM_OLDER = either(
    works(
        samples(TRAIN), kept(7), says=("damaged|torn|not whole|cannot be read|broken|passed over",)
    )
)
OTHER = "configuration|" + "differ|another"
TABLE: dict[str, tuple[str, Build, tuple[str, ...], tuple[Expectation, ...]]] = {
    "go-on": ("voc-killed", nothing, LONG, DONE),
    "go-on-with-workers": ("voc-killed", nothing, (*LONG, "DATALOADER.NUM_WORKERS", "1"), DONE),
    "go-on-with-threads": (
        "voc",
        _threads,
        (),
        works(samples(TRAIN), says=("thread",)),
    ),
    "go-on-of-finished": ("voc", nothing, (), works(samples(TRAIN), kept(7))),
    "go-on-of-nothing": ("", voc, (), works(samples(TRAIN), kept(7))),
    "other-ratio": ("voc-killed", nothing, (*LONG, "ADAPRUNER.KEEP_RATIO", "0.5"), refused(OTHER)),
    "other-ratio-of-finished": ("voc", nothing, ("ADAPRUNER.KEEP_RATIO", "0.5"), refused(OTHER)),
    "other-seed": ("voc-killed", nothing, (*LONG, "SEED", "2"), refused(OTHER)),
    "other-batch": ("voc-killed", nothing, (*LONG, "SOLVER.IMS_PER_BATCH", "2"), refused(OTHER)),
    "other-length": ("voc-killed", nothing, (*LONG, "SOLVER.MAX_ITER", "99"), refused(OTHER)),
    "other-rate": ("voc-killed", nothing, (*LONG, "SOLVER.BASE_LR", "0.01"), refused(OTHER)),
    "other-terms": (
        "voc-killed",
        nothing,
        (*LONG, "ADAPRUNER.SELECTION_LOSS", "False"),
        refused(OTHER),
    ),
    "other-size": ("voc-killed", nothing, (*LONG, "MODEL.YOLO.INPUT_SIZE", "96"), refused(OTHER)),
    "other-annotation": ("voc-killed", _moved_box, LONG, refused("data|toy_train")),
    "other-image": ("voc-killed", _other_picture, LONG, refused("data|toy_train")),
    "one-image-less": ("voc-killed", _fewer, LONG, refused("data|toy_train")),
    "other-detector": ("voc-killed", _other_detector, LONG, refused(OTHER)),
    "of-a-plain-run": ("voc-plain", nothing, (), refused("plain|prun|" + OTHER)),
    "torn-newest": ("voc-killed", newest(half), LONG, FROM_OLDER),
    "flipped-newest": ("voc-killed", newest(flip), LONG, FROM_OLDER),
    "empty-newest": ("voc-killed", newest(lambda data: b""), LONG, FROM_OLDER),
    "zeros-newest": ("voc-killed", newest(lambda data: bytes(len(data))), LONG, FROM_OLDER),
    "text-newest": ("voc-killed", newest(lambda data: b"hello"), LONG, FROM_OLDER),
    "torn-all": (
        "voc-killed",
        every(half),
        LONG,
        either(refused("model_0|checkpoint"), works(says=("checkpoint",))),
    ),
    "tag-outside": ("voc-killed", _outside, LONG, either(refused("last_checkpoint"), DONE)),
    "tag-absolute": ("voc-killed", _absolute, LONG, either(refused("last_checkpoint"), DONE)),
    "tag-to-pickle": (
        "voc-killed",
        _to_pickle,
        LONG,
        either(refused("last_checkpoint|evil"), DONE),
    ),
    "tag-to-hostile": (
        "voc-killed",
        _to_hostile,
        LONG,
        either(refused("model_0"), works(lacks("marker"), kept(7))),
    ),
    "tag-to-link-outside": ("voc-killed", _to_link, LONG, either(refused("model_0"), DONE)),
    "tag-to-nothing": (
        "voc-killed",
        tag("model_0000099.pth"),
        LONG,
        either(DONE, refused("model_0000099")),
    ),
    "tag-empty": ("voc-killed", tag(""), LONG, either(DONE, refused("last_checkpoint"))),
    "tag-binary": (
        "voc-killed",
        tag(bytes(range(256))),
        LONG,
        either(DONE, refused("last_checkpoint")),
    ),
    "tag-missing": (
        "voc-killed",
        _tag_instead(lambda path: None),
        LONG,
        either(works(kept(7), says=("checkpoint",)), refused("checkpoint")),
    ),
    "tag-a-folder": (
        "voc-killed",
        _tag_instead(Path.mkdir),
        LONG,
        either(DONE, refused("last_checkpoint")),
    ),
    "tag-a-fifo": (
        "voc-killed",
        _tag_instead(os.mkfifo),
        LONG,
        either(DONE, refused("last_checkpoint")),
    ),
    "left-over-part": (
        "voc-killed",
        _left_over,
        LONG,
        works(kept(7), lacks(f"{OUT}/.model_0000099.pth.abc123.part~")),
    ),
    "while-another-runs": ("voc-killed", _locked, LONG, refused("another run", OUT)),
}

# A hostile file that stands beside its checkpoint must not run either.
for _name in ("tag-outside", "tag-absolute", "tag-to-pickle"):
    _base, _build, _args, _ = TABLE[_name]
    _words = refused("last_checkpoint|evil")
    TABLE[_name] = (_base, _build, _args, either(_words, works(lacks("marker"), kept(7))))


def stopped(number: int, when: str) -> Build:
    """A toy whose run gets a signal as soon as a file is there."""

    def build(folder: Path) -> None:
        voc(folder)
        signal_at(folder, number, when)

    return build


def signal_at(folder: Path, number: int, pattern: str) -> None:
    """Send this process a signal once ``pattern`` is there."""
    at(folder, pattern, lambda: os.kill(os.getpid(), number))


def at(folder: Path, pattern: str, act: Callable[[], object]) -> None:
    """Do something once ``pattern`` is there, from a thread of this process."""

    def wait() -> None:
        for _ in range(20_000):
            if any(folder.glob(pattern)):
                act()
                return
            time.sleep(0.001)

    threading.Thread(target=wait, daemon=True).start()


def _saved(folder: Path) -> str:
    found = (folder / OUT / "last_checkpoint").is_file()
    return "" if found else "nothing is saved"


def _test_image_lost(folder: Path) -> None:
    """A test image goes while the run goes on."""
    voc(folder)
    at(folder, f"{OUT}/model_0*.pth", (folder / f"{DATA}/JPEGImages/im11.png").unlink)


def _train_image_lost(folder: Path) -> None:
    voc(folder)
    at(folder, f"{OUT}/model_0*.pth", (folder / f"{DATA}/JPEGImages/{BAD}.png").unlink)


def _cases() -> list[Case]:
    cases = [
        Case(
            f"resume-{name}",
            KIND,
            build,
            "prune_net.py",
            (*RESUME, *more),
            expect,
            base,
            apart=build is _threads,
        )
        for name, (base, build, more, expect) in TABLE.items()
    ]
    used = works(samples(TRAIN), kept(5), _set_aside)
    five = ("ADAPRUNER.KEEP_RATIO", "0.5")
    very_long = (*CONFIG, "SOLVER.MAX_ITER", "4000", "SOLVER.CHECKPOINT_PERIOD", "20")
    cases += [
        Case(
            "new-run-in-used-folder", KIND, nothing, "prune_net.py", (*CONFIG, *five), used, "voc"
        ),
        Case(
            "new-run-in-folder-of-killed",
            KIND,
            nothing,
            "prune_net.py",
            CONFIG,
            works(samples(TRAIN), kept(7)),
            "voc-killed",
        ),
        Case(
            "two-runs-in-one-folder",
            KIND,
            _locked,
            "prune_net.py",
            CONFIG,
            refused("another run", OUT),
            "voc",
        ),
        Case(
            "plain-run-resumes-pruning",
            KIND,
            nothing,
            "train_pruned.py",
            RESUME,
            refused("prun|" + OTHER),
            "voc-killed",
        ),
        Case(
            "plain-run-resumes-torn",
            KIND,
            newest(half),
            "train_pruned.py",
            RESUME,
            either(works(), refused("model_|checkpoint")),
            "voc-plain",
        ),
        Case(
            "plain-run-in-pruning-folder",
            KIND,
            nothing,
            "train_pruned.py",
            CONFIG,
            either(refused(OUT), works(holds(f"{OUT}/selection.json")), works(_set_aside)),
            "voc",
        ),
    ]
    for name, number in (("sigterm", signal.SIGTERM), ("sigint", signal.SIGINT)):
        stop = (Works((), (_saved, whole_zips), code=128 + number),)
        build = stopped(number, f"{OUT}/model_0*.pth")
        cases += [
            Case(f"stop-{name}", STOPS, build, "prune_net.py", very_long, stop),
            Case(f"stop-{name}-plain", STOPS, build, "train_pruned.py", very_long, stop),
        ]
    cases += [
        Case(
            "test-image-lost-in-run",
            STOPS,
            _test_image_lost,
            "prune_net.py",
            (*CONFIG, *LONG),
            (Refused(("im11",), may_write=True, checks=(holds(f"{OUT}/selection.json"),)),),
        ),
        Case(
            "train-image-lost-in-run",
            STOPS,
            _train_image_lost,
            "prune_net.py",
            (*CONFIG, *LONG),
            (Refused((BAD,), may_write=True),),
        ),
        Case(
            "train-image-lost-in-worker",
            STOPS,
            _train_image_lost,
            "prune_net.py",
            (*CONFIG, *LONG, "DATALOADER.NUM_WORKERS", "1"),
            (Refused((BAD,), may_write=True),),
        ),
    ]
    return cases


CASES = _cases()
