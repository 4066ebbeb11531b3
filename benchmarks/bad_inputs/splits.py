"""Cases: the lists of a VOC folder, and the folder itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from .case import Build, Case, Expectation, either, listed, refused, then, works
from .outcomes import keys_are, samples
from .toys import BAD, DATA, TRAIN, picture, toy_xml, voc

KIND = "split files and folders"
CONFIG = ("--config-file", "config.yaml")
TRAIN_FILE, TEST_FILE = f"{DATA}/ImageSets/Main/train.txt", f"{DATA}/ImageSets/Main/test.txt"
IDS = tuple(f"im{i:02}" for i in range(TRAIN))
SPLIT = "train.txt"


def lines(
    *text: str, file: str = TRAIN_FILE, newline: str = "\n", encoding: str = "utf-8"
) -> Build:
    """A toy whose split file has these lines."""

    def build(folder: Path) -> None:
        voc(folder)
        body = "".join(line + newline for line in text)
        (folder / file).write_bytes(body.encode(encoding))

    return build


def raw(data: bytes, file: str = TRAIN_FILE) -> Build:
    """A toy whose split file has these bytes."""
    return then(voc, lambda folder: (folder / file).write_bytes(data))


def placed(make: Callable[[Path], object], file: str = TRAIN_FILE) -> Build:
    """A toy with something else under a path."""

    def build(folder: Path) -> None:
        voc(folder)
        path = folder / file
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        make(path)

    return build


def renamed(ids: dict[str, str], listed_as: Callable[[str], str] = lambda name: name) -> Build:
    """A toy whose images ``ids`` have other names, in the split too."""

    def build(folder: Path) -> None:
        voc(folder)
        for old, new in ids.items():
            for part, suffix in (("JPEGImages", ".png"), ("Annotations", ".xml")):
                source = folder / DATA / part / (old + suffix)
                target = folder / DATA / part / (new + suffix)
                target.parent.mkdir(parents=True, exist_ok=True)
                source.rename(target)
        text = "".join(listed_as(ids.get(i, i)) + "\n" for i in IDS)
        (folder / TRAIN_FILE).write_text(text)

    return build


def removed(*paths: str) -> Build:
    """A toy without some of its files or folders."""

    def build(folder: Path) -> None:
        voc(folder)
        for name in paths:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return build


def spaced(folder: Path) -> None:
    """'part0 (1)' to 'part3 (1)' in train; 'part0' to 'part3' in test."""
    voc(folder)
    for i in range(4):
        for part, suffix in (("JPEGImages", ".png"), ("Annotations", ".xml")):
            own = folder / DATA / part
            (own / f"im{i:02}{suffix}").rename(own / f"part{i} (1){suffix}")
            (own / f"im{i + TRAIN:02}{suffix}").rename(own / f"part{i}{suffix}")
    train = [*(f"part{i} (1)" for i in range(4)), *IDS[4:]]
    (folder / TRAIN_FILE).write_text("\n".join(train) + "\n")
    (folder / TEST_FILE).write_text("".join(f"part{i}\n" for i in range(4)))


def outside(folder: Path) -> None:
    """A list that leaves the folder: the files are there."""
    voc(folder)
    for part, suffix in (("JPEGImages", ".png"), ("Annotations", ".xml")):
        shutil.copy(folder / DATA / part / f"im00{suffix}", folder / DATA / f"away{suffix}")
    (folder / TRAIN_FILE).write_text("\n".join([*IDS, "../away"]) + "\n")


def absolute(folder: Path) -> None:
    """A list with an absolute path: the files are there."""
    voc(folder)
    (folder / "away.xml").write_text(toy_xml(0))
    picture(0).save(folder / "away.png")
    (folder / TRAIN_FILE).write_text("\n".join([*IDS, str(folder / "away")]) + "\n")


def overlapping(folder: Path) -> None:
    """Two training sets of one folder that share images."""
    voc(folder, {"DATASETS.TRAIN": ["toy_train", "toy_more"]})
    text = (folder / "config.yaml").read_text()
    entry = f"- toy_test={DATA}:test"
    (folder / "config.yaml").write_text(text.replace(entry, f"{entry}\n  - toy_more={DATA}:more"))
    (folder / f"{DATA}/ImageSets/Main/more.txt").write_text("im10\nim11\n")


ALL = works(samples(TRAIN), keys_are(*IDS))

TABLE: dict[str, tuple[Build, tuple[Expectation, ...]]] = {
    "repeated-in-train": (lines(*IDS, BAD), refused(BAD)),
    "repeated-in-test": (
        lines("im10", "im11", "im12", "im13", "im10", file=TEST_FILE),
        either(refused("test.txt", "im10"), works(says=("im10",))),
    ),
    "repeated-all-in-test": (
        lines(*["im10", "im11", "im12", "im13"] * 2, file=TEST_FILE),
        either(refused("test.txt", "im10"), works(says=("im10",))),
    ),
    "spaces": (spaced, works(keys_are(*(f"part{i} (1)" for i in range(4)), *IDS[4:]))),
    "two-spaces-inside": (
        renamed({BAD: "im  03"}),
        works(keys_are("im  03", *(i for i in IDS if i != BAD))),
    ),
    "space-and-column": (
        renamed({BAD: "im 03"}, lambda name: f"{name}  1"),
        works(keys_are("im 03", *(i for i in IDS if i != BAD))),
    ),
    "name-ends-in-1": (
        renamed({BAD: "cat 1"}),
        works(keys_are("cat 1", *(i for i in IDS if i != BAD))),
    ),
    "column-of-ones": (lines(*(f"{i}  1" for i in IDS)), ALL),
    "column-of-signs": (
        lines(*(f"{i} {'-1' if k % 2 else ' 1'}" for k, i in enumerate(IDS))),
        either(ALL, works(samples(5), says=("-1",)), refused(SPLIT)),
    ),
    "column-of-signs-and-0": (
        lines(*(f"{i} {(-1, 0, 1)[k % 3]:2}" for k, i in enumerate(IDS))),
        either(ALL, works(says=("-1",)), refused(SPLIT)),
    ),
    "column-of-2": (lines("im00 2", *IDS[1:]), refused(SPLIT)),
    "column-of-words": (lines(*(f"{i} cat" for i in IDS)), refused(SPLIT)),
    "third-column": (lines("im00 1 extra", *IDS[1:]), refused(SPLIT)),
    "commas": (lines(",".join(IDS)), refused(SPLIT)),
    "comma-and-label": (lines(*(f"{i},1" for i in IDS)), refused(SPLIT)),
    "quotes": (lines(*(f'"{i}"' for i in IDS)), refused(SPLIT)),
    "comment": (lines("# my images", *IDS), refused(SPLIT)),
    "suffixes": (lines(*(f"{i}.png" for i in IDS)), either(refused(SPLIT), ALL)),
    "paths": (lines(*(f"JPEGImages/{i}.png" for i in IDS)), refused(SPLIT)),
    "bom": (lines(*IDS, encoding="utf-8-sig"), ALL),
    "crlf": (lines(*IDS, newline="\r\n"), ALL),
    "cr": (lines(*IDS, newline="\r"), ALL),
    "tabs-behind": (lines(*(f"{i}\t" for i in IDS)), ALL),
    "spaces-before": (lines(*(f"  {i}" for i in IDS)), ALL),
    "blank-lines": (lines("", *IDS, "", "   ", ""), ALL),
    "no-last-newline": (raw("\n".join(IDS).encode()), ALL),
    "form-feed": (raw(b"\x0c\n" + "\n".join(IDS).encode()), either(ALL, refused(SPLIT))),
    "latin-1": (raw(b"im00\nbl\xe5b\xe6r\n"), refused(SPLIT)),
    "utf-16": (lines(*IDS, encoding="utf-16"), refused(SPLIT)),
    "null-bytes": (raw(b"im00\0\nim01\n"), refused(SPLIT)),
    "binary": (raw(bytes(range(256)) * 20), refused(SPLIT)),
    "empty": (raw(b""), refused("toy_train|train.txt")),
    "only-blank-lines": (raw(b"\n \n\n"), refused("toy_train|train.txt")),
    "empty-test": (raw(b"", TEST_FILE), refused("toy_test|test.txt")),
    "one-line": (lines("im00"), either(works(samples(1)), refused("1 "))),
    "very-long-line": (lines("x" * 100_000, *IDS), refused(SPLIT)),
    "parent-folder": (outside, refused(SPLIT, "away")),
    "absolute-path": (absolute, refused(SPLIT, "away")),
    "dot": (lines(".", *IDS), refused(SPLIT)),
    "dot-dot": (lines("..", *IDS), refused(SPLIT)),
    "subfolder": (
        renamed({BAD: f"sub/{BAD}"}),
        either(refused(SPLIT, "sub"), works(samples(TRAIN))),
    ),
    "other-case": (lines("IM00", *IDS[1:]), refused("IM00", SPLIT)),
    "not-normalised": (
        renamed({BAD: "e\u0301te"}, lambda name: name.replace("e\u0301", "\u00e9")),
        either(refused(SPLIT), works(samples(TRAIN))),
    ),
    "umlaut": (renamed({BAD: "b\u00e4r"}), works(samples(TRAIN))),
    "directory": (placed(Path.mkdir), refused(SPLIT)),
    "fifo": (placed(os.mkfifo), refused(SPLIT)),
    "test-fifo": (placed(os.mkfifo, TEST_FILE), refused("test.txt")),
    "dangling-link": (placed(lambda path: path.symlink_to("no.txt")), refused(SPLIT)),
    "loop-link": (placed(lambda path: path.symlink_to(path.name)), refused(SPLIT)),
    "link-to-zero-device": (placed(lambda path: path.symlink_to("/dev/zero")), refused(SPLIT)),
    "missing-xml": (removed(f"{DATA}/Annotations/{BAD}.xml"), refused(BAD, SPLIT)),
    "missing-image": (removed(f"{DATA}/JPEGImages/{BAD}.png"), refused(BAD, SPLIT)),
    "missing-test-xml": (removed(f"{DATA}/Annotations/im11.xml"), refused("im11", "test.txt")),
    "missing-list": (removed(TRAIN_FILE), refused(SPLIT)),
    "missing-test-list": (removed(TEST_FILE), refused("test.txt")),
    "no-annotations-folder": (removed(f"{DATA}/Annotations"), refused("Annotations")),
    "no-images-folder": (removed(f"{DATA}/JPEGImages"), refused("JPEGImages")),
    "no-image-sets-folder": (removed(f"{DATA}/ImageSets"), refused("ImageSets")),
    "nothing": (removed(DATA), refused(DATA)),
    "images-folder-is-file": (
        placed(lambda path: path.write_text(""), f"{DATA}/JPEGImages"),
        refused("JPEGImages"),
    ),
    "root-is-file": (placed(lambda path: path.write_text(""), DATA), refused(DATA)),
    "shared-ids-with-test": (
        lines(*IDS, "im10"),
        either(
            works(samples(TRAIN + 1), says=("im10",)), refused("im10"), works(samples(TRAIN + 1))
        ),
    ),
    "two-training-sets": (overlapping, works(samples(TRAIN + 2))),
}

CASES = [
    *(
        Case(f"split-{name}", KIND, build, "prune_net.py", CONFIG, expect)
        for name, (build, expect) in TABLE.items()
    ),
    Case(
        "check-split-repeated-test",
        KIND,
        lines("im10", "im11", "im10", file=TEST_FILE),
        "check_data.py",
        CONFIG,
        either(listed("im10"), works(says=("im10",))),
    ),
    Case("check-split-fifo", KIND, placed(os.mkfifo), "check_data.py", CONFIG, listed("train.txt")),
    Case(
        "compare-split-missing-image",
        KIND,
        removed(f"{DATA}/JPEGImages/{BAD}.png"),
        "compare.py",
        (*CONFIG, "--num-seeds", "1"),
        refused(BAD),
    ),
    Case(
        "eval-split-empty-test",
        KIND,
        raw(b"", TEST_FILE),
        "train_pruned.py",
        (*CONFIG, "--eval-only"),
        refused("toy_test|test.txt"),
    ),
]
