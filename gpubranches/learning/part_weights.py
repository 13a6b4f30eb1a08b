"""The weight of each model of a catalog in a linear model, from how well it predicts marks that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gpubranches.learning.linear import LogisticRegression

SHARES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Shares of the first of two models that are tried."""


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
    share is the mean of `SHARES`, each weighed by the likelihood of the held-out rows, where all negatives together
    weigh as much as all positives. So a few marks move the share only a little from a half. All scales are 1 if one
    class has no held-out rows.
    """
    right, wrong = (folds >= 0) & positive, (folds >= 0) & ~positive
    if not right.any() or not wrong.any():
        return np.ones(rows.shape[1], np.float32)
    likelihoods = []
    for share in SHARES:
        scaled = rows * _scales(share, parts, rows.shape[1])
        model = LogisticRegression(C=C).fit(scaled, positive, sample_weight=sample_weight, folds=folds)
        losses = np.logaddexp(0, np.where(positive, -model.held_out_, model.held_out_))
        mean = sum(np.average(losses[side], weights=sample_weight[side]) for side in (right, wrong))
        likelihoods.append(-mean * np.count_nonzero(right))
    weights = np.exp(np.array(likelihoods) - max(likelihoods))
    return _scales(float(np.average(SHARES, weights=weights)), parts, rows.shape[1])


def _scales(share: float, parts: Sequence[slice], dims: int) -> NDArray[np.float32]:
    first, second = parts
    scales = np.empty(dims, np.float32)
    scales[first], scales[second] = (2 * share) ** 0.5, (2 - 2 * share) ** 0.5
    return scales
