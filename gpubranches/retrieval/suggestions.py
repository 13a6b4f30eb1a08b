"""Suggestions of what to mark next: the items whose marks are most informative about where the right items end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import among
from gpubranches.core.results import Ranking
from gpubranches.core.tie_order import best_first
from gpubranches.retrieval.breadth import Breadth

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog

SUGGESTED = 20
"""The default number of items that are suggested at a time."""
EXPLORE = 0.3
"""The share of the suggestions for a broad idea that ignores the gaps of the catalog, see
`BoundaryPosterior.places`."""
MOST_EXPLORING = 0.25
"""The largest share of a narrow idea's suggestions that search for the boundary of a broad one."""

Ids = NDArray[np.int64]


def suggest(catalog: Catalog, ranking: Ranking, breadth: Breadth | None, marked: Ids, count: int) -> Ids:
    """Return the ids of the most informative unmarked items, (at most count,) int64; see `Session.suggest`.

    marked: (m,) int64, ids to leave out; breadth: the judged breadth of the idea, None if it was not judged.
    """
    if breadth is not None and breadth.is_broad:
        return _alive_along_boundary(catalog, breadth, marked, count)
    exploring = 0 if breadth is None else count_exploring(breadth, count)
    unmarked = ~among(ranking.ids, marked) & catalog.alive(ranking.ids)
    near = near_cut(ranking, unmarked, 3 * (count - exploring) // 2)
    chosen = _farthest_first(near, catalog.codes(near), count - exploring)
    if breadth is None or not exploring:
        return chosen
    marked = np.concatenate([marked, chosen])
    return np.concatenate([chosen, _alive_along_boundary(catalog, breadth, marked, exploring)])


def near_cut(ranking: Ranking, unmarked: NDArray[np.bool_], count: int) -> Ids:
    """Return the ids of the `count` unmarked items nearest to the cut, nearest first; unmarked: (m,) bool."""
    ids, scores = ranking.ids[unmarked], ranking.scores[unmarked]
    return ids[best_first(-np.abs(scores - np.float32(ranking.threshold)), ids, count)]


def along_boundary(breadth: Breadth, marked: Ids, count: int) -> Ids:
    """Return the ids of up to `count` unmarked items, (m,), at quantiles of the boundary's posterior.

    marked: ids to leave out. The item with the nearest score is taken for each quantile; close quantiles get different
    items.
    """
    broad = breadth.broad
    ids, scores, _ = broad.scores.without(marked)
    order = best_first(scores, ids)
    ids, falling = ids[order], -scores[order].astype(np.float64)
    taken = np.zeros(len(ids), np.bool_)
    chosen: list[int] = []
    for place in broad.boundary.places(count, explore=EXPLORE):
        row = _nearest_free(falling, taken, -float(place))
        if row is None:
            break
        taken[row] = True
        chosen.append(row)
    return ids[chosen]


def count_exploring(breadth: Breadth, count: int) -> int:
    """Return how many of `count` suggestions for a narrow idea search for the boundary of a broad one.

    The share is the chance that the idea is broad, at most `MOST_EXPLORING`.
    """
    return round(count * min(MOST_EXPLORING, breadth.chance))


def _alive_along_boundary(catalog: Catalog, breadth: Breadth, marked: Ids, count: int) -> Ids:
    """Return `along_boundary` without items that have been deleted."""
    gone = np.zeros(0, np.int64)
    while True:
        found = along_boundary(breadth, np.concatenate([marked, gone]), count)
        alive = catalog.alive(found)
        if alive.all():
            return found
        gone = np.concatenate([gone, found[~alive]])


def _nearest_free(rising: NDArray[np.float64], taken: NDArray[np.bool_], value: float) -> int | None:
    """Return the free row with the nearest value, None if no row is free. rising: (n,) in ascending order."""
    right = int(np.searchsorted(rising, value))
    left = right - 1
    while True:
        while right < len(rising) and taken[right]:
            right += 1
        while left >= 0 and taken[left]:
            left -= 1
        if left < 0 and right >= len(rising):
            return None
        if left < 0 or (right < len(rising) and rising[right] - value <= value - rising[left]):
            return right
        return left


def _farthest_first(ids: Ids, codes: NDArray[np.uint8], count: int) -> Ids:
    """Choose ids so that their codes lie far apart: the first, then always the one farthest from those chosen."""
    points = codes.astype(np.float32)
    chosen: list[int] = []
    nearest = np.full(len(ids), np.inf, np.float32)
    while len(chosen) < min(count, len(ids)):
        row = int(nearest.argmax())
        chosen.append(row)
        nearest = np.minimum(nearest, ((points - points[row]) ** 2).sum(axis=1))
        nearest[row] = -1
    return ids[chosen]
