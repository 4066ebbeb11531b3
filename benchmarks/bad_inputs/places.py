"""Cases: where a run is to write, in both tasks."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from .case import Case, Expectation, Refused, either, refused, then, works
from .outcomes import holds
from .toys import OUT, image_folder, voc

KIND = "output folders"
CONFIG = ("--config-file", "config.yaml")


def mounted(*options: str, fill: bool = False) -> Callable[[Path], None]:
    """A file system of its own at ``small``; the judge unmounts it."""

    def build(folder: Path) -> None:
        place = folder / "small"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(place)]
        subprocess.run(command, check=True, capture_output=True)
        if fill:
            handle = os.open(place / "filler", os.O_WRONLY | os.O_CREAT)
            with contextlib.suppress(OSError):
                while True:
                    os.write(handle, bytes(4096))
            os.close(handle)

    return build


def _file(folder: Path) -> None:
    (folder / "taken").write_text("")


def _links(folder: Path) -> None:
    (folder / "loop").symlink_to("loop")
    (folder / "dangling").symlink_to("nowhere/at/all")


def _null(folder: Path) -> None:
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace(f"OUTPUT_DIR: {OUT}", 'OUTPUT_DIR: "o\\0ut"'))


full = (Refused(("small",), may_write=True),)
#: What is made, OUTPUT_DIR, and what is right.
TABLE: dict[str, tuple[Callable[[Path], None], str, tuple[Expectation, ...]]] = {
    "a-file": (_file, "taken", refused("taken")),
    "under-a-file": (_file, "taken/out", refused("taken")),
    "under-null-device": (_file, "/dev/null/out", refused("/dev/null")),
    "in-proc": (_file, "/proc/out", refused("/proc")),
    "in-sys": (_file, "/sys/out", refused("/sys")),
    "name-too-long": (_file, "x" * 300, refused("xxx")),
    "path-too-long": (_file, "/".join(["deep"] * 1100), refused("deep")),
    "link-loop": (_links, "loop", refused("loop")),
    "under-link-loop": (_links, "loop/out", refused("loop")),
    "dangling-link": (_links, "dangling", either(refused("dangling"), works())),
    "null-byte": (_null, "", refused("OUTPUT_DIR|config.yaml")),
    "read-only": (mounted("ro", "size=1m"), "small/out", refused("small")),
    "full": (mounted("size=64k", fill=True), "small/out", refused("small")),
    "no-inodes": (mounted("size=1m", "nr_inodes=2"), "small/out", refused("small")),
    "too-small-for-checkpoint": (mounted("size=64k"), "small/out", full),
    "empty": (_file, "''", refused("OUTPUT_DIR")),
    "a-number": (_file, "7", either(refused("OUTPUT_DIR"), works(holds("7/selection.json")))),
    "here": (_file, ".", works(holds("selection.json"))),
    "with-spaces": (_file, "my out put", works(holds("my out put/selection.json"))),
    "new-and-deep": (_file, "a/b/c", works(holds("a/b/c/selection.json"))),
}


def _cases() -> list[Case]:
    cases = []
    for toy, tool, short in (
        (voc, "prune_net.py", "det"),
        (image_folder, "prune_cls.py", "cls"),
    ):
        for name, (make, folder, expect) in TABLE.items():
            more = ("OUTPUT_DIR", folder) if folder else ()
            cases.append(
                Case(
                    f"output-{short}-{name}", KIND, then(toy, make), tool, (*CONFIG, *more), expect
                )
            )
    for name in ("a-file", "in-proc", "read-only"):
        make, folder, expect = TABLE[name]
        further = {
            "train_pruned.py": (voc, CONFIG),
            "compare.py": (voc, (*CONFIG, "--num-seeds", "1")),
            "train_cls.py": (image_folder, CONFIG),
            "transfer_cls.py": (image_folder, (*CONFIG, "--target-config-file", "config.yaml")),
        }
        for tool, (toy, args) in further.items():
            cases.append(
                Case(
                    f"output-{tool.partition('.')[0].replace('_', '-')}-{name}",
                    KIND,
                    then(toy, make),
                    tool,
                    (*args, "OUTPUT_DIR", folder),
                    expect,
                )
            )
    return cases


CASES = _cases()
