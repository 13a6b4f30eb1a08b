"""How much each model of a catalog counts in a linear model, by how well it predicts marks that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpubranches.learning.linear import LogisticRegression

SHARES = (0.5, 0.3, 0.7, 0.1, 0.9)
"""Shares of the first of two models that are tried; the first of the best ones is chosen."""


def part_scales(
    rows: NDArray[np.float32],
    positive: NDArray[np.bool_],
    parts: Sequence[slice],
    *,
    C: float = 10.0,
    sample_weight: NDArray[np.float64],
    folds: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Return the scale of each column, (D,) float32: the root of twice the share of its model.

    rows: (m, D), embeddings of two models, each whitened; positive: (m,); parts: the columns of each model; C,
    sample_weight, folds: as for `LogisticRegression`. A penalised model relies less on columns of a smaller scale. The
    share is the one with the largest log-likelihood of the held-out rows, with both classes of equal weight; all scales
    are 1 if one class has no held-out rows.
    """
    first, second = parts
    right, wrong = (folds >= 0) & positive, (folds >= 0) & ~positive
    best, chosen = -np.inf, np.ones(rows.shape[1], np.float32)
    for share in SHARES if right.any() and wrong.any() else ():
        scales = np.empty(rows.shape[1], np.float32)
        scales[first], scales[second] = (2 * share) ** 0.5, (2 - 2 * share) ** 0.5
        model = LogisticRegression(C=C).fit(rows * scales, positive, sample_weight=sample_weight, folds=folds)
        likelihood = -_mean_loss(-model.held_out_[right], sample_weight[right])
        likelihood -= _mean_loss(model.held_out_[wrong], sample_weight[wrong])
        if likelihood > best:
            best, chosen = likelihood, scales
    return chosen


def _mean_loss(against: NDArray[np.float64], weights: NDArray[np.float64]) -> float:
    return float(np.average(np.logaddexp(0, against), weights=weights))
