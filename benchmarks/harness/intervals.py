"""Compare stated intervals with the truth: audits marked by the truth, true precision and recall, and tallies."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gpubranches import Ranking, Session
from gpubranches.research.quality import LabelledCatalog

AUDITED = 20
"""Items of an audit."""
_EDGE = 1e-9


@dataclass
class Tally:
    """Per simulation of a stage and measure: whether the interval held, its width, the error of its middle.

    above: whether the truth lay above the interval; missing: simulations without an interval.
    """

    held: list[bool] = field(default_factory=list)
    above: list[bool] = field(default_factory=list)
    widths: list[float] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    missing: int = 0

    def count(self, interval: tuple[float, float, float] | None, true: float) -> None:
        """Add one interval (low, middle, high), or None if none is given."""
        if interval is None:
            self.missing += 1
            return
        low, middle, high = interval
        self.held.append(low - _EDGE <= true <= high + _EDGE)
        self.above.append(true > high + _EDGE)
        self.widths.append(high - low)
        self.errors.append(abs(middle - true))


def audited(session: Session, labelled: LabelledCatalog, right: NDArray[np.bool_]) -> Ranking:
    """Mark an audit of 20 by the truth, (n,) bool; return the answer with new estimates."""
    labelled.mark_by_truth(session, session.audit(AUDITED), right, "audit")
    return session.estimate()


def truth(labelled: LabelledCatalog, ranking: Ranking, right: NDArray[np.bool_]) -> dict[str, float]:
    """Return the true precision and recall of what matches; right: (n,) bool."""
    hits = int(right[labelled.rows(ranking.ids[ranking.matched])].sum())
    return {"precision": hits / ranking.total, "recall": hits / int(right.sum())}
