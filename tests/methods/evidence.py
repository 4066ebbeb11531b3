"""Evidence of a task that a test can do in its head."""

from dataclasses import replace

import numpy as np

from adapruner_det.methods.base import (
    BOX_FEATURES,
    BOXES,
    FEATURES,
    PREDICTIONS,
    THUMBNAILS,
)
from adapruner_det.samples import Samples, digest

OPTIONS = {
    "KEEP_RATIO": 0.5,
    "WARMUP_EPOCHS": 1,
    "ALPHA_START": 0.1,
    "ALPHA_END": 5.0,
    "CONTROLLER": "dual",
    "PAPER_SCALE": 100.0,
    "NORMALIZE": "median",
    "CLASS_BAND": 0.0,
    "OBJECTIVE": "paper",
    "DROP": "",
    "CLASSIFICATION_LOSS": True,
    "SELECTION_LOSS": True,
    "COMPRESSION_LOSS": True,
}

CLASSES, WIDTH = 3, 5

#: Every signal that a method of this package may ask for, and all else that evidence can hold.
SIGNALS = {
    "loss",
    "confidence",
    "fault",
    "margin",
    "correct",
    "error_norm",
    "gradient_norm",
    "probabilities",
}
#: Those of boxes, (E, N, G).
BOX_SIGNALS = {"box_iou", "box_confidence"}
OFFERS = frozenset({*SIGNALS, FEATURES, PREDICTIONS, THUMBNAILS})


def samples(count=60, num_classes=CLASSES):
    keys = [f"toy/{i:04d}" for i in range(count)]
    digests = np.array([digest(key) for key in keys], dtype=np.uint64)
    classes = [[i % num_classes] for i in range(count)]
    names = [f"class {c}" for c in range(num_classes)]
    return Samples(keys, digests, {"toy": "f" * 64}, classes, names, read_image=picture)


def picture(index):
    return np.random.default_rng(index).integers(0, 256, (8, 8, 3), dtype=np.uint8)


class ToyEvidence:
    """A training whose logits and features are numbers drawn once; all else follows from them.

    The model learns: the logit of the label rises with the epochs, of some samples more than of
    others.

    Args:
        offers: what it can give.
        stop_after: end the first training after so many epochs, as a kill would, keeping its state.
    """

    def __init__(self, count=60, seed=0, epochs=12, offers=OFFERS, stop_after=None, **options):
        self.samples, self.seed, self.epochs = samples(count), seed, epochs
        self.options = {**OPTIONS, **options}
        self.offers = frozenset(offers)
        self.trained = 0
        self._stop_after, self._state = stop_after, None

    def train(self, guide):
        first = 0
        if self._state is not None:
            first = self._stop_after
            guide.load_state_dict(self._state)
        for epoch in range(first, self.epochs):
            if epoch == self._stop_after and self._state is None:
                self._state = guide.state_dict()
                raise KeyboardInterrupt
            rng = np.random.default_rng([self.seed, epoch])
            now = {name: self._drawn(name)[epoch] for name in {"loss", *guide.signals}}
            for ids in np.array_split(rng.permutation(len(self.samples)), 4):
                guide.weights(ids)
                signals = {name: now[name][ids] for name in guide.signals}
                guide.observe(ids, now["loss"][ids], **signals)
            guide.end_epoch()
        self.trained += 1

    def signal(self, name):
        assert name in self.offers, name
        return self._drawn(name)

    def _drawn(self, name):
        """(E, N, ...) float32, as the definitions of classification/signals.py have it."""
        rng = np.random.default_rng([self.seed, 4])
        count = len(self.samples)
        logits = rng.normal(size=(self.epochs, count, CLASSES))
        hidden = rng.normal(size=(self.epochs, count, WIDTH))
        ease = rng.exponential(size=count)
        label = np.array([own[0] if len(own) else 0 for own in self.samples.classes])
        onehot = np.eye(CLASSES)[label]
        pace = np.linspace(0.0, 2.0, self.epochs)
        logits += pace[:, None, None] * ease[:, None] * onehot
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        error = np.linalg.norm(p - onehot, axis=-1)
        others = np.where(onehot == 1, -np.inf, logits)
        found = {
            "loss": -np.log((p * onehot).sum(-1)),
            "confidence": (p * onehot).sum(-1),
            "fault": (1.0 - (p * onehot).sum(-1) + np.where(onehot == 1, 0.0, p).max(-1)) / 2.0,
            "margin": (logits * onehot).sum(-1) - others.max(-1),
            "correct": logits.argmax(-1) == label,
            "error_norm": error,
            "gradient_norm": error * np.sqrt(1.0 + np.square(hidden).sum(-1)),
            "probabilities": p,
        }[name]
        return found.astype(np.float32)

    def features(self, source="model"):
        assert (FEATURES if source == "model" else source) in self.offers
        count = len(self.samples)
        if source == THUMBNAILS:
            rows = np.random.default_rng([self.seed, 3]).normal(size=(count, 12))
            return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
        rng = np.random.default_rng([self.seed, 1])
        return rng.normal(size=(count, WIDTH)).astype(np.float32)

    def predictions(self):
        """(N, C), of the last epoch."""
        assert PREDICTIONS in self.offers
        return self._drawn("probabilities")[-1]


class ToyBoxes(ToyEvidence):
    """Evidence of a detector: samples have one to three boxes, one has none, of up to two classes.

    Boxes follow from the seed; what is predicted of them is drawn once.
    """

    def __init__(self, count=60, seed=0, epochs=12, offers=None, **options):
        super().__init__(count, seed, epochs, BOX_OFFERS if offers is None else offers, **options)
        rng = np.random.default_rng([seed, 5])
        classes = [[i % 3, *rng.integers(0, 2, i % 3)] for i in range(count)]
        classes[-1] = []
        self.samples = replace(self.samples, classes=[[int(c) for c in own] for own in classes])
        if BOXES in self.offers:
            self.samples = replace(self.samples, boxes=some_boxes(self.samples.sizes, rng))

    def _drawn(self, name):
        if name not in BOX_SIGNALS:
            return super()._drawn(name)
        sizes = self.samples.sizes
        rng = np.random.default_rng([self.seed, 6, len(name)])
        values = rng.uniform(size=(self.epochs, len(sizes), max(sizes.max(), 1)))
        values[:, np.arange(values.shape[2]) >= sizes[:, None]] = np.nan
        return values.astype(np.float32)

    def features(self, source="model"):
        if source != BOX_FEATURES:
            return super().features(source)
        assert BOX_FEATURES in self.offers
        rows = np.random.default_rng([self.seed, 7]).normal(size=(self.samples.sizes.sum(), WIDTH))
        return rows.astype(np.float32)

    def predictions(self):
        """Of each image its boxes, moved, and one more."""
        assert PREDICTIONS in self.offers
        rng = np.random.default_rng([self.seed, 8])
        found = []
        for own, classes in zip(self.samples.boxes, self.samples.classes, strict=True):
            more = np.concatenate([own + rng.normal(0, 3, own.shape), [[0, 0, 9, 9]]])
            labels = np.array([*classes, 1])
            scores = rng.uniform(size=len(labels)).astype(np.float32)
            boxes = more.astype(np.float32)
            found.append({"boxes": boxes, "scores": scores, "classes": labels})
        return found


def some_boxes(sizes, rng):
    """Of each sample as many boxes as its size, (G, 4) float32, in an image of 100 x 100."""
    found = []
    for size in sizes:
        low = rng.uniform(0, 60, (size, 2))
        sides = rng.uniform(5, 40, (size, 2))
        found.append(np.concatenate([low, low + sides], 1).astype(np.float32))
    return found


#: What a detector gives; its predictions are detections.
BOX_OFFERS = OFFERS | BOX_SIGNALS | {BOXES, BOX_FEATURES}


class Given(ToyEvidence):
    """Evidence of which a test says what matters.

    Args:
        classes: (N,) of one class each, or the classes of each.
        boxes: of each its boxes (G, 4), as lists or arrays; without them there are some.
        known: name of a signal, ``features``, ``thumbnails`` or ``predictions`` → its values, as
            lists or arrays.
    """

    def __init__(self, classes=None, seed=0, boxes=None, **known):
        self.known = {name: np.asarray(value, dtype=np.float32) for name, value in known.items()}
        sides = {
            n: v.shape[1 if n in SIGNALS | BOX_SIGNALS else 0]
            for n, v in self.known.items()
            if n != BOX_FEATURES
        }
        count = len(classes) if classes is not None else next(iter(sides.values()))
        assert set(sides.values()) <= {count}
        super().__init__(count, seed)
        if classes is not None:
            each = [[own] if np.ndim(own) == 0 else list(own) for own in classes]
            self.samples = replace(self.samples, classes=each)
        sizes = self.samples.sizes
        boxes = some_boxes(sizes, np.random.default_rng(9)) if boxes is None else boxes
        boxes = [np.asarray(own, dtype=np.float32).reshape(-1, 4) for own in boxes]
        assert [len(own) for own in boxes] == sizes.tolist()
        self.samples = replace(self.samples, boxes=boxes)

    def signal(self, name):
        return self.known[name]

    def features(self, source="model"):
        return self.known["features" if source == "model" else source]

    def predictions(self):
        return self.known["predictions"]


def order_of(choice):
    """The indices in the order in which a score keeps them."""
    return np.lexsort((np.arange(len(choice.score)), choice.score)).tolist()
