"""The command that a tool advises next, as it can be typed where the tool was called."""

from __future__ import annotations

import os
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
    # By folder and not by what a link leads to: a virtual environment's python is a link.
    found = os.path.dirname(shutil.which("python") or "")
    python = "python" if found == os.path.dirname(sys.executable) else sys.executable
    path = os.path.join(os.path.dirname(sys.argv[0]), tool)
    return shlex.join([python, path, *arguments])


def with_output(overrides: Sequence[str], folder: str, lazy: bool = False) -> list[str]:
    """``overrides`` with ``folder`` as the output folder, whatever they say of it.

    Args:
        overrides: pairs of KEY VALUE, or ``key=value`` each of a LazyConfig.
        folder: the output folder.
        lazy: whether they are those of a LazyConfig.
    """
    if lazy:
        kept = [word for word in overrides if not word.startswith("train.output_dir=")]
        return [*kept, f"train.output_dir={folder}"]
    pairs = zip(overrides[::2], overrides[1::2], strict=True)
    kept = [word for key, value in pairs if key != "OUTPUT_DIR" for word in (key, value)]
    return [*kept, "OUTPUT_DIR", folder]
