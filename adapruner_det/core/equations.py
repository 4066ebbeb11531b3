"""The objective of AdaPruner, Eq. 4 to 7, as pure functions.

Shape letters: N samples of the data set, B samples of a batch.

Every per-sample function takes and returns tensors of shape (B,) without reducing them: dividing
their sum by N gives the paper's scalar. ``probability`` is the keep probability σ(α·m), ``loss``
the per-sample task loss L >= 0. The terms are for torch, where autograd can check the closed forms
below them; the closed forms are for numpy, where the mask lives.

Source: Yang et al., "Not All Data Matters: An End-to-End Adaptive Dataset Pruning Framework for
Enhancing Model Performance and Efficiency".
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

#: Keeps log L finite for a loss of exactly zero.
LOG_EPS = 1e-5


def keep_probability(logit: Tensor, alpha: float) -> Tensor:
    """σ(α·m), the soft stand-in for "kept". Shape as ``logit``."""
    return torch.sigmoid(alpha * logit)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """σ(x) for numpy, without overflow. Shape as ``x``."""
    return 0.5 * (1.0 + np.tanh(0.5 * x))


def classification_loss(probability: Tensor, loss: Tensor) -> Tensor:
    """Eq. 4 per sample: σ(α·m)·L, shape (B,).

    The one term that moves the model's weights. It moves the mask too, with L held constant.
    """
    return probability * loss


def selection_loss(probability: Tensor, loss: Tensor, eps: float = LOG_EPS) -> Tensor:
    """Eq. 5 per sample: σ(α·m)·(−log(L + eps)), shape (B,).

    It moves the mask only. Were L not detached, its gradient −∇L/L would raise the loss of every
    sample, so it is detached here and no caller can forget to.
    """
    return probability * -torch.log(loss.detach() + eps)


def compression_loss(ratio: Tensor, keep_ratio: float) -> Tensor:
    """Eq. 6: (mean σ(α·m) − c_r)², a scalar; ``ratio`` is the mean over all N samples."""
    return (ratio - keep_ratio) ** 2


def compression_weight(ratio: float, keep_ratio: float, scale: float = 100.0) -> float:
    """λ of Eq. 7: s·|r − c_r|, with the paper's s = 100."""
    return scale * abs(ratio - keep_ratio)


def pressure(
    loss: np.ndarray,
    *,
    use_classification: bool = True,
    use_selection: bool = True,
    eps: float = LOG_EPS,
) -> np.ndarray:
    """What pushes a sample out: f = L − log(L + eps), shape (B,).

    The derivative of Eq. 4 plus Eq. 5 with respect to the keep probability. Its minimum, 1, lies
    at L = 1, so the easiest and the hardest samples are pushed out first. The two switches leave
    a term out, as in the paper's Table 5.
    """
    f = np.zeros_like(loss)
    if use_classification:
        f = f + loss
    if use_selection:
        f = f - np.log(loss + eps)
    return f


def binarising_force(probability: np.ndarray, strength: float) -> np.ndarray:
    """h·(1 − 2σ), the derivative of the penalty h·σ·(1 − σ), which is 0 only at σ = 0 and 1."""
    return strength * (1.0 - 2.0 * probability)


def mask_gradient(logit: np.ndarray, alpha: float, force: np.ndarray) -> np.ndarray:
    """The closed-form gradient with respect to the logits, times N: α·σ'(α·m)·force. Shape (B,).

    ``force`` is the derivative of the objective with respect to the keep probability:
    :func:`pressure` plus the constraint's share, which for Eq. 6 with a fixed λ is 2λ(r − c_r) and
    for a Lagrange multiplier μ of the constraint mean σ = c_r is −μ; plus
    :func:`binarising_force` where the mask is to set.
    """
    probability = sigmoid(alpha * logit)
    return alpha * probability * (1.0 - probability) * force
