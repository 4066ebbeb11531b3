"""Cases: a classifier's run that goes on, is stopped, or meets another selection or other data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .case import Base, Build, Case, Expectation, Works, either, refused, works
from .cls_data import CONFIG, TRAIN_DIR, picture_at
from .faults import encoded, like, replaced, turned
from .outcomes import kept, lacks, samples, whole_zips
from .runs import flip, half, hostile, signal_at
from .toys import DATA, OUT, image_folder

RUNS = "runs that go on, classification"
RESUME = ("--resume", *CONFIG)
SELECTION = ("--selection", f"{OUT}/selection.json", "OUTPUT_DIR", "kept")
LONG = ("SOLVER.EPOCHS", "60", "SOLVER.CHECKPOINT_PERIOD", "1")
BASES = {
    "cls-killed": Base(
        image_folder, (("prune_cls.py", (*CONFIG, *LONG)),), kill_at=(f"{OUT}/checkpoint*", 1)
    ),
    "cls-plain": Base(image_folder, (("train_cls.py", CONFIG),)),
    "cls-at-24": Base(image_folder, (("prune_cls.py", (*CONFIG, "DATA.SIZE", "24")),)),
}


def nothing(folder: Path) -> None:
    """The run as it is."""


def saved(change: Callable[[bytes], bytes]) -> Build:
    """The run with other checkpoints."""

    def build(folder: Path) -> None:
        for path in (folder / OUT).glob("checkpoint*"):
            path.write_bytes(change(path.read_bytes()))

    return build


def _hostile(folder: Path) -> None:
    for path in (folder / OUT).glob("checkpoint*"):
        hostile(path, inside=True)


def _repainted(folder: Path) -> None:
    picture_at(folder / f"{TRAIN_DIR}/dog/im03.png")


def _renamed_root(folder: Path) -> None:
    (folder / DATA).rename(folder / "other")


def _turned_upright(folder: Path) -> None:
    """The same picture, stored turned: other bytes."""
    replaced(turned)(folder / f"{TRAIN_DIR}/dog/im03.png")


def _same_picture_as_bmp(folder: Path) -> None:
    path = folder / f"{TRAIN_DIR}/dog/im03.png"
    path.write_bytes(encoded(like(path), "BMP"))


def _moved_between_classes(folder: Path) -> None:
    (folder / f"{TRAIN_DIR}/dog/im03.png").rename(folder / f"{TRAIN_DIR}/cat/im99.png")


def _locked(folder: Path) -> None:
    from adapruner_det import files

    lock = files.locked(folder / OUT)
    lock.__enter__()
    globals()["_held"] = lock


def _stopped(number: int) -> Build:
    def build(folder: Path) -> None:
        image_folder(folder)
        signal_at(folder, number, f"{OUT}/checkpoint*")

    return build


OTHER = refused("configuration|differ|another")
CHANGED = refused("data_train|sample|data")
GONE = "damaged|torn|whole|cannot be read|checkpoint"


def _runs() -> list[Case]:
    table: dict[str, tuple[str, Build, tuple[str, ...], tuple[Expectation, ...]]] = {
        "go-on": ("cls-killed", nothing, LONG, works(samples(12), kept(9), whole_zips)),
        "of-nothing": ("", image_folder, (), works(samples(12), kept(9))),
        "other-workers": ("cls-killed", nothing, (*LONG, "DATA.WORKERS", "2"), works(samples(12))),
        "other-memory": ("cls-killed", nothing, (*LONG, "DATA.MEMORY_MB", "0"), works(samples(12))),
        "other-ratio": ("cls-killed", nothing, (*LONG, "ADAPRUNER.KEEP_RATIO", "0.5"), OTHER),
        "other-seed": ("cls-killed", nothing, (*LONG, "SEED", "2"), OTHER),
        "other-batch": ("cls-killed", nothing, (*LONG, "SOLVER.BATCH_SIZE", "4"), OTHER),
        "other-epochs": ("cls-killed", nothing, (*LONG, "SOLVER.EPOCHS", "50"), OTHER),
        "other-image": ("cls-killed", _repainted, LONG, CHANGED),
        "of-a-plain-run": ("cls-plain", nothing, (), either(OTHER, refused("plain|prun"))),
        "torn": ("cls-killed", saved(half), LONG, either(refused(GONE), works(says=(GONE,)))),
        "flipped": ("cls-killed", saved(flip), LONG, either(refused(GONE), works(says=(GONE,)))),
        "empty": (
            "cls-killed",
            saved(lambda d: b""),
            LONG,
            either(refused(GONE), works(says=(GONE,))),
        ),
        "text": (
            "cls-killed",
            saved(lambda d: b"x"),
            LONG,
            either(refused(GONE), works(says=(GONE,))),
        ),
        "hostile": (
            "cls-killed",
            _hostile,
            LONG,
            either(refused(GONE), works(lacks("marker"), says=(GONE,))),
        ),
        "while-another-runs": ("cls-killed", _locked, LONG, refused("another run")),
    }
    cases = [
        Case(f"cls-resume-{name}", RUNS, build, "prune_cls.py", (*RESUME, *more), expect, base)
        for name, (base, build, more, expect) in table.items()
    ]
    used = works(samples(12), kept(6))
    train = (*CONFIG, *SELECTION)
    cases += [
        Case(
            "cls-new-run-in-used-folder",
            RUNS,
            nothing,
            "prune_cls.py",
            (*CONFIG, "ADAPRUNER.KEEP_RATIO", "0.5"),
            used,
            "cls",
        ),
        Case(
            "cls-plain-run-resumes-pruning",
            RUNS,
            nothing,
            "train_cls.py",
            RESUME,
            either(OTHER, refused("plain|prun")),
            "cls-killed",
        ),
        *(
            Case(
                f"cls-selection-{name}", RUNS, build, "train_cls.py", (*train, *more), expect, base
            )
            for name, base, build, more, expect in (
                ("sound", "cls", nothing, (), works()),
                ("at-48", "cls-at-24", nothing, ("DATA.SIZE", "48"), works()),
                ("in-files", "cls", nothing, ("DATA.MEMORY_MB", "0"), works()),
                ("root-renamed", "cls", _renamed_root, ("DATA.ROOT", "other"), works()),
                ("image-repainted", "cls", _repainted, (), CHANGED),
                ("image-stored-turned", "cls", _turned_upright, (), CHANGED),
                ("image-stored-as-bmp", "cls", _same_picture_as_bmp, (), CHANGED),
                ("image-in-other-class", "cls", _moved_between_classes, (), CHANGED),
                ("other-labels", "cls", nothing, ("DATA.WRONG_LABELS", "0.5"), CHANGED),
                ("fewer-images", "cls", nothing, ("DATA.NUM_TRAIN", "8"), CHANGED),
            )
        ),
        Case(
            "transfer-selection-of-other-data",
            RUNS,
            _repainted,
            "transfer_cls.py",
            (*CONFIG, "--target-config-file", "config.yaml", *SELECTION),
            CHANGED,
            "cls",
        ),
    ]
    very_long = (*CONFIG, "SOLVER.EPOCHS", "3000", "SOLVER.CHECKPOINT_PERIOD", "1")
    for name, number in (("sigterm", 15), ("sigint", 2)):
        stop = (Works((), (whole_zips,), code=128 + number),)
        cases.append(
            Case(f"cls-stop-{name}", RUNS, _stopped(number), "prune_cls.py", very_long, stop)
        )
    return cases


CASES = _runs()
