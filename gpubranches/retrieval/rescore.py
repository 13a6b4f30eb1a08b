"""The second stage: a linear model ranks candidates, neighbours adjust their scores, and a threshold cuts the list.

The model is fitted to embeddings. The scores of the best candidates are propagated among their nearest neighbours.
Items match from a threshold on that the model sets itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import among, as_ids, check_array
from gpubranches.core.bitmaps import Bitmap
from gpubranches.core.boxes import Boxes
from gpubranches.core.options import NEGATIVE_WEIGHT
from gpubranches.core.results import Candidates, Ranking
from gpubranches.core.stages import begin
from gpubranches.core.tie_order import best_first
from gpubranches.core.whitening import Whitening
from gpubranches.errors import ArrayError, LabelError, NotFittedError
from gpubranches.learning.linear import LogisticRegression, folds_of
from gpubranches.learning.mixture import mixture_cut
from gpubranches.learning.propagation import Diffusion
from gpubranches.retrieval import scoring
from gpubranches.retrieval.breadth import TRUST, reaching
from gpubranches.retrieval.scoring import EmbeddingView, in_order

if TYPE_CHECKING:
    from gpubranches.engines import Backend

_MOST_REACHED = 4000
"""The largest number of best items whose scores are propagated among neighbours."""
_MOST_MARKS = 500
"""The largest number of marks of each label in the graph of neighbours; the first ones are taken."""
FEWEST_HELD_OUT = 4
"""The least number of held-out scores for an estimate of their standard deviation."""
_LEAST_SCORE_STD = 0.1
_SCORED_AT_ONCE = 65_536
_AHEAD = 8
"""How many times more items are ranked by bits than needed; ranking more later reads the whole catalog again."""
MOST_SCORED = 16_384
"""The largest number of candidates of a large catalog that are all scored by embeddings. If more may match, most get
estimates, see `_estimated`."""
_MARGIN = 3.0


class Rescorer:
    """Logistic regression on the centred, whitened embeddings of the marks. It ranks candidates and sets its own cut.

    C: inverse strength of the L2 penalty. n_folds: number of refits, each without a part of the marks; they give each
    mark a held-out score, by a model that did not see it. limit: number of candidates that are scored by embeddings at
    first, the best by bits. negative_weight: weight of a negative that a person marked, relative to one drawn at
    random, which may match unseen. reached: number of best items whose scores are propagated among neighbours at first;
    it doubles while half of them match, up to 4,000. easier, share: of the cut, see below. After `fit`: weights_ (D,)
    float32 over (x - mean), intercept_ float, held_out_ (p,) float64, the held-out scores of the positives.

    `Diffusion` propagates the scores of the best candidates among neighbours by the locally whitened embeddings. The
    marks are part of this graph with their labels. So a group is found whole even if the marks reach only its edge. The
    held-out score of a positive is then the score it would have had without its own mark in the graph.

    A few positives show little of what they have in common. If the query has words, the penalty is weaker along the
    direction of the words, as if there were a further feature: `breadth.TRUST` times the product with that direction.
    The marks decide how much the model uses it; `benchmarks/words.py` measures the gain.

    The cut is the mean of two estimates. The first lies at `share` of the way from 0, the decision threshold of the
    class-balanced model, to the mean held-out score. The second is `mixture_cut`, which uses the distribution of the
    scores of the catalog, and so depends on how rare the wanted items are; it assumes that the mean score of all wanted
    items lies `easier` standard deviations below that of the marked ones. A quantile of 8 to 22 held-out scores would
    depend on one or two of them, and marks from a first page are easier than other items: it gives a lower F1
    (`benchmarks/quality.py` compares them).
    """

    def __init__(
        self,
        *,
        C: float = 10.0,
        n_folds: int = 4,
        limit: int = 2000,
        negative_weight: float = NEGATIVE_WEIGHT,
        reached: int = 500,
        easier: float = 0.5,
        share: float = 0.2,
    ):
        self.C = C
        self.n_folds = n_folds
        self.limit = limit
        self.negative_weight = negative_weight
        self.reached = reached
        self.easier = easier
        self.share = share

    def fit(
        self,
        positives: NDArray[np.float32],
        negatives: NDArray[np.float32],
        mean: NDArray[np.float32],
        whitening: Whitening | None = None,
        local: Whitening | None = None,
        *,
        n_checked: int = 0,
        fair: NDArray[np.bool_] | None = None,
        words: NDArray[np.float32] | None = None,
    ) -> Self:
        """Fit to embeddings of positives (p, D) and negatives (m, D); mean: (D,) of the catalog. All float32.

        whitening: of the catalog; None: the embeddings are not whitened. local: the whitening by the differences
        between neighbours, for the graph of neighbours; None takes `whitening`. n_checked: how many of the negatives,
        the first ones, a person marked. fair: (p,) bool, which positives are a fair sample of the wanted items rather
        than of items near the cut; they set the cut, or all positives if none is fair. words: (D,) float32, the
        direction of the query's words, or None. Returns self. Raises LabelError without a positive or a negative.
        """
        check_array(mean, "mean", dtype=np.float32, shape=(None,), finite=True)
        check_array(positives, "positives", dtype=np.float32, shape=(None, len(mean)), finite=True)
        check_array(negatives, "negatives", dtype=np.float32, shape=(None, len(mean)), finite=True)
        p, m = len(positives), len(negatives)
        if p == 0 or m == 0:
            raise LabelError(
                f"expected at least one positive and one negative, got {p} and {m}; mark an item of each kind, or let "
                "random items serve as negatives"
            )
        self._mean, self._local = mean, whitening if local is None else local
        turn = np.eye(len(mean), dtype=np.float32) if whitening is None else whitening.matrix_
        if words is not None:
            turn = reaching(turn, check_array(words, "words", dtype=np.float32, shape=(len(mean),), finite=True), TRUST)
        x = (np.concatenate([positives, negatives]) - mean) @ turn
        trust = np.ones(p + m)
        trust[p : p + n_checked] = self.negative_weight
        y = np.arange(p + m) < p
        model = LogisticRegression(C=self.C).fit(x, y, sample_weight=trust, folds=folds_of(p, m, self.n_folds))
        self.weights_ = turn @ model.coef_.astype(np.float32)
        self.intercept_ = model.intercept_
        held_out = model.held_out_[:p]
        self.held_out_ = np.where(np.isnan(held_out), model.decision_function(x[:p]), held_out)
        self._fair = np.ones(p, np.bool_) if fair is None or not fair.any() else fair
        return self

    def rank(
        self,
        backend: Backend,
        boxes: Boxes | None,
        *,
        positives: NDArray[np.int64],
        negatives: NDArray[np.int64],
        where: Bitmap | None = None,
        embeddings: Callable[[NDArray[np.int64]], NDArray[np.float32]] | None = None,
    ) -> Ranking:
        """Score the items in the boxes (None: all) and the marked positives, cut, and return them best first.

        The candidates, items with a vote that are in `where`, are scored by bits, and the best of them by embeddings.
        The number scored by embeddings doubles until the last of them lies 3 standard errors of the bits scores below
        the cut, so `limit` never cuts off a match; the errors are measured on the items that have both scores. In a
        catalog of more than `MOST_EXACT` items the number grows faster, up to `MOST_SCORED`. If that is not enough,
        most matches get estimates (`_estimated`), and no scores are propagated. Candidates that are not scored by
        embeddings are not in the Ranking, which has no votes. positives: (p,) int64, those of `fit` in their order,
        which always match; negatives: (m,) int64, which never match. embeddings: returns the embeddings of ids, (m, D)
        float32; with it the scores of the best are propagated among neighbours, without it they are the linear model's.
        """
        self._fitted()
        positives, negatives = as_ids(positives, "positives"), as_ids(negatives, "negatives")
        if embeddings is not None and len(positives) != len(self.held_out_):
            raise ArrayError(f"positives: expected the {len(self.held_out_)} of fit, got {len(positives)}")
        inside = where if boxes is None else backend.within(boxes, where=where)
        total = backend.catalog.count(inside)
        scored = self._scored(backend, inside, total, positives, negatives)
        ids, scores, threshold = scored or self._estimated(backend, inside, positives, negatives)
        right, wrong = among(ids, positives), among(ids, negatives)
        held_out = self.held_out_[self._fair]
        if embeddings is not None and scored is not None:
            scores, threshold, held_out = self.propagate(ids, scores, positives, negatives, embeddings)
            order = best_first(scores, ids)
            ids, scores, right, wrong = ids[order], scores[order], right[order], wrong[order]
        matched = ((scores >= np.float32(threshold)) | right) & ~wrong
        return Ranking(
            ids=ids,
            scores=scores,
            matched=matched,
            total=int(matched.sum()),
            candidates=total,
            threshold=float(np.float32(threshold)),
            score_std=score_std(held_out) if len(held_out) >= FEWEST_HELD_OUT else None,
        )

    def _scored(
        self,
        backend: Backend,
        where: Bitmap | None,
        total: int,
        positives: NDArray[np.int64],
        negatives: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], float] | None:
        """Return ids and scores of the candidates scored by embeddings, best first, and the cut; None if too many.

        where, total: the candidates and their number.
        """
        limit, large = max(1, self.limit), backend.catalog.n > scoring.MOST_EXACT
        ids, dots = _pair(backend.score(self.weights_, tier="embeddings", ids=positives))
        n_right, marked = len(ids), np.concatenate([positives, negatives])
        unmarked = np.zeros(n_right, np.bool_)
        rough, exact = Candidates(ids=ids[:0], scores=dots[:0], total=0), dots[:0]
        while True:
            begin("rank")
            if len(rough.ids) < limit and (len(exact) == 0 or len(rough.ids) < total):
                rough = backend.score(self.weights_, tier="bits", where=where, limit=_AHEAD * limit)
            fresh = rough.ids[len(exact) : limit]
            found = self._exact(backend, fresh)
            new = ~among(fresh, ids[:n_right])
            ids, dots = np.concatenate([ids, fresh[new]]), np.concatenate([dots, found[new]])
            unmarked = np.concatenate([unmarked, ~among(fresh[new], marked)])
            exact = np.concatenate([exact, found])
            scores = dots + np.float32(self.intercept_)
            each = np.ones(np.count_nonzero(unmarked)) if large else None
            threshold = self.cut(scores[unmarked], self.held_out_[self._fair], n_right, each)
            estimates = _pair(rough)[1][: len(exact)]
            if total <= limit or _holds_all(estimates, exact + np.float32(self.intercept_), threshold):
                order = best_first(dots, ids)
                return ids[order], scores[order], threshold
            limit *= _AHEAD if large else 2
            if large and limit > MOST_SCORED:
                return None

    def _estimated(
        self,
        backend: Backend,
        where: Bitmap | None,
        positives: NDArray[np.int64],
        negatives: NDArray[np.int64],
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], float]:
        """Return ids and scores of many candidates, best first, and the cut."""
        view = EmbeddingView(backend, backend.catalog, where)
        found = view.scores(self.weights_, self.intercept_, head=scoring.LISTED)
        _, scores, stands_for = found.without(np.concatenate([positives, negatives]))
        threshold = self.cut(scores, self.held_out_[self._fair], len(positives), stands_for)
        ids, scores = view.listed(self.weights_, self.intercept_, found, threshold, positives)
        return ids, scores, threshold

    def _exact(self, backend: Backend, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the dots of ids with the embeddings, in their order, in chunks, because short lists sort faster."""
        parts = [ids[at : at + _SCORED_AT_ONCE] for at in range(0, len(ids), _SCORED_AT_ONCE)]
        dots = [in_order(backend.score(self.weights_, tier="embeddings", ids=part), part) for part in parts]
        return np.concatenate([np.zeros(0, np.float32), *dots])

    def propagate(
        self,
        ids: NDArray[np.int64],
        scores: NDArray[np.float32],
        positives: NDArray[np.int64],
        negatives: NDArray[np.int64],
        embeddings: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    ) -> tuple[NDArray[np.float32], float, NDArray[np.float64]]:
        """Propagate scores among neighbours; return the new scores of ids, the cut, and the held-out scores.

        ids: best first by their scores. Marked ids keep their scores. If more than half of the largest window matches,
        the neighbours cannot show an edge, and nothing is changed.
        """
        right = among(ids, positives)
        unmarked = np.flatnonzero(~right & ~among(ids, negatives))
        size = self.reached
        while size <= _MOST_REACHED:
            begin("rank")
            window, below = unmarked[:size], unmarked[size:]
            own, held_out = self._propagate_window(ids[window], scores[window], positives, negatives, embeddings)
            found = scores.copy()
            found[window] = own
            found[below] = np.minimum(found[below], own.min(initial=np.inf))
            threshold = self.cut(found[unmarked], held_out, int(right.sum()))
            if len(below) == 0 or np.count_nonzero(own >= threshold) <= size // 2:
                return found, threshold, held_out
            size *= 2
        held_out = self.held_out_[self._fair]
        return scores, self.cut(scores[unmarked], held_out, int(right.sum())), held_out

    def cut(
        self,
        scores: NDArray[np.float32],
        held_out: NDArray[np.float64],
        n_marked: int = 0,
        weights: NDArray[np.float64] | None = None,
    ) -> float:
        """Return the score from which items match.

        scores: (m,) float32 of unmarked candidates, any order; held_out: (p,) held-out scores of the positives;
        n_marked: positives that are in the answer already; weights: (m,), how many candidates each score represents,
        None for one each.
        """
        mean, std = float(held_out.mean()), score_std(held_out)
        mixture = mixture_cut(scores, mean - self.easier * std, std, n_marked, weights)
        return self.share * mean if mixture is None else (self.share * mean + mixture) / 2

    def _propagate_window(
        self,
        ids: NDArray[np.int64],
        scores: NDArray[np.float32],
        positives: NDArray[np.int64],
        negatives: NDArray[np.int64],
        embeddings: Callable[[NDArray[np.int64]], NDArray[np.float32]],
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Return the propagated scores of unmarked ids, and the held-out scores of the fair positives in the graph.

        In the graph every positive has the highest score of the positives, and every negative a score of at most 0.
        Propagation is linear in the scores, so the part of a positive's score that comes from its own mark is known and
        is replaced by the part that comes from its held-out score.
        """
        right, wrong = positives[:_MOST_MARKS], negatives[:_MOST_MARKS]
        centred = embeddings(np.concatenate([right, wrong, ids])) - self._mean
        p, m = len(right), len(wrong)
        own = np.concatenate([centred[: p + m] @ self.weights_ + np.float32(self.intercept_), scores])
        highest = own[:p].max()
        own = np.minimum(own, highest)
        own[:p] = highest
        own[p : p + m] = np.minimum(own[p : p + m], 0)
        columns = np.zeros((len(own), 1 + p), np.float32)
        columns[:, 0] = own
        columns[np.arange(p), 1 + np.arange(p)] = 1
        vectors = centred if self._local is None else self._local.transform(centred)
        found = Diffusion().fit(vectors).propagate(columns)
        own_part = found[np.arange(p), 1 + np.arange(p)] * (highest - self.held_out_[:p])
        fair = self._fair[:p] if self._fair[:p].any() else np.ones(p, np.bool_)
        return found[p + m :, 0], (found[:p, 0] - own_part)[fair]

    def _fitted(self) -> None:
        if not hasattr(self, "weights_"):
            raise NotFittedError("Rescorer: call fit before rank")


def score_std(held_out: NDArray[np.float64]) -> float:
    """Return the standard deviation of held-out scores, (p,), or a tenth of their mean if that is larger.

    The marks of a coherent group have nearly equal scores after propagation. With so small a unit the mixture of `cut`
    would take the background for the group.
    """
    return max(float(held_out.std()), _LEAST_SCORE_STD * float(held_out.mean()), 1e-3)


def _holds_all(estimates: NDArray[np.float32], scores: NDArray[np.float32], threshold: float) -> bool:
    """Return whether all items below the last estimate score below the threshold."""
    exact = scores.astype(np.float64)
    centred = estimates.astype(np.float64) - estimates.mean()
    slope = float(centred @ exact) / max(float(centred @ centred), 1e-12)
    errors = exact - exact.mean() - slope * centred
    return bool(exact.mean() + slope * centred[-1] + _MARGIN * errors.std() < threshold)


def _pair(found: Candidates) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    return found.ids, np.zeros(0, np.float32) if found.scores is None else found.scores
