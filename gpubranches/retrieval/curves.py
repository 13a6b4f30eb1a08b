"""Curves that give the chance to be right at a score or a distance from the cut, many at a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpubranches.retrieval.breadth import Breadth

CURVES = 4000
"""Curves that one estimate draws."""
_BROAD_BINS = 200
"""Bins of the scores by which right items are counted."""
_SETTLED = 0.5
"""The share of a broad idea's curves that trust the gaps of the catalog as its cut does."""

Floats = NDArray[np.float64]


def draw_boundaries(breadth: Breadth, rng: np.random.Generator) -> Floats:
    """Draw boundary, width and ceiling of the broad model from its posterior, (CURVES, 3), in random order.

    Half of the draws trust the gaps of the catalog, half do not, see `BoundaryPosterior.draw`.
    """
    boundary, settled = breadth.broad.boundary, round(_SETTLED * CURVES)
    draws = [boundary.draw(settled, rng, gaps=boundary.gaps), boundary.draw(CURVES - settled, rng, gaps=0.0)]
    return rng.permutation(np.concatenate(draws))


def right_unranked(breadth: Breadth, draws: Floats, ranked: NDArray[np.int64]) -> Floats:
    """Return how many right items each curve expects among those that are not ranked, (c,).

    draws: (c, 3) of `draw_boundaries`; ranked: (m,) ids that are left out, int64.
    """
    _, scores, stands_for = breadth.broad.scores.without(ranked)
    if len(scores) == 0:
        return np.zeros(len(draws))
    edges = np.linspace(float(scores.min()), float(scores.max()) + 1e-9, _BROAD_BINS + 1)
    counts, _ = np.histogram(scores, edges, weights=stands_for)
    chances = 1 / (1 + np.exp(-np.clip(((edges[1:] + edges[:-1]) / 2 - draws[:, :1]) / draws[:, 1:2], -60, 60)))
    expected: Floats = draws[:, 2] * (chances @ counts)
    return expected


def chances_by(curves: Floats, distances: Floats) -> Floats:
    """Return the chances to be right by each curve, (c, m).

    curves: (c, 3), the log odds at the cut, and the slopes above and below it; distances: (m,) below the cut.
    """
    above, below = np.minimum(distances, 0), np.maximum(distances, 0)
    odds = curves[:, :1] - curves[:, 1:2] * above - curves[:, 2:] * below
    chances: Floats = 1 / (1 + np.exp(-np.clip(odds, -700, 700)))
    return chances
