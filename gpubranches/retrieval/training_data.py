"""The training data of a model: marks, and random items that serve as negatives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.options import NEGATIVE_WEIGHT

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class TrainingData:
    """The training data of a model: ids of items in the catalog.

    positives: (p,) int64, ids marked right, at least one. negatives: (m,) int64, ids marked wrong. unchecked: ids of
    random items that serve as negatives. fair: (p,) bool, True for positives that a person chose; they are a fair
    sample of the wanted items, and items that the program chose are not. chosen_negatives: (m,) bool, True for
    negatives that a person chose. near_cut: (p + m,) bool, positives first, True for items that the program chose
    because they lie near the cut of a narrow answer; they are not a fair sample of the scores by another model.
    negative_weight: weight of a negative relative to an unchecked item in the narrow linear models; boxes exclude every
    negative. words: (D,) float32, the direction of the query's words, for a second stage; None without words.
    """

    positives: Ids
    negatives: Ids
    unchecked: Ids
    fair: NDArray[np.bool_]
    chosen_negatives: NDArray[np.bool_]
    near_cut: NDArray[np.bool_]
    negative_weight: float = NEGATIVE_WEIGHT
    words: NDArray[np.float32] | None = None

    @property
    def marked(self) -> Ids:
        """All marked items, positives first, (p + m,) int64."""
        return np.concatenate([self.positives, self.negatives])

    @property
    def wrong(self) -> Ids:
        """All items that serve as negatives, those marked wrong first."""
        return np.concatenate([self.negatives, self.unchecked])
