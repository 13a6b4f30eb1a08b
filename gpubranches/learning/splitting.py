"""Top-down splitting: a box that contains negatives is divided into parts without negatives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.boxes import Box
from gpubranches.learning.trees import DecisionTree


def split(box: Box, points: NDArray[np.uint8], positive: NDArray[np.bool_]) -> list[Box]:
    """Return the parts of a box without negatives: the positive leaves of a decision tree over the items in the box.

    points: (m, d) uint8, some of them in the box, no positive equal to a negative; positive: (m,).
    """
    held = box.contains(points)
    if positive[held].all():
        return [box]
    return [_intersection(box, leaf) for leaf in DecisionTree().fit(points[held], positive[held]).boxes_]


def _intersection(one: Box, other: Box) -> Box:
    """Return the intersection of two boxes, which must not be empty."""
    features = np.union1d(one.features, other.features).astype(np.int16)
    low, high = np.zeros(len(features), np.uint8), np.full(len(features), 255, np.uint8)
    for box in (one, other):
        at = np.searchsorted(features, box.features)
        low[at], high[at] = np.maximum(low[at], box.low), np.minimum(high[at], box.high)
    return Box(features, low, high)
