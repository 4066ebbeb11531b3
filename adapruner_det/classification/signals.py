"""What a training tells a guide of each sample besides its loss.

Signals come from the logits that the training step has anyway: of the augmented images, in training
mode, before that step moves the weights. All are float32, whatever the model computes in.
Shape letters: B samples of a batch, C classes, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn import functional

from ..errors import DataError

#: From logits (B, C) float32, labels (B,) int64 and, where asked for, features (B, D) float32.
Signal = Callable[[Tensor, Tensor, "Tensor | None"], Tensor]


def confidence(logits: Tensor, labels: Tensor, features: Tensor | None = None) -> Tensor:
    """p_y, of the given label, in [0, 1]: (B,). Low where the sample is hard or its label wrong.

    Swayamdipta et al. 2020, *Dataset Cartography*: its mean over epochs is the confidence, its
    standard deviation the variability.
    """
    return _of_label(logits.softmax(1), labels)


def margin(logits: Tensor, labels: Tensor, features: Tensor | None = None) -> Tensor:
    """z_y − max over c ≠ y of z_c: (B,). Low where hard; below 0 where another class is ahead.

    Pleiss et al. 2020, *Identifying Mislabeled Data using the Area Under the Margin Ranking*: AUM
    is its mean over epochs.
    """
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return _of_label(logits, labels) - others.amax(1)


def correct(logits: Tensor, labels: Tensor, features: Tensor | None = None) -> Tensor:
    """1 where the given label has the highest logit, else 0: (B,). Low where hard.

    Toneva et al. 2019, *An Empirical Study of Example Forgetting*: a fall from 1 to 0 between two
    epochs is a forgetting event.
    """
    return (logits.argmax(1) == labels).float()


def error_norm(logits: Tensor, labels: Tensor, features: Tensor | None = None) -> Tensor:
    """‖p − y‖₂ with y one-hot, in [0, √2]: (B,). High where hard.

    Paul et al. 2021, *Deep Learning on a Data Diet*: EL2N is its mean over runs, early in training.
    """
    error = logits.softmax(1) - functional.one_hot(labels, logits.shape[1])
    return error.norm(dim=1)


def gradient_norm(logits: Tensor, labels: Tensor, features: Tensor | None = None) -> Tensor:
    """‖p − y‖₂ · ‖(h, 1)‖₂, with the features h: (B,). High where hard.

    It is the norm of the gradient of the cross-entropy by the last layer's weights and bias,
    (p − y)⊗(h, 1), exactly. Paul et al. 2021: GraNd, there by all weights.
    """
    assert features is not None
    return error_norm(logits, labels) * (1.0 + features.square().sum(1)).sqrt()


def fault(logits: Tensor, labels: Tensor, features: Tensor | None = None) -> Tensor:
    """(1 − p_y + max over c ≠ y of p_c) / 2, in [0, 1]: (B,). High where the label may be wrong.

    At 1/2 another class is as likely as the given one. Northcutt et al. 2021, *Confident Learning*,
    compare the same two; here its mean over visits is looked at.
    """
    p = logits.softmax(1)
    own = _of_label(p, labels)
    return (1.0 - own + p.scatter(1, labels[:, None], 0.0).amax(1)) / 2.0


def probabilities(logits: Tensor, labels: Tensor, features: Tensor | None = None) -> Tensor:
    """p, of every class: (B, C)."""
    return logits.softmax(1)


#: What a guide may ask for.
SIGNALS: dict[str, Signal] = {
    own.__name__: own
    for own in (confidence, fault, margin, correct, error_norm, gradient_norm, probabilities)
}

#: Those that are computed from the input of the model's last layer too.
OF_FEATURES = frozenset({"gradient_norm"})


def require_known(names: Iterable[str]) -> None:
    """Raise a DataError that names those of ``names`` that are no signals."""
    if unknown := sorted(set(names) - SIGNALS.keys()):
        raise DataError(
            f"{', '.join(unknown)} is asked for, which a classification training does not give; "
            f"besides the loss it gives {', '.join(sorted(SIGNALS))}"
        )


@torch.no_grad()
def measured(
    names: Iterable[str], logits: Tensor, labels: Tensor, features: Tensor | None = None
) -> dict[str, Tensor]:
    """Each signal of ``names``: (B,) or (B, C), float32, detached.

    Args:
        names: of :data:`SIGNALS`.
        logits: (B, C), of any type.
        labels: (B,) int64.
        features: (B, D), of any type; needed for :data:`OF_FEATURES`.
    """
    logits = logits.float()
    features = None if features is None else features.float()
    return {name: SIGNALS[name](logits, labels, features) for name in names}


def _of_label(values: Tensor, labels: Tensor) -> Tensor:
    """(B, C) → what stands at each label: (B,)."""
    return values.gather(1, labels[:, None]).squeeze(1)
