"""The command ``adapruner``: one module a sub-command, imported when it is called.

A module has ``main(argv)``; the first line of its docstring is what ``--help`` says of it, and the
rest what its own ``--help`` says. This one imports nothing that takes time.
"""

from __future__ import annotations

import ast
import platform
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ..command import PACKAGE, SCRIPT
from ..errors import DataError, did_you_mean, reported
from .tasks import detectron2_needed

#: Heading → the sub-commands below it.
GROUPS = {
    "detection, with Detectron2": (
        "prune-net",
        "train-pruned",
        "suspects",
        "check-data",
        "anchors",
    ),
    "classification": ("prune-cls", "train-cls", "transfer-cls"),
    "both": ("compare", "cut", "report", "export", "analyze"),
}
NAMES = tuple(name for names in GROUPS.values() for name in names)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the sub-command that ``argv`` begins with; by default that of the command line."""
    name, *rest = [*(sys.argv[1:] if argv is None else argv)] or [""]
    with reported():
        if name in ("-h", "--help", "help"):
            print(overview())
            return
        if name in ("-V", "--version"):
            print(versions())
            return
        run = command(name)
    run(rest)


def command(name: str) -> Callable[[Sequence[str]], None]:
    """What runs the sub-command of that name.

    Raises:
        DataError: no such sub-command, or one that needs a Detectron2 that is not there.
    """
    known = name.replace("_", "-").removesuffix(".py")  # as the file in tools/ is called
    if known not in NAMES:
        what = f"there is no sub-command {name!r}" if name else "the sub-command is missing"
        raise DataError(
            f"{what}; {did_you_mean(known, NAMES)}there are {', '.join(NAMES)}: "
            f"`{SCRIPT} --help` says what each does"
        )
    with detectron2_needed(f"{SCRIPT} {known}"):
        module = import_module(f".{_module(known)}", __name__)
    run: Callable[[Sequence[str]], None] = module.main
    return run


def overview() -> str:
    """What ``--help`` prints: all sub-commands, each with one line."""
    width = max(map(len, NAMES))
    lines = [
        f"usage: {SCRIPT} SUB-COMMAND ...",
        "",
        "Prune a training set while a model trains on it, and train on what is kept.",
    ]
    for heading, names in GROUPS.items():
        lines += ["", f"{heading}:"]
        lines += [f"  {name:<{width}}  {summary(name)}" for name in names]
    lines += [
        "",
        f"{SCRIPT} SUB-COMMAND --help says more of one, {SCRIPT} --version which versions run.",
        f"python -m {PACKAGE} SUB-COMMAND is the same.",
    ]
    return "\n".join(lines)


def summary(name: str) -> str:
    """The first line of a sub-command's docstring, which is read without importing it."""
    source = Path(__file__).with_name(f"{_module(name)}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def versions() -> str:
    """One line: of this package, of Python and of what it stands on."""
    others = [f"{name} {_version(name)}" for name in ("torch", "detectron2")]
    own = f"adapruner-det {_version('adapruner-det')}"
    return f"{own} (Python {platform.python_version()}, {', '.join(others)})"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _module(name: str) -> str:
    return name.replace("-", "_")
