"""The results of engines and of models: nearest items, candidates, and a ranking with its cut."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

Interval = tuple[float, float, float]
"""An estimate as (low, middle, high): the middle, and the ends of a 90% interval."""
TIERS = ("sure", "likely", "borderline")
"""Classes of matching items by their chance to be right, see `Completeness.tiers`."""


@dataclass(frozen=True)
class Neighbors:
    """The nearest items of q queries, as engines return them.

    distances: (q, k) float32, ascending. ids: (q, k) int64; where fewer than k items exist, the id is -1 and the
    distance inf. source: what computed it, e.g. "cpu/codes" or "cpu/bits+embeddings".
    """

    distances: NDArray[np.float32]
    ids: NDArray[np.int64]
    source: str


@dataclass(frozen=True)
class Candidates:
    """The items that a model selects, best first, ties by splitmix64(id).

    ids: (m,) int64. total: how many items qualify; the list is shorter if it has a limit. votes: (m,) uint16 for boxes,
    None for linear models. scores: (m,) float32 for linear models, None for boxes.
    """

    ids: NDArray[np.int64]
    total: int
    votes: NDArray[np.uint16] | None = None
    scores: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Ranking:
    """The items that a model ranks over the whole catalog, best first, and the cut: which of them match.

    The list. ids: (m,) int64. scores: (m,) float32, higher is better. votes: (m,) uint16, 0 if the boxes did not find
    the item, None for a model without boxes. candidates: how many items the first stage found.

    The cut. matched: (m,) bool, which items match. total: how many do. threshold: the least score of an unmarked item
    that matches. lean: how far the cut was moved, from -1 for precision to 1 for recall, 0 for the model's own cut.

    Estimates, None if there are none. precision, recall: of the matches. tiers: (m,) uint8, the place in TIERS of each
    item's chance to be right, also of items that do not match. score_std: standard deviation of the scores of right
    items by a model that did not see them.

    Of a ranking by votes alone, whose list is not complete: complete_from, such that every item with at least so many
    votes is in the list; unlisted, (s,) float32, the votes in a random sample of the items that have a vote and are not
    in the list, None if all are in it.

    source: the stages that computed it, e.g. "cpu/boxes+bits+embeddings". timings_ms: milliseconds by stage.
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
        """Whether the scores are votes, without a second stage."""
        return self.source.endswith("/boxes")

    def take(self, rows: NDArray[np.bool_]) -> Ranking:
        """Return the ranking without some items; rows: (m,) bool, True for those that stay."""
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
        """Return the tier of an item, one of TIERS; None if it does not match or no chance is estimated."""
        return None if self.tiers is None or not self.matched[row] else TIERS[self.tiers[row]]
