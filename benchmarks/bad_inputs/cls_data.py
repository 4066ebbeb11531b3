"""Cases: what a classifier reads: folders, idx files and strips."""

from __future__ import annotations

import gzip
import os
import shutil
import struct
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from . import toys
from .case import Build, Case, Expectation, either, refused, then, works
from .faults import FAULTS, encoded
from .outcomes import ONE, samples
from .runs import flip, half
from .toys import DATA, image_folder, packed, write_idx

FOLDERS, IDX = "image folders", "packed files"
CONFIG = ("--config-file", "config.yaml")
TRAIN_DIR = f"{DATA}/train"
ALL = works(samples(12))


def added(path: str, make: Callable[[Path], object] = lambda path: path.write_text("x")) -> Build:
    """A toy with one more file or folder."""

    def build(folder: Path) -> None:
        image_folder(folder)
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        make(folder / path)

    return build


def picture_at(path: Path) -> None:
    path.write_bytes(encoded(toys.picture(50, 24, 24), "PNG"))


def removed(*paths: str) -> Build:
    """A toy without some of its files or folders."""

    def build(folder: Path) -> None:
        image_folder(folder)
        for name in paths:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return build


def moved(old: str, new: str) -> Build:
    """A toy with another name for a file or folder."""
    return then(image_folder, lambda folder: (folder / old).rename(folder / new))


def _undecodable(folder: Path) -> None:
    image_folder(folder)
    source = folder / f"{TRAIN_DIR}/cat/im00.png"
    shutil.copy(source, os.fsencode(source.parent) + b"/bad\xff.png")


def _undecodable_class(folder: Path) -> None:
    image_folder(folder)
    os.rename(os.fsencode(folder / TRAIN_DIR / "cat"), os.fsencode(folder / TRAIN_DIR) + b"/c\xff")


def _decomposed(folder: Path) -> None:
    """A class whose name is composed in train and decomposed in test."""
    image_folder(folder)
    for split, form in (("train", "NFC"), ("test", "NFD")):
        own = folder / DATA / split
        (own / "cat").rename(own / unicodedata.normalize(form, "b\u00e4r"))


def _empty_class(folder: Path) -> None:
    image_folder(folder)
    for path in (folder / TRAIN_DIR / "cat").iterdir():
        path.unlink()


def _repeated_bytes(folder: Path) -> None:
    image_folder(folder)
    own = folder / TRAIN_DIR
    shutil.copy(own / "cat/im00.png", own / "dog/im00.png")


FOLDER_TABLE: dict[str, tuple[Build, tuple[Expectation, ...]]] = {
    "nothing": (removed(DATA), refused(DATA)),
    "root-a-file": (
        then(removed(DATA), lambda folder: (folder / DATA).write_text("")),
        refused(DATA),
    ),
    "no-train": (removed(TRAIN_DIR), refused("train")),
    "no-test": (removed(f"{DATA}/test"), refused("test")),
    "val-for-test": (moved(f"{DATA}/test", f"{DATA}/val"), ALL),
    "train-empty": (removed(f"{TRAIN_DIR}/cat", f"{TRAIN_DIR}/dog"), refused("train|class")),
    "one-class": (
        removed(f"{TRAIN_DIR}/cat", f"{DATA}/test/cat"),
        either(refused("class"), works(samples(6))),
    ),
    "class-empty": (_empty_class, refused("cat")),
    "class-missing-in-train": (removed(f"{TRAIN_DIR}/cat"), refused("cat")),
    "class-missing-in-test": (removed(f"{DATA}/test/cat"), either(ALL, refused("cat"))),
    "test-empty": (removed(f"{DATA}/test/cat", f"{DATA}/test/dog"), refused("test")),
    "class-a-file": (added(f"{TRAIN_DIR}/readme.txt"), ALL),
    "images-beside-classes": (
        added(f"{TRAIN_DIR}/stray.png", picture_at),
        either(refused("stray|train"), works(samples(12), says=(ONE,))),
    ),
    "notebook-folder": (
        added(f"{TRAIN_DIR}/.ipynb_checkpoints/x.png", picture_at),
        works(samples(12), says=(".ipynb_checkpoints",)),
    ),
    "notebook-folder-in-class": (
        added(f"{TRAIN_DIR}/cat/.ipynb_checkpoints/x.png", picture_at),
        works(samples(12), says=(".ipynb_checkpoints|hidden",)),
    ),
    "hidden-file": (
        added(f"{TRAIN_DIR}/cat/._im00.png", lambda path: path.write_bytes(b"\0\5\x16\7")),
        either(works(samples(12), says=("._im00|hidden",)), refused("._im00")),
    ),
    "thumbs-db": (added(f"{TRAIN_DIR}/cat/Thumbs.db"), works(samples(12))),
    "ds-store": (added(f"{TRAIN_DIR}/.DS_Store"), works(samples(12))),
    "macosx-folder": (
        added(f"{TRAIN_DIR}/__MACOSX/cat/x.png", picture_at),
        either(
            refused("__MACOSX"),
            works(samples(12), says=("__MACOSX",)),
            works(samples(13), says=("__MACOSX",)),
        ),
    ),
    "other-files": (
        added(f"{TRAIN_DIR}/cat/notes.txt"),
        works(samples(12), says=("notes.txt",)),
    ),
    "raw-photo": (added(f"{TRAIN_DIR}/cat/x.heic"), works(samples(12), says=("x.heic|.heic",))),
    "video": (added(f"{TRAIN_DIR}/cat/x.mp4"), works(samples(12), says=("x.mp4|.mp4",))),
    "subfolders": (added(f"{TRAIN_DIR}/cat/a/b/x.png", picture_at), works(samples(13))),
    "class-names-by-case": (
        added(f"{TRAIN_DIR}/Cat/x.png", picture_at),
        either(works(samples(13), says=("differ|case|alike",)), refused("Cat")),
    ),
    "composed-names": (_decomposed, either(ALL, refused("b\u00e4r|ba\u0308r"))),
    "file-name-not-utf-8": (_undecodable, refused("bad")),
    "class-name-not-utf-8": (_undecodable_class, refused("train|c")),
    "class-name-with-space": (
        then(
            moved(f"{TRAIN_DIR}/cat", f"{TRAIN_DIR}/my cat"),
            lambda folder: (folder / f"{DATA}/test/cat").rename(folder / f"{DATA}/test/my cat"),
        ),
        ALL,
    ),
    "link-to-class": (
        added(f"{TRAIN_DIR}/loop", lambda path: path.symlink_to("loop")),
        either(ALL, refused("loop")),
    ),
    "link-to-parent": (
        added(f"{TRAIN_DIR}/cat/up", lambda path: path.symlink_to("..")),
        either(ALL, refused("up")),
    ),
    "backslash-in-name": (
        added(f"{TRAIN_DIR}/cat/a\\b.png", picture_at),
        either(works(samples(13)), refused("a\\b")),
    ),
    "newline-in-name": (
        added(f"{TRAIN_DIR}/cat/a\nb.png", picture_at),
        either(works(samples(13)), refused("a")),
    ),
    "same-bytes-in-two-classes": (
        _repeated_bytes,
        either(ALL, refused("im00"), works(samples(13))),
    ),
}


def unpacked(name: str, change: Callable[[bytes], bytes]) -> Build:
    """A packed toy one of whose files has other bytes inside its gzip."""

    def build(folder: Path) -> None:
        packed(folder)
        path = folder / DATA / name
        path.write_bytes(gzip.compress(change(gzip.decompress(path.read_bytes()))))

    return build


def file(name: str, change: Callable[[bytes], bytes]) -> Build:
    """A packed toy one of whose files has other bytes."""

    def build(folder: Path) -> None:
        packed(folder)
        path = folder / DATA / name
        path.write_bytes(change(path.read_bytes()))

    return build


def other(name: str, make: Callable[[Path], object]) -> Build:
    """A packed toy with something else in place of a file."""

    def build(folder: Path) -> None:
        packed(folder)
        path = folder / DATA / name
        path.unlink()
        make(path)

    return build


def strips(*heights: int, width: int = 8, labels: int = 12) -> Build:
    """A packed toy of strips."""

    def build(folder: Path) -> None:
        packed(folder)
        data = folder / DATA
        for path in data.glob("*-images-*"):
            path.unlink()
        for k, height in enumerate(heights):
            pixels = np.random.default_rng(k).integers(0, 255, (height, width, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(data / f"train_{k:03}.png")
            Image.fromarray(pixels[: 4 * width].astype(np.uint8)).save(data / f"test_{k:03}.png")
        write_idx(data / "train-labels-idx1-ubyte.gz", np.arange(labels) % 2)

    return build


IMAGES, LABELS = "train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"
TEST_IMAGES = "test-images-idx3-ubyte.gz"


def _stated(*shape: int) -> Callable[[bytes], bytes]:
    return lambda data: (
        data[:3] + bytes([len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + data[16:]
    )


IDX_TABLE: dict[str, tuple[Build, tuple[Expectation, ...]]] = {
    "sound": (packed, ALL),
    "images-missing": (other(IMAGES, lambda path: None), refused("train-images")),
    "labels-missing": (other(LABELS, lambda path: None), refused("train-labels")),
    "test-missing": (other(TEST_IMAGES, lambda path: None), refused("test-images")),
    "images-empty": (file(IMAGES, lambda data: b""), refused(IMAGES)),
    "images-not-gzip": (file(IMAGES, lambda data: b"hello"), refused(IMAGES)),
    "images-gzip-cut": (file(IMAGES, half), refused(IMAGES)),
    "images-gzip-flipped": (file(IMAGES, flip), refused(IMAGES)),
    "images-gzip-trailing": (file(IMAGES, lambda data: data + b"x"), either(ALL, refused(IMAGES))),
    "images-gzip-bomb": (
        unpacked(IMAGES, lambda data: data[:4] + struct.pack(">3I", 12, 8, 8) + bytes(1 << 28)),
        refused(IMAGES),
    ),
    "images-other-magic": (unpacked(IMAGES, lambda data: b"\1\2\3\4" + data[4:]), refused(IMAGES)),
    "images-of-floats": (unpacked(IMAGES, lambda data: b"\0\0\x0d" + data[3:]), refused(IMAGES)),
    "images-too-short": (unpacked(IMAGES, lambda data: data[:-1]), refused(IMAGES)),
    "images-too-long": (unpacked(IMAGES, lambda data: data + b"\0"), refused(IMAGES)),
    "images-header-only": (unpacked(IMAGES, lambda data: data[:9]), refused(IMAGES)),
    "images-250-dimensions": (
        unpacked(IMAGES, lambda data: b"\0\0\x08\xfa" + bytes(1000)),
        refused(IMAGES),
    ),
    "images-dimensions-overflow": (unpacked(IMAGES, _stated(2**31, 2**31, 4)), refused(IMAGES)),
    "images-of-no-images": (
        unpacked(IMAGES, lambda data: _stated(0, 8, 8)(data)[:16]),
        refused("train"),
    ),
    "images-of-no-pixels": (
        unpacked(IMAGES, lambda data: _stated(12, 0, 8)(data)[:16]),
        refused(IMAGES),
    ),
    "images-of-one-dimension": (
        unpacked(IMAGES, lambda data: b"\0\0\x08\1" + struct.pack(">I", 12) + bytes(12)),
        refused(IMAGES),
    ),
    "images-of-five-dimensions": (
        unpacked(
            IMAGES, lambda data: b"\0\0\x08\5" + struct.pack(">5I", 12, 2, 2, 2, 2) + bytes(192)
        ),
        refused(IMAGES),
    ),
    "images-of-two-channels": (
        unpacked(
            IMAGES, lambda data: b"\0\0\x08\4" + struct.pack(">4I", 12, 8, 8, 2) + bytes(12 * 128)
        ),
        refused("train-images|channel"),
    ),
    "images-fewer-than-labels": (
        unpacked(IMAGES, lambda data: _stated(11, 8, 8)(data)[: 16 + 11 * 64]),
        refused("11", "12"),
    ),
    "images-directory": (other(IMAGES, Path.mkdir), refused("train-images")),
    "images-fifo": (other(IMAGES, os.mkfifo), refused("train-images")),
    "labels-of-two-dimensions": (
        unpacked(LABELS, lambda data: b"\0\0\x08\2" + struct.pack(">2I", 12, 1) + data[8:]),
        refused(LABELS),
    ),
    "labels-beyond-classes": (
        then(
            unpacked(LABELS, lambda data: data[:-1] + b"\7"),
            lambda folder: (folder / DATA / "classes.txt").write_text("cat\ndog\n"),
        ),
        refused("7|classes.txt"),
    ),
    "test-of-other-size": (
        unpacked(TEST_IMAGES, lambda data: _stated(4, 16, 4)(data)),
        refused("test"),
    ),
    "classes-not-utf-8": (
        then(packed, lambda folder: (folder / DATA / "classes.txt").write_bytes(b"c\xe5t\ndog\n")),
        refused("classes.txt"),
    ),
    "classes-twice": (
        then(packed, lambda folder: (folder / DATA / "classes.txt").write_text("cat\ncat\n")),
        refused("classes.txt|cat"),
    ),
    "classes-with-spaces": (
        then(packed, lambda folder: (folder / DATA / "classes.txt").write_text("my cat\na dog\n")),
        either(ALL, refused("classes.txt")),
    ),
    "strips-sound": (strips(96), ALL),
    "strips-not-square": (strips(90), refused("train_000.png")),
    "strips-more-than-labels": (strips(96, 96), refused("labels")),
    "strips-of-two-widths": (
        then(
            strips(48, 48),
            lambda folder: Image.new("RGB", (4, 24)).save(folder / DATA / "train_001.png"),
        ),
        refused("train_001|train_000"),
    ),
    "strips-cut": (
        then(strips(96), lambda folder: FAULTS["png-cut-in-half"](folder / DATA / "train_000.png")),
        refused("train_000.png"),
    ),
    "strips-bomb": (
        then(strips(96), lambda folder: FAULTS["bomb-in-header"](folder / DATA / "train_000.png")),
        refused("train_000.png"),
    ),
    "strips-16-bit": (
        then(strips(96), lambda folder: FAULTS["16-bit-grey-png"](folder / DATA / "train_000.png")),
        refused("train_000.png"),
    ),
    "strips-fifo": (
        then(strips(96), lambda folder: FAULTS["fifo"](folder / DATA / "train_000.png")),
        refused("train_000.png"),
    ),
}
NAMED_SETS = {
    "mnist": ("mnist",),
    "cifar10": ("cifar10",),
    "tiny_imagenet": ("tiny-imagenet",),
}

CASES = [
    *(
        Case(f"folder-{name}", FOLDERS, build, "prune_cls.py", CONFIG, expect)
        for name, (build, expect) in FOLDER_TABLE.items()
    ),
    *(
        Case(f"idx-{name}", IDX, build, "prune_cls.py", CONFIG, expect)
        for name, (build, expect) in IDX_TABLE.items()
    ),
    *(
        Case(
            f"set-missing-{name}",
            IDX,
            image_folder,
            "prune_cls.py",
            (*CONFIG, "DATA.NAME", name, "DATA.ROOT", "nowhere"),
            refused(*words),
        )
        for name, words in NAMED_SETS.items()
    ),
]
