"""What to mark next until the answer is known to hold a wished share of all that is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from gpubranches.errors import UsageError

if TYPE_CHECKING:
    from gpubranches.core.results import Interval, Ranking
    from gpubranches.service.answer import Answer

TARGET = 0.95
"""The recall that is looked for, unless another is given: the share of all right items that the answer holds."""
LEANS = (0.25, 0.5, 0.75, 1.0)
"""Cuts below the model's own that are tried before more marks are asked for, see `Session.recut`."""
LEAST_PRECISION = 0.5
"""Precision that such a cut must leave, by the middle of its interval."""

Kind = Literal["suggestion", "audit", "reached", "exhausted"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Refinable(Protocol):
    """What `next_step` needs of a `Session`."""

    found: Answer | None

    def last_found(self) -> Answer:
        """Return the last answer under the marks of its find all."""
        ...

    def estimate(self) -> Ranking:
        """Estimate its recall with the marks made since."""
        ...

    def refine_again(self) -> Ranking:
        """Find all with the marks there are now."""
        ...

    def recut(self, lean: float) -> Ranking:
        """Cut the list of the answer elsewhere."""
        ...

    def is_up_to_date(self, *, ignoring: tuple[str, ...] = ()) -> bool:
        """Return whether the answer was made with the marks there are, apart from new ones of some origins."""
        ...

    def suggest(self, count: int) -> NDArray[np.int64]:
        """Return ids whose marks would teach the model most."""
        ...

    def audit(self, count: int) -> NDArray[np.int64]:
        """Return ids whose marks tell how complete the answer is."""
        ...


@dataclass(frozen=True)
class Step:
    """What to do next towards a recall.

    kind: "suggestion" or "audit", the origin to mark the items with; "reached" if the lower end of the interval of
    recall is at the target; "exhausted" if it is not and no item is left to mark. ids: (m,) int64, the items to mark,
    none for the last two kinds. recall: the estimate that decided, (low, middle, high), None where there is none.
    """

    kind: Kind
    ids: NDArray[np.int64]
    recall: Interval | None

    @property
    def done(self) -> bool:
        """Whether there is nothing to mark."""
        return self.kind in ("reached", "exhausted")


def next_step(session: Refinable, target: float, count: int) -> Step:
    """Return the next step of a session towards a recall; see `Session.next`.

    Marks of an audit update the estimate of the present answer. The model learns from them only when they show that the
    answer falls short of the target. The cut moves down to where the answer is likely to reach the target.
    """
    if not 0 < target < 1:
        raise UsageError(f"target_recall: expected a share between 0 and 1, such as {TARGET}, got {target}")
    recall = (session.estimate() if session.is_up_to_date(ignoring=("audit",)) else session.refine_again()).recall
    if _short_of(recall, target) and not session.is_up_to_date():
        recall = session.refine_again().recall
    short = _short_of(recall, target)
    if not _reached(recall, target):
        recall = _with_lower_cut(session, target) or recall
    if _reached(recall, target):
        return Step("reached", np.zeros(0, np.int64), recall)
    order: tuple[Literal["suggestion", "audit"], ...] = ("suggestion", "audit")
    for kind in order if short else order[::-1]:
        ids = session.suggest(count) if kind == "suggestion" else session.audit(count)
        if len(ids):
            return Step(kind, ids, recall)
    return Step("exhausted", np.zeros(0, np.int64), recall)


def _with_lower_cut(session: Refinable, target: float) -> Interval | None:
    """Lower the cut of the answer until its recall is surely at the target; return its recall.

    If no cut makes the target sure, the cut is the first whose recall is as likely above the target as below it. If
    there is none either, it is the lowest whose precision is `LEAST_PRECISION` or more.
    """
    own = best = session.last_found()
    for lean in LEANS:
        if lean > own.ranking.lean and own.reaches(lean):
            found = session.recut(lean)
            if found.precision is None or found.precision[1] < LEAST_PRECISION:
                break
            if _reached(found.recall, target):
                return found.recall
            best = session.last_found() if _short_of(best.ranking.recall, target) else best
    session.found = best
    return best.ranking.recall


def _reached(recall: Interval | None, target: float) -> bool:
    return recall is not None and recall[0] >= target


def _short_of(recall: Interval | None, target: float) -> bool:
    """Return whether the answer itself is more likely below the target than above."""
    return recall is not None and recall[1] < target
