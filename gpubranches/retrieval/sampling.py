"""Drawing a sample with chances in proportion to a size, known for every row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def inclusion(sizes: Floats, count: int) -> Floats:
    """Return chances of inclusion, (m,) float64, in proportion to sizes, (m,) float64.

    Each is at most 1; their sum is min(count, m).
    """
    if count >= len(sizes):
        return np.ones(len(sizes))
    chances = np.zeros(len(sizes))
    sure = np.zeros(len(sizes), np.bool_)
    sizes = np.maximum(sizes, 1e-12)
    while True:
        chances[~sure] = (count - np.count_nonzero(sure)) * sizes[~sure] / sizes[~sure].sum()
        over = ~sure & (chances > 1)
        if not over.any():
            return chances
        sure |= over
        chances[over] = 1


def systematic(chances: Floats, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return drawn rows, ascending, int64: at equal steps of the sum of chances, (m,) float64, from a random start.

    The sum is a whole number. Source: Madow, On the theory of systematic sampling II, 1949.
    """
    count = round(float(chances.sum()))
    steps = rng.random() + np.arange(count)
    found: NDArray[np.intp] = np.searchsorted(np.cumsum(chances), steps, side="right")
    return np.unique(np.minimum(found, len(chances) - 1))
