"""What to mark next: the items whose marks would tell most of where the right ones end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpubranches.arrays import best_first
from gpubranches.refine.breadth import Breadth
from gpubranches.results import Ranking

EXPLORE = 0.3
"""The share of suggestions of a broad idea that do not trust the gaps of the catalog, see `Border.places`."""
MOST_EXPLORING = 0.25
"""The largest share of a narrow idea's suggestions that look for the border of a broad one."""

Ids = NDArray[np.int64]


def near_cut(ranking: Ranking, open_: NDArray[np.bool_], count: int) -> Ids:
    """Return the ids of the `count` open items nearest to the cut, nearest first; open_: (m,) bool of the ranking."""
    ids, scores = ranking.ids[open_], ranking.scores[open_]
    return ids[best_first(-np.abs(scores - np.float32(ranking.threshold)), ids, count)]


def along_border(breadth: Breadth, marked: Ids, count: int) -> Ids:
    """Return the ids of up to `count` unmarked items, (m,): the nearest in score to each place the border may be at.

    marked: ids that are left out. Places that are close to each other get different items.
    """
    broad = breadth.broad
    ids, scores, _ = broad.scores.without(marked)
    order = best_first(scores, ids)
    ids, falling = ids[order], -scores[order].astype(np.float64)
    taken = np.zeros(len(ids), np.bool_)
    chosen: list[int] = []
    for place in broad.border.places(count, explore=EXPLORE):
        row = _nearest_free(falling, taken, -float(place))
        if row is None:
            break
        taken[row] = True
        chosen.append(row)
    return ids[chosen]


def exploring(breadth: Breadth, count: int) -> int:
    """Return how many of `count` suggestions of a narrow idea look for the border of a broad one.

    As large a share as the chance that the idea is broad, and at most `MOST_EXPLORING`.
    """
    return round(count * min(MOST_EXPLORING, breadth.chance))


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
