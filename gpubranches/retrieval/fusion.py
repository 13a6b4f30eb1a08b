"""Reciprocal rank fusion: one list of nearest items from their ranks by each model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.tie_order import best_first

DEPTH = 1000
"""The least number of items that each model proposes."""
_OFFSET = 60
"""Added to each rank, so that the first places of one list do not outweigh agreement; the value of the source."""


def fuse(
    similarities: NDArray[np.float32], ids: NDArray[np.int64], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the k best ids by their ranks in all columns, nearest first, and distances, (k,) int64 and (k,) float32.

    similarities: (m, models); ids: (m,), distinct. An item scores 1 / (60 + rank) in each column, with ranks from 1,
    and the scores are added up. All ties are broken by splitmix64(id). A distance is 1 - score / the score of an item
    that is first in all columns, so it is 0 for such an item and below 1. Source: Cormack, Clarke and Büttcher,
    Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning Methods (SIGIR 2009).
    """
    scores = np.zeros(len(ids))
    for column in similarities.T:
        scores[best_first(column, ids)] += 1 / (_OFFSET + 1 + np.arange(len(ids)))
    order = best_first(scores, ids, k)
    highest = similarities.shape[1] / (_OFFSET + 1)
    return ids[order], (1 - scores[order] / highest).astype(np.float32)
