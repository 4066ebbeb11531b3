"""What the page of a report works with: a selection and what is shown of it, as plain values.

Shape letters: N samples, M objects of one of them, K kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from os.path import splitext
from typing import Any

import numpy as np

from ..core.cut import ranks
from ..core.ends import DRAWN, EASY, FAULT, FEW, HARD, REASONS, TWIN, UNSEEN
from ..errors import shown
from ..methods.adapruner import OVERRULED, SUSPECT, drop_end
from ..samples import image_id_of
from ..selection import Selection
from .history import History
from .overrule import identity
from .pictures import Picture
from .predictions import Predicted, disagreement
from .thumbs import Thumb, nearest_kept

#: Why a sample was dropped → in words, which stand on its card.
WORDS = {
    FAULT: f"Fault: {REASONS[FAULT]}",
    TWIN: f"Twin: {REASONS[TWIN]}",
    FEW: f"Few: {REASONS[FEW]}",
    EASY: f"Easy: {REASONS[EASY]}",
    HARD: f"Hard: {REASONS[HARD]}",
    DRAWN: f"Drawn: {REASONS[DRAWN]}",
    UNSEEN: f"Unseen: {REASONS[UNSEEN]}",
    OVERRULED: "Overruled: a person sent it away",
    SUSPECT: "Suspect: a list of suspects names it",
    "": "By its score: samples with a lower one stay",
}

#: The same with less room.
BRIEF = {
    FAULT: "Fault: many visits speak against its annotation",
    TWIN: "Twin: a near-copy of it stays",
    FEW: "Few: others have more objects",
    EASY: "Easy: the model is sure of it",
    HARD: "Hard: the model is unsure of it",
    DRAWN: "Drawn by lot: others do as well",
    UNSEEN: "Unseen: its loss was never finite",
    OVERRULED: "Overruled: a person sent it away",
    SUSPECT: "Suspect: a list names it",
    "": "By its score",
}

#: Columns that the page shows in another way, or that say nothing to a person.
_HIDDEN = (
    "key",
    "digest",
    "kept",
    "score",
    "classes",
    "why",
    "twin_group",
    "parts",
    "spare",
    "draw",
    SUSPECT,
)

#: At so many keep ratios it is asked why samples would go.
_ASKED = 24


def page_data(
    selection: Selection,
    pictures: Mapping[str, Picture],
    thumbs: Sequence[Thumb | None],
    sources: Sequence[str],
    history: History | None = None,
    predictions: Mapping[str, Predicted] | None = None,
) -> dict[str, Any]:
    """All that the page's script reads, of plain types alone.

    Args:
        selection: of N samples.
        pictures: of some or all of them, by key.
        thumbs: (N,) of them.
        sources: (N,) where the thumbnails are; empty where there is none.
        history: of the run.
        predictions: of a model, by key.
    """
    columns, n = selection.columns, selection.num_samples
    keys: list[str] = columns["key"].tolist()
    kept = columns["kept"].astype(bool)
    order = ranks(np.zeros(n), columns["score"])
    why, later = _reasons(selection)
    known = [*dict.fromkeys([*why, *later])]
    own = [pictures.get(key) for key in keys]
    classes = _classes(selection, own)
    said, given = predictions or {}, predictions is not None
    return {
        "identity": identity(selection),
        "n": n,
        "kept0": kept.astype(int).tolist(),
        "rank": order.tolist(),
        "byScore": bool(np.array_equal(kept, order < selection.num_kept)),
        "keys": keys,
        "names": [shown(image_id_of(key)) for key in keys],
        "files": _files(keys, own),
        "classNames": _class_names(selection, classes, own),
        "classes": classes,
        "reasons": [_reason(code) for code in known],
        "why": [known.index(code) for code in why],
        "later": [known.index(code) for code in later],
        "columns": {shown(name): _plain(c) for name, c in columns.items() if name not in _HIDDEN},
        "score": _plain(columns["score"]),
        "size": [[p.width, p.height] if p else [0, 0] for p in own],
        "boxes": [_boxes(p) for p in own],
        "src": list(sources),
        "twin": _twins(selection, thumbs, why, later, order).tolist(),
        "predicted": [_predicted(said[key]) if key in said else None for key in keys]
        if given
        else None,
        "against": _against(own, said),
        "history": asdict(history) if history else None,
        "keepRatio": selection.keep_ratio,
    }


def _reason(code: str) -> dict[str, str]:
    """A reason as the page knows it; one of another package's method stands for itself."""
    own = shown(code)
    return {"code": own, "words": WORDS.get(code, own), "brief": BRIEF.get(code, own)}


def _reasons(selection: Selection) -> tuple[list[str], list[str]]:
    """(N,) why each sample went, and why each one that is kept would be the next to go.

    The second is asked at falling keep ratios, and is the answer at the first at which it goes.
    """
    n, columns = selection.num_samples, selection.columns
    if "why" not in columns:
        return [""] * n, [""] * n
    why = columns["why"].tolist()
    later = np.full(n, "", dtype="<U16")
    open_ = columns["kept"].astype(bool)
    counts = np.unique(np.linspace(1, selection.num_kept, _ASKED + 1).astype(int))[:-1]
    for count in counts[::-1].tolist():
        cut = drop_end(selection, "", count / n).columns
        if "why" in cut:
            goes = open_ & ~cut["kept"]
            later[goes] = cut["why"][goes]
            open_ &= cut["kept"]
    return why, later.tolist()


def _twins(
    selection: Selection,
    thumbs: Sequence[Thumb | None],
    why: Sequence[str],
    later: Sequence[str],
    order: np.ndarray,
) -> np.ndarray:
    """(N,) the kept sample that each dropped twin is like, and of each kept one that would go as a
    twin the one of its group that stays longest; −1 for the others."""
    found = np.full(selection.num_samples, -1, dtype=np.int64)
    kept = selection.columns["kept"].astype(bool)
    groups = selection.columns.get("twin_group")
    gone = np.flatnonzero((np.array(why) == TWIN) & ~kept)
    found[gone] = nearest_kept(thumbs, gone, kept, groups)
    if groups is not None:
        stays = np.flatnonzero(kept)[np.argsort(order[kept], kind="stable")]
        first = dict(zip(groups[stays[::-1]].tolist(), stays[::-1].tolist(), strict=True))
        for row in np.flatnonzero((np.array(later) == TWIN) & kept).tolist():
            found[row] = first[groups[row]] if first[groups[row]] != row else -1
    return found


def _class_names(
    selection: Selection, classes: Sequence[Sequence[int]], pictures: Sequence[Picture | None]
) -> list[str]:
    names = [shown(name) for name in selection.class_names]
    used = 1 + max((c for own in classes for c in own), default=-1)
    boxes = (int(p.classes.max()) + 1 for p in pictures if p is not None and len(p.classes))
    most = max(used, *boxes, len(names)) if pictures else used
    return names + [f"class {i}" for i in range(len(names), most)]


def _classes(selection: Selection, pictures: Sequence[Picture | None]) -> list[list[int]]:
    """(N,) the ids of each sample's classes; of its picture where the selection does not say."""
    if "classes" in selection.columns:
        return [[int(i) for i in own.split()] for own in selection.columns["classes"].tolist()]
    return [_of_picture(p) for p in pictures]


def _of_picture(picture: Picture | None) -> list[int]:
    if picture is None:
        return []
    if picture.label is not None:
        return [picture.label]
    return sorted({int(c) for c in picture.classes[~picture.crowd]})


def _files(keys: Sequence[str], pictures: Sequence[Picture | None]) -> list[str]:
    """(N,) what the file of each sample is called, without its folders; empty where that is not
    known or its id says it already. [] where that is so of all: a page can be of very many."""
    files = [_file(key, picture) for key, picture in zip(keys, pictures, strict=True)]
    return files if any(files) else []


def _file(key: str, picture: Picture | None) -> str:
    if picture is None or not picture.file:
        return ""
    own = image_id_of(key).rpartition("\\")[2]  # an id's slashes are turned in a key
    return "" if own in (picture.file, splitext(picture.file)[0]) else shown(picture.file)


def _boxes(picture: Picture | None) -> list[float]:
    """Flat, six numbers an object: x0, y0, x1, y1, class, and 1 for a crowd plus 2 if difficult."""
    if picture is None or not len(picture.boxes):
        return []
    flags = picture.crowd * 1 + picture.difficult * 2
    table = np.column_stack([picture.boxes.round(1), picture.classes, flags])
    return _short(table)


def _predicted(own: Predicted) -> list[float]:
    """Flat, as :func:`_boxes`, with a score in [0, 1] in place of the flags; or class and score."""
    parts = [own.classes, own.scores.round(3)]
    return _short(np.column_stack([own.boxes.round(1), *parts] if len(own.boxes) else parts))


def _against(
    pictures: Sequence[Picture | None], said: Mapping[str, Predicted]
) -> dict[str, list[Any]]:
    """Index → see :class:`.predictions.Disagreement`, of the images that have predictions."""
    found: dict[str, list[Any]] = {}
    for index, picture in enumerate(pictures):
        own = said.get(picture.key) if picture else None
        if picture is None or own is None or picture.label is not None:
            continue
        found[str(index)] = [*disagreement(picture.boxes, picture.classes, picture.crowd, own)]
    return found


def _short(table: np.ndarray) -> list[float]:
    """Flat, whole numbers without a point, to keep the page small."""
    return [int(v) if v == int(v) else v for v in table.ravel().tolist()]


def _plain(column: np.ndarray) -> list[Any]:
    """Values as JSON has them: numbers to four digits, null for what is not finite."""
    if column.dtype.kind == "f":
        return [float(f"{v:.4g}") if math.isfinite(v) else None for v in column.tolist()]
    if column.dtype.kind == "U":
        return [shown(text) for text in column.tolist()]
    return column.astype(int).tolist() if column.dtype.kind == "b" else column.tolist()
