"""The fields and columns of a selection: which there are, of what type, range and number.

What is not right raises a ValueError, which names neither file.
Shape letters: N samples, K kept.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from .core.cut import kept_count
from .values import is_number

#: Columns every selection has, one row a sample in the order of the sorted keys.
REQUIRED_COLUMNS = ("key", "digest", "kept", "score")

MAX_TEXT = 8192  # characters of one entry of a column

#: The types of the columns that are known, as numpy's kinds. Others may be of any plain type.
_KINDS = {
    "key": "U",
    "digest": "u",
    "kept": "bu",
    "logit": "f",
    "last_loss": "f",
    "mean_loss": "f",
    "typical_loss": "f",
    "times_seen": "iu",
    "score": "fiu",
    "classes": "U",
    "why": "U",
}
_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = 60
_CLASSES = re.compile(r"[0-9]{1,9}( [0-9]{1,9})*")


def check_header(header: Mapping[str, Any]) -> None:
    """Raise a ValueError for the first value of ``header`` that cannot be meant."""
    for name in ("method", "keep_ratio", "seed", "datasets"):
        if name not in header:
            raise ValueError(f"it has no {name!r}")
    for name, (fits, wanted) in _FIELDS.items():
        if name in header and not fits(header[name]):
            raise ValueError(f"{name} is {brief(header[name])}; it must be {wanted}")


def check_columns(columns: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> None:
    """Raise a ValueError for the first column of a selection that cannot be used or ranked by.

    Args:
        columns: the arrays (N,).
        header: for the names of the data sets, the keep ratio and the parameters.
    """
    for name in REQUIRED_COLUMNS:
        if name not in columns:
            raise ValueError(f"it has no column {name!r}")
    n = len(columns["key"])
    for name, column in columns.items():
        check_type(name, column.dtype)
        if column.shape != (n,):
            raise ValueError(f"the column {name!r} has shape {column.shape} for {n} keys")
    if columns["kept"].dtype != bool or columns["kept"].view(np.uint8).max(initial=0) > 1:
        raise ValueError("the column 'kept' has values other than true and false")
    kept = int(np.count_nonzero(columns["kept"]))
    if not n or kept != kept_count(n, header["keep_ratio"]):
        raise ValueError(f"it keeps {kept} of {n} samples at the keep ratio {header['keep_ratio']}")
    check_values(columns)
    for key in columns["key"].tolist():
        dataset, _, image_id = key.rpartition("/")
        if dataset not in header["datasets"] or not image_id:
            raise ValueError(f"the key {brief(key)} is not <data set>/<image id> of its data sets")
    for words in np.unique(columns["classes"]).tolist() if "classes" in columns else ():
        if not _are_classes(words):
            raise ValueError(f"the classes {brief(words)} are not rising ids with a space between")


def check_counts(header: Mapping[str, Any], columns: Mapping[str, np.ndarray]) -> None:
    """Raise a ValueError unless what the JSON says of the columns for people is so."""
    keys, kept = columns["key"], columns["kept"].astype(bool)
    if header["num_kept"] != np.count_nonzero(kept):
        raise ValueError(f"num_kept is {header['num_kept']}; {np.count_nonzero(kept)} are kept")
    if abs(header.get("keep_ratio_reached", kept.mean()) - kept.mean()) > 1e-6:
        raise ValueError(f"keep_ratio_reached is {header['keep_ratio_reached']}, not {kept.mean()}")
    if sorted(header["kept"]) != keys[kept].tolist():
        raise ValueError(
            "it and its .npz disagree on the kept keys: they are not from the same run; "
            "copy both files of one selection together"
        )


def check_values(columns: Mapping[str, np.ndarray]) -> None:
    """Raise a ValueError unless whatever is ordered by has an order."""
    for name, fits, wanted in (
        ("logit", np.isfinite, "finite"),
        ("mean_loss", lambda x: np.isfinite(x) & (x >= 0), "0 or more"),
        ("typical_loss", lambda x: np.isfinite(x) & (x > 0), "above 0"),
        ("score", lambda x: ~np.isnan(x), "a number"),
        ("times_seen", lambda x: x >= 0, "0 or more"),
    ):
        if name in columns and not (fit := fits(columns[name])).all():
            row = int(np.argmin(fit))
            raise ValueError(f"{name} of sample {row} is {columns[name][row]}; it must be {wanted}")


def check_type(name: str, dtype: np.dtype[Any]) -> None:
    """Raise a ValueError for a column whose name or type no selection has."""
    if not name.isidentifier():
        raise ValueError(f"the column {brief(name)} has no proper name")
    sizes = {"U": range(4, 4 * MAX_TEXT + 1), "f": (4, 8)}.get(dtype.kind, (1, 2, 4, 8))
    sizes = {"digest": (8,), "kept": (1,)}.get(name, sizes)
    if dtype.kind not in _KINDS.get(name, "biufU") or dtype.itemsize not in sizes:
        raise ValueError(f"the column {name!r} is of type {dtype.str}")


def can_rank(parameters: Mapping[str, Any]) -> bool:
    """Whether parameters of version 1 say how a mean loss becomes what orders samples."""
    terms, typical = parameters.get("pressure_terms", {}), parameters.get("typical_loss", 1.0)
    float32 = np.finfo(np.float32)
    return (
        isinstance(terms, Mapping)
        and set(terms) <= {"use_classification", "use_selection"}
        and all(isinstance(term, bool) for term in terms.values())
        and is_number(typical)
        and float(float32.tiny) <= typical <= float(float32.max)
    )


def brief(value: Any) -> str:
    """As it would stand in a program, but never long."""
    return _REPR.repr(value)


def _are_classes(words: str) -> bool:
    """Whether an entry of the column ``classes`` is written as it must be."""
    if not words:
        return True
    if not _CLASSES.fullmatch(words):
        return False
    return words == " ".join(map(str, sorted({int(word) for word in words.split(" ")})))


def _is_ratio(value: Any) -> bool:
    return is_number(value) and 0.0 < value <= 1.0


def _is_whole(value: Any) -> bool:
    return is_number(value) and isinstance(value, (int, np.integer)) and abs(int(value)) < 2**64


def _is_count(value: Any) -> bool:
    return _is_whole(value) and int(value) > 0


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_text_list(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(map(_is_text, value))


def _is_text_map(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text, [*value, *value.values()]))


def _are_parameters(value: Any) -> bool:
    return isinstance(value, Mapping) and all(map(_is_text, value))


#: Field → whether a value can be meant, and what it must be.
_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "method": (lambda v: _is_text(v) and v != "", "a name"),
    "keep_ratio": (_is_ratio, "a number in (0, 1]"),
    "seed": (_is_whole, "a whole number"),
    "datasets": (lambda v: _is_text_map(v) and len(v) > 0, "data-set names with fingerprints"),
    "soft_ratio": (
        lambda v: v is None or (is_number(v) and -0.01 <= v <= 1.01),
        "null or a number from 0 to 1",
    ),
    "config_digest": (_is_text, "a text"),
    "parameters": (_are_parameters, "an object"),
    "versions": (_is_text_map, "library names with versions"),
    "cut_from": (lambda v: v is None or _is_ratio(v), "null or a number in (0, 1]"),
    "excluded": (_is_text_map, "keys with reasons"),
    "class_names": (_is_text_list, "a list of names"),
    "digest_of": (lambda v: v in ("", "bytes", "pixels"), "'', 'bytes' or 'pixels'"),
    "num_threads": (lambda v: _is_whole(v) and int(v) >= 0, "a whole number, 0 or more"),
    "command": (_is_text, "a text"),
    "num_samples": (_is_count, "a whole number above 0"),
    "num_kept": (_is_count, "a whole number above 0"),
    "keep_ratio_reached": (is_number, "a number"),
    "npz_sha256": (_is_text, "a SHA-256"),
    "kept": (_is_text_list, "a list of keys"),
}
