"""What this project's methods are shown of a pool of feature vectors: a small network's training.

Shape letters: N samples, D features, C classes, E epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from adapruner_det.classification.config import get_config
from adapruner_det.classification.signals import SIGNALS, measured
from adapruner_det.methods.base import FEATURES, PREDICTIONS, THUMBNAILS, Guide
from adapruner_det.methods.recorder import LOSS, Recorder
from adapruner_det.samples import Samples, digest, fingerprint

#: Those of the network that the task trains on what is kept: scikit-learn's MLPClassifier.
WIDTHS, EPOCHS, BATCH, RATE, DECAY = (128, 64), 120, 200, 1e-3, 1e-4


class PoolEvidence:
    """:class:`adapruner_det.methods.base.Evidence` of (N, D) vectors and their labels.

    ``thumbnails`` are the vectors themselves: what is known of a sample without a model.

    Args:
        vectors: (N, D).
        labels: (N,) int, as they are given, wrong ones among them.
        seed: of all trainings.
    """

    offers = frozenset({LOSS, *SIGNALS, FEATURES, PREDICTIONS, THUMBNAILS})
    epochs = EPOCHS

    def __init__(self, vectors: np.ndarray, labels: np.ndarray, seed: int) -> None:
        self.seed, self.options = seed, dict(get_config().ADAPRUNER)
        self._x = torch.as_tensor(np.asarray(vectors), dtype=torch.float32)
        self._y = torch.as_tensor(np.asarray(labels), dtype=torch.int64)
        self.samples = _samples(self._y.tolist())
        self._recorded: tuple[Recorder, nn.Sequential] | None = None

    def with_options(self, options: Mapping[str, Any]) -> PoolEvidence:
        """The same, recorded training included, with other options of AdaPruner."""
        other = PoolEvidence(self._x.numpy(), self._y.numpy(), self.seed)
        other.options |= options
        other._recorded = self._record()
        return other

    def train(self, guide: Guide) -> None:
        """One training on all, under ``guide``."""
        self._fit(np.ones(len(self.samples), dtype=bool), self.seed, guide)

    def signal(self, name: str) -> np.ndarray:
        """(E, N, ...) float32 of the recorded training."""
        return self._record()[0].signal(name)

    def features(self, source: str = "model") -> np.ndarray:
        """(N, 64) of the recorded network's last layer but one, or (N, D), the vectors."""
        if source == THUMBNAILS:
            return self._x.numpy()
        with torch.no_grad():
            found: np.ndarray = self._record()[1][:-1](self._x).numpy()
        return found

    def predictions(self) -> np.ndarray:
        """(N, C) of the recorded network."""
        with torch.no_grad():
            found: np.ndarray = self._record()[1](self._x).softmax(1).numpy()
        return found

    def respond(self, kept: np.ndarray, held: np.ndarray, seed: int) -> tuple[float, float]:
        """Accuracy on ``held`` of a training on ``kept``, and 0 in place of its seconds."""
        model = self._fit(kept, seed)
        with torch.no_grad():
            right = model(self._x).argmax(1) == self._y
        return 100.0 * float(right.numpy()[held].mean()), 0.0

    def _record(self) -> tuple[Recorder, nn.Sequential]:
        if self._recorded is None:
            recorder = Recorder(len(self.samples), SIGNALS)
            model = self._fit(np.ones(len(self.samples), dtype=bool), self.seed, recorder)
            self._recorded = recorder, model
        return self._recorded

    def _fit(self, kept: np.ndarray, seed: int, guide: Guide | None = None) -> nn.Sequential:
        torch.manual_seed(seed)
        sides = (self._x.shape[1], *WIDTHS)
        layers: list[nn.Module] = []
        for wide, narrow in zip(sides, sides[1:], strict=False):
            layers += [nn.Linear(wide, narrow), nn.ReLU()]
        model = nn.Sequential(*layers, nn.Linear(sides[-1], int(self._y.max()) + 1))
        optimizer = torch.optim.Adam(model.parameters(), RATE, weight_decay=DECAY)
        ids = torch.from_numpy(np.flatnonzero(kept))
        for _ in range(EPOCHS):
            for batch in ids[torch.randperm(len(ids))].split(BATCH):
                hidden = model[:-1](self._x[batch])
                logits = model[-1](hidden)
                losses = functional.cross_entropy(logits, self._y[batch], reduction="none")
                loss = losses.mean() if guide is None else (guide.weights(batch) * losses).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                if guide is not None:
                    found = measured(
                        guide.signals, logits.detach(), self._y[batch], hidden.detach()
                    )
                    guide.observe(batch, losses.detach(), **found)
            if guide is not None:
                guide.end_epoch()
        return model.eval()


def _samples(labels: list[int]) -> Samples:
    keys = [f"pool/{i:06d}" for i in range(len(labels))]
    digests = np.array(
        [digest(f"{key} {y}") for key, y in zip(keys, labels, strict=True)], np.uint64
    )
    return Samples(
        keys,
        digests,
        {"pool": fingerprint(keys, digests)},
        classes=[[y] for y in labels],
        class_names=[str(c) for c in range(max(labels) + 1)],
        read_image=_no_image,
    )


def _no_image(index: int) -> np.ndarray:
    raise ValueError("the samples of this pool are vectors, not images")
