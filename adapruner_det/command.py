"""How a tool was called, what it finds, and the command that it advises next, to be typed there.

A tool is a module of :mod:`adapruner_det.cli`. It is called as the file of that name in ``tools/``,
or as a sub-command, with dashes, of ``adapruner`` or of ``python -m adapruner_det``.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Collection, Sequence
from pathlib import Path

SCRIPT = "adapruner"
PACKAGE = "adapruner_det"

#: Where a run writes, in a yaml and in a LazyConfig.
OUTPUT_KEYS = ("OUTPUT_DIR", "train.output_dir")

#: Modules of :mod:`adapruner_det.cli` that are no tools: what several of them share.
SHARED = ("arguments", "classifying", "tasks")

_MODULES = Path(__file__).with_name("cli")


def sibling_command(tool: str, arguments: Sequence[str]) -> str:
    """A command line for the tool ``tool``, called as the one that is running was.

    Args:
        tool: its file name in ``tools/``.
        arguments: its arguments, unquoted.
    """
    return shlex.join([*_words(tool, _python(), _script()), *arguments])


def program(tool: str) -> str:
    """What a usage line and a message call the tool ``tool``, as the one that is running was.

    Args:
        tool: its file name in ``tools/``.
    """
    words = _words(tool, "python", SCRIPT)
    return words[-1] if words[-1].endswith(".py") else " ".join(words)


def help_text(text: str | None) -> str:
    """``text`` with each ``adapruner sub-command`` in it as this process would call it."""

    def called(match: re.Match[str]) -> str:
        tool = match[1].replace("-", "_") + ".py"
        return program(tool) if _is_tool(tool) else match[0]

    return re.sub(rf"\b{SCRIPT} ([a-z]+(?:-[a-z]+)*)\b", called, text or "")


def _words(tool: str, python: str, script: str) -> list[str]:
    """What calls ``tool``, before its arguments."""
    folder, running = os.path.split(sys.argv[0])
    if _is_tool(running):
        return [python, os.path.join(folder, tool)]
    start = [script] if running == SCRIPT else [python, "-m", PACKAGE]
    return [*start, tool.removesuffix(".py").replace("_", "-")]


def _is_tool(file_name: str) -> bool:
    own = not file_name.startswith("_") and file_name.removesuffix(".py") not in SHARED
    return own and (_MODULES / file_name).is_file()


def config_path(name: str) -> str:
    """``name``, or of ``configs/x.yaml``, where there is none, the one that the package brings."""
    if name.startswith("configs/") and not os.path.exists(name):
        own = shipped_config(name.removeprefix("configs/"))
        return own if os.path.isfile(own) else name
    return name


def shipped_config(name: str) -> str:
    """The path of a file of ``configs/``, which an installed package holds and a checkout has."""
    packed = Path(__file__).with_name("configs")
    folder = packed if packed.is_dir() else Path(__file__).parents[1] / "configs"
    return str(folder / name)


def with_output(overrides: Sequence[str], folder: str, lazy: bool = False) -> list[str]:
    """``overrides`` with ``folder`` as the output folder, whatever they say of it.

    Args:
        overrides: pairs of KEY VALUE, or ``key=value`` each of a LazyConfig.
        folder: the output folder.
        lazy: whether they are those of a LazyConfig.
    """
    kept = without(overrides, OUTPUT_KEYS, lazy)
    if lazy:
        return [*kept, f"train.output_dir={_lazy_value(folder)}"]
    return [*kept, "OUTPUT_DIR", folder]


def without(overrides: Sequence[str], keys: Collection[str], lazy: bool = False) -> list[str]:
    """``overrides`` but those of ``keys``; ``lazy`` as in :func:`with_output`."""
    if lazy:
        return [word for word in overrides if word.lstrip("+").partition("=")[0] not in keys]
    pairs = zip(overrides[::2], overrides[1::2], strict=True)
    return [word for key, value in pairs if key not in keys for word in (key, value)]


def recorded(tool: str, options: Sequence[str], overrides: Sequence[str]) -> str:
    """How the tool ``tool`` was called, for what it leaves: the same whichever way it was called.

    Args:
        tool: its file name in ``tools/``.
        options: its options that are to be on record.
        overrides: likewise.
    """
    name = tool.removesuffix(".py").replace("_", "-")
    return shlex.join([SCRIPT, name, *options, *overrides])


def beside(folder: str) -> str:
    """Another folder, next to ``folder`` and named after it."""
    path = os.path.normpath(folder)
    inside = os.path.basename(path) in ("", ".", "..")
    return os.path.join(path, "kept") if inside else f"{path}_kept"


def _python() -> str:
    """``python`` where that is the interpreter that runs, else its path."""
    found = os.path.abspath(shutil.which("python") or "")
    own = sys.executable
    # In the same folder, for a virtual environment's python is a link to that of another; and the
    # same in the end, for beside a python3 there may be a python of another kind.
    beside = os.path.dirname(found) == os.path.dirname(own)
    return "python" if beside and os.path.realpath(found) == os.path.realpath(own) else own


def _script() -> str:
    """``adapruner`` where the shell finds the one that runs under that name, else its path."""
    own = os.path.abspath(sys.argv[0])
    found = shutil.which(SCRIPT)
    return SCRIPT if found and os.path.realpath(found) == os.path.realpath(own) else own


# A path of plain characters that is no number and none of the words that stand for a value.
_PLAIN = re.compile(
    r"(?!(null|true|false|-?inf|-?nan|[-.\d_]+(e[-\d_]+)?)$)[\w./-]+", re.ASCII | re.IGNORECASE
)


def _lazy_value(text: str) -> str:
    """``text`` as a LazyConfig's overrides take it: quoted unless it is a plain path."""
    if _PLAIN.fullmatch(text):
        return text
    # A quote is escaped, and then the backslashes before it have to be.
    return "'" + re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + m[2].replace("'", "\\'"), text) + "'"
