"""A selection with pictures, as small as tests of reports need one, with names that bite."""

import numpy as np
from PIL import Image

from adapruner_det.report.history import History
from adapruner_det.report.page import write_report
from adapruner_det.report.pictures import Picture
from adapruner_det.report.predictions import Predicted
from adapruner_det.samples import digest, fingerprints
from adapruner_det.selection import Selection

#: Names that would be markup if anything let them.
BITES = (
    "<script>window.bitten=1<\\script>",
    "<img src=x onerror=window.bitten=1>",
    "\"'><b>&amp;.jpg",
)
CLASSES = ("cat", "</script><script>window.bitten=1</script>", "red panda")
HISTORY = History((10, 20, 30), (0.5, 0.55, 0.6), (0.1, 2.0, 5.0))

#: Image id → (kept, score, why, class ids, twin group).
SAMPLES = {
    "a": (True, 0, "", (0,), 0),
    "b": (False, 9, "fault", (0, 1), 1),
    "c": (False, 8, "twin", (2,), 0),
    "d": (False, 7, "easy", (0,), 3),
    "e": (True, 1, "", (1,), 4),
    "f": (True, 2, "", (2,), 5),
    "g": (True, 3, "", (0, 2), 6),
    BITES[0]: (True, 4, "", (1,), 7),
    BITES[1]: (True, 5, "", (0,), 8),
    BITES[2]: (False, 6, "drawn", (0,), 9),
}


def selection(name="toy", samples=None, **more):
    """Six of ten samples kept, with all that a run of the objective inclusion knows."""
    samples = SAMPLES if samples is None else samples
    rows = sorted((f"{name}/{image_id}", *row) for image_id, row in samples.items())
    keys, kept, score, why, classes, group = (list(column) for column in zip(*rows, strict=True))
    digests = np.array([digest(key) for key in keys], dtype=np.uint64)
    columns = {
        "key": np.array(keys),
        "digest": digests,
        "kept": np.array(kept, dtype=bool),
        "score": np.array(score, dtype=np.int64),
        "mean_loss": np.linspace(0.5, 3.0, len(keys)).astype(np.float32),
        "times_seen": np.full(len(keys), 8, dtype=np.uint16),
        "classes": np.array([" ".join(map(str, own)) for own in classes]),
        "why": np.array(why),
        "twin_group": np.array(group),
    }
    fields = {
        "method": "adapruner",
        "keep_ratio": sum(kept) / len(keys),
        "seed": 3,
        "datasets": fingerprints(keys, digests, [name]),
        "columns": columns | more.pop("columns", {}),
        "soft_ratio": 0.61,
        "config_digest": "ab" * 32,
        "parameters": {"objective": "<script>window.bitten=1</script>"},
        "versions": {"torch": "2.0", "adapruner-det": "0.1.0"},
        "class_names": CLASSES,
        "excluded": {f"{name}/bad": "<b>does not decode</b>"},
        **more,
    }
    return Selection(**fields)


def many(count, keep_ratio=0.5, name="toy"):
    """A selection by the method random of ``count`` samples, without reasons."""
    keys = [f"{name}/{i:06d}" for i in range(count)]
    digests = np.arange(count, dtype=np.uint64)
    score = np.random.default_rng(0).permutation(count)
    columns = {
        "key": np.array(keys),
        "digest": digests,
        "kept": score < round(keep_ratio * count),
        "score": score,
        "classes": np.array([str(i % 3) for i in range(count)]),
    }
    return Selection(
        "random", keep_ratio, 0, fingerprints(keys, digests, [name]), columns, class_names=CLASSES
    )


def scene(shade, width=64, height=48):
    """A photograph of nothing: a gradient with a bright square."""
    pixels = np.zeros((height, width, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 200, width)
    pixels[..., 1] = shade
    pixels[8:24, 10:30] = 250
    return Image.fromarray(pixels)


def pictures(selection, boxes=True):
    """Key → picture; a and c look alike."""
    found = {}
    for row, key in enumerate(selection.columns["key"].tolist()):
        own = [int(i) for i in selection.columns["classes"][row].split()]
        shade = 40 if key.endswith(("/a", "/c")) else (17 * row) % 256
        where = np.array([[10, 8, 30, 24], [40, 20, 60, 40]][: len(own)], dtype=np.float64)
        found[key] = Picture(
            key,
            lambda shade=shade: scene(shade),
            64,
            48,
            boxes=where if boxes else np.zeros((0, 4)),
            classes=np.array(own if boxes else [], dtype=np.int64),
            crowd=np.zeros(len(own) if boxes else 0, dtype=bool),
            difficult=np.zeros(len(own) if boxes else 0, dtype=bool),
            label=None if boxes else own[0],
        )
    return found


def predictions(name="toy"):
    """Of b one that agrees with its first box, and a sure one without a box."""
    own = Predicted(
        np.array([[10.0, 8, 30, 24], [0.0, 30, 12, 44]]), np.array([0, 2]), np.array([0.9, 0.8])
    )
    return {f"{name}/b": own}


def written(folder, own=None, **more):
    """The page of a selection, by default the one of ten samples."""
    own = selection() if own is None else own
    more.setdefault("pictures", pictures(own))
    return write_report(own, folder / "report.html", **more)
