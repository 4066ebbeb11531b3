"""Which images to look at first: those whose labels a detector that never saw them contradicts.

Shape letters: N images.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from ..box_faults import KINDS as BOX_KINDS
from ..box_faults import (
    LOCATED,
    OVERLOOKED,
    SWAPPED,
    Labels,
    Verdict,
    judge,
    pairwise_iou,
)
from ..core.typical import TypicalLoss, size_levels
from ..csv_text import csv_text
from ..errors import DataError, one_line, shown
from ..files import write_text
from ..predictions import Detections, Predictions

LOSS = "high loss"
KINDS = (*BOX_KINDS, LOSS)

#: The kinds that make the order of the list. A label that no prediction supports is most often an
#: object that the detector does not find; it has its score, and moves no image to the top.
RANKED = (OVERLOOKED, LOCATED, SWAPPED, LOSS)

CSV, JSON = "suspects.csv", "suspects.json"

#: Fewer labels found than this, by predictions at least so sure, and the list says more of the
#: detector than of the labels.
FEW_FOUND, SURE = 0.5, 0.1


@dataclass(frozen=True)
class Annotated:
    """N images and their labels.

    Attributes:
        keys: sorted and distinct.
        files: where each image lies.
        labels: of each image, in the pixels that it is annotated in.
        class_names: what the classes mean; one without a name is ``class 3``.
    """

    keys: Sequence[str]
    files: Sequence[str]
    labels: Sequence[Labels]
    class_names: Sequence[str] = ()

    def name(self, number: int | None) -> str:
        """Of a class; empty for None."""
        if number is None:
            return ""
        names = self.class_names
        return names[number] if number < len(names) else f"class {number}"


@dataclass(frozen=True)
class Suspects:
    """What was found.

    Attributes:
        annotated: the images that were judged.
        verdicts: of each image, kind of box fault → verdict.
        scores: kind → (N,), higher is more suspicious. Those of box faults lie in [0, 1]; that of
            the loss is L over the typical loss of images with as many objects, NaN where no loss
            is known.
        found: the share of all labels that a prediction of their class fits (IoU ≥ 0.5).
    """

    annotated: Annotated
    verdicts: Sequence[Mapping[str, Verdict]]
    scores: Mapping[str, np.ndarray]
    found: float

    @cached_property
    def shares(self) -> dict[str, np.ndarray]:
        """Kind → (N,) the share of images that are less suspicious of it, ties counted half."""
        return {kind: _share_below(values) for kind, values in self.scores.items()}

    @cached_property
    def overall(self) -> np.ndarray:
        """(N,) in [0, 1): the largest share that an image has in any of the kinds of RANKED."""
        return np.max([self.shares[kind] for kind in RANKED], axis=0)

    @cached_property
    def order(self) -> np.ndarray:
        """(N,) places of the images, the most suspicious first; equal ones by their other kinds,
        then by key."""
        rest = np.sum([self.shares[kind] for kind in RANKED], axis=0)
        return np.lexsort((np.arange(len(rest)), -rest, -self.overall))

    def kind(self, place: int) -> str:
        """The kind of fault that stands out most in an image."""
        return max(RANKED, key=lambda kind: float(self.shares[kind][place]))

    def row(self, place: int) -> dict[str, Any]:
        """What the lists say of one image; boxes are (x0, y0, x1, y1)."""
        kind = self.kind(place)
        verdict = self.verdicts[place].get(kind, Verdict(0.0))
        scores = {name: float(values[place]) for name, values in self.scores.items()}
        return {
            "key": self.annotated.keys[place],
            "file": self.annotated.files[place],
            "overall": float(self.overall[place]),
            "kind": kind,
            **self._box(verdict),
            "scores": {
                name: value if np.isfinite(value) else None for name, value in scores.items()
            },
        }

    def _box(self, verdict: Verdict) -> dict[str, Any]:
        return {
            "box": _rounded(verdict.box),
            "given": self.annotated.name(verdict.given),
            "predicted_box": _rounded(verdict.seen),
            "predicted": self.annotated.name(verdict.predicted),
        }

    def save(self, folder: Path) -> tuple[Path, Path]:
        """Write the whole list as ``suspects.csv`` and ``suspects.json``, most suspicious first."""
        rows = [self.row(place) for place in self.order.tolist()]
        for row, place in zip(rows, self.order.tolist(), strict=True):
            row["by_kind"] = {
                kind: {"score": own.score, **self._box(own)}
                for kind, own in self.verdicts[place].items()
            }
        lines = ",\n".join(json.dumps(row, allow_nan=False) for row in rows)
        text = f'{{"found": {json.dumps(self.found)}, "images": [\n{lines}\n]}}\n'
        content = _as_csv(rows)
        return (
            write_text(folder / CSV, content),
            write_text(folder / JSON, text),
        )

    def table(self, top: int) -> str:
        """The ``top`` most suspicious images."""
        rows = []
        for number, place in enumerate(self.order[:top].tolist(), 1):
            row = self.row(place)
            box = " ".join(f"{value:.0f}" for value in row["box"]) if row["box"] else ""
            score = row["scores"][row["kind"]]
            rows.append(
                [number, f"{row['overall']:.3f}", row["kind"], f"{score:.2f}", _said(row), box]
                + [shown(row["key"]), shown(row["file"])]
            )
        head = ["", "overall", "kind", "score", "what", "box", "key", "file"]
        return tabulate(rows, head, disable_numparse=True)


def read_list(path: Path, keys: Sequence[str]) -> np.ndarray:
    """The place of each of N images in a list, (N,) int64 from 1; 0 for one that is not on it.

    A list is a CSV whose first line names a column ``key``, as :meth:`Suspects.save` writes it.
    Whoever looked at it may have taken lines out or put them in another order. Images that are not
    among ``keys``, as those without any box, have no place.

    Raises:
        DataError: a file that is missing or no such list, has a key twice, or none of ``keys``.
    """
    named = _keys_of_list(path)
    if doubled := [shown(key) for key, count in Counter(named).items() if count > 1]:
        raise DataError(f"{path} names {doubled[0]} more than once; leave one line of each image")
    place = {key: number for number, key in enumerate(named, 1)}
    found = np.array([place.get(key, 0) for key in keys], dtype=np.int64)
    if not found.any():
        raise DataError(
            f"{path} names {len(named)} images, none of which is in the selection, whose first is "
            f"{shown(keys[0])}; give a list of the same data set"
        )
    return found


def _keys_of_list(path: Path) -> list[str]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            if "key" not in (rows.fieldnames or ()):
                raise ValueError("its first line names no column 'key', between commas")
            keys = [row["key"] for row in rows]
    except FileNotFoundError:
        raise DataError(f"there is no list {path}; `suspects` writes {CSV}") from None
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} is no list of suspects: {one_line(error)[:200]}") from error
    if empty := [number for number, key in enumerate(keys, 1) if not key]:
        raise DataError(f"{path}: image {empty[0]} of the list has no key")
    return keys


def find_suspects(annotated: Annotated, predictions: Predictions) -> Suspects:
    """Judge the labels of all images by what was predicted for them.

    Labels that were mended since are judged by the same detections, and have no loss: it was that
    of the labels before.

    Raises:
        DataError: an image without predictions.
    """
    names = annotated.class_names
    own = predictions.of(annotated.keys).for_classes(names)
    losses = np.array(own.losses, dtype=np.float64)
    if own.digests is not None:
        now = np.array([labels.digest(names) for labels in annotated.labels], dtype=np.uint64)
        losses[own.digests != now] = np.nan
    verdicts = judge(annotated.labels, own.found)
    scores = {kind: np.array([v[kind].score for v in verdicts]) for kind in BOX_KINDS}
    sizes = np.array([np.count_nonzero(~labels.crowd) for labels in annotated.labels])
    scores[LOSS] = over_typical(losses, sizes)
    pairs = list(zip(annotated.labels, own.found, strict=True))
    return Suspects(annotated, verdicts, scores, share_found(pairs))


def over_typical(losses: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(N,) each loss over the typical one of images with as many objects; NaN where not finite.

    Args:
        losses: (N,).
        sizes: (N,) how many objects each image has.
    """
    known = np.flatnonzero(np.isfinite(losses))
    over = np.full(len(losses), np.nan)
    if len(known):
        levels, level = size_levels(sizes[known])
        typical = TypicalLoss(len(known), levels)
        mixed = np.random.default_rng(0).permutation(len(known))  # of many, the last ones count
        typical.add(losses[known][mixed], level[mixed])
        over[known] = losses[known] / typical.of(level)
    return over


def share_found(pairs: Sequence[tuple[Labels, Detections]]) -> float:
    """The share of labels, crowds aside, that a prediction of their class fits; 1 without labels.

    Predictions below SURE do not count.
    """
    hits = total = 0
    for labels, found in pairs:
        own = ~labels.crowd
        fits = pairwise_iou(labels.boxes[own], np.asarray(found["boxes"], np.float64)) >= 0.5
        same = labels.classes[own][:, None] == np.asarray(found["classes"])[None]
        sure = np.asarray(found["scores"])[None] >= SURE
        hits += int((fits & same & sure).any(axis=1).sum())
        total += int(own.sum())
    return hits / total if total else 1.0


def _share_below(values: np.ndarray) -> np.ndarray:
    """(N,) in [0, 1): the share of ``values`` below each, ties counted half; 0 for NaN."""
    known = np.isfinite(values)
    ranked = np.sort(values[known])
    low, high = (np.searchsorted(ranked, values, side) for side in ("left", "right"))
    return np.where(known, (low + high - 1) / 2 / max(len(ranked), 1), 0.0)


def _said(row: Mapping[str, Any]) -> str:
    """A row's fault in a few words."""
    if row["kind"] == OVERLOOKED:
        return f"{shown(row['predicted'])} without a label" if row["predicted"] else ""
    if row["kind"] == SWAPPED:
        return f"{shown(row['given'])}, or {shown(row['predicted'])}?" if row["predicted"] else ""
    return shown(row["given"]) if row["kind"] == LOCATED else "times the typical loss"


def _rounded(box: Sequence[float] | None) -> list[float] | None:
    return None if box is None else [round(value, 1) for value in box]


def _as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line an image, after one of names; what is not known is empty."""
    corners = ("x0", "y0", "x1", "y1")
    head = ["rank", "key", "file", "overall", "kind", *corners, "given", "predicted"]
    head += [f"predicted_{corner}" for corner in corners]
    lines = [head + [kind.replace(" ", "_") for kind in KINDS]]
    for number, row in enumerate(rows, 1):
        scores = [row["scores"][kind] for kind in KINDS]
        lines.append(
            [number, row["key"], row["file"], f"{row['overall']:.4f}", row["kind"]]
            + (row["box"] or [""] * 4)
            + [row["given"], row["predicted"]]
            + (row["predicted_box"] or [""] * 4)
            + ["" if score is None else f"{score:.4f}" for score in scores]
        )
    return csv_text(lines)
