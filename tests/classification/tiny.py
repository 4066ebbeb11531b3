"""Data small enough to train on in a test, made where it is needed, and a guide that listens."""

import gzip
import struct

import numpy as np
import torch
from PIL import Image

from adapruner_det.classification.config import get_config
from adapruner_det.classification.image_set import from_arrays

CLASSES = ["dark", "light", "red"]


def tiny_config(**overrides):
    """A run of a few small epochs; ``SOLVER__EPOCHS=2`` sets SOLVER.EPOCHS."""
    cfg = get_config()
    settings = {
        "MODEL.NAME": "small",
        "MODEL.WIDTH": 4,
        "SOLVER.EPOCHS": 4,
        "SOLVER.BATCH_SIZE": 8,
        "AUGMENT.CROP": 1,
        "ADAPRUNER.WARMUP_EPOCHS": 1,
        "DATA.WORKERS": 0,
        "DEVICE": "cpu",
        **{name.replace("__", "."): value for name, value in overrides.items()},
    }
    cfg.merge_from_list([x for pair in settings.items() for x in pair])
    return cfg


def tiny_pixels(count=36, side=8, seed=0):
    """(images (N, S, S, 3), labels (N,)): three classes that differ in brightness and colour."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    centres = np.array([[50, 50, 50], [200, 200, 200], [220, 40, 40]])
    noise = rng.normal(0, 25, (count, side, side, 3))
    images = np.clip(centres[labels][:, None, None] + noise, 0, 255).astype(np.uint8)
    return images, labels


def tiny_set(count=36, side=8, name="tiny_train", seed=0):
    images, labels = tiny_pixels(count, side, seed)
    return from_arrays(name, images, labels, CLASSES)


def write_idx(path, array):
    header = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.astype(np.uint8).tobytes()))


def write_packed(root, counts=(36, 12), strip=10):
    """A packed folder of strips; returns the pixels and labels of both splits."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    written = {}
    for split, count in zip(("train", "test"), counts, strict=True):
        images, labels = tiny_pixels(count, seed=len(split))
        for k in range(0, count, strip):
            rows = images[k : k + strip].reshape(-1, 8, 3)
            Image.fromarray(rows).save(root / f"{split}_{k // strip:03d}.webp", lossless=True)
        write_idx(root / f"{split}-labels-idx1-ubyte.gz", labels)
        written[split] = images, labels
    return written


def write_folder(root, per_class=6, test_name="test", side=10):
    """An image folder with CLASSES."""
    for split, count in (("train", per_class), (test_name, 2)):
        images, labels = tiny_pixels(3 * count, side, seed=count)
        for i, (image, label) in enumerate(zip(images, labels, strict=True)):
            folder = root / split / CLASSES[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{i:03d}.png")
    return root


def same_state(a, b):
    """Whether two nested states are equal bit for bit."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_state(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same_state, a, b))
    return a == b


class Listener:
    """A guide that writes down what it is told, and weights losses as it is told to."""

    def __init__(self, signals=(), weight=None):
        self.signals, self.weight = frozenset(signals), weight
        self.heard, self.ended, self.calls = [], 0, []

    def weights(self, ids):
        self.calls.append(("weights", ids.tolist()))
        return torch.ones(len(ids)) if self.weight is None else self.weight[ids]

    def observe(self, ids, losses, **signals):
        self.calls.append(("observe", ids.tolist()))
        self.heard.append((ids.clone(), losses.clone(), {k: v.clone() for k, v in signals.items()}))

    def end_epoch(self):
        self.ended += 1
        return f"heard {len(self.heard)} batches"

    def scalars(self):
        return {"heard": float(len(self.heard))}

    def state_dict(self):
        return {"ended": self.ended}

    def load_state_dict(self, state):
        self.ended = state["ended"]
