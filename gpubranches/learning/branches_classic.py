"""The papers' own decision branches: boxes grown by Gini impurity over a pool of subsets of the dims.

After Lülf, Lima Martins, Vaz Salles, Zhou and Gieseke, Fast Search-By-Classification for Large-Scale Databases Using
Index-Aware Decision Trees and Random Forests (PVLDB 16(11), 2023) with the settings of CLIP-Branches (SIGIR 2024, arXiv
2406.13322). A box starts at a random positive that no box holds yet. For each subset tried, a box without other points
is widened dim by dim, in random order, to the codes with the least impurity of inside and outside, then half way to the
next point. The box with the least impurity is kept, and the points in it are set aside. This repeats until every
positive is in a box.

It differs from the papers in these points: answers are reproducible, votes count estimators instead of boxes, a code
marked both ways is positive, every positive gets a box, and bounds are integers from the start, so none overflows.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpubranches.core.boxes import MAX_ESTIMATORS, Box, Boxes
from gpubranches.core.tie_order import splitmix64
from gpubranches.errors import UsageError, missing_package
from gpubranches.learning.branches import BranchLearner, Subsets, estimator_keys, feature_subsets, pool_table, trimmed
from gpubranches.learning.splitting import split

PATIENCE = 30
"""Number of boxes after which only one subset is tried for each. The papers' programs stop here, and some positives get
no box."""
MOST_REACH = 50
"""The largest number of codes over which a side is widened; for less than 34 positives it is 3/2 of their number."""


class _Classic(BranchLearner):
    """Base class of the single model and the ensemble: the settings, and one estimator from weighted points."""

    subsets: Subsets = "pool"

    def __init__(self, share: float, top_down: bool, bounded: bool, random_state: int | np.random.Generator):
        self.share = share
        self.top_down = top_down
        self.bounded = bounded
        self.random_state = random_state

    def _estimator(self, points: NDArray[np.uint8], p: int, weights: NDArray[np.int64], key: np.uint64) -> list[Box]:
        """Grow one estimator from points (m, d), the first p of them positive, with their weights (m,)."""
        drawn = weights > 0
        positive = np.arange(len(points)) < p
        if not (drawn & ~positive).any():
            return [_around(points[drawn & positive])]
        codes, flags = points[drawn], positive[drawn]
        table, sizes = pool_table(feature_subsets(points.shape[1]))
        options = (ceil(self.share * len(sizes)), PATIENCE, min(MOST_REACH, p * 3 // 2), int(self.bounded))
        columns = np.ascontiguousarray(codes.T)
        used, features, low, high = _kernel()(
            columns, flags.astype(np.uint8), weights[drawn], key, table, sizes, options
        )
        grown = [trimmed(features[b, :f], low[b, :f], high[b, :f]) for b, f in enumerate(used)]
        return [part for box in grown for part in split(box, codes, flags)] if self.top_down else grown

    def _check(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"share: expected a share of the subsets above 0 and at most 1, got {self.share}")


class ClassicBranches(_Classic):
    """A list of boxes that covers every positive and, with top_down, contains no negative.

    share: the share of the 104 subsets that is tried for each box. top_down: split a box that holds negatives by a
    decision tree over all dims, and keep the positive leaves. bounded: a side that no point blocks ends at a random
    code near the outermost points, instead of at 0 or 255. random_state: an integer, or a Generator, which `fit`
    advances.

    After `fit`, boxes_: Boxes of one estimator. The same marks, in any order, and the same seed give the same boxes.
    Without a negative it is one box around all positives.
    """

    def __init__(
        self,
        *,
        share: float = 1.0,
        top_down: bool = True,
        bounded: bool = True,
        random_state: int | np.random.Generator = 0,
    ):
        super().__init__(share, top_down, bounded, random_state)

    def fit(self, codes: NDArray[np.uint8], y: ArrayLike) -> Self:
        """Grow boxes from codes, (m, d) uint8, and their marks y, (m,) bool or +1 and -1. Returns self.

        Raises ArrayError for other arrays, LabelError without a positive.
        """
        self._check()
        positives, negatives = self._marks(codes, y)
        points = np.concatenate([positives, negatives])
        key = estimator_keys(self._seed(), 1)[0]
        self.boxes_ = Boxes(self._estimator(points, len(positives), np.ones(len(points), np.int64), key))
        return self


class ClassicEnsemble(_Classic):
    """An ensemble whose estimators vote, each grown from a bootstrap sample of the marks, drawn with replacement.

    n_estimators: their number. share, top_down, bounded, random_state: as in ClassicBranches.

    After `fit`, boxes_: Boxes of n_estimators. An estimator covers every positive of its own sample, on average 63% of
    them and at least one. With 25 estimators one positive in 10^11 is in no sample. Reproducibility and codes marked
    both ways are as in ClassicBranches.
    """

    def __init__(
        self,
        *,
        n_estimators: int = 25,
        share: float = 0.5,
        top_down: bool = False,
        bounded: bool = False,
        random_state: int | np.random.Generator = 0,
    ):
        super().__init__(share, top_down, bounded, random_state)
        self.n_estimators = n_estimators

    def fit(self, codes: NDArray[np.uint8], y: ArrayLike) -> Self:
        """Grow the estimators from codes, (m, d) uint8, and their marks y, (m,) bool or +1 and -1. Returns self.

        Raises ArrayError for other arrays, LabelError without a positive.
        """
        self._check()
        if not 1 <= self.n_estimators <= MAX_ESTIMATORS:
            raise UsageError(f"n_estimators: expected 1..{MAX_ESTIMATORS}, got {self.n_estimators}")
        positives, negatives = self._marks(codes, y)
        points = np.concatenate([positives, negatives])
        boxes: list[Box] = []
        owners: list[int] = []
        for e, key in enumerate(estimator_keys(self._seed(), self.n_estimators)):
            grown = self._estimator(points, len(positives), bootstrap(len(points), len(positives), key), key)
            boxes += grown
            owners += [e] * len(grown)
        self.boxes_ = Boxes(boxes, owners, self.n_estimators)
        return self


def bootstrap(m: int, p: int, key: np.uint64) -> NDArray[np.int64]:
    """Return how often each of m points is drawn in m draws with replacement, (m,) int64, some of the first p."""
    first = np.uint64(0)
    while True:
        draws = splitmix64(splitmix64(np.arange(m, dtype=np.uint64) + first) ^ key)
        rows = ((draws >> np.uint64(32)) * np.uint64(m)) >> np.uint64(32)
        weights = np.bincount(rows.astype(np.int64), minlength=m).astype(np.int64)
        if weights[:p].any():
            return weights
        first += np.uint64(m)


def _around(points: NDArray[np.uint8]) -> Box:
    """Return the box around points (p, d), wider by their mean gap in a dim and 2 codes, or by 8 for one point."""
    low, high = points.min(axis=0).astype(np.int64), points.max(axis=0).astype(np.int64)
    margin = (high - low) // (len(points) - 1) + 2 if len(points) > 1 else 8
    low, high = np.maximum(low - margin, 0), np.minimum(high + margin, 255)
    return trimmed(np.arange(points.shape[1], dtype=np.int16), low.astype(np.uint8), high.astype(np.uint8))


def _kernel() -> Callable[..., Any]:
    try:
        from gpubranches.learning.branches_classic_kernels import grow_classic
    except ImportError as error:
        raise missing_package("a model of branches", "numba", error=error) from error
    return cast(Callable[..., Any], grow_classic)
