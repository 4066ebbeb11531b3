"""The arguments that several sub-commands share."""

from __future__ import annotations

import argparse

from ..command import config_path, help_text, program


def plain_parser(tool: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser without arguments, whose help is the docstring ``doc`` of the tool ``tool``."""
    return argparse.ArgumentParser(
        program(tool),
        description=help_text(doc),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def config_parser(tool: str, doc: str | None) -> argparse.ArgumentParser:
    """A parser with ``--config-file`` and, last, overrides."""
    parser = plain_parser(tool, doc)
    parser.add_argument(
        "--config-file", type=config_path, default="", metavar="FILE", help="a yaml with a detector"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="overrides")
    return parser
