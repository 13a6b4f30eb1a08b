"""The next items to mark until the answer is known to contain a given share of all right items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from gpubranches.errors import UsageError

if TYPE_CHECKING:
    from gpubranches.core.results import Interval, Ranking
    from gpubranches.retrieval.random_checks import RandomChecks
    from gpubranches.service.answer import Answer

TARGET = 0.95
"""The default target of recall: the share of all right items that the answer must contain."""
CHECKS = 500
"""The most random items to look at, unless another number is given. They suffice for an eighth of a catalog."""
CONFIRMED_BY = 20
"""Items of an audit that must confirm that recall is at the target.

The estimate must reach the target with and without them, because repeated tests sometimes reach it too early.
"""
LEANS = (0.25, 0.5, 0.75, 1.0)
"""Cuts below the model's own that are tried before asking for more marks, see `Session.recut`."""
LEAST_PRECISION = 0.5
"""Precision that such a cut must leave, by the middle of its interval."""

Kind = Literal["suggestion", "audit", "reached", "alike", "exhausted"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DONE: tuple[Kind, ...] = ("reached", "alike", "exhausted")
"""The kinds of steps with nothing to mark."""
_NOTHING = np.zeros(0, np.int64)


class Refinable(Protocol):
    """The parts of a `Session` that `next_step` needs."""

    found: Answer | None

    def last_found(self) -> Answer:
        """Return the last answer under the marks of its find all."""
        ...

    def last_answer(self) -> Answer:
        """Return the last answer under the present marks."""
        ...

    def estimate(self) -> Ranking:
        """Estimate its recall with the newest marks."""
        ...

    def recall_alike(self, *, without: int = 0) -> Interval | None:
        """Return its recall among items that resemble the marks, without the last audited items of this answer."""
        ...

    def random_checks(self) -> RandomChecks:
        """Return what random items outside it are marked."""
        ...

    def refine_again(self) -> Ranking:
        """Find all with the present marks."""
        ...

    def recut(self, lean: float) -> Ranking:
        """Move the cut of the answer."""
        ...

    def is_up_to_date(self, *, ignoring: tuple[str, ...] = ()) -> bool:
        """Return whether the answer was made with the present marks, apart from new ones of some origins."""
        ...

    def count_marked(self, *origins: str) -> int:
        """Return how many marks have one of some origins."""
        ...

    def suggest(self, count: int) -> NDArray[np.int64]:
        """Return ids whose marks would teach the model most."""
        ...

    def audit(self, count: int, *, anywhere: bool = False, recall: float | None = None) -> NDArray[np.int64]:
        """Return ids whose marks show how complete the answer is, near its cut or from all that does not match."""
        ...


@dataclass(frozen=True)
class Step:
    """The next step towards a recall.

    kind: "suggestion" or "audit", the origin to mark the items with, or how it ended:

    - "reached": the answer holds the share of all right items, with 90% confidence: of those that resemble the marks by
      their scores, and random items show that too few others are missing.
    - "alike": it holds the share of the right items that resemble the marks. Whether others are missing is not known.
    - "exhausted": neither is known, and no item is left to mark.

    ids: (m,) int64, the items to mark, none at the end. recall: of the right items that resemble the marks, (low,
    middle, high), None where there is no estimate. checks: how many more random items, if all are wrong, show that the
    answer holds the share of all; None while the answer is not known to hold it of those that resemble the marks.
    """

    kind: Kind
    ids: NDArray[np.int64]
    recall: Interval | None
    checks: int | None = None

    @property
    def done(self) -> bool:
        """Whether there is nothing to mark."""
        return self.kind in DONE


def next_step(session: Refinable, target: float, count: int, checks: int) -> Step:
    """Return the next step of a session towards a recall; see `Session.next`.

    Marks of an audit update the estimate of the present answer. The model learns from them only if they show that the
    answer is below the target, or that a right item resembles no marked item. The cut moves down to where the answer is
    likely to reach the target.
    """
    if not 0 < target < 1:
        raise UsageError(f"target_recall: expected a share between 0 and 1, such as {TARGET}, got {target}")
    if checks < 0:
        raise UsageError(f"checks: expected 0 or more random items, got {checks}")
    if session.is_up_to_date(ignoring=("audit",)):
        session.estimate()
    else:
        session.refine_again()
    if (_short_of(session.recall_alike(), target) or session.random_checks().right) and not session.is_up_to_date():
        session.refine_again()
    recall = session.recall_alike()
    short = _short_of(recall, target)
    if not _reached(recall, target):
        recall = _with_lower_cut(session, target)
    if _reached(recall, target) and _reached(session.recall_alike(without=CONFIRMED_BY), target):
        return _looked_elsewhere(session, recall, target, count, checks)
    order: tuple[Literal["suggestion", "audit"], ...] = ("suggestion", "audit")
    teaches = short and session.count_marked("suggestion", "border") <= session.count_marked("audit")
    for kind in order if teaches else order[::-1]:
        ids = session.suggest(count) if kind == "suggestion" else session.audit(count, recall=target)
        if len(ids):
            return Step(kind, ids, recall)
    return Step("exhausted", _NOTHING, recall)


def _looked_elsewhere(session: Refinable, recall: Interval | None, target: float, count: int, checks: int) -> Step:
    """Return the step after the first claim is shown: random items to mark, or the end."""
    ranking, looked = session.last_answer().current, session.random_checks()
    found = 0.0 if ranking.precision is None else ranking.precision[0] * ranking.total
    needed = looked.needed(found, target)
    left = max(0, needed - looked.wrong)
    if left == 0 and not looked.right:
        return Step("reached", _NOTHING, recall, 0)
    ids = session.audit(min(count, left), anywhere=True) if left and needed <= checks else _NOTHING
    return Step("audit" if len(ids) else "alike", ids, recall, left)


def _with_lower_cut(session: Refinable, target: float) -> Interval | None:
    """Lower the cut of the answer until its recall is surely at the target; return its recall.

    If no cut makes the target sure, the cut is the first whose recall is as likely above the target as below it. If
    there is none either, it is the lowest whose precision is `LEAST_PRECISION` or more.
    """
    own = best = session.last_found()
    best_recall = session.recall_alike()
    for lean in LEANS:
        if lean > own.ranking.lean and own.reaches(lean):
            precision = session.recut(lean).precision
            if precision is None or precision[1] < LEAST_PRECISION:
                break
            recall = session.recall_alike()
            if _reached(recall, target):
                return recall
            if _short_of(best_recall, target):
                best, best_recall = session.last_found(), recall
    session.found = best
    return best_recall


def _reached(recall: Interval | None, target: float) -> bool:
    return recall is not None and recall[0] >= target


def _short_of(recall: Interval | None, target: float) -> bool:
    """Return whether the answer itself is more likely below the target than above."""
    return recall is not None and recall[1] < target
