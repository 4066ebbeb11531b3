"""Evidence of a task that a test can do in its head."""

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
    "CLASSIFICATION_LOSS": True,
    "SELECTION_LOSS": True,
    "COMPRESSION_LOSS": True,
}

#: Every signal that a method of this package may ask for, and all else that evidence can hold.
SIGNALS = {"loss"}
OFFERS = frozenset({*SIGNALS, FEATURES, PREDICTIONS, THUMBNAILS})


def samples(count=60, num_classes=3):
    keys = [f"toy/{i:04d}" for i in range(count)]
    digests = np.array([digest(key) for key in keys], dtype=np.uint64)
    classes = [[i % num_classes] for i in range(count)]
    names = [f"class {c}" for c in range(num_classes)]
    return Samples(keys, digests, {"toy": "f" * 64}, classes, names, read_image=picture)


def picture(index):
    return np.random.default_rng(index).integers(0, 256, (8, 8, 3), dtype=np.uint8)


class ToyEvidence:
    """A training whose losses are numbers drawn once, and so is all else.

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
            losses = self._drawn("loss")[epoch]
            for ids in np.array_split(rng.permutation(len(self.samples)), 4):
                guide.weights(ids)
                guide.observe(ids, losses[ids])
            guide.end_epoch()
        self.trained += 1

    def signal(self, name):
        assert name in self.offers, name
        return self._drawn(name)

    def _drawn(self, name):
        rng = np.random.default_rng([self.seed, *name.encode()])
        return np.exp(rng.normal(size=(self.epochs, len(self.samples)))).astype(np.float32)

    def features(self, source="model"):
        assert (FEATURES if source == "model" else source) in self.offers
        rng = np.random.default_rng([self.seed, 1])
        return rng.normal(size=(len(self.samples), 5)).astype(np.float32)

    def predictions(self):
        assert PREDICTIONS in self.offers
        rng = np.random.default_rng([self.seed, 2])
        return rng.dirichlet(np.ones(3), len(self.samples)).astype(np.float32)
