"""Rankings by votes alone: all matches, the best items below the cut, and a sample of the items that are not listed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import among
from gpubranches.core.bitmaps import Bitmap
from gpubranches.core.results import Candidates, Ranking
from gpubranches.core.tie_order import best_first
from gpubranches.retrieval.scoring import SAMPLED

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog
    from gpubranches.core.boxes import Boxes
    from gpubranches.engines import Backend

LISTED = 65_536
"""The least number of items with a vote that are listed, if there are as many."""
BELOW = 10_000
"""The least number of items that are listed below the cut, if there are as many."""
_FORESEEN = 200
"""The first scan returns LISTED items, and one more for every so many items of the catalog. An answer with fewer
matches needs no second scan."""

Ids = NDArray[np.int64]


def votes_for(lean: float, n_estimators: int) -> int:
    """Return the votes that an item needs to match: more than (1 - lean) / 2 of the estimators, from 1 to all."""
    return min(n_estimators, math.floor(n_estimators * (1 - lean) / 2) + 1)


def by_votes(
    backend: Backend,
    catalog: Catalog,
    boxes: Boxes,
    positives: Ids,
    negatives: Ids,
    where: Bitmap | None,
    votes: int | None = None,
) -> Ranking:
    """Rank the items with a vote, best first. A majority of votes matches; marks decide for marked items.

    votes: the least votes that the list must reach down to, if less than a majority. The list has all items with these
    votes, all items marked right, and as many other items as are needed for at least `LISTED` items in all and at least
    `BELOW` others. A random sample of the catalog represents the items with votes that are not listed.
    """
    majority = boxes.n_estimators // 2 + 1
    found = _listed(backend, catalog, boxes, majority if votes is None else min(votes, majority), where)
    sampled = None
    if len(found.ids) < found.total:
        sampled = _unlisted(catalog, boxes, found.ids, where)
        if not len(sampled):
            found, sampled = backend.apply(boxes, min_votes=1, where=where), None
    listed = _votes(found)
    missing = positives[~among(positives, found.ids)]
    own = boxes.votes(catalog.codes(missing))
    order = best_first(own, missing)
    order = np.concatenate([order[own[order] > 0], np.flatnonzero(own == 0)])
    ids, counted = np.concatenate([found.ids, missing[order]]), np.concatenate([listed, own[order]])
    matched = ((counted >= majority) | among(ids, positives)) & ~among(ids, negatives)
    return Ranking(
        ids=ids,
        scores=counted.astype(np.float32),
        votes=counted,
        matched=matched,
        total=int(matched.sum()),
        candidates=found.total,
        threshold=float(majority),
        complete_from=1 if sampled is None else int(listed[-1]) + 1,
        unlisted=sampled,
    )


def _listed(backend: Backend, catalog: Catalog, boxes: Boxes, votes: int, where: Bitmap | None) -> Candidates:
    """Return the best items with a vote: all with at least `votes` votes, and as many others as `by_votes` says."""
    limit = LISTED + catalog.n // _FORESEEN if votes > 1 else None
    found = backend.apply(boxes, min_votes=1, limit=limit, where=where)
    wanted = max(LISTED, int(np.count_nonzero(_votes(found) >= votes)) + BELOW)
    if len(found.ids) < min(wanted, found.total):
        above = backend.apply(boxes, min_votes=votes, limit=0, where=where).total
        wanted = max(LISTED, above + BELOW)
        found = backend.apply(boxes, min_votes=1, limit=wanted, where=where)
    return Candidates(found.ids[:wanted].copy(), found.total, _votes(found)[:wanted].copy())


def _unlisted(catalog: Catalog, boxes: Boxes, listed: Ids, where: Bitmap | None) -> NDArray[np.float32]:
    """Return the votes of random items that have a vote and are not listed, (m,) float32."""
    drawn = catalog.sample_ids(SAMPLED, np.random.default_rng(0), where)
    votes = boxes.votes(catalog.codes(drawn[~among(drawn, listed)]))
    return votes[votes > 0].astype(np.float32)


def _votes(found: Candidates) -> NDArray[np.uint16]:
    return np.zeros(0, np.uint16) if found.votes is None else found.votes
