"""The command that a tool advises next, as it can be typed where the tool was called."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Sequence


def sibling_command(tool: str, arguments: Sequence[str]) -> str:
    """A command line for the tool ``tool`` that lies beside the one that is running.

    Args:
        tool: its file name.
        arguments: its arguments, unquoted.
    """
    path = os.path.join(os.path.dirname(sys.argv[0]), tool)
    return shlex.join([_python(), path, *arguments])


def with_output(overrides: Sequence[str], folder: str, lazy: bool = False) -> list[str]:
    """``overrides`` with ``folder`` as the output folder, whatever they say of it.

    Args:
        overrides: pairs of KEY VALUE, or ``key=value`` each of a LazyConfig.
        folder: the output folder.
        lazy: whether they are those of a LazyConfig.
    """
    if lazy:
        key = "train.output_dir="
        kept = [word for word in overrides if not word.lstrip("+").startswith(key)]
        return [*kept, key + _lazy_value(folder)]
    pairs = zip(overrides[::2], overrides[1::2], strict=True)
    kept = [word for key, value in pairs if key != "OUTPUT_DIR" for word in (key, value)]
    return [*kept, "OUTPUT_DIR", folder]


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
