"""Random samples with known chances of inclusion, proportional to a size of each row."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sample:
    """Items drawn for an audit.

    ids: (m,) int64, in the order to show; chances: (m,), the probability of drawing each; anywhere: (m,) bool, which
    were drawn uniformly from all that does not match.
    """

    ids: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    chances: Floats = field(default_factory=lambda: np.zeros(0))
    anywhere: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))


def inclusion(sizes: Floats, count: int) -> Floats:
    """Return chances of inclusion, (m,) float64, proportional to sizes, (m,) float64.

    A chance is at most 1, and the sum is min(count, m).
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
    """Draw rows by systematic sampling: at equal steps of the running sum of chances, from a random start.

    chances: (m,) float64, of an integer sum. Returns rows, ascending, int64. Source: Madow, On the theory of systematic
    sampling II, 1949.
    """
    count = round(float(chances.sum()))
    steps = rng.random() + np.arange(count)
    found: NDArray[np.intp] = np.searchsorted(np.cumsum(chances), steps, side="right")
    return np.unique(np.minimum(found, len(chances) - 1))
