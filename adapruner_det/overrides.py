"""``KEY VALUE`` at the end of a command line, looked at before a configuration takes them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

from fvcore.common.config import CfgNode

from .errors import DataError
from .settings import leaves


def checked_overrides(cfg: CfgNode, overrides: Sequence[str]) -> list[str]:
    """Overrides that ``cfg`` can be merged with, if their values are of the right types.

    A whole number for a decimal key, such as ``KEEP_RATIO 1``, is made a decimal one.

    Raises:
        DataError: an option among them, a key without a value, or one that ``cfg`` does not have.
    """
    found, keys = list(overrides), dict(leaves(cfg))
    if option := next((text for text in map(str, found) if re.match("--[a-z]", text)), ""):
        raise DataError(f"{option} stands behind KEY VALUE; give options before them")
    if len(found) % 2:
        raise DataError(
            f"{found[-1]!r}, the last of the overrides, has no partner: an odd number of words "
            "cannot be pairs of KEY VALUE"
        )
    for place in range(0, len(found), 2):
        key, value = str(found[place]), str(found[place + 1])
        if isinstance(keys.get(key), float) and re.fullmatch(r"[+-]?\d{1,300}", value):
            found[place + 1] = f"{value}.0"
        known = key in keys or any(name.startswith(f"{key}.") for name in keys)
        if not (known or cfg.key_is_renamed(key) or cfg.key_is_deprecated(key)):
            near = difflib.get_close_matches(key, keys, 1, 0.75)
            meant = f"; did you mean {near[0]}?" if near else ""
            raise DataError(f"there is no key {key!r} in the configuration{meant}")
    return found
