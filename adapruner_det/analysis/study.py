"""The same data in full and as a selection leaves them: embedded, measured, side by side.

Shape letters: N samples, K kept, D features.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tabulate import tabulate

from ..errors import DataError
from ..files import write_whole
from ..selection import Selection
from .clusters import Geometry, geometry
from .embeddings import LEAST, tsne

logger = logging.getLogger(__name__)

ALL, KEPT, RANDOM = "all", "kept", "random"
#: All samples, as the model sees them that was trained on the kept ones.
OTHER = "all, other model"

#: What is compared, in words → of a :class:`Geometry`. Lengths in t-SNE's plane have no unit.
MEASURES: dict[str, Callable[[Geometry], float]] = {
    "Dunn index": lambda g: g.dunn,
    "distance of adjacent centres": lambda g: g.centre_distance,
    "single linkage of adjacent classes": lambda g: g.single_linkage,
    "radius of a class": lambda g: g.radius,
    "mean distance within a class": lambda g: g.spread,
}


@dataclass(frozen=True)
class Study:
    """Embeddings of parts of the data, one a seed, and their geometry.

    Attributes:
        class_names: what the labels mean.
        rows: part → (n,) places of its samples among the N, for each seed.
        labels: (N,) the class of each sample.
        embeddings: part → (n, 2) of each seed.
        geometries: part → of each seed.
        seeds: of t-SNE, and of what is drawn at random.
        folder: where embeddings are kept, so that what was stopped goes on; None keeps none.
    """

    class_names: Sequence[str]
    labels: np.ndarray
    seeds: Sequence[int]
    folder: Path | None = None
    rows: dict[str, list[np.ndarray]] = field(default_factory=dict)
    embeddings: dict[str, list[np.ndarray]] = field(default_factory=dict)
    geometries: dict[str, list[Geometry]] = field(default_factory=dict)

    def add(self, part: str, seed: int, features: np.ndarray, rows: np.ndarray) -> None:
        """Embed and measure the samples ``rows``.

        Args:
            part: what they are called.
            seed: of t-SNE.
            features: (N, D) of all samples.
            rows: (n,) the places of those that are embedded.
        """
        points = self._embedded(part, features[rows], seed)
        self.rows.setdefault(part, []).append(rows)
        self.embeddings.setdefault(part, []).append(points)
        self.geometries.setdefault(part, []).append(geometry(points, self.labels[rows]))

    def _embedded(self, part: str, features: np.ndarray, seed: int) -> np.ndarray:
        """(n, 2) of t-SNE, or as an earlier call left it."""
        if self.folder is None:
            return _tsne(part, features, seed)
        what = hashlib.sha256(f"{features.shape} {features.dtype} {seed}".encode())
        what.update(features.tobytes())
        path = self.folder / f"tsne-{what.hexdigest()[:16]}.npy"
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            points = _tsne(part, features, seed)
            write_whole(path, lambda file: np.save(file, points))
        return np.asarray(np.load(path, allow_pickle=False))


def _tsne(part: str, features: np.ndarray, seed: int) -> np.ndarray:
    """(n, 2), with a word, since of many samples it takes its time."""
    logger.info("t-SNE of %d samples (%s), seed %d", len(features), part, seed)
    return tsne(features, seed)


def study(
    features: np.ndarray,
    labels: np.ndarray,
    kept: np.ndarray,
    *,
    class_names: Sequence[str] = (),
    seeds: Sequence[int] = (0,),
    control: bool = True,
    other: np.ndarray | None = None,
    folder: Path | None = None,
) -> Study:
    """Embed all samples and the kept ones, each by a t-SNE of its own, and measure both.

    t-SNE's lengths depend on how many points there are and on its seed, so the kept ones are to be
    held against as many drawn at random, and seeds against each other.

    Args:
        features: (N, D), by one model.
        labels: (N,) classes; a sample of a class below 0 is left out of everything.
        kept: (N,) bool.
        class_names: what the labels mean.
        seeds: of t-SNE; each embeds everything anew.
        control: embed as many samples drawn at random, too.
        other: (N, D'), of a second model, of which all samples are embedded.
        folder: where embeddings are kept, so that what was stopped goes on; None keeps none.

    Raises:
        DataError: columns that do not fit each other, and what t-SNE and :func:`geometry` refuse.
    """
    n = len(labels)
    _require_rows("features", features, n)
    if other is not None:
        _require_rows("features of a second model", other, n)
    known = np.asarray(labels) >= 0
    if not known.all():
        logger.warning(
            "%d of %d samples have not one class each and are left out", n - known.sum(), n
        )
    every, stays = np.flatnonzero(known), np.flatnonzero(known & kept)
    _require_enough(np.asarray(labels)[stays])
    drawn = {s: _drawn(np.asarray(labels), every, len(stays), s) for s in seeds if control}
    found = Study(class_names, np.asarray(labels), seeds, folder)
    for seed in seeds:
        found.add(ALL, seed, features, every)
        found.add(KEPT, seed, features, stays)
        if control:
            found.add(RANDOM, seed, features, drawn[seed])
        if other is not None:
            found.add(OTHER, seed, other, every)
    return found


def _drawn(labels: np.ndarray, every: np.ndarray, count: int, seed: int) -> np.ndarray:
    """(count,) of the places ``every``, drawn and rising; a DataError where all are of one class.

    As with the kept ones, all are embedded before them.
    """
    rows = np.sort(np.random.default_rng(seed).permutation(every)[:count])
    if len(np.unique(labels[rows])) < 2:
        raise DataError(
            f"the {count} samples drawn at random with the seed {seed} are of one class, so that "
            "no classes lie apart: give another seed, or draw none (--no-control)"
        )
    return rows


def _require_rows(what: str, features: np.ndarray, n: int) -> None:
    """Raise a DataError unless ``features`` are (N, D)."""
    if features.ndim != 2 or len(features) != n:
        raise DataError(
            f"{what} of shape {features.shape} do not fit {n} samples: they must be ({n}, D), in "
            "the order of the selection's keys"
        )


def _require_enough(labels: np.ndarray) -> None:
    """Raise a DataError where the kept samples, of classes (K,), are too few to be measured.

    All are embedded before them, which of many takes hours.
    """
    count, classes = len(labels), len(np.unique(labels))
    if count < LEAST or classes < 2:
        raise DataError(
            f"the selection keeps {count} samples with one class each, of {classes} class(es): too "
            f"few to be measured, which takes {LEAST}, of two classes; where samples have several, "
            "--labels says which one counts"
        )


def single_labels(selection: Selection) -> np.ndarray:
    """(N,) int64, the class of each sample, or −1 where it has none or several.

    Raises:
        DataError: a selection that does not know the classes of its samples.
    """
    if "classes" not in selection.columns:
        raise DataError(
            f"the selection, by {selection.method}, has no column 'classes'; give the labels "
            "(--labels)"
        )
    found = [text.split() for text in selection.columns["classes"].tolist()]
    return np.array([int(own[0]) if len(own) == 1 else -1 for own in found], dtype=np.int64)


def table(found: Study, paper: Mapping[str, Mapping[str, str]] | None = None) -> str:
    """What was measured, as Markdown: each part's mean over the seeds, and its change from all.

    With several seeds, the change of each seed follows in brackets. Lengths are those of t-SNE's
    plane, without unit.

    Args:
        found: the study.
        paper: part → measure → what a paper says of it, as a further column.
    """
    lines = []
    for name, of in MEASURES.items():
        base = np.array([of(g) for g in found.geometries[ALL]])
        for part, geometries in found.geometries.items():
            values = np.array([of(g) for g in geometries])
            row = [name, part, f"{np.mean([g.num_points for g in geometries]):.0f}"]
            row += [f"{values.mean():.4g}", "" if part == ALL else _changes(values, base)]
            if paper is not None:
                row.append(paper.get(part, {}).get(name, ""))
            lines.append(row)
    head = ["measure", "of", "samples", "mean", "change from all"]
    head += ["paper"] if paper is not None else []
    return str(tabulate(lines, head, tablefmt="github", disable_numparse=True))


def _changes(values: np.ndarray, base: np.ndarray) -> str:
    """The change of the means in percent, and of each seed; as factors where they are large."""
    own = _change(values.mean(), base.mean())
    each = ", ".join(_change(value, start) for value, start in zip(values, base, strict=True))
    return own if len(values) == 1 else f"{own} ({each})"


def _change(value: float, start: float) -> str:
    if start == 0:
        return "from 0"
    factor = value / start
    return f"×{factor:.3g}" if factor >= 3 or factor <= 1 / 3 else f"{100 * (factor - 1):+.1f}%"
