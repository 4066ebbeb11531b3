"""What decides which samples go: the protocol, and the published objective.

Shape letters: N samples, B samples of a batch.

``paper`` is the published one: the pressure on a sample is f = L − log L. It ranks, so it takes the
two ends of the losses and cannot see wrong annotations of samples that are easy, nor copies.
:mod:`.inclusion` has the other, :mod:`.terms` what that is made of.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .cut import ranking
from .equations import pressure

if TYPE_CHECKING:
    from .mask import SampleMask

State = Mapping[str, np.ndarray]  # column name → (B,) or (N,), as stored
Read = Callable[[str], np.ndarray]  # column name → (N,), as stored

#: What a task may tell of a visit besides the loss, (B,) each, in [0, 1].
SIGNALS = {
    "confidence": "how sure the model is of the given annotation; p of the label",
    "fault": "evidence against the annotation; at 0.5 another answer is as likely as the given one",
}


class Objective(Protocol):
    """What decides which samples go: :class:`Paper`, :class:`Inclusion` or another such."""

    name: str
    #: Columns beside the mask's own: those learnt from visits, and those given with the samples.
    learnt: Mapping[str, Any]
    given: Mapping[str, Any]
    #: Which of :data:`SIGNALS` it takes.
    signals: frozenset[str]

    def start(self, mask: SampleMask) -> None:
        """Fill the given columns of this process's rows."""

    def observe(self, seen: np.ndarray, state: State, signals: State) -> dict[str, np.ndarray]:
        """The learnt columns after a visit, as stored.

        Args:
            seen: (B,) how often each sample was seen before.
            state: the columns before the visit.
            signals: ``confidence`` always, others where the task gives them.
        """

    def pressure(self, loss: np.ndarray, state: State) -> np.ndarray:
        """What pushes each sample out, (B,) finite; ``loss`` is mean loss over typical loss."""

    def end_epoch(self, mask: SampleMask) -> None:
        """Bring what is known of all samples up to date. A collective call; O(N) at most."""

    def order(self, read: Read, typical: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(logit, score), (N,) each, that :func:`.cut.cut` orders by, for every keep ratio."""

    def columns(self, read: Read, typical: np.ndarray) -> dict[str, np.ndarray]:
        """What is worth saving of the samples besides the mask's columns, (N,) each."""

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain Python."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave."""


class Paper:
    """The published objective: f = L − log(L + eps), Eq. 4 and 5; and nothing else.

    The two switches leave a term out, as in the paper's Table 5.
    """

    name = "paper"
    learnt: Mapping[str, Any] = {}
    given: Mapping[str, Any] = {}
    signals: frozenset[str] = frozenset()

    def __init__(self, *, use_classification: bool = True, use_selection: bool = True) -> None:
        self.switches = {"use_classification": use_classification, "use_selection": use_selection}

    def start(self, mask: SampleMask) -> None:
        pass

    def observe(self, seen: np.ndarray, state: State, signals: State) -> dict[str, np.ndarray]:
        return {}

    def pressure(self, loss: np.ndarray, state: State) -> np.ndarray:
        return pressure(loss, **self.switches)

    def end_epoch(self, mask: SampleMask) -> None:
        pass

    def order(self, read: Read, typical: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen = read("times_seen")
        return ranking(read("logit"), read("mean_loss"), typical, seen, self.switches)

    def columns(self, read: Read, typical: np.ndarray) -> dict[str, np.ndarray]:
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass
