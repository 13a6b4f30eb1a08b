"""Decision branches: boxes grown bottom-up around the positives, one estimator or an ensemble that votes.

After Lülf, Lima Martins, Vaz Salles, Zhou and Gieseke, Fast Search-By-Classification for Large-Scale Databases Using
Index-Aware Decision Trees and Random Forests (PVLDB 16(11), 2023) and CLIP-Branches (SIGIR 2024, arXiv 2406.13322): a
box starts at a positive and grows over its neighbours in a subset of the dims until it would contain a negative. Its
bounds are then moved towards the negatives around it.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import chain
from math import comb
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpubranches.core.arrays import check_array
from gpubranches.core.boxes import MAX_ESTIMATORS, Box, Boxes
from gpubranches.core.threads import cores
from gpubranches.core.tie_order import splitmix64
from gpubranches.errors import ArrayError, LabelError, UsageError, missing_package
from gpubranches.learning.splitting import split

Subsets = Literal["separating", "pool"]

POOL = ((64, 4), (32, 6), (8, 8))
"""Pairs of a number of subsets and their number of dims: the pool of the papers."""
MOST_POSITIVES = 512
"""The largest number of positives that an estimator of the ensemble learns from; each estimator draws its own."""
_MANY = 100
"""The number of positives from which estimators are grown on all cores; with fewer, starting threads takes longer."""


class BranchLearner:
    """Base class of single models and ensembles: the checks of marks, and the seed."""

    subsets: Subsets
    random_state: int | np.random.Generator

    def _marks(self, codes: NDArray[np.uint8], y: ArrayLike) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return distinct positives (p, d) and negatives (m, d), sorted; a code marked both ways is positive."""
        if self.subsets not in ("separating", "pool"):
            raise UsageError(f"subsets: expected 'separating' or 'pool', got {self.subsets!r}")
        check_array(codes, "codes", dtype=np.uint8, shape=(None, None))
        if codes.shape[1] == 0:
            raise ArrayError(f"codes: expected at least one dim, got shape {codes.shape}")
        positive = _as_flags(y, len(codes))
        if not positive.any():
            raise LabelError(f"expected at least one positive mark, got none in {len(codes)}; mark one and fit again")
        positives = np.unique(codes[positive], axis=0)
        negatives = np.unique(codes[~positive], axis=0)
        return positives, negatives[~_contained(negatives, positives)]

    def _seed(self) -> np.uint64:
        if isinstance(self.random_state, np.random.Generator):
            return np.uint64(self.random_state.integers(2**64, dtype=np.uint64))
        return np.uint64(int(self.random_state) % 2**64)


class DecisionBranches(BranchLearner):
    """One list of boxes that covers every positive. It returns few items, and its explanation is short.

    subsets: "separating" chooses the dims of a box greedily: those whose intervals around a random part of the
    positives exclude most negatives, until `exclusions` dims exclude each negative; "pool" draws them from
    `feature_subsets(d)`, as in the papers. trials: number of boxes tried for each box that is kept, the one with most
    new positives. expansion: percent of the way to the negatives that a bound moves. top_down: split a box that holds
    negatives by a decision tree over all dims, and keep the positive leaves. random_state: an integer, or a Generator,
    which `fit` advances.

    After `fit`, boxes_: Boxes of one estimator. The same marks, in any order, and the same seed give the same boxes on
    every machine, because growing uses integers only and splitting runs in one thread. A code marked both ways is
    positive. A box may hold one negative for eight positives, because random negatives may be positives that nobody
    marked; its bounds stop at all other negatives.
    """

    def __init__(
        self,
        *,
        subsets: Subsets = "separating",
        exclusions: int = 3,
        trials: int = 16,
        expansion: int = 10,
        top_down: bool = True,
        random_state: int | np.random.Generator = 0,
    ):
        self.subsets = subsets
        self.exclusions = exclusions
        self.trials = trials
        self.expansion = expansion
        self.top_down = top_down
        self.random_state = random_state

    def fit(self, codes: NDArray[np.uint8], y: ArrayLike) -> Self:
        """Grow boxes from codes, (m, d) uint8, and their marks y, (m,) bool or +1 and -1. Returns self.

        Raises ArrayError for other arrays, LabelError without a positive.
        """
        positives, negatives = self._marks(codes, y)
        if not 1 <= self.exclusions <= 255 or self.trials < 1:
            raise UsageError(f"expected exclusions in 1..255 and trials >= 1, got {self.exclusions} and {self.trials}")
        d = codes.shape[1]
        options = (d, d, self.exclusions, self.trials, _percent(self.expansion), 100)
        key = splitmix64(np.array([self._seed()]))[0]
        boxes = _grow(positives, negatives, key, self.subsets, options)
        if self.top_down:
            points, flags = np.concatenate([positives, negatives]), np.arange(len(positives) + len(negatives))
            boxes = [part for box in boxes for part in split(box, points, flags < len(positives))]
        self.boxes_ = Boxes(boxes)
        return self


class BranchEnsemble(BranchLearner):
    """An ensemble whose estimators vote: an item matches with over half of the votes, and is a candidate with one vote.

    n_estimators: their number. subsets: as in DecisionBranches; "separating" considers 3/8 of the dims, drawn again for
    each box, and takes at most 8. negatives_per_positive: the number of negatives that an estimator sees for each
    positive, drawn again for each estimator (None: all). With few positives an estimator then sees few negatives, and
    its boxes reach farther. Measurements show that without this, after 8 marks, no unmarked item has a majority.
    expansion: as in DecisionBranches; None: 100 for up to 8 positives, then 800 / positives, because many positives
    themselves show how far a box reaches. random_state: as in DecisionBranches.

    After `fit`, boxes_: Boxes of n_estimators. Each estimator covers all positives, or 512 drawn ones if there are
    more. Reproducibility and codes marked both ways are as in DecisionBranches.
    """

    def __init__(
        self,
        *,
        n_estimators: int = 25,
        subsets: Subsets = "separating",
        negatives_per_positive: int | None = 40,
        expansion: int | None = None,
        random_state: int | np.random.Generator = 0,
    ):
        self.n_estimators = n_estimators
        self.subsets = subsets
        self.negatives_per_positive = negatives_per_positive
        self.expansion = expansion
        self.random_state = random_state

    def fit(self, codes: NDArray[np.uint8], y: ArrayLike) -> Self:
        """Grow the estimators from codes, (m, d) uint8, and their marks y, (m,) bool or +1 and -1. Returns self.

        Raises ArrayError for other arrays, LabelError without a positive.
        """
        positives, negatives = self._marks(codes, y)
        if not 1 <= self.n_estimators <= MAX_ESTIMATORS:
            raise UsageError(f"n_estimators: expected 1..{MAX_ESTIMATORS}, got {self.n_estimators}")
        if self.negatives_per_positive is not None and self.negatives_per_positive < 1:
            raise UsageError(f"negatives_per_positive: expected 1 or more, got {self.negatives_per_positive}")
        considered = -(-3 * codes.shape[1] // 8)
        trials = 1 if self.subsets == "separating" else 4
        expansion = min(100, 800 // len(positives)) if self.expansion is None else self.expansion
        options = (considered, min(8, considered), 1, trials, _percent(expansion), 100)
        count = self.negatives_per_positive
        share = len(negatives) if count is None else min(len(negatives), count * len(positives))

        def grow(key: np.uint64) -> list[Box]:
            some = _sample(positives, MOST_POSITIVES, key)
            return _grow(some, _sample(negatives, share, ~key), key, self.subsets, options)

        keys = estimator_keys(self._seed(), self.n_estimators)
        if len(positives) < _MANY:
            grown = [grow(key) for key in keys]
        else:
            with ThreadPoolExecutor(cores()) as pool:
                grown = list(pool.map(grow, keys))
        owners = np.repeat(np.arange(self.n_estimators), [len(own) for own in grown])
        self.boxes_ = Boxes(chain.from_iterable(grown), owners.tolist(), self.n_estimators)
        return self


@lru_cache(maxsize=8)
def feature_subsets(d: int) -> tuple[tuple[int, ...], ...]:
    """Return the pool of subsets for codes of d dims, each ascending. All models share it, so it can be indexed.

    It has 64 subsets of 4 dims, 32 of 6 and 8 of 8; with few dims, as many distinct ones as there are.
    """
    pool: list[tuple[int, ...]] = []
    key = 0
    for count, size in POOL:
        wanted = len(pool) + min(count, comb(d, min(size, d)))
        while len(pool) < wanted:
            order = np.argsort(splitmix64(np.arange(key * d, (key + 1) * d)), kind="stable")
            subset = tuple(sorted(order[:size].tolist()))
            key += 1
            if subset not in pool:
                pool.append(subset)
            elif size >= d:
                break
    return tuple(pool)


def pool_table(pool: tuple[tuple[int, ...], ...]) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Return subsets of dims as rows of a table, (s, 8) int16, and the length of each row, (s,) int64."""
    sizes = np.array([len(subset) for subset in pool], np.int64)
    table = np.zeros((len(pool), max(size for _, size in POOL)), np.int16)
    for row, subset in enumerate(pool):
        table[row, : len(subset)] = subset
    return table, sizes


def _grow(
    positives: NDArray[np.uint8],
    negatives: NDArray[np.uint8],
    key: np.uint64,
    subsets: Subsets,
    options: tuple[int, int, int, int, int, int],
) -> list[Box]:
    try:
        from gpubranches.learning.branches_kernels import grow_estimator
    except ImportError as error:
        raise missing_package("a model of branches", "numba", error=error) from error
    table, sizes = pool_table(feature_subsets(positives.shape[1]) if subsets == "pool" else ())
    columns = np.ascontiguousarray(positives.T), np.ascontiguousarray(negatives.T)
    used, features, low, high = grow_estimator(*columns, key, table, sizes, options)
    return [trimmed(features[b, :f], low[b, :f], high[b, :f]) for b, f in enumerate(used)]


def trimmed(features: NDArray[np.int16], low: NDArray[np.uint8], high: NDArray[np.uint8]) -> Box:
    """Return the box with only the dims that it restricts, ascending."""
    bounded = np.flatnonzero((low > 0) | (high < 255))
    bounded = bounded[np.argsort(features[bounded])]
    return Box(features[bounded], low[bounded], high[bounded])


def _percent(expansion: int) -> int:
    if not 0 <= expansion <= 100:
        raise UsageError(f"expansion: expected 0..100 percent, got {expansion}")
    return expansion


def estimator_keys(seed: np.uint64, count: int) -> NDArray[np.uint64]:
    """Return one key for each estimator, (count,) uint64."""
    first = splitmix64(np.array([seed]))[0]
    return splitmix64(np.arange(count, dtype=np.uint64) + np.uint64(first))


def _sample(rows: NDArray[np.uint8], count: int, key: np.uint64) -> NDArray[np.uint8]:
    """Return `count` random rows, or all if there are fewer, in their order."""
    if count >= len(rows):
        return rows
    order = np.argsort(splitmix64(splitmix64(np.arange(len(rows), dtype=np.uint64)) ^ key), kind="stable")
    return rows[np.sort(order[:count])]


def _contained(rows: NDArray[np.uint8], others: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return which rows occur among the others, (len(rows),) bool."""
    kind = np.dtype((np.void, rows.shape[1]))
    return np.isin(np.ascontiguousarray(rows).view(kind).ravel(), np.ascontiguousarray(others).view(kind).ravel())


def _as_flags(y: ArrayLike, m: int) -> NDArray[np.bool_]:
    marks = np.asarray(y)
    if marks.shape != (m,):
        raise ArrayError(f"y: expected one mark per row, ({m},), got shape {marks.shape}")
    if marks.dtype == np.bool_:
        return marks
    if marks.dtype.kind not in "iuf" or not np.isin(marks, (-1, 1)).all():
        raise ArrayError(f"y: expected booleans, or +1 and -1, got {marks.dtype} with {np.unique(marks)[:5].tolist()}")
    flags: NDArray[np.bool_] = marks > 0
    return flags
