"""Kept samples and their selection, as small as tests of exports need them."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from adapruner_det.export.folder import MARKER
from adapruner_det.export.records import Record, Records
from adapruner_det.samples import digest, fingerprints
from adapruner_det.selection import Selection

CLASSES = ("cat", "dog", "red panda")


def picture(path, width=64, height=48):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (9, 99, 199)).save(path)
    return str(path)


def record(folder, key, boxes=((1, 2, 31, 22),), classes=None, name=None, flags=(), **more):
    """A record with its image in ``folder``; flags are (crowd, difficult) of each box."""
    name = name or f"{key.rpartition('/')[2]}.png"
    path = more.pop("path", None) or picture(Path(folder) / name)
    count = len(boxes)
    flags = np.array(flags or [(False, False)] * count, dtype=bool).reshape(-1, 2)
    return Record(
        key=key,
        path=path,
        name=name,
        width=64,
        height=48,
        boxes=np.array(boxes, dtype=np.float64).reshape(-1, 4),
        classes=np.array(range(count) if classes is None else classes, dtype=np.int64),
        crowd=flags[:, 0],
        difficult=flags[:, 1],
        **more,
    )


def three(folder):
    """Three images: of two boxes, of one with decimals, of none."""
    return Records(
        [
            record(folder, "toy/a", [(0, 0, 64, 48), (10.5, 3.25, 20, 40)], [2, 0]),
            record(folder, "toy/b", [(3.3, 4.7, 33.1, 44.9)], [1], name="deep/b.jpg"),
            record(folder, "toy/c", [], name="c.png"),
        ],
        CLASSES,
    )


def selection_of(records, dropped=("toy/z",), keep_ratio=0.75, **columns):
    """A selection that keeps the records and drops other samples."""
    kept = [r.key for r in records.records]
    keys = sorted([*kept, *dropped])
    digests = np.array([digest(key) for key in keys], dtype=np.uint64)
    names = sorted({key.rpartition("/")[0] for key in keys})
    columns = {
        "key": np.array(keys),
        "digest": digests,
        "kept": np.isin(keys, kept),
        "score": np.linspace(-1, 1, len(keys)),
        **columns,
    }
    return Selection("random", keep_ratio, 0, fingerprints(keys, digests, names), columns)


def keys_of(folder):
    """Name of an image in an export → its key, as the export says it."""
    return json.loads((Path(folder) / MARKER).read_text())["images"]


def boxes_of(records, skip_crowds=False):
    """Key → rows of class name and box, as the owners of formats are compared with."""
    return {
        r.key: [
            [records.class_names[own], *box]
            for own, box, crowd in zip(
                r.classes.tolist(), r.boxes.tolist(), r.crowd.tolist(), strict=True
            )
            if not (crowd and skip_crowds)
        ]
        for r in records.records
    }


def assert_same_boxes(found, wanted, tolerance=1e-3, copies=True):
    """Both are key → rows of (class name, x0, y0, x1, y1); no order is meant.

    Each box has one of its own on the other side, or, without ``copies``, any.
    """
    assert found.keys() == wanted.keys()
    for key, rows in wanted.items():
        _assert_found(found[key], rows, tolerance, copies, key)
        if not copies:
            _assert_found(rows, found[key], tolerance, copies, key)


def _assert_found(found, wanted, tolerance, copies, key):
    left = list(found)
    assert not copies or len(left) == len(wanted), key
    for name, *box in wanted:
        near = [
            i
            for i, (own, *other) in enumerate(left)
            if own == name and np.abs(np.subtract(box, other)).max() <= tolerance
        ]
        assert near, (key, name, box, left)
        if copies:
            left.pop(near[0])
