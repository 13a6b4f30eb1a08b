"""The rows that a head is never fitted to, so that its codes can be judged on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.tie_order import splitmix64

HELD_OUT = 1000
"""Rows held out for each purpose, at most."""
HELD_OUT_SHARE = 20
"""Rows held out for each purpose are at most one in this many."""


@dataclass(frozen=True)
class Split:
    """Row numbers, ascending, disjoint: `fit` to learn from, `validation` to stop by, `test` to judge on."""

    fit: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def split(ids: NDArray[np.int64]) -> Split:
    """Split items by splitmix64 of their ids, (n,) int64: the same items are held out wherever they lie."""
    count = min(HELD_OUT, len(ids) // HELD_OUT_SHARE)
    order = np.argsort(splitmix64(ids), kind="stable")
    test, validation, fit = np.split(order.astype(np.int64), [count, 2 * count])
    return Split(np.sort(fit), np.sort(validation), np.sort(test))
