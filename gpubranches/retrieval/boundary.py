"""The posterior over the score below which items are no longer right, from the marks and the density of all scores."""

from __future__ import annotations

import math
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import check_array
from gpubranches.errors import NotFittedError

Floats = NDArray[np.float64]

CEILINGS = np.array([0.98, 0.9, 0.75, 0.5])
"""The chance to be right far above the boundary."""
FLOOR = 0.005
"""The chance to be right far below the boundary. It is above 0 because marks may be mistaken."""
_CEILING_SPANS = np.array([[0.95, 1.0], [0.83, 0.95], [0.63, 0.83], [0.3, 0.63]])
"""The range of ceilings that each of them stands for."""
_CEILING_PRIOR = np.array([0.6, 0.2, 0.12, 0.08])
_WIDTHS = np.array([0.04, 0.08, 0.16, 0.32, 0.64])
"""Widths of the curves, in standard deviations of all scores."""
_LARGEST_SHARE = 0.6
_GRID = 120
"""Number of candidate boundaries at even steps of the logarithm of the size, and again at even steps of the score."""
_WINDOW = 0.25
"""Half the width of the window in which the density at a boundary is measured, as a share of the mean excess above
it."""
_PSEUDO_COUNT = 3.0
_DENSEST, _EMPTIEST = 2.0, 0.02
_LEAST_WEIGHT = 1e-7
_STEPS = 3000
_GROUPS = 400
_LEAST_SHARE = 1e-3
_PAGE_END = 10.0


class BoundaryPosterior:
    """A posterior over P(right | score) = floor + (ceiling - floor) sigmoid((score - boundary) / width).

    The posterior has three factors. The prior is the mean of two distributions: uniform in the logarithm of how many
    items lie above the boundary, and uniform in the score, both from `few` items on. The likelihood is that of the
    marks, at scores by a model that did not see them. The third factor prefers gaps, because gaps separate kinds of
    things (low-density separation; Chapelle and Zien, AISTATS 2005): it is D^-gaps, where D is the density at the
    boundary times the mean excess of the scores above it, divided by how many scores lie above. D is 1 for an
    exponential tail and near 0 in a gap.

    gaps, few: as above. After `fit`: boundaries_ (c,) float64, candidate boundaries, descending; sizes_ (c,), how many
    unmarked items lie above each; density_ (c,), D at each; unit_, the standard deviation of the scores; posterior_ (c,
    widths, ceilings) of sum 1; evidence_, the log of the sum of prior times likelihood, comparable between scores of
    the same items and marks.
    """

    def __init__(self, *, gaps: float = 4.0, few: float = 10.0):
        self.gaps = gaps
        self.few = few

    def fit(
        self,
        scores: NDArray[np.floating],
        right: Floats,
        wrong: Floats,
        *,
        weights: Floats | None = None,
        right_weights: Floats | None = None,
        wrong_weights: Floats | None = None,
    ) -> Self:
        """Compute the posterior from unmarked items and marks. Returns self.

        scores: (m,) of unmarked items, finite, any order; weights: (m,), how many items each stands for, 1 by default;
        right, wrong: scores of the marks by models that did not see them; right_weights, wrong_weights: their weights,
        1 by default.
        """
        points = np.asarray(scores, np.float64)
        check_array(points, "scores", dtype=np.float64, shape=(None,), finite=True)
        stands_for = np.ones(len(points)) if weights is None else weights
        order = np.argsort(-points, kind="stable")
        points, stands_for = points[order], stands_for[order]
        if len(points) == 0:
            points, stands_for = np.zeros(1), np.ones(1)
        self.unit_ = _deviation(points, stands_for)
        self.widths_ = _WIDTHS * self.unit_
        above = np.cumsum(stands_for)
        self.boundaries_ = self._boundaries(points, above, max(float(right.max(initial=-np.inf)), float(points[0])))
        rows = np.searchsorted(-points, -self.boundaries_, side="right")
        self.sizes_ = np.append(0.0, above)[rows]
        self.density_ = _density(points, stands_for, above, self.boundaries_, rows)
        self._points, self._stands_for = points, stands_for
        likelihood = self._likelihood(right, _or_ones(right_weights, right), wrong, _or_ones(wrong_weights, wrong))
        self._without_gaps = likelihood + self._prior(points)[:, None, None]
        self.posterior_, self.evidence_ = self._posterior(self.gaps)
        return self

    def chances(self, scores: NDArray[np.floating]) -> Floats:
        """Return the mean chance to be right of items with these scores, (m,) float64."""
        self._fitted()
        share = self.posterior_ @ (CEILINGS - FLOOR)
        ends = np.append(self._points[[0, -1]], self.boundaries_[[0, -1]])
        grid = np.linspace(float(ends.min()) - self.unit_, float(ends.max()) + self.unit_, _STEPS)
        chances = np.zeros(_STEPS)
        for width, own in zip(self.widths_, share.T, strict=True):
            kept = own > _LEAST_WEIGHT
            chances += own[kept] @ _sigmoid((grid[None] - self.boundaries_[kept, None]) / width)
        result: Floats = np.interp(np.asarray(scores, np.float64), grid, chances)
        return result

    def cut(self, n_marked: int) -> float:
        """Return the score from which items match, see `best_cut`."""
        return self.best_cut(n_marked)[0]

    def best_cut(self, n_marked: int) -> tuple[float, float]:
        """Return the cut with the largest expected F1 over the posterior, and that F1.

        n_marked: positives that are in the answer at any cut. The F1 of a cut by one curve is computed from the
        expected numbers of right items above the cut and in all. F1 is averaged over curves, rather than computed from
        mean chances, because all items between two possible boundaries are right together or wrong together. The cut
        lies half way to the next score.
        """
        self._fitted()
        ends = _ends(len(self._points))
        stands_for = np.add.reduceat(self._stands_for, np.append(0, ends[:-1] + 1))
        means = np.add.reduceat(self._points * self._stands_for, np.append(0, ends[:-1] + 1)) / stands_for
        boundary, width, ceiling = np.nonzero(self.posterior_ > _LEAST_SHARE * self.posterior_.max())
        distances = (means[None] - self.boundaries_[boundary, None]) / self.widths_[width, None]
        chances = CEILINGS[ceiling, None] * _sigmoid(distances)
        found = np.cumsum(chances * stands_for, axis=1)
        expected = 2 * (found + n_marked) / (np.cumsum(stands_for) + found[:, -1:] + 2 * n_marked)
        posterior = self.posterior_[boundary, width, ceiling]
        f1 = posterior @ expected / posterior.sum()
        last = int(ends[int(f1.argmax())])
        after = self._points[min(last + 1, len(self._points) - 1)]
        return float(self._points[last] + after) / 2, float(f1.max())

    def places(self, count: int, *, explore: float) -> Floats:
        """Return `count` scores at which a mark is informative, (count,): even quantiles of the boundary's posterior.

        explore: the share of the scores that are chosen without regard to gaps, because a gap may surround only a part
        of the idea. This is a search for the boundary by bisection with noisy answers (Horstein 1963; Jedynak, Frazier
        and Sznitman, Twenty questions with noise, 2012), with many questions at once.
        """
        self._fitted()
        belief = (1 - explore) * self.posterior_.sum(axis=(1, 2)) + explore * self._posterior(0.0)[0].sum(axis=(1, 2))
        places: Floats = np.interp((np.arange(count) + 0.5) / count, np.cumsum(belief), self.boundaries_)
        return places

    def evidence(self, typical: float) -> float:
        """Return evidence_ with a further factor (size + 10)^-typical, because a larger idea rarely gives these marks.

        Source of this size principle: Tenenbaum and Griffiths, Generalization, similarity, and Bayesian inference,
        Behavioral and Brain Sciences 24 (2001).
        """
        self._fitted()
        return self._posterior(self.gaps, typical)[1]

    def curves(self, count: int, scores: NDArray[np.floating]) -> Floats:
        """Return the chances to be right by `count` curves, at even steps of the posterior, (count, m)."""
        self._fitted()
        belief = np.cumsum(self.posterior_.ravel())
        at = np.searchsorted(belief, (np.arange(count) + 0.5) / count * belief[-1])
        boundary, width, ceiling = np.unravel_index(at, self.posterior_.shape)
        distances = np.asarray(scores, np.float64)[None] - self.boundaries_[boundary, None]
        chances: Floats = CEILINGS[ceiling, None] * _sigmoid(distances / self.widths_[width, None])
        return chances

    def draw(self, count: int, rng: np.random.Generator, *, gaps: float) -> Floats:
        """Draw curves from the posterior with another exponent of gaps: (count, 3), boundary, width, ceiling.

        A ceiling is drawn from the range of ceilings that it stands for.
        """
        self._fitted()
        posterior = self._posterior(gaps)[0]
        at = rng.choice(posterior.size, count, p=posterior.ravel())
        boundary, width, ceiling = np.unravel_index(at, posterior.shape)
        low, high = _CEILING_SPANS[ceiling].T
        ceilings = high - (high - low) * rng.random(count) ** 2
        return np.column_stack([self.boundaries_[boundary], self.widths_[width], ceilings])

    def _boundaries(self, points: Floats, above: Floats, highest: float) -> Floats:
        """Return the candidate boundaries, descending, at steps of the logarithm of the size and at steps of the score.

        highest: the highest score of all items. If all right items are marked, the boundary lies above every unmarked
        item.
        """
        most = max(1.0, _LARGEST_SHARE * above[-1])
        rows = np.searchsorted(above, np.geomspace(1, most, _GRID))
        rows = np.unique(np.minimum(rows, len(points) - 1))
        between = (points[rows] + points[np.minimum(rows + 1, len(points) - 1)]) / 2
        steps = np.linspace(points[rows[-1]], highest, _GRID)
        boundaries: Floats = np.unique(np.concatenate([between, steps]))[::-1]
        return boundaries

    def _prior(self, points: Floats) -> Floats:
        """Return the log of the prior of each boundary, (c,), without gaps."""
        if len(self.boundaries_) < 2:
            return np.zeros(len(self.boundaries_))
        sizes = np.log(self.sizes_ + self.few)
        by_size = np.abs(np.gradient(sizes)) / math.log(max(float(self.sizes_[-1]), 2.0))
        by_score = np.abs(np.gradient(self.boundaries_)) / max(float(self.boundaries_[0] - self.boundaries_[-1]), 1e-12)
        fills = (self.sizes_ + 1) / (self.sizes_ + self.few)
        prior: Floats = np.log((by_size + by_score * fills) / 2 + 1e-12)
        return prior

    def _likelihood(self, right: Floats, right_weights: Floats, wrong: Floats, wrong_weights: Floats) -> Floats:
        logs = np.empty((len(self.boundaries_), len(self.widths_), len(CEILINGS)))
        for column, width in enumerate(self.widths_):
            of_right = _sigmoid((right[None] - self.boundaries_[:, None]) / width)
            of_wrong = _sigmoid((wrong[None] - self.boundaries_[:, None]) / width)
            for layer, ceiling in enumerate(CEILINGS):
                logs[:, column, layer] = np.log(FLOOR + (ceiling - FLOOR) * of_right) @ right_weights
                logs[:, column, layer] += np.log1p(-FLOOR - (ceiling - FLOOR) * of_wrong) @ wrong_weights
        logs += np.log(_CEILING_PRIOR)
        return logs

    def _posterior(self, gaps: float, typical: float = 0.0) -> tuple[Floats, float]:
        """Return the posterior with an exponent of gaps and of sizes, and the log of its sum before scaling."""
        own: Floats = -gaps * np.log(self.density_) - typical * np.log(self.sizes_ + _PAGE_END)
        logs = self._without_gaps + own[:, None, None]
        highest = float(logs.max())
        weights = np.exp(logs - highest)
        total = float(weights.sum())
        return weights / total, highest + math.log(total)

    def _fitted(self) -> None:
        if not hasattr(self, "posterior_"):
            raise NotFittedError("BoundaryPosterior: call fit first")


def _ends(n: int) -> NDArray[np.intp]:
    """Return the last row of each group of n rows, (g,): groups of one row first, then groups that grow with depth."""
    ends = np.unique(np.geomspace(1, n, _GROUPS).astype(np.intp)) - 1
    return np.unique(np.append(np.arange(min(n, _GROUPS)), ends))


def _density(points: Floats, stands_for: Floats, above: Floats, boundaries: Floats, rows: NDArray[np.intp]) -> Floats:
    """Return D of each boundary, (c,), from points in descending order; rows: how many points lie above."""
    sizes, sums = np.append(0.0, above)[rows], np.append(0.0, np.cumsum(points * stands_for))[rows]
    excess = np.where(sizes > 0, sums / np.maximum(sizes, 1e-12) - boundaries, 0.0)
    half = _WINDOW * np.maximum(excess, 1e-9)
    inside = np.append(0.0, above)
    near = inside[np.searchsorted(-points, half - boundaries)] - inside[np.searchsorted(-points, -half - boundaries)]
    pseudo = _PSEUDO_COUNT * stands_for[np.minimum(rows, len(points) - 1)]
    density: Floats = (near + 2 * _WINDOW * pseudo) / (2 * _WINDOW * (sizes + pseudo))
    return np.clip(density, _EMPTIEST, _DENSEST)


def _deviation(points: Floats, stands_for: Floats) -> float:
    mean = float(points @ stands_for / stands_for.sum())
    return max(math.sqrt(float((points - mean) ** 2 @ stands_for / stands_for.sum())), 1e-6)


def _or_ones(weights: Floats | None, scores: Floats) -> Floats:
    return np.ones(len(scores)) if weights is None else weights


def _sigmoid(x: Floats) -> Floats:
    result: Floats = 1 / (1 + np.exp(-np.clip(x, -60, 60)))
    return result
