"""Held-out rows. Heads are never fitted to them, so codes can be evaluated on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.tie_order import splitmix64

HELD_OUT = 1000
"""The largest number of rows held out for each purpose."""
HELD_OUT_SHARE = 20
"""At most one row in this many is held out for each purpose."""


@dataclass(frozen=True)
class Split:
    """Disjoint ascending row numbers: `fit` for training, `validation` for early stopping, `test` for evaluation."""

    fit: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def split(ids: NDArray[np.int64]) -> Split:
    """Split items by splitmix64 of their ids, (n,) int64, so that the order of the rows does not matter."""
    count = min(HELD_OUT, len(ids) // HELD_OUT_SHARE)
    order = np.argsort(splitmix64(ids), kind="stable")
    test, validation, fit = np.split(order.astype(np.int64), [count, 2 * count])
    return Split(np.sort(fit), np.sort(validation), np.sort(test))
