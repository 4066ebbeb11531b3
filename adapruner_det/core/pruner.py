"""AdaPruner: weights for a batch, observations of its losses, and in the end the kept samples.

Shape letters: N samples, B samples of a batch, K kept.

A training loop in any framework::

    pruner = AdaPruner(num_samples=N, keep_ratio=0.9, schedule=Schedule(2, 28))
    for epoch in range(pruner.schedule.epochs):
        for ids, batch in loader:                      # ids: index of each sample, 0 to N−1
            losses = loss_fn(model(batch))             # (B,), reduction="none"
            (pruner.weights(ids).to(losses) * losses).mean().backward()  # Eq. 4 moves the weights
            optimizer.step(), optimizer.zero_grad()
            pruner.observe(ids, losses)                               # Eq. 4 to 6 move the mask
        pruner.end_epoch()
    kept = pruner.select()                             # (N,) bool, exactly round(0.9·N) true
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .balance import Balance, ClassDuals, balanced_cut
from .batch import as_float64, checked_ids, checked_signals, means_by_id
from .cut import cut, kept_count, ranks
from .exchange import Exchange
from .mask import COLUMNS, SampleMask
from .objectives import Objective, Paper
from .ratio import PaperRatio, RunState, make_controller
from .schedule import Schedule
from .status import TOLERANCE, Status, Terms
from .typical import TypicalLoss, size_levels

logger = logging.getLogger(__name__)


class AdaPruner:
    """The mask over N training samples and what moves it.

    Args:
        num_samples: N.
        keep_ratio: c_r in (0, 1], the part that stays.
        schedule: warm-up and pruning epochs, α.
        objective: what decides which samples go; None is the paper's, with ``terms``.
        controller: ``dual`` holds c_r; ``paper`` is λ = s·|r − c_r| as published.
        normalize: ``median`` divides losses by their running median before Eq. 5, so that the
            minimum of L − log L lies at a typical loss; ``none`` leaves them as they are.
        sizes: (N,) how many parts a sample has that its loss sums over, such as its objects; None
            is one each.
        by_size: whether the median is that of samples of like size.
        terms: the ablations of Table 5; another objective than the paper's has only its own.
        paper_scale: s of Eq. 7, for the paper's controller only.
        balance: keeps the kept share of every class near c_r; None leaves it to the losses.
        directory: where to memory-map the columns; None keeps them in RAM.
        exchange: the processes that share the mask; every one of them makes the same calls.

    Attributes:
        epoch: of the run, from 0.
        epoch_losses: the mean of all losses that were heard of in each epoch that is over.
        nonfinite: how many losses were NaN or infinite.

    Raises:
        ValueError: a keep ratio outside (0, 1], an unknown controller or normalisation, sizes, a
            balance or an objective of other samples, or one of the last two with the paper's
            controller.
    """

    def __init__(
        self,
        num_samples: int,
        keep_ratio: float,
        schedule: Schedule,
        *,
        objective: Objective | None = None,
        controller: Literal["dual", "paper"] = "dual",
        normalize: Literal["median", "none"] = "median",
        sizes: np.ndarray | None = None,
        by_size: bool = True,
        terms: Terms | None = None,
        paper_scale: float = 100.0,
        balance: Balance | None = None,
        directory: str | Path | None = None,
        exchange: Exchange | None = None,
    ) -> None:
        if not 0.0 < keep_ratio <= 1.0:
            raise ValueError(
                f"the keep ratio is {keep_ratio}; it must lie in (0, 1]: "
                "0.9 keeps nine samples in ten"
            )
        if normalize not in ("median", "none"):
            raise ValueError(f"normalize is {normalize!r}; it must be 'median' or 'none'")
        self.num_samples, self.keep_ratio, self.schedule = num_samples, keep_ratio, schedule
        self.terms = terms or Terms()
        self.objective = _fitting(objective, controller, self.terms)
        self.epoch = 0
        self.nonfinite = 0
        self.epoch_losses: list[float] = []
        self._sum, self._count = 0.0, 0  # of the losses of this epoch
        own = (num_samples, keep_ratio, schedule.alpha_end, paper_scale, self.terms.compression)
        self._controller = make_controller(controller, *own)
        if sizes is not None and len(sizes) != num_samples:
            raise ValueError(f"there are {len(sizes)} sizes for {num_samples} samples")
        levels, level = (None, None) if sizes is None else size_levels(sizes)
        self.mask = SampleMask(
            num_samples,
            size_level=level,
            levels=levels,
            learnt=self.objective.learnt,
            given=self.objective.given,
            initial_logit=self._controller.initial_logit,
            alpha=schedule.alpha(0),
            directory=directory,
            exchange=exchange,
        )
        self.objective.start(self.mask)
        self._typical = (
            TypicalLoss(num_samples, levels, by_size=by_size) if normalize == "median" else None
        )
        self.balance = balance
        self._duals = (
            None if balance is None else _duals(balance, controller, num_samples, keep_ratio)
        )

    @property
    def signals(self) -> frozenset[str]:
        """What :meth:`observe` can use besides the losses: names of :data:`.objectives.SIGNALS`."""
        return self.objective.signals

    def weights(self, ids: Tensor | np.ndarray) -> Tensor:
        """What multiplies each sample's loss: 1 in warm-up, then σ(α·m). (B,) float32, detached.

        ``ids`` are indices in [0, N), in any order, repeated or not.
        """
        own = checked_ids(ids, self.num_samples)
        if self.schedule.is_warmup(self.epoch):
            return torch.ones(len(own))
        if not self.terms.classification:
            return torch.zeros(len(own))
        everyone, mine = self.mask.exchange.gather(own)
        logit = self.mask.logits(everyone)[mine]
        alpha = self.schedule.alpha(self.epoch)
        return torch.sigmoid(torch.from_numpy(alpha * logit)).float()

    def observe(
        self, ids: Tensor | np.ndarray, losses: Tensor | np.ndarray, **signals: Any
    ) -> np.ndarray:
        """Move the mask by the losses of a batch.

        Args:
            ids: (B,) indices; repeated ones count as one visit with their mean loss each.
            losses: (B,) task losses before any weighting, L >= 0; detached here.
            signals: what else the visit showed, (B,) each in [0, 1], by the names of
                :data:`.objectives.SIGNALS`; every process gives the same ones. Those that the
                objective does not use are passed over. Without ``confidence`` e^(−L / typical L)
                stands in for it, which is p of the label for an unnormalised cross-entropy.

        Returns:
            The ids of this process whose loss was NaN or infinite, or beyond what float32 holds, or
            for which a signal was NaN. They move nothing and are counted in ``nonfinite``.

        Raises:
            ValueError: shapes that differ, an index outside [0, N), a negative loss, an unknown
                signal or one outside [0, 1].
        """
        own_ids, own_losses = checked_ids(ids, self.num_samples), as_float64(losses)
        if own_losses.shape != own_ids.shape:
            raise ValueError(
                f"{len(own_ids)} ids came with losses of shape {own_losses.shape}; "
                "there must be one loss per id: use reduction='none'"
            )
        used = checked_signals(signals, own_ids, self.signals)
        # Indices are exact as float64 up to 2^53, so one message carries all.
        sent = np.stack([own_ids, own_losses, *used.values()])
        everyone, _ = self.mask.exchange.gather(sent)
        all_ids, all_losses = everyone[0].astype(np.int64), everyone[1]
        finite = np.isfinite(everyone[1:]).all(axis=0)
        self.nonfinite += int(np.count_nonzero(~finite))
        if np.any(all_losses[finite] < 0):
            raise ValueError(
                f"a loss is {all_losses[finite].min():g}; log L in Eq. 5 needs losses of 0 or more"
            )
        self._sum += float(all_losses[finite].sum())
        self._count += int(np.count_nonzero(finite))
        distinct, (mean_losses, *means) = means_by_id(all_ids[finite], everyone[1:, finite])
        self._move(distinct, mean_losses, dict(zip(used, means, strict=True)))
        return own_ids[~np.isfinite(sent[1:]).all(axis=0)]

    def end_epoch(self) -> Status:
        """Close the epoch; where the next one has another α, one pass over the logits, O(N).

        Besides, the objective's pass over its own columns, while they still change.
        """
        status = self.status()
        self.objective.end_epoch(self.mask)
        if self._count:
            self.epoch_losses.append(self._sum / self._count)
        self._sum, self._count = 0.0, 0
        self.epoch += 1
        alpha = self.schedule.alpha(self.epoch)
        if alpha != status.alpha:
            self.mask.recount(alpha)
        return status

    def status(self) -> Status:
        """Where the mask stands now."""
        totals = self.mask.totals
        return Status(
            epoch=self.epoch,
            alpha=self.schedule.alpha(self.epoch),
            ratio=totals.soft / self.num_samples,
            multiplier=self._controller.multiplier,
            binary_share=totals.binary / self.num_samples,
            nonfinite=self.nonfinite,
            keep_ratio=self.keep_ratio,
            warmup=self.schedule.is_warmup(self.epoch),
        )

    def scalars(self) -> Mapping[str, float]:
        """What a progress bar and TensorBoard show of the mask now."""
        status = self.status()
        return {
            "soft_ratio": status.ratio,
            "alpha": status.alpha,
            "multiplier": status.multiplier,
            "binary_share": status.binary_share,
        }

    def select(self) -> np.ndarray:
        """The final cut: (N,) bool with exactly round(c_r·N) true (at least one).

        Samples whose loss was never finite are kept only where no others are left.
        Says loudly when the soft ratio is not within ε = 0.02 of c_r, and when all losses are
        equal; the cut is exact even so.
        Costs O(N), on every process.
        """
        count = kept_count(self.num_samples, self.keep_ratio)
        mean_loss = self.mask.full_column("mean_loss")
        if count < self.num_samples:
            self._warn(mean_loss, count)
        return self._cut(*self.ranking(), count)

    def ranks(self) -> np.ndarray:
        """Each sample's place in the order in which samples are kept, from 0: (N,) int64.

        Whatever a balance adds is not in it. Costs O(N log N), on every process.
        """
        return ranks(*self.ranking())

    def ranking(self) -> tuple[np.ndarray, np.ndarray]:
        """(logit, score), (N,) each, by which :func:`.cut.cut` keeps any number of samples.

        A collective call; O(N).
        """
        return self.objective.order(self.mask.full_column, self.typical_losses())

    def columns(self) -> dict[str, np.ndarray]:
        """What is known of the samples, (N,) each, for :mod:`.ends` and to be saved.

        The mask's columns; ``typical_loss``, which is () if one is for all; and the objective's
        own, among them ``score`` (lower is kept first) where logits and losses do not rank the
        samples. A collective call; O(N).
        """
        typical = self.typical_losses()
        found = {name: self.mask.full_column(name).copy() for name in COLUMNS}
        found["typical_loss"] = typical
        return found | self.objective.columns(self.mask.full_column, typical)

    def _warn(self, mean_loss: np.ndarray, count: int) -> None:
        ratio = self.status().ratio
        if abs(ratio - self.keep_ratio) > TOLERANCE:
            logger.warning(
                "The soft ratio is %.4f, further than %.2f from the keep ratio %.4f: %s. "
                "The cut keeps exactly %d of %d all the same.",
                ratio,
                TOLERANCE,
                self.keep_ratio,
                self._why_off(),
                count,
                self.num_samples,
            )
        if isinstance(self.objective, Paper) and mean_loss.min() == mean_loss.max():
            seen = self.mask.full_column("times_seen").any()
            logger.warning(
                "%s: nothing ranks them, so which %d of %d are kept follows from their indices "
                "alone.",
                f"Every sample has the loss {mean_loss[0]:g}" if seen else "No loss was finite",
                count,
                self.num_samples,
            )

    def _cut(self, logit: np.ndarray, score: np.ndarray, count: int) -> np.ndarray:
        if self.balance is None:
            return cut(logit, score, count)
        kept = balanced_cut(logit, score, count, self.balance, self.keep_ratio)
        off = self.balance.off_band(kept, self.keep_ratio)
        if len(off):
            logger.warning(
                "The kept share of the classes %s could not be brought within %.3f of %.4f: their "
                "samples have other classes too, or never had a finite loss; widen the band.",
                off.tolist(),
                self.balance.band,
                self.keep_ratio,
            )
        return kept

    def typical_losses(self) -> np.ndarray:
        """What mean losses are divided by before Eq. 5, float32: (N,), or () if one for all."""
        alike = self._typical is None or not self._typical.by_size
        level = np.array(0) if alike else self.mask.full_column("size_level")
        return np.maximum(self._scale(level), np.finfo(np.float32).tiny).astype(np.float32)

    def ranking_parameters(self) -> dict[str, Any]:
        """What, beside the typical losses, turns a mean loss into what orders equal logits.

        Empty for an objective whose columns hold the score itself.
        """
        paper = self.objective
        return {"pressure_terms": dict(paper.switches)} if isinstance(paper, Paper) else {}

    def state_dict(self) -> dict[str, Any]:
        """Everything that changes while training; tensors and plain Python."""
        return {
            "epoch": self.epoch,
            "nonfinite": self.nonfinite,
            "losses": {
                "epochs": list(self.epoch_losses),
                "sum": self._sum,
                "count": self._count,
            },
            "objective": {"name": self.objective.name, "state": self.objective.state_dict()},
            "mask": self.mask.state_dict(),
            "controller": self._controller.state_dict(),
            "typical": None if self._typical is None else self._typical.state_dict(),
            "duals": None if self._duals is None else self._duals.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave.

        Raises:
            ValueError: a state of other samples or of another objective.
        """
        saved = state.get("objective", {"name": Paper.name, "state": {}})
        if saved["name"] != self.objective.name:
            raise ValueError(
                f"the saved mask has the objective {saved['name']!r}, this run "
                f"{self.objective.name!r}: resume with the objective the run was started with"
            )
        self.objective.load_state_dict(saved["state"])
        self.epoch = int(state["epoch"])
        self.nonfinite = int(state["nonfinite"])
        losses = state.get("losses", {"epochs": [], "sum": 0.0, "count": 0})  # absent in 0.1
        self.epoch_losses = list(losses["epochs"])
        self._sum, self._count = float(losses["sum"]), int(losses["count"])
        self.mask.load_state_dict(state["mask"])
        self._controller.load_state_dict(state["controller"])
        if self._typical is not None:
            self._typical.load_state_dict(state["typical"])
        if self._duals is not None:
            self._duals.load_state_dict(state["duals"])

    def _move(self, ids: np.ndarray, losses: np.ndarray, signals: dict[str, np.ndarray]) -> None:
        """The losses (B,) of distinct ``ids`` (B,) enter their means; after warm-up logits move."""
        if not len(ids):
            return
        rows = self.mask.read(ids)
        seen = rows.times_seen + 1
        newest = np.maximum(1.0 / seen, self._controller.visit_decay)
        mean = rows.mean_loss + (losses - rows.mean_loss) * newest
        if self._typical is not None:
            self._typical.add(mean, rows.size_level)
        scale = self._scale(rows.size_level)
        if "confidence" not in signals:
            signals = {"confidence": np.exp(-losses / scale), **signals}
        state = self.objective.observe(rows.times_seen, rows.state, signals)
        f = self.objective.pressure(mean / scale, {**rows.state, **state})
        logit = rows.logit
        if self.schedule.is_warmup(self.epoch):
            self._controller.watch(ids, f)
        else:
            alpha = self.schedule.alpha(self.epoch)
            run = RunState(
                self.num_samples,
                self.keep_ratio,
                alpha,
                self.schedule.progress(self.epoch),
                self.mask.totals,
                0.0 if self._duals is None else self._duals.offset(ids),
            )
            logit = self._controller.step(ids, rows.logit, f, run)
            logit = logit.astype(np.float32).astype(np.float64)  # as stored, as accounted for
            self.mask.account(rows.logit, logit, alpha)
            if self._duals is not None:
                self._duals.update(ids, rows.logit, logit)
        self.mask.write(ids, logit, losses, mean, seen, state)

    def _scale(self, size_level: np.ndarray) -> np.ndarray:
        """What the losses of samples of these levels are divided by, (B,)."""
        return np.ones(size_level.shape) if self._typical is None else self._typical.of(size_level)

    def _why_off(self) -> str:
        if isinstance(self._controller, PaperRatio):
            return "λ = s·|r − c_r| vanishes with the error and cannot hold it (controller 'paper')"
        if not self.terms.compression:
            return "the compression term is off"
        if self.epoch <= self.schedule.warmup_epochs:
            return "no pruning epoch was completed"
        return "the run was too short, or samples were not visited every epoch"


def _fitting(objective: Objective | None, controller: str, terms: Terms) -> Objective:
    """``objective``, by default the paper's, if it goes with the controller and the terms."""
    if objective is None:
        return Paper(use_classification=terms.classification, use_selection=terms.selection)
    if not isinstance(objective, Paper) and (
        controller != "dual" or not (terms.classification and terms.selection)
    ):
        raise ValueError(
            f"the objective {objective.name!r} needs the controller 'dual' and all terms "
            "of the paper, which ranks and the ratio are held by; leave both as they are"
        )
    return objective


def _duals(balance: Balance, controller: str, num_samples: int, keep_ratio: float) -> ClassDuals:
    if controller != "dual" or len(balance.sets) != num_samples:
        raise ValueError(
            f"balance needs the controller 'dual' and the classes of all {num_samples} "
            f"samples; it got {controller!r} and those of {len(balance.sets)}"
        )
    return ClassDuals(balance, keep_ratio)
