"""AUM: the area under the margin, in both directions that are in use.

Pleiss et al. 2020, *Identifying Mislabeled Data using the Area Under the Margin Ranking*.
Shape letters: N samples, E epochs.
"""

from __future__ import annotations

from .base import Choice, Evidence, register
from .shared import kept_last, mean_of_visits


@register("aum", needs=("margin",))
def aum(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep low, the hard or wrong: AUM = mean_t (logit_y − largest other logit).

    That direction is the one of the tables of coreset selection (Zheng et al. 2023). The mean over
    all epochs orders as the sum does. Costs O(E·N).
    """
    return Choice(kept_last(mean_of_visits(evidence.signal("margin"))))


@register("aum-clean", needs=("margin",))
def aum_clean(evidence: Evidence, keep_ratio: float) -> Choice:
    """Keep high: AUM as the paper that introduced it uses it, against wrong labels.

    What goes is what the model, whatever its label says, takes for another class. Costs O(E·N).
    """
    return Choice(kept_last(-mean_of_visits(evidence.signal("margin"))))
