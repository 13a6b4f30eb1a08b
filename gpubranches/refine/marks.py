"""What a model learns from: marks, and random items that stand for wrong ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpubranches.models import NEGATIVE_WEIGHT

Ids = NDArray[np.int64]


@dataclass(frozen=True)
class Marks:
    """What a model learns from, ids of items in the catalog.

    positives: (p,) marked right, at least one; negatives: (m,) marked wrong; unchecked: random ones that serve as
    wrong; fair: (p,) bool, which positives a person chose, and not the program for lying near the cut; those are a fair
    sample of what is wanted; chosen_negatives: (m,) bool, the same of the negatives. near_cut: (p + m,) bool, the
    positives first, which the program chose for lying near the cut of a narrow answer: of their score by another model
    they are no fair sample. negative_weight: how much a
    negative counts against an unchecked one, for the narrow linear models: boxes shut out every one of them. asked:
    (D,) float32, the direction of what was asked for in words, for a second stage; None without words.
    """

    positives: Ids
    negatives: Ids
    unchecked: Ids
    fair: NDArray[np.bool_]
    chosen_negatives: NDArray[np.bool_]
    near_cut: NDArray[np.bool_]
    negative_weight: float = NEGATIVE_WEIGHT
    asked: NDArray[np.float32] | None = None
