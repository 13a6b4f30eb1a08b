"""The explanation of an item: the boxes that contain it, its narrow bounds, and the boxes that it misses."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import check_array
from gpubranches.core.boxes import Boxes
from gpubranches.core.results import Ranking
from gpubranches.errors import UsageError

Outcome = Literal["votes", "no-candidate", "unranked", "reached", "missed"]
"""How far an item came: only votes decide; too few of them; a candidate too far below the cut to be ranked; its score
reaches the cut; its score stays below."""
NEAREST = 5
"""The largest number of missed boxes, and of narrow bounds, that an explanation names."""


@dataclass(frozen=True)
class Bound:
    """One dim of a box and the item's code in it, all in 0..255.

    margin: the distance of the code to the nearer bound, 0 on the bound; if negative, how far the bound would have to
    move to include the code. A bound at 0 or 255 excludes nothing; margin is None if this holds for both bounds.
    """

    dim: int
    low: int
    high: int
    code: int
    margin: int | None


@dataclass(frozen=True)
class BoxReading:
    """One box compared with the item. box: its number in Boxes; bounds: in the order of its dims."""

    estimator: int
    box: int
    bounds: tuple[Bound, ...]

    @property
    def violated(self) -> tuple[Bound, ...]:
        """The bounds that exclude the item; none if the box contains it."""
        return tuple(bound for bound in self.bounds if bound.margin is not None and bound.margin < 0)


@dataclass(frozen=True)
class Explanation:
    """The votes of the boxes for one item, and their outcome in the answer.

    votes: of n_estimators; needed: votes from which an item matches, or is a candidate if a second stage ranks. held:
    the boxes that hold the item, by estimator. misses: for each estimator without such a box its nearest one, by the
    number of violated bounds, then by how far they would have to move; nearest first. If there is an answer: item;
    score and threshold of the second stage, None if it did not rank the item; matched; mark: +1, -1 or 0.
    """

    votes: int
    needed: int
    n_estimators: int
    held: tuple[BoxReading, ...]
    misses: tuple[BoxReading, ...]
    item: int | None = None
    score: float | None = None
    threshold: float | None = None
    matched: bool | None = None
    mark: int = 0

    def narrowest(self, count: int = NEAREST) -> list[tuple[BoxReading, Bound]]:
        """Return the bounds with the smallest margins, of boxes that contain the item, narrowest first."""
        pairs = [(reading, bound) for reading in self.held for bound in reading.bounds if bound.margin is not None]
        return sorted(pairs, key=lambda pair: (pair[1].margin, pair[0].box, pair[1].dim))[:count]

    def missed(self) -> list[tuple[BoxReading, Bound]]:
        """Return the bounds that exclude the item from the nearest boxes, nearest box first."""
        return [(reading, bound) for reading in self.misses for bound in reading.violated]

    @property
    def found(self) -> bool:
        """Whether the answer contains the item; without an answer, whether the boxes match it."""
        return self.votes >= self.needed if self.matched is None else self.matched

    @property
    def outcome(self) -> Outcome:
        """The stage that the item reached; its mark is not considered."""
        if self.threshold is None:
            return "votes"
        if self.votes < self.needed:
            return "no-candidate"
        if self.score is None:
            return "unranked"
        return "reached" if self.score >= self.threshold else "missed"

    def to_json(self) -> dict[str, Any]:
        """Return a dict of plain values, with the narrowest bounds."""
        narrowest = [{"estimator": r.estimator, "box": r.box, **asdict(b)} for r, b in self.narrowest()]
        return {**asdict(self), "narrowest": narrowest}


def explain(boxes: Boxes, code: NDArray[np.uint8], *, needed: int = 1, nearest: int = NEAREST) -> Explanation:
    """Compare all boxes with one item's code, (d,) uint8; name at most `nearest` missed boxes.

    Raises ArrayError for another kind of array, or for boxes over dims that the code lacks; UsageError for nearest < 0.
    """
    check_array(code, "code", dtype=np.uint8, shape=(None,))
    boxes.require_dims(len(code))
    if nearest < 0:
        raise UsageError(f"nearest: expected 0 or more, got {nearest}")
    owner = np.repeat(np.arange(len(boxes)), np.diff(boxes.offsets))
    codes = code[boxes.features].astype(np.int64)
    short = np.maximum(np.maximum(boxes.low - codes, codes - boxes.high), 0)
    violated = np.bincount(owner, short > 0, minlength=len(boxes))
    distance = np.bincount(owner, short, minlength=len(boxes))
    held = np.flatnonzero(violated == 0)
    voters = np.unique(boxes.estimator[held])
    others = np.flatnonzero(~np.isin(boxes.estimator, voters))
    others = others[np.lexsort((distance[others], violated[others]))]
    first_of_each = np.sort(np.unique(boxes.estimator[others], return_index=True)[1])
    return Explanation(
        votes=len(voters),
        needed=needed,
        n_estimators=boxes.n_estimators,
        held=tuple(_read(boxes, int(box), code) for box in held),
        misses=tuple(_read(boxes, int(box), code) for box in others[first_of_each[:nearest]]),
    )


def explain_in(ranking: Ranking, boxes: Boxes, code: NDArray[np.uint8], item: int, mark: int = 0) -> Explanation:
    """Explain why an item is in the answer or not. boxes: those of the answer's model."""
    rows = np.flatnonzero(ranking.ids == item)
    matched = mark > 0 if mark else bool(len(rows) and ranking.matched[rows[0]])
    explanation = explain(boxes, code, needed=votes_needed(ranking, boxes))
    explanation = replace(explanation, item=item, mark=mark, matched=matched)
    if ranking.by_votes:
        return explanation
    score = float(ranking.scores[rows[0]]) if len(rows) else None
    return replace(explanation, score=score, threshold=ranking.threshold)


def votes_needed(ranking: Ranking, boxes: Boxes) -> int:
    """Return the votes that an item needs: those of the cut by votes alone, 1 to be ranked by a second stage."""
    return int(ranking.threshold) if ranking.by_votes else 1


def _read(boxes: Boxes, number: int, code: NDArray[np.uint8]) -> BoxReading:
    own = slice(boxes.offsets[number], boxes.offsets[number + 1])
    entries = zip(*(column[own].tolist() for column in (boxes.features, boxes.low, boxes.high)), strict=True)
    bounds = (Bound(dim, low, high, int(code[dim]), _margin(low, high, int(code[dim]))) for dim, low, high in entries)
    return BoxReading(int(boxes.estimator[number]), number, tuple(bounds))


def _margin(low: int, high: int, code: int) -> int | None:
    sides = [*([code - low] if low > 0 else []), *([high - code] if high < 255 else [])]
    return min(sides, default=None)
