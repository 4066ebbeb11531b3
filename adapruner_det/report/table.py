"""A selection as a small HTML table, as a notebook shows it.

Shape letters: N samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

import numpy as np

from ..errors import shown
from ..samples import image_id_of
from ..selection import Selection
from .summary import class_kept_shares

SHOWN_CLASSES = 8
SHOWN_SAMPLES = 5

_LEFT = 'style="text-align:left;vertical-align:top"'


def selection_table(selection: Selection) -> str:
    """HTML of one table: what was kept, by which method, of which classes, and what went first.

    It needs no script, no style sheet and nothing from elsewhere, and whatever the names of files
    and classes hold is text in it. Its length does not grow with N.
    """
    n, k = selection.num_samples, selection.num_kept
    rows = [
        ("kept", _text(f"{k:,} of {n:,} samples ({100 * k / n:.2f}%), {n - k:,} dropped")),
        ("method", _text(_method(selection))),
        *([("command", _text(_name(selection.command, 160)))] if selection.command else []),
        ("data sets", _text(_few(map(_name, selection.datasets)))),
    ]
    if selection.soft_ratio is not None:
        rows.append(("soft ratio", _text(f"{selection.soft_ratio:.4f} before the cut")))
    shares = class_kept_shares(selection)
    if shares:
        order = sorted(shares, key=shares.__getitem__)
        shown = [f"{_name(name)} {100 * shares[name]:.1f}%" for name in order[:SHOWN_CLASSES]]
        rows.append(("kept by class", _text(_few(shown, len(order)))))
    if selection.excluded:
        rows.append(("left out", _text(f"{len(selection.excluded):,} that could not be used")))
    rows += [
        ("dropped first", _samples(selection, np.flatnonzero(~selection.columns["kept"]), -1)),
        ("kept first", _samples(selection, np.flatnonzero(selection.columns["kept"]), 1)),
        ("columns", _text(", ".join(map(_name, selection.columns)))),
    ]
    body = "".join(
        f'<tr><th scope="row" {_LEFT}>{_text(name)}</th><td {_LEFT}>{cell}</td></tr>'
        for name, cell in rows
    )
    return f"<table><caption>Selection</caption><tbody>{body}</tbody></table>"


def _method(selection: Selection) -> str:
    text = f"{_name(selection.method)}, keep ratio {selection.keep_ratio:g}"
    if selection.cut_from is not None:
        text += f" cut from {selection.cut_from:g}"
    return f"{text}, seed {selection.seed}"


def _samples(selection: Selection, rows: np.ndarray, direction: int) -> str:
    """The ends of some samples by score, an id each with its score."""
    score = selection.columns["score"][rows].astype(np.float64)
    order = np.argsort(direction * score, kind="stable")[:SHOWN_SAMPLES]
    keys = selection.columns["key"][rows[order]].tolist()
    pairs = zip(keys, score[order], strict=True)
    shown = [f"{_name(image_id_of(key))} ({own:.4g})" for key, own in pairs]
    return _text(_few(shown, len(rows)) or "none")


def _few(names: Iterable[str], count: int = 0) -> str:
    """The first names of ``count``, or of as many as are given."""
    names = list(names)
    shown = names[:SHOWN_CLASSES]
    more = max(count, len(names)) - len(shown)
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")


def _name(text: str, most: int = 60) -> str:
    """A name of any length and of any characters, as it can stand in a line."""
    text, half = shown(text), most // 2 - 2
    return text if len(text) <= most else f"{text[:half]}...{text[-half:]}"


def _text(value: str) -> str:
    return escape(value, quote=True)
