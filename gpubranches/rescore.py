"""The second stage: a linear model on the embeddings ranks what the boxes find, and cuts the list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from gpubranches.linear import LogisticRegression
from gpubranches.results import Candidates, Ranking

if TYPE_CHECKING:
    from gpubranches.backends import Backend


class Rescorer:
    """Logistic regression on centred embeddings, cut at a quantile of the positives' out-of-fold scores."""

    def __init__(self, *, quantile: float = 0.1, n_folds: int = 4, limit: int = 2000):
        self.quantile = quantile
        self.n_folds = n_folds
        self.limit = limit

    def fit(self, positives: NDArray[np.float32], negatives: NDArray[np.float32], mean: NDArray[np.float32]) -> Self:
        """Fit on embeddings (p, D) and (m, D); mean: (D,), of the catalog."""
        x = np.concatenate([positives, negatives]) - mean
        y = np.arange(len(x)) < len(positives)
        folds = np.full(len(x), -1, np.int64)
        if len(positives) > 1:
            folds[: len(positives)] = np.arange(len(positives)) % min(self.n_folds, len(positives))
        model = LogisticRegression(C=10.0).fit(x, y, folds=folds)
        self.weights_ = model.coef_.astype(np.float32)
        self.intercept_ = model.intercept_
        held_out = model.held_out_[: len(positives)] if len(positives) > 1 else model.decision_function(x[:1])
        self.threshold_ = float(np.quantile(held_out, self.quantile))
        return self

    def rank(
        self, backend: Backend, found: Candidates, *, positives: NDArray[np.int64], negatives: NDArray[np.int64]
    ) -> Ranking:
        """Rank candidates."""
        limit = self.limit
        while True:
            ids = np.union1d(found.ids, positives)
            if len(ids) > limit:
                ids = backend.score(self.weights_, tier="bits", ids=ids, limit=limit).ids
            best = backend.score(self.weights_, tier="embeddings", ids=np.union1d(ids, positives))
            scores = (best.scores if best.scores is not None else np.zeros(0, np.float32)) + np.float32(self.intercept_)
            if limit >= found.total or not len(scores) or np.mean(scores >= self.threshold_) < 0.75:
                break
            limit *= 2
        matched = ((scores >= self.threshold_) | np.isin(best.ids, positives)) & ~np.isin(best.ids, negatives)
        votes = np.zeros(len(best.ids), np.uint16)
        order = np.argsort(found.ids)
        at = np.searchsorted(found.ids[order], best.ids)
        at = order[np.minimum(at, len(order) - 1)] if len(order) else at
        if len(order) and found.votes is not None:
            votes = np.where(found.ids[at] == best.ids, found.votes[at], 0).astype(np.uint16)
        return Ranking(
            ids=best.ids,
            scores=scores,
            matched=matched,
            total=int(matched.sum()),
            candidates=found.total,
            threshold=self.threshold_,
            votes=votes,
        )
