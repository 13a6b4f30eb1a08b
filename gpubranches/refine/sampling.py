"""Drawing a sample with chances in proportion to a size, known for every row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def inclusion(sizes: Floats, count: int) -> Floats:
    """Return chances of inclusion, (m,), of sum min(count, m), in proportion to sizes, (m,), and at most 1."""
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
    """Draw rows, ascending, with these chances, (m,), at equal steps of their sum from a random start.

    The sum is a whole number. Source: Madow, On the theory of systematic sampling II, 1949.
    """
    count = round(float(chances.sum()))
    steps = rng.random() + np.arange(count)
    found: NDArray[np.intp] = np.searchsorted(np.cumsum(chances), steps, side="right")
    return np.unique(np.minimum(found, len(chances) - 1))
