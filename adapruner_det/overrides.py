"""``KEY VALUE`` at the end of a command line, looked at before a configuration takes them."""

from __future__ import annotations

import ast
import difflib
import re
import reprlib
from collections.abc import Sequence
from typing import Any

from fvcore.common.config import CfgNode

from .errors import DataError
from .settings import leaves

_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 80  # a path in it stays whole


def checked_overrides(cfg: CfgNode, overrides: Sequence[str]) -> list[str]:
    """Overrides that ``cfg`` can be merged with.

    A whole number for a decimal key, such as ``KEEP_RATIO 1``, is made a decimal one.

    Raises:
        DataError: an option among them, a key without a value or one that ``cfg`` does not have,
            or a value of another type than the key's.
    """
    found, keys = list(overrides), dict(leaves(cfg))
    refuse_options(found)
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
        if key in keys:
            require_type(key, _decoded(found[place + 1]), keys[key])
    return found


def refuse_options(overrides: Sequence[str]) -> None:
    """Raise a DataError where an option stands among overrides, which would take it for a key."""
    if option := next((text for text in map(str, overrides) if re.match("--[a-z]", text)), ""):
        raise DataError(f"{option} stands behind KEY VALUE; give options before them")


def _decoded(value: Any) -> Any:
    """What a text stands for, as yacs reads it; a text that stands for nothing else is itself."""
    try:
        return ast.literal_eval(value) if isinstance(value, str) else value
    except (ValueError, SyntaxError, MemoryError, RecursionError):  # the last two of deep nesting
        return value


def require_type(key: str, value: Any, default: Any) -> None:
    """Raise a DataError unless yacs takes ``value`` for a key whose value is ``default``."""
    listed = (list, tuple)
    if type(value) is type(default) or value is None or default is None:
        return
    if isinstance(value, listed) and isinstance(default, listed):
        return
    if isinstance(default, bool):
        wanted = "True or False"
    elif isinstance(default, listed):
        wanted = f'a list, such as "{_REPR.repr(_as_list(value, default))}"'
    elif isinstance(default, str):
        wanted = f'a text, such as "{str(value)!r}"'
    else:
        wanted = f"a {'whole ' * isinstance(default, int)}number, such as {default!r}"
    raise DataError(f"{key} is {_REPR.repr(value)}; it must be {wanted}")


def _as_list(value: Any, default: Sequence[Any]) -> tuple[Any, ...]:
    """A list such as ``value`` was meant to be, where that can be told, else ``default``."""
    if not isinstance(value, str):
        return (value,)
    names = [own.strip(" ()[]'\"") for own in value.split(",")]  # a shell eats the inner quotes
    names = [own for own in names if own]
    of_names = all(isinstance(own, str) for own in default)
    return tuple(names) if names and of_names else tuple(default)
