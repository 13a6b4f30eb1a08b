"""What backends and sessions answer with: Neighbors, Candidates, Ranking."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float, float]
"""(low, middle, high) of an estimate."""
TIERS = ("sure", "likely", "borderline")
"""What matches, by how likely it is right."""


@dataclass(frozen=True)
class Neighbors:
    """Nearest items of q queries.

    distances: (q, k) float32 ascending; ids: (q, k) int64, -1 where fewer than k items exist (distance inf);
    source: what answered, e.g. "cpu/codes" or "cpu/bits+embeddings".
    """

    distances: NDArray[np.float32]
    ids: NDArray[np.int64]
    source: str


@dataclass(frozen=True)
class Candidates:
    """Items a model selects, best first, ties by splitmix64(id).

    ids: (m,) int64; votes: (m,) uint16 for boxes, else None; scores: (m,) float32 for linear models, else None;
    total: how many qualify before `limit` was applied.
    """

    ids: NDArray[np.int64]
    total: int
    votes: NDArray[np.uint16] | None = None
    scores: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Ranking:
    """The answer of a refine: items best first, and which of them match.

    ids: (m,) int64; scores: (m,) float32, higher is better, the cut lies at `threshold` in the same unit;
    votes: (m,) uint16 (0 where the boxes did not find the item) or None for models without boxes;
    matched: (m,) bool; total: number of matched items over the whole catalog; candidates: how many items
    the first stage found; score_std: standard deviation of the scores of right items by a model that did not see them,
    None where it is not known; lean: how the cut was moved, -1 to precision, +1 to recall; precision, recall: estimates
    as (low, middle, high) or None where none is made; tiers: (m,) uint8, each item's place in TIERS by its chance to be
    right, whether it matches or not, None where no chance is estimated;
    complete_from: by votes alone, the votes from which on every item is listed; unlisted: votes of a random sample,
    (s,) float32, of the items with a vote that are not, None where all are;
    source: the stages that answered, e.g. "cpu/boxes+bits+embeddings"; timings_ms: milliseconds by stage.
    """

    ids: NDArray[np.int64]
    scores: NDArray[np.float32]
    matched: NDArray[np.bool_]
    total: int
    candidates: int
    threshold: float
    votes: NDArray[np.uint16] | None = None
    score_std: float | None = None
    lean: float = 0.0
    precision: Interval | None = None
    recall: Interval | None = None
    tiers: NDArray[np.uint8] | None = None
    complete_from: int = 1
    unlisted: NDArray[np.float32] | None = None
    source: str = ""
    timings_ms: dict[str, float] = field(default_factory=dict)

    @property
    def by_votes(self) -> bool:
        """Whether votes alone ranked and cut, without a second stage."""
        return self.source.endswith("/boxes")

    def take(self, rows: NDArray[np.bool_]) -> Ranking:
        """Return the ranking of some of its items alone; rows: (m,) bool."""
        matched = self.matched[rows]
        return replace(
            self,
            ids=self.ids[rows],
            scores=self.scores[rows],
            matched=matched,
            total=int(matched.sum()),
            votes=None if self.votes is None else self.votes[rows],
            tiers=None if self.tiers is None else self.tiers[rows],
        )

    def tier(self, row: int) -> str | None:
        """Return the tier of an item, one of TIERS; None where it does not match or no chance is estimated."""
        return None if self.tiers is None or not self.matched[row] else TIERS[self.tiers[row]]
