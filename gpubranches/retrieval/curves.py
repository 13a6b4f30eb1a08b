"""Curves that give the chance to be right at a score: 4,000 draws of the unknown parameters of an answer.

The chance of an unmarked item to be right is a logistic curve of its distance from the cut, with one slope above the
cut and one below, times a ceiling. The ceiling is below 1 where embeddings do not separate the wanted items from
similar ones: then even the best scores are not sure. Below the cut the log odds may fall ever more slowly, because some
right items score far lower than most: an audit near the cut says little about how long this tail is. Below the end of
the list the chance falls as a power of the rank.

For a broad idea (`breadth.judge`) the curves come from the posterior over its boundary, half of them without regard to
the gaps of the catalog. For a narrow idea some of the curves, as many as the chance that the idea is broad, say that
most of the right items are not ranked at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpubranches.retrieval.breadth import Breadth

CURVES = 4000
"""Curves that one estimate draws."""
_PRIOR = np.array([[-0.3, 2.0], [0.35, 0.8], [1.0, 0.8]])
"""Mean and standard deviation of the log odds at the cut, and of the log of each slope per score_std."""
_VAGUE_PRIOR = np.array([[-1.0, 2.5], [0.0, 1.0], [0.0, 1.0]])
"""The same where the unit of the scores is not known: for votes, and for too few marks to measure score_std."""
_WIDER_PRIOR = np.array([[1.5, 1.0], [-1.5, 0.5], [-1.5, 0.5]])
"""The same for a narrow idea that turns out to be broad: ranked items are right even well below the cut."""
_LOOK_ALIKES = 0.1
"""The chance that the ceiling may have any value; otherwise it is 1."""
_MISSED, _MISSED_BROADLY = (-5.3, 1.3), (-6.5, 1.2)
"""Mean and standard deviation of the log odds that a right item is not ranked, or for a broad idea scores far too
low."""
_LEAST_TAIL = 1e-4
"""The least power of a tail; with 0 the formula has no value."""
_LEAST_VARIANCE = 1e-9
"""The least variance by which a covariance is divided."""
_POWERS_BEYOND = (1.0, 2.0)
"""The range of powers of the rank by which the chance falls below the end of a list.

With a smaller power the right items of an ever larger catalog would have no limit; with a larger one, the items below
the end would hardly count.
"""
_STEEPER = (0.5, 0.7)
"""Mean and standard deviation of the log of how much steeper than its posterior a curve of a broad idea is."""
_SPOTLESS, _NEARLY = 0.3, 0.95
"""The chance that all items far above the boundary are right, if nearly all are, and that none is missed far below
it."""
_LEAST_BROAD = 0.1
"""The least chance, before an audit, that an idea is broader than its answer."""
_BROAD_BINS = 200
"""Bins of the scores by which right items are counted."""
_BINS = 48
"""Groups of like distances in which right items are counted."""
_TRUSTING = 0.5
"""The share of a broad idea's curves that trust the gaps of the catalog as its cut does."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curves:
    """Curves, one per row.

    shapes: (c, 4), the log odds at the cut, the slopes above and below it, per unit of distance, and the power of the
    tail, see `chances_by`; ceilings: (c,), factors of the chances. missed: (c,), right items that are not ranked,
    for each right item that is; elsewhere: (c,), further right items that are not ranked. wider: (c,) bool, curves of a
    narrow idea that turns out to be broad.
    """

    shapes: Floats
    ceilings: Floats
    missed: Floats
    elsewhere: Floats
    wider: NDArray[np.bool_]


def draw_curves(
    breadth: Breadth | None, ranked: NDArray[np.int64], threshold: float, unit: float, known: bool, seed: int
) -> Curves:
    """Draw curves from the prior, or for a broad answer from the posterior over its boundary.

    ranked: (m,) int64, ids of the ranking; threshold: its cut; unit: of the distances, in units of the scores; known:
    whether the unit is a measured score_std.
    """
    prior = _PRIOR if known else _VAGUE_PRIOR
    rng = np.random.default_rng([seed, 0])
    shapes = np.ones((CURVES, 4))
    shapes[:, :3] = prior[:, 0] + prior[:, 1] * rng.standard_normal((CURVES, 3))
    shapes[:, 1:3] = np.exp(shapes[:, 1:3])
    mean, deviation = _MISSED_BROADLY if breadth is not None and breadth.answers else _MISSED
    missed = np.exp(mean + deviation * rng.standard_normal(CURVES))
    anywhere, ceilings = rng.random((2, CURVES))
    ceilings = np.where(anywhere < _LOOK_ALIKES, ceilings, 1.0)
    if known:
        shapes[:, 3] = np.random.default_rng([seed, 3]).random(CURVES)
    curves = Curves(shapes, ceilings, missed, np.zeros(CURVES), np.zeros(CURVES, np.bool_))
    if breadth is None:
        return curves
    if breadth.answers:
        return _along_boundary(curves, breadth, ranked, threshold, unit, rng)
    return _partly_wider(curves, breadth, ranked, rng)


def _along_boundary(
    curves: Curves,
    breadth: Breadth,
    ranked: NDArray[np.int64],
    threshold: float,
    unit: float,
    rng: np.random.Generator,
) -> Curves:
    """Replace all curves by draws from the posterior over the boundary of a broad idea."""
    draws = draw_boundaries(breadth, rng)
    steeper = np.exp(_STEEPER[0] + _STEEPER[1] * rng.standard_normal((CURVES, 2)))
    at_cut = (threshold - draws[:, 0]) / draws[:, 1]
    shapes = np.ones((CURVES, 4))
    shapes[:, 0] = at_cut * np.where(at_cut > 0, steeper[:, 1], steeper[:, 0])
    shapes[:, 1:3] = (unit / draws[:, 1])[:, None] * steeper
    spotless = rng.random((2, CURVES)) < _SPOTLESS
    ceilings = np.where(spotless[0] & (draws[:, 2] > _NEARLY), 1.0, draws[:, 2])
    missed = np.where(spotless[1], 0.0, curves.missed)
    return Curves(shapes, ceilings, missed, right_unranked(breadth, draws, ranked), curves.wider)


def _partly_wider(curves: Curves, breadth: Breadth, ranked: NDArray[np.int64], rng: np.random.Generator) -> Curves:
    """Replace some curves of a narrow idea by curves of a broad one, of which the ranking contains only a part."""
    wider = rng.random(CURVES) < max(_LEAST_BROAD, breadth.chance)
    count = int(np.count_nonzero(wider))
    shapes = curves.shapes.copy()
    own = _WIDER_PRIOR[:, 0] + _WIDER_PRIOR[:, 1] * rng.standard_normal((count, 3))
    own[:, 1:] = np.exp(own[:, 1:])
    shapes[wider] = np.column_stack([own, np.ones(count)])
    elsewhere = np.where(wider, right_unranked(breadth, draw_boundaries(breadth, rng), ranked), 0.0)
    return Curves(shapes, curves.ceilings, curves.missed, elsewhere, wider)


def draw_boundaries(breadth: Breadth, rng: np.random.Generator) -> Floats:
    """Draw boundary, width and ceiling of the broad model from its posterior, (CURVES, 3), in random order.

    Half of the draws use the gaps of the catalog, half do not; see `BoundaryPosterior.draw`.
    """
    boundary, trusting = breadth.broad.boundary, round(_TRUSTING * CURVES)
    draws = [boundary.draw(trusting, rng, gaps=boundary.gaps), boundary.draw(CURVES - trusting, rng, gaps=0.0)]
    return rng.permutation(np.concatenate(draws))


def right_unranked(breadth: Breadth, draws: Floats, ranked: NDArray[np.int64]) -> Floats:
    """Return how many right items without a rank each curve expects, (c,).

    draws: (c, 3) of `draw_boundaries`; ranked: (m,) ids to leave out, int64.
    """
    _, scores, stands_for = breadth.broad.scores.without(ranked)
    if len(scores) == 0:
        return np.zeros(len(draws))
    edges = np.linspace(float(scores.min()), float(scores.max()) + 1e-9, _BROAD_BINS + 1)
    counts, _ = np.histogram(scores, edges, weights=stands_for)
    chances = 1 / (1 + np.exp(-np.clip(((edges[1:] + edges[:-1]) / 2 - draws[:, :1]) / draws[:, 1:2], -60, 60)))
    expected: Floats = draws[:, 2] * (chances @ counts)
    return expected


def right_beyond(curves: Curves, distance: float, listed: int, universe: int, seed: int) -> Floats:
    """Return how many of the items below the end of a list each curve expects to be right, (c,).

    distance: of the last listed item below the cut; listed, universe: numbers of items in the list and in the catalog.
    The chance falls from that of the last listed item as a power of the rank. With power 1, every doubling of the rank
    adds as many right items as the one before, with power 2 half as many. Curves of a wider idea expect none here: they
    have their own estimate.
    """
    least, most = _POWERS_BEYOND
    powers = most - (most - least) * np.random.default_rng([seed, 4]).random(len(curves.ceilings))
    rest = np.expm1((1 - powers) * np.log(max(1.0, universe / listed))) / (1 - powers)
    last = curves.ceilings * chances_by(curves.shapes, np.array([distance]))[:, 0]
    expected: Floats = np.where(curves.wider, 0.0, last * listed * rest)
    return expected


def expected_right(curves: Curves, x: Floats) -> Floats:
    """Return how many items each curve expects to be right, (c,), by groups of distances.

    x: (m,) ascending, distances of the items below the cut, in units.
    """
    if len(x) == 0:
        return np.zeros(len(curves.ceilings))
    one_sided = x[0] >= 0 or x[-1] <= 0  # long lists are; then the order of x is that of the distances
    step = 1 if x[0] >= 0 else -1
    nearest = x[::step].copy() if one_sided else x[np.argsort(np.abs(x), kind="stable")]
    edges = np.unique(np.geomspace(1, len(x) + 1, _BINS).astype(np.int64) - 1)
    groups = np.split(nearest, edges[1:-1]) if len(edges) > 2 else [nearest]
    centres = np.array([group.mean() for group in groups])
    sizes = np.array([len(group) for group in groups], np.float64)
    expected: Floats = curves.ceilings * (chances_by(curves.shapes, centres) @ sizes)
    return expected


def informative(curves: Curves, weights: Floats, targets: Sequence[Floats], distances: Floats) -> Floats:
    """Return how much the label of one item tells about some numbers, by its distance below the cut, (m,).

    weights: (c,), of the curves, of sum 1; targets: the numbers by each curve, (c,) each. The result is the sum of the
    squared correlations of the label with each of them.
    """
    each = curves.ceilings[:, None] * chances_by(curves.shapes, distances)
    mean = weights @ each
    told = np.zeros(len(distances))
    for target in targets:
        differences = target - weights @ target
        variance = np.maximum(mean * (1 - mean), _LEAST_VARIANCE) * max(weights @ differences**2, _LEAST_VARIANCE)
        told += ((weights * differences) @ each) ** 2 / variance
    return told


def chances_by(shapes: Floats, distances: Floats) -> Floats:
    """Return the chances to be right by each curve without its ceiling, (c, m).

    shapes: (c, 4), the log odds at the cut, the slopes above and below it, and the power t of the tail; distances: (m,)
    below the cut. At distance x below the cut the log odds have fallen by the slope times ((1 + x)^t - 1) / t (Box and
    Cox, An analysis of transformations, 1964). So the slope is that at the cut. With t = 1 the curve is logistic, and
    near 0 the odds fall as a power of 1 + x.
    """
    tails = np.maximum(shapes[:, 3:], _LEAST_TAIL)
    slopes, below = shapes[:, 2:3] / tails, distances > 0
    odds = shapes[:, :1] - shapes[:, 1:2] * np.minimum(distances, 0)
    odds[:, below] -= slopes * (np.exp(tails * np.log1p(distances[below])) - 1)
    chances: Floats = 1 / (1 + np.exp(-np.clip(odds, -700, 700)))
    return chances
