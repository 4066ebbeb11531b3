"""Evidence of a task that a test can do in its head."""

from dataclasses import replace

import numpy as np

from adapruner_det.methods.base import FEATURES, PREDICTIONS, THUMBNAILS
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


class Given(ToyEvidence):
    """Evidence of which a test says what matters.

    Args:
        classes: (N,) of one class each, or the classes of each.
        known: name of a signal, ``features``, ``thumbnails`` or ``predictions`` → its values, as
            lists or arrays.
    """

    def __init__(self, classes=None, seed=0, **known):
        self.known = {name: np.asarray(value, dtype=np.float32) for name, value in known.items()}
        sides = {n: v.shape[0 if n not in SIGNALS else 1] for n, v in self.known.items()}
        count = len(classes) if classes is not None else next(iter(sides.values()))
        assert set(sides.values()) <= {count}
        super().__init__(count, seed)
        if classes is not None:
            each = [[own] if np.ndim(own) == 0 else list(own) for own in classes]
            self.samples = replace(self.samples, classes=each)

    def signal(self, name):
        return self.known[name]

    def features(self, source="model"):
        return self.known["features" if source == "model" else source]

    def predictions(self):
        return self.known["predictions"]


def order_of(choice):
    """The indices in the order in which a score keeps them."""
    return np.lexsort((np.arange(len(choice.score)), choice.score)).tolist()
