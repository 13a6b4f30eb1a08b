"""What to mark next until the answer is known to hold a wished share of all that is right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from gpubranches.errors import UsageError

if TYPE_CHECKING:
    from gpubranches.core.results import Interval, Ranking
    from gpubranches.retrieval.answer import Answer

TARGET = 0.95
"""The share of all that is right that is looked for, unless another is asked for."""
LEANS = (0.25, 0.5, 0.75, 1.0)
"""Cuts below the own one that are tried before more marks are asked for, see `Session.recut`."""
LEAST_PRECISION = 0.5
"""Of the answer that such a cut may leave, by the middle of its interval."""

Kind = Literal["suggestion", "audit", "reached", "exhausted"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Steered(Protocol):
    """What is asked of a `Session`, which has each of these."""

    answer: Answer | None

    def last(self) -> Answer:
        """Return the last answer."""
        ...

    def estimate(self) -> Ranking:
        """Estimate it anew, with the marks made since."""
        ...

    def refine_again(self) -> Ranking:
        """Refine by the marks there are now."""
        ...

    def recut(self, lean: float) -> Ranking:
        """Cut the list anew."""
        ...

    def learnt_all(self, *, but: tuple[str, ...] = ()) -> bool:
        """Whether the answer was made with the marks there are."""
        ...

    def suggest(self, count: int) -> NDArray[np.int64]:
        """Return ids whose marks would teach most."""
        ...

    def audit(self, count: int) -> NDArray[np.int64]:
        """Return ids whose marks tell how complete the answer is."""
        ...


@dataclass(frozen=True)
class Step:
    """What to do next. ids: (m,) int64, the items to mark.

    kind: "suggestion" or "audit", the origin to mark the items with; "reached" where the lower end of the interval of
    recall is at the target, and "exhausted" where it is not and no item is left to mark: both without ids. recall: what
    was known when this was decided, (low, middle, high), None where nothing was.
    """

    kind: Kind
    ids: NDArray[np.int64]
    recall: Interval | None

    @property
    def done(self) -> bool:
        """Whether there is nothing left to mark."""
        return self.kind in ("reached", "exhausted")


def next_step(session: Steered, target: float, count: int) -> Step:
    """Return the next step of a session towards a recall; see `Session.next`.

    Marks of an audit update the estimate of the present answer. The model learns from them only when they show that the
    answer falls short of the target. The cut moves down to where the answer is likely to reach the target.
    """
    if not 0 < target < 1:
        raise UsageError(f"target_recall: expected a share between 0 and 1, such as {TARGET}, got {target}")
    recall = (session.estimate() if session.learnt_all(but=("audit",)) else session.refine_again()).recall
    if _short_of(recall, target) and not session.learnt_all():
        recall = session.refine_again().recall
    short = _short_of(recall, target)
    if not _reached(recall, target):
        recall = _leaned(session, target) or recall
    if _reached(recall, target):
        return Step("reached", np.zeros(0, np.int64), recall)
    order: tuple[Literal["suggestion", "audit"], ...] = ("suggestion", "audit")
    for kind in order if short else order[::-1]:
        ids = session.suggest(count) if kind == "suggestion" else session.audit(count)
        if len(ids):
            return Step(kind, ids, recall)
    return Step("exhausted", np.zeros(0, np.int64), recall)


def _leaned(session: Steered, target: float) -> Interval | None:
    """Cut the answer as far below its own cut as brings recall to the target; return its recall.

    If no cut makes the target sure, the cut is where recall is as likely above the target as below. If there is none,
    the cut is the lowest that leaves most of what matches right.
    """
    own = best = session.last()
    for lean in LEANS:
        if lean > own.ranking.lean and own.reaches(lean):
            found = session.recut(lean)
            if found.precision is None or found.precision[1] < LEAST_PRECISION:
                break
            if _reached(found.recall, target):
                return found.recall
            best = session.last() if _short_of(best.ranking.recall, target) else best
    session.answer = best
    return best.ranking.recall


def _reached(recall: Interval | None, target: float) -> bool:
    return recall is not None and recall[0] >= target


def _short_of(recall: Interval | None, target: float) -> bool:
    """Return whether the answer itself is more likely below the target than above."""
    return recall is not None and recall[1] < target
