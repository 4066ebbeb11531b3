"""Which terms move the mask, where it stands, and how far its soft ratio may be from c_r.

Shape letters: N samples.
"""

from __future__ import annotations

from dataclasses import dataclass

#: ε of the paper: how far the soft ratio may be from c_r before the final cut.
TOLERANCE = 0.02


@dataclass(frozen=True)
class Terms:
    """Which terms of Eq. 7 act after warm-up (the paper's Table 5). All do by default.

    Without ``classification`` Eq. 4 moves neither the mask nor the model's weights.
    """

    classification: bool = True
    selection: bool = True
    compression: bool = True


@dataclass(frozen=True)
class Status:
    """Where the mask stands, and as text what a log says of it.

    Attributes:
        epoch: of the run, from 0.
        alpha: α.
        ratio: r = mean σ(α·m) over all N samples.
        multiplier: what holds the ratio.
        binary_share: of the samples whose σ(α·m) is near 0 or 1.
        nonfinite: losses that were NaN or infinite.
        keep_ratio: c_r, which ``ratio`` is to reach.
        warmup: whether the mask stands still in this epoch.
    """

    epoch: int
    alpha: float
    ratio: float
    multiplier: float
    binary_share: float
    nonfinite: int
    keep_ratio: float
    warmup: bool

    def __str__(self) -> str:
        phase = "warm-up" if self.warmup else "pruning"
        return (
            f"{phase}: soft ratio {self.ratio:.4f} of {self.keep_ratio:.4f}, α {self.alpha:.2f}, "
            f"multiplier {self.multiplier:.4f}, {100 * self.binary_share:.1f}% binary"
        )
