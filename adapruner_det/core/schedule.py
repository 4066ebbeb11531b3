"""When the mask moves and how sharp it is: warm-up and α, both in epochs."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Schedule:
    """Warm-up epochs first, then pruning epochs over which α rises uniformly.

    Args:
        warmup_epochs: epochs in which every sample has weight one and the mask stands still;
            0 turns warm-up off (the paper's Table 4).
        pruning_epochs: epochs after warm-up, at least 1.
        alpha_start: α of the first pruning epoch (paper: 0.1).
        alpha_end: α of the last pruning epoch (paper: 5 on CIFAR, 100 on Tiny-ImageNet).
    """

    warmup_epochs: int
    pruning_epochs: int
    alpha_start: float = 0.1
    alpha_end: float = 5.0

    def __post_init__(self) -> None:
        if self.warmup_epochs < 0:
            raise ValueError(f"warmup_epochs is {self.warmup_epochs}; it must be 0 or more")
        if self.pruning_epochs < 1:
            raise ValueError(
                f"there are {self.pruning_epochs} epochs left after warm-up; at least 1 is needed: "
                "train longer or shorten the warm-up"
            )
        if not 0 < self.alpha_start <= self.alpha_end:
            raise ValueError(
                f"α goes from {self.alpha_start} to {self.alpha_end}; "
                "it must start above 0 and must not fall"
            )

    @property
    def epochs(self) -> int:
        """Warm-up and pruning epochs together."""
        return self.warmup_epochs + self.pruning_epochs

    def is_warmup(self, epoch: int) -> bool:
        """Whether ``epoch``, counted from 0, is a warm-up epoch."""
        return epoch < self.warmup_epochs

    def progress(self, epoch: int) -> float:
        """0 in the first pruning epoch (and before it), 1 in the last one and after it."""
        if self.pruning_epochs == 1:
            return float(not self.is_warmup(epoch))
        done = (epoch - self.warmup_epochs) / (self.pruning_epochs - 1)
        return min(max(done, 0.0), 1.0)

    def alpha(self, epoch: int) -> float:
        """α of ``epoch``, uniform over the pruning epochs."""
        return self.alpha_start + (self.alpha_end - self.alpha_start) * self.progress(epoch)
