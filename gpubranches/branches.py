"""Decision branches: boxes grown bottom-up around positives over random feature subsets.

Source: Lülf et al., CLIP-Branches (SIGIR 2024), and Fast Search-By-Classification (PVLDB 2023): boxes are grown from
positives outwards until they would hold a negative, then their borders move half way to the next negative.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from gpubranches.arrays import check_array
from gpubranches.boxes import Box, Boxes
from gpubranches.errors import ArrayError, LabelError


@njit(cache=True, nogil=True)
def _grow(positives, negatives, subset, open_rows, low, high):  # type: ignore[no-untyped-def]
    """Grow a box over `subset` from the first open positive; write low and high, return the open positives inside."""
    seed = np.flatnonzero(open_rows)[0]
    f = len(subset)
    distance = np.zeros(len(positives), np.int64)
    for j in range(f):
        low[j] = positives[seed, subset[j]]
        high[j] = low[j]
    for i in range(len(positives)):
        for j in range(f):
            away = np.int64(positives[i, subset[j]]) - np.int64(low[j])
            distance[i] += away * away
    for i in np.argsort(distance, kind="mergesort"):
        blocked = False
        for n in range(len(negatives)):
            inside = True
            for j in range(f):
                x = negatives[n, subset[j]]
                value = positives[i, subset[j]]
                if x < min(low[j], value) or x > max(high[j], value):
                    inside = False
                    break
            if inside:
                blocked = True
                break
        if blocked:
            continue
        for j in range(f):
            value = positives[i, subset[j]]
            low[j] = min(low[j], value)
            high[j] = max(high[j], value)
    covered = 0
    for i in range(len(positives)):
        inside = True
        for j in range(f):
            x = positives[i, subset[j]]
            inside = inside and low[j] <= x <= high[j]
        covered += inside and open_rows[i]
    return covered


@njit(cache=True, nogil=True)
def _expand(negatives, subset, low, high):  # type: ignore[no-untyped-def]
    """Move each border half way to the next negative that the box would meet in that dim."""
    f = len(subset)
    for j in range(f):
        below, above = -1, 256
        for n in range(len(negatives)):
            inside = True
            for i in range(f):
                x = negatives[n, subset[i]]
                if i != j and (x < low[i] or x > high[i]):
                    inside = False
                    break
            if inside:
                x = np.int64(negatives[n, subset[j]])
                if x < low[j]:
                    below = max(below, x)
                elif x > high[j]:
                    above = min(above, x)
        low[j] = (np.int64(low[j]) + below + 1 + 1) // 2
        high[j] = (np.int64(high[j]) + above - 1) // 2


def _boxes(positives: NDArray[np.uint8], negatives: NDArray[np.uint8], subsets: list[NDArray[np.int16]]) -> list[Box]:
    """Cover the positives greedily: each box over the subset in which it covers most open positives."""
    open_rows = np.ones(len(positives), np.bool_)
    found: list[Box] = []
    while open_rows.any():
        best, best_covered = None, 0
        for subset in subsets:
            low, high = np.zeros(len(subset), np.uint8), np.zeros(len(subset), np.uint8)
            covered = _grow(positives, negatives, subset, open_rows, low, high)
            if covered > best_covered:
                best, best_covered = (subset, low, high), covered
        if best is None:
            break
        subset, low, high = best
        columns = positives[:, subset]
        open_rows &= ~((columns >= low) & (columns <= high)).all(axis=1)
        _expand(negatives, subset, low, high)
        found.append(Box(subset, low, high))
    return found


class BranchEnsemble:
    """n_estimators decision branches, each on its own subsets and bootstrap of the marks. boxes_: Boxes after `fit`."""

    def __init__(self, n_estimators: int = 25, *, n_subsets: int = 16, random_state: int = 0):
        self.n_estimators = n_estimators
        self.n_subsets = n_subsets
        self.random_state = random_state

    def fit(self, codes: NDArray[np.uint8], y: NDArray[Any]) -> Self:
        """Grow boxes on codes, (m, d) uint8, and labels, (m,) bool. Raises LabelError without a positive."""
        check_array(codes, "codes", dtype=np.uint8, shape=(None, None))
        y = np.asarray(y) > 0
        if y.shape != (len(codes),):
            raise ArrayError(f"y: expected one label a row, {len(codes)}, got shape {y.shape}")
        if not y.any():
            raise LabelError("expected at least one item marked right, got none")
        members: list[Box] = []
        owners: list[int] = []
        for e in range(self.n_estimators):
            rng = np.random.default_rng([self.random_state, e])
            subsets = self._subsets(rng, codes.shape[1])
            p, n = np.flatnonzero(y), np.flatnonzero(~y)
            p = p[rng.random(len(p)) < 0.8] if self.n_estimators > 1 and len(p) > 2 else p
            p = np.flatnonzero(y) if len(p) == 0 else p
            grown = _boxes(codes[p], codes[n], subsets)
            members += grown
            owners += [e] * len(grown)
        self.boxes_ = Boxes(members, owners, self.n_estimators)
        return self

    def _subsets(self, rng: np.random.Generator, d: int) -> list[NDArray[np.int16]]:
        sizes = rng.choice([4, 6, 8], self.n_subsets, p=[64 / 104, 32 / 104, 8 / 104])
        return [rng.choice(d, min(size, d), replace=False).astype(np.int16) for size in sizes]


class DecisionBranches(BranchEnsemble):
    """One estimator on all marks."""

    def __init__(self, *, n_subsets: int = 104, random_state: int = 0):
        super().__init__(1, n_subsets=n_subsets, random_state=random_state)
