"""A person's say over a selection: the file of decisions that a report saves, and what it makes.

Shape letters: N samples, K kept.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.cut import ranks
from ..errors import DataError, one_line, shown
from ..methods.adapruner import OVERRULED, drop_end
from ..selection import Selection

#: What marks a file of decisions, with its version.
MARK = "adapruner_det_decisions"

#: The column of the score that the run gave.
RUN_SCORE = "run_score"

_MOST_BYTES = 2**28


@dataclass(frozen=True)
class Decisions:
    """What a person decided.

    Attributes:
        selection: :func:`identity` of the selection that it is about.
        num_kept: K of the cut that the say is over, before it.
        keep: keys that stay, whatever the cut does.
        drop: keys that go.
    """

    selection: str
    num_kept: int
    keep: frozenset[str]
    drop: frozenset[str]


def identity(selection: Selection) -> str:
    """SHA-256 over keys, digests, scores and what is kept: what decisions are about. Hexadecimal.

    Two selections of one have the same samples in the same order, of which the same are kept.
    """
    columns = selection.columns
    total = hashlib.sha256("\n".join(columns["key"].tolist()).encode("utf-8", "backslashreplace"))
    order = ranks(np.zeros(selection.num_samples), columns["score"])
    for values, kind in ((columns["digest"], "<u8"), (columns["kept"], "u1"), (order, "<i8")):
        total.update(np.ascontiguousarray(values).astype(kind).tobytes())
    return total.hexdigest()


def read_decisions(path: Path) -> Decisions:
    """What a report has saved at ``path``.

    Raises:
        DataError: a file that is missing, damaged or something else.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it has {path.stat().st_size:,} bytes")
        found = json.loads(path.read_bytes().decode("utf-8-sig"), object_pairs_hook=_object)
        if not isinstance(found, dict) or found.get(MARK) != 1:
            raise ValueError(f"it has no {MARK!r} of 1")
        return Decisions(
            selection=_text(found, "selection"),
            num_kept=_count(found, "num_kept"),
            keep=_keys(found, "keep"),
            drop=_keys(found, "drop"),
        )
    except FileNotFoundError:
        raise DataError(
            f"there are no decisions at {path}; a report's button 'Save decisions' makes them"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} is no file of decisions: {one_line(error)[:200]}; a report's button "
            "'Save decisions' makes one"
        ) from error


def apply(selection: Selection, decisions: Decisions) -> Selection:
    """``selection`` as a person wants it, with the changes on record.

    The keep ratio becomes K/N of what then stays. The score begins with the samples that were
    called back and ends with those that were sent away, so that a later cut holds to it. The column
    ``overruled`` says ``kept`` or ``dropped`` where the say differs from the cut, ``run_score`` is
    what the run gave, and ``parameters["overruled"]`` has the counts.

    Raises:
        DataError: decisions on another selection, of samples that it does not have, that
            contradict each other or leave nothing.
    """
    n, keys = selection.num_samples, selection.columns["key"]
    _check(decisions, selection)
    base = selection
    if decisions.num_kept != selection.num_kept:
        base = drop_end(selection, "", decisions.num_kept / selection.num_samples)
    keep, drop = (np.isin(keys, list(own)) for own in (decisions.keep, decisions.drop))
    before = base.columns["kept"].astype(bool)
    kept = (before | keep) & ~drop
    if not kept.any():
        raise DataError("the decisions leave no sample to train on; keep one or more")
    earlier = selection.columns.get(OVERRULED, np.zeros(n, dtype="<U7"))
    said = _said(before, kept, earlier)
    changed = Counter(said.tolist())
    columns = {
        **base.columns,
        "kept": kept,
        "score": _score(base.columns, keep, drop),
        OVERRULED: said,
        RUN_SCORE: selection.columns.get(RUN_SCORE, selection.columns["score"]),
    }
    if "why" in base.columns:
        why = np.where(said == "dropped", OVERRULED, base.columns["why"])
        columns["why"] = np.where(kept, "", why)
    ratio = int(kept.sum()) / n
    first = selection.keep_ratio if selection.cut_from is None else selection.cut_from
    return replace(
        base,
        keep_ratio=ratio,
        columns=columns,
        cut_from=first,
        parameters={
            **selection.parameters,
            OVERRULED: {
                "kept": changed["kept"],
                "dropped": changed["dropped"],
                "of": decisions.selection,
                "cut_at": decisions.num_kept / n,
            },
        },
    )


def summary(selection: Selection) -> str:
    """One line that says what a selection with a person's say keeps."""
    own = selection.parameters[OVERRULED]
    return (
        f"{selection.num_kept} of {selection.num_samples} samples kept; a person called "
        f"{own['kept']} back and sent {own['dropped']} away"
    )


def _check(decisions: Decisions, selection: Selection) -> None:
    if decisions.selection != identity(selection):
        raise DataError(
            "the decisions are on another selection than the one given: other samples, or others "
            "of them kept; give the one that the report was made of, or decide anew on a report of "
            "this one"
        )
    if both := sorted(decisions.keep & decisions.drop):
        raise DataError(f"the decisions both keep and drop {_few(both)}; correct the file")
    known = set(selection.columns["key"].tolist())
    if strange := sorted((decisions.keep | decisions.drop) - known):
        raise DataError(
            f"the decisions name samples that the selection lacks: {_few(strange)}; a key is "
            f"dataset_name/image_id, such as {shown(min(known))}: correct them or take them out"
        )
    if not 1 <= decisions.num_kept <= selection.num_samples:
        raise DataError(
            f"the decisions are over a cut that keeps {decisions.num_kept} of "
            f"{selection.num_samples} samples; correct num_kept"
        )


def _said(before: np.ndarray, kept: np.ndarray, earlier: np.ndarray) -> np.ndarray:
    """(N,) what a person changed; an earlier say stays where it is still what is so."""
    new = np.where(kept & ~before, "kept", np.where(before & ~kept, "dropped", ""))
    stands = np.where(kept, earlier == "kept", earlier == "dropped")
    return np.where(new == "", np.where(stands, earlier, ""), new)


def _score(columns: Mapping[str, np.ndarray], keep: np.ndarray, drop: np.ndarray) -> np.ndarray:
    """(N,) int64: places in the order in which samples are kept, with a person's say.

    What a method kept as a set, whatever its score, is ahead of what it dropped here too.
    """
    by_run = columns["kept"].astype(np.float64)
    return ranks(np.where(keep, 2.0, np.where(drop, -1.0, by_run)), columns["score"])


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def _text(found: dict[str, Any], name: str) -> str:
    value = found.get(name)
    if not isinstance(value, str):
        raise ValueError(f"{name} must be a text")
    return value


def _count(found: dict[str, Any], name: str) -> int:
    value = found.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name} must be a whole number")
    return value


def _keys(found: dict[str, Any], name: str) -> frozenset[str]:
    value = found.get(name)
    if not isinstance(value, list) or not all(isinstance(key, str) for key in value):
        raise ValueError(f"{name} must be a list of keys")
    return frozenset(value)


def _few(keys: Iterable[str]) -> str:
    keys = list(keys)
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return ", ".join(map(shown, keys[:3])) + more
