"""Decision trees and forests of scikit-learn as boxes, so that any backend can apply them to the whole catalog."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpubranches.core.arrays import check_array
from gpubranches.core.boxes import Box, Boxes
from gpubranches.errors import LabelError, UsageError


class DecisionTree:
    """A fully grown decision tree. Its positive leaves are the boxes, so a vote equals its prediction.

    After `fit`: boxes_.
    """

    n_estimators = 1

    def __init__(self, *, random_state: int = 0):
        self.random_state = random_state

    def fit(self, codes: NDArray[np.uint8], y: ArrayLike) -> Self:
        """Fit to codes, (m, d) uint8, and their marks y, (m,) bool. Returns self. LabelError without both kinds."""
        from sklearn.tree import DecisionTreeClassifier

        positive = _checked(codes, y)
        tree = DecisionTreeClassifier(random_state=self.random_state).fit(codes, positive)
        self.boxes_ = boxes_of([tree])
        return self


class RandomForest:
    """A random forest of n_estimators trees, each an estimator: votes count the trees that predict positive.

    scikit-learn's forest averages the probabilities of its trees. Here they are fully grown, so each probability is 0
    or 1, and the forest's prediction is the majority of votes. After `fit`: boxes_.
    """

    def __init__(self, n_estimators: int = 25, *, random_state: int = 0):
        self.n_estimators = n_estimators
        self.random_state = random_state

    def fit(self, codes: NDArray[np.uint8], y: ArrayLike) -> Self:
        """Fit to codes, (m, d) uint8, and their marks y, (m,) bool. Returns self. LabelError without both kinds."""
        from sklearn.ensemble import RandomForestClassifier

        positive = _checked(codes, y)
        if self.n_estimators < 1:
            raise UsageError(f"n_estimators: expected 1 or more, got {self.n_estimators}")
        forest = RandomForestClassifier(self.n_estimators, random_state=self.random_state, n_jobs=1)
        self.boxes_ = boxes_of(forest.fit(codes, positive).estimators_)
        return self


def boxes_of(trees: Sequence[Any]) -> Boxes:
    """Return the positive leaves of fitted DecisionTreeClassifiers as boxes, tree i as estimator i.

    The trees have two classes, the second one positive, over uint8 codes. A split sends x <= threshold to the left. For
    integers this means x <= floor(threshold), and x >= floor(threshold) + 1 to the right. A leaf is positive if it has
    more weight on the second class than on the first, as in `predict`.
    """
    members: list[Box] = []
    owners: list[int] = []
    for number, fitted in enumerate(trees):
        tree = fitted.tree_
        waiting: list[tuple[int, dict[int, tuple[int, int]]]] = [(0, {})]
        while waiting:
            node, ranges = waiting.pop()
            left, right = int(tree.children_left[node]), int(tree.children_right[node])
            if left == right:
                weights = tree.value[node, 0]
                if weights[1] > weights[0]:
                    members.append(_box(ranges))
                    owners.append(number)
                continue
            dim, bound = int(tree.feature[node]), floor(float(tree.threshold[node]))
            low, high = ranges.get(dim, (0, 255))
            waiting.append((right, {**ranges, dim: (max(low, bound + 1), high)}))
            waiting.append((left, {**ranges, dim: (low, min(high, bound))}))
    return Boxes(members, owners, len(trees))


def _box(ranges: dict[int, tuple[int, int]]) -> Box:
    dims = sorted(ranges)
    low, high = ([ranges[dim][side] for dim in dims] for side in (0, 1))
    return Box(np.array(dims, np.int16), np.array(low, np.uint8), np.array(high, np.uint8))


def _checked(codes: NDArray[np.uint8], y: ArrayLike) -> NDArray[np.bool_]:
    check_array(codes, "codes", dtype=np.uint8, shape=(None, None))
    positive = check_array(np.asarray(y), "y", dtype=np.bool_, shape=(len(codes),))
    if positive.all() or not positive.any():
        raise LabelError(
            f"expected marks of both kinds, got {int(positive.sum())} right and {int((~positive).sum())} wrong; mark "
            "an item of each kind, or use random items as negatives"
        )
    return positive
