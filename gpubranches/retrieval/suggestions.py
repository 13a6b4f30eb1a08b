"""What to mark next: the items whose marks would tell most of where the right ones end."""

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

EXPLORE = 0.3
"""The share of the suggestions for a broad idea that ignores the gaps of the catalog, see
`BoundaryPosterior.places`."""
MOST_EXPLORING = 0.25
"""The largest share of a narrow idea's suggestions that look for the boundary of a broad one."""

Ids = NDArray[np.int64]


def suggested(catalog: Catalog, ranking: Ranking, breadth: Breadth | None, marked: Ids, count: int) -> Ids:
    """Return the ids of the unmarked items that are most informative, (at most count,) int64; see `Session.suggest`.

    marked: (m,) int64, ids that are left out; breadth: the judged breadth of the idea, None where it was not judged.
    """
    if breadth is not None and breadth.is_broad:
        return _alive_along_boundary(catalog, breadth, marked, count)
    wide = 0 if breadth is None else exploring(breadth, count)
    open_ = ~among(ranking.ids, marked) & catalog.alive(ranking.ids)
    near = near_cut(ranking, open_, 3 * (count - wide) // 2)
    chosen = _spread(near, catalog.codes(near), count - wide)
    if breadth is None or not wide:
        return chosen
    return np.concatenate([chosen, _alive_along_boundary(catalog, breadth, np.concatenate([marked, chosen]), wide)])


def near_cut(ranking: Ranking, open_: NDArray[np.bool_], count: int) -> Ids:
    """Return the ids of the `count` open items nearest to the cut, nearest first; open_: (m,) bool of the ranking."""
    ids, scores = ranking.ids[open_], ranking.scores[open_]
    return ids[best_first(-np.abs(scores - np.float32(ranking.threshold)), ids, count)]


def along_boundary(breadth: Breadth, marked: Ids, count: int) -> Ids:
    """Return the ids of up to `count` unmarked items, (m,): the nearest in score to each place the boundary may be at.

    marked: ids that are left out. Places that are close to each other get different items.
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


def exploring(breadth: Breadth, count: int) -> int:
    """Return how many of `count` suggestions of a narrow idea look for the boundary of a broad one.

    As large a share as the chance that the idea is broad, and at most `MOST_EXPLORING`.
    """
    return round(count * min(MOST_EXPLORING, breadth.chance))


def _alive_along_boundary(catalog: Catalog, breadth: Breadth, marked: Ids, count: int) -> Ids:
    """Return items along the boundary that were not deleted since the refine."""
    gone = np.zeros(0, np.int64)
    while True:
        found = along_boundary(breadth, np.concatenate([marked, gone]), count)
        alive = catalog.alive(found)
        if alive.all():
            return found
        gone = np.concatenate([gone, found[~alive]])


def _nearest_free(rising: NDArray[np.float64], taken: NDArray[np.bool_], value: float) -> int | None:
    """Return the row nearest to a value among those that are free, None where none is."""
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


def _spread(ids: Ids, codes: NDArray[np.uint8], count: int) -> Ids:
    """Choose ids farthest-first by their codes, starting with the first; (at most count,) int64."""
    points = codes.astype(np.float32)
    chosen: list[int] = []
    nearest = np.full(len(ids), np.inf, np.float32)
    while len(chosen) < min(count, len(ids)):
        row = int(nearest.argmax())
        chosen.append(row)
        nearest = np.minimum(nearest, ((points - points[row]) ** 2).sum(axis=1))
        nearest[row] = -1
    return ids[chosen]
