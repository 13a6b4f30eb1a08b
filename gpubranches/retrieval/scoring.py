"""The scores of a whole catalog by a linear model: exact in small catalogs and near the cut, estimated elsewhere."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from gpubranches.core.arrays import among
from gpubranches.core.bitmaps import Bitmap
from gpubranches.core.threads import one_thread
from gpubranches.core.tie_order import best_first
from gpubranches.core.whitening import Whitening
from gpubranches.errors import UsageError
from gpubranches.learning.linear import folds_of
from gpubranches.learning.part_weights import part_scales
from gpubranches.retrieval.catalog_statistics import code_statistics, code_vectors, embedding_statistics

if TYPE_CHECKING:
    from gpubranches.catalog import Catalog
    from gpubranches.core.results import Candidates
    from gpubranches.engines import Backend

MOST_EXACT = 200_000
"""The largest catalog of which all stored embeddings are read."""
LISTED = 65_536
"""Number of best items in the list of a larger catalog."""
SAMPLED = 20_000
"""Number of random items that represent the unlisted ones."""
HEAD = 4000
"""Number of the best listed items that are scored exactly."""
NEAR_CUT = 20_000
"""The least number of listed items nearest to the cut that are scored exactly."""
MOST_READ = 1 << 28
"""Bytes of stored embeddings that may be read by random access to score more items exactly."""
MOST_SCANNED = 1 << 31
"""Bytes of stored embeddings up to which all are read for one list, so that its scores are exact."""
_UNCHECKED, _FOLDS = 300, 4
"""About how many random items, and the number of folds, by which the models of a catalog are weighed."""
_MARGIN = 3.0
_SPARE = 4.0
"""Standard deviations above the expectation at which a rank in the sample surely includes the best items."""

Ids = NDArray[np.int64]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class CatalogScores:
    """Scores of a catalog by one linear model.

    ids: (m,) int64, the best items, with scores (m,) float32 in descending order; sampled: (s,) int64, random items of
    the rest, with sampled_scores (s,) float32; stands_for: how many items each sampled item stands for. scale, offset,
    error: the line from bits to exact scores, score = scale bits + offset, and the standard deviation around it; 1, 0,
    0 if all scores are exact. depth: the estimated score of the last item that was listed by bits; up to the error, all
    items with higher scores are listed.
    """

    ids: Ids
    scores: Scores
    sampled: Ids
    sampled_scores: Scores
    stands_for: float
    scale: float = 1.0
    offset: float = 0.0
    error: float = 0.0
    depth: float = -np.inf

    def without(self, marked: Ids) -> tuple[Ids, Scores, NDArray[np.float64]]:
        """Return ids and scores of the unmarked items, and how many items each stands for, (u,) each."""
        ids = np.concatenate([self.ids, self.sampled])
        scores = np.concatenate([self.scores, self.sampled_scores])
        weights = np.ones(len(ids))
        weights[len(self.ids) :] = self.stands_for
        open_ = ~among(ids, marked)
        return ids[open_], scores[open_], weights[open_]

    def thinned(self, marked: Ids, count: int) -> tuple[Ids, Scores, NDArray[np.float64]]:
        """Return about `count` of the items of `without`, at growing steps of rank, each standing for more items."""
        ids, scores, stands_for = self.without(marked)
        if len(ids) <= count:
            return ids, scores, stands_for
        order = best_first(scores, ids)
        above = np.cumsum(stands_for[order])
        steps = np.geomspace(1, above[-1] + 1, count + 1)
        ends = np.unique(np.searchsorted(above, steps[1:] - 1))
        weights = np.diff(above[ends], prepend=0.0)
        rows = order[ends]
        return ids[rows], scores[rows], weights


class View(Protocol):
    """The vectors of items that a linear model is fitted to: embeddings or codes.

    scales: (D,) float32, how much each dim counts where vectors are not whitened; whitening includes it.
    """

    whitening: Whitening
    scales: NDArray[np.float32]

    def vectors(self, ids: Ids) -> NDArray[np.float32]:
        """Return centred vectors, (m, D) float32."""
        ...

    def scores(self, weights: NDArray[np.float32], intercept: float) -> CatalogScores:
        """Return the scores <x, weights> + intercept of the items."""
        ...


class CodeView:
    """Codes as vectors, see `code_vectors`."""

    def __init__(self, backend: Backend, catalog: Catalog):
        self.backend, self.catalog = backend, catalog
        self.mean, self.local = code_statistics(catalog)
        self.whitening = self.local
        self.scales = np.ones(len(self.mean), np.float32)

    def vectors(self, ids: Ids) -> NDArray[np.float32]:
        """Return centred vectors of codes, (m, d) float32."""
        return code_vectors(self.catalog, ids) - self.mean

    def scores(self, weights: NDArray[np.float32], intercept: float) -> CatalogScores:
        """Return exact scores of the best `LISTED` items, and of a sample of the rest."""
        limit = None if self.catalog.n <= MOST_EXACT else LISTED
        best = self.backend.score(weights, tier="codes", limit=limit).ids
        scores = self._dots(best, weights, intercept)
        order = best_first(scores, best)
        sampled, stands_for = _rest(self.catalog, best[order], self.catalog.n, None)
        return CatalogScores(best[order], scores[order], sampled, self._dots(sampled, weights, intercept), stands_for)

    def _dots(self, ids: Ids, weights: NDArray[np.float32], intercept: float) -> Scores:
        dots: Scores = self.vectors(ids) @ weights + np.float32(intercept)
        return dots


class EmbeddingView:
    """Embeddings of the items in a filter; where: a bitmap of `Catalog.where`, None for all items."""

    def __init__(self, backend: Backend, catalog: Catalog, where: Bitmap | None):
        if catalog.signs is None:
            raise UsageError("second_stage: the catalog has no mean of its embeddings; ingest it again")
        self.backend, self.catalog, self.where = backend, catalog, where
        self.mean = catalog.signs.mean_
        self.whitening, self.local = embedding_statistics(catalog)
        self.scales = np.ones(catalog.D, np.float32)
        self.n = catalog.count(where)

    def weigh_models(self, positives: Ids, negatives: Ids, unchecked: Ids, negative_weight: float) -> None:
        """Scale the dims of the models of a catalog with two, see `part_scales`; with one, change nothing.

        positives, negatives: marked items; unchecked: random items that serve as negatives.
        """
        if len(self.catalog.parts) < 2:
            return
        some = unchecked[:: max(1, len(unchecked) // _UNCHECKED)]
        p, m = len(positives), len(negatives) + len(some)
        weights = np.ones(p + m)
        weights[p : p + len(negatives)] = negative_weight
        self.scales = part_scales(
            self.whitening.transform(self.vectors(np.concatenate([positives, negatives, some]))),
            np.arange(p + m) < p,
            self.catalog.parts,
            sample_weight=weights,
            folds=folds_of(p, m, _FOLDS),
        )
        self.whitening, self.local = self.whitening.scaled(self.scales), self.local.scaled(self.scales)

    def vectors(self, ids: Ids) -> NDArray[np.float32]:
        """Return centred embeddings, (m, D) float32."""
        centred: NDArray[np.float32] = self.catalog.embeddings(ids) - self.mean
        return centred

    def scores(self, weights: NDArray[np.float32], intercept: float, head: int = HEAD) -> CatalogScores:
        """Return the scores of all items, or in large catalogs of the best and of a sample.

        A catalog is large with more than `MOST_EXACT` items, or if it decodes its embeddings. Of it the best `LISTED`
        by bits are listed. The best `head` of them and the sample are scored by embeddings. The others are estimated by
        the line from bits to exact scores, fitted to the sample.
        """
        none = np.zeros(0, np.int64)
        if self.catalog.stores_embeddings and self.n <= MOST_EXACT:
            found = self.backend.score(weights, tier="embeddings", where=self.where)
            scores: Scores = _scores(found) + np.float32(intercept)
            return CatalogScores(found.ids, scores, none, none.astype(np.float32), 1.0)
        drawn, bits = self._sample.ids, self._sample.by_bits(weights)
        exact = self._sample.by_embeddings(weights) + np.float32(intercept)
        scale, offset, error = _line(bits, exact)
        rough = self._best(weights, "bits", bits, LISTED)
        scores = (np.float32(scale) * _scores(rough) + np.float32(offset)).astype(np.float32)
        depth = float(scores[-1]) if len(scores) else -np.inf
        first = rough.ids[:head]
        scores[:head] = in_order(self._by_embeddings(weights, intercept, first), first)
        order = best_first(scores, rough.ids)
        outside = ~among(drawn, rough.ids)
        left = max(0, self.n - len(rough.ids))
        return CatalogScores(
            rough.ids[order],
            scores[order],
            drawn[outside],
            exact[outside],
            left / max(1, int(outside.sum())),
            scale,
            offset,
            error,
            depth,
        )

    def listed(
        self, weights: NDArray[np.float32], intercept: float, found: CatalogScores, cut: float, marked: Ids
    ) -> tuple[Ids, Scores]:
        """Return ids and scores, best first, of all items above the cut, of many below it, and of the marked items.

        Below the cut `LISTED` items are listed, and half as many as there are above; by bits only those that may belong
        above it, given the error of the estimates. All scores are exact if the embeddings have at most `MOST_SCANNED`
        bytes. Else the scores of the items nearest to the cut are exact, as many as `MOST_READ` bytes hold and at least
        `NEAR_CUT`, so that no estimate decides whether an item near the cut matches.
        """
        ids, scores, near = found.ids, found.scores, 0
        if found.error == 0 and among(marked, ids).all():
            return ids, scores
        if found.error and self._scannable:
            dots = self._sample.by_embeddings(weights)
            rough = self._down_to("embeddings", weights, dots, found, cut, cut - intercept)
            ids, scores = rough.ids, _scores(rough) + np.float32(intercept)
        elif found.error:
            near = max(NEAR_CUT, MOST_READ // (2 * self.catalog.D) if self.catalog.stores_embeddings else 0)
            if found.depth > cut - _MARGIN * found.error and len(ids) < self.n:
                bits, least = self._sample.by_bits(weights), (cut - found.offset) / max(found.scale, 1e-12)
                rough = self._down_to("bits", weights, bits, found, cut, least)
                ids, scores = rough.ids, np.float32(found.scale) * _scores(rough) + np.float32(found.offset)
        return self._completed(weights, intercept, ids, scores, cut, marked, near)

    def _completed(
        self,
        weights: NDArray[np.float32],
        intercept: float,
        ids: Ids,
        scores: Scores,
        cut: float,
        marked: Ids,
        near: int,
    ) -> tuple[Ids, Scores]:
        """Return the list in order, with all marked items, and with exact scores of `near` items at the cut."""
        rescored = np.zeros(len(ids), np.bool_)
        marked_rows = np.flatnonzero(among(ids, marked))
        if near:
            rescored[_nearest(scores, cut, near)] = True
            rescored[:HEAD] = rescored[marked_rows] = True
        missing = np.setdiff1d(marked, ids[marked_rows])
        exact = self._by_embeddings(weights, intercept, np.concatenate([ids[rescored], missing]))
        is_sorted = not near and (not len(exact.ids) or not len(ids) or _scores(exact)[0] < scores[-1])
        ids, scores = np.concatenate([ids[~rescored], exact.ids]), np.concatenate([scores[~rescored], _scores(exact)])
        if is_sorted:
            return ids, scores
        order = best_first(scores, ids)
        return ids[order], scores[order]

    def _down_to(
        self,
        tier: Literal["bits", "embeddings"],
        weights: NDArray[np.float32],
        of_sample: Scores,
        found: CatalogScores,
        cut: float,
        least: float,
    ) -> Candidates:
        """Return, by a tier, all items above the cut and some below it, see `listed`. least: the cut in its unit."""
        above = np.count_nonzero(found.scores >= cut) + found.stands_for * np.count_nonzero(found.sampled_scores >= cut)
        wanted = LISTED + round(1.5 * above)
        min_score = least - _MARGIN * found.error / max(found.scale, 1e-12) if tier == "bits" else -np.inf
        while True:
            rough = self._best(weights, tier, of_sample, wanted, min_score)
            if len(rough.ids) < wanted or _scores(rough)[-1] < least:
                return rough
            wanted *= 2

    def _best(
        self,
        weights: NDArray[np.float32],
        tier: Literal["bits", "embeddings"],
        of_sample: Scores,
        wanted: int,
        min_score: float = -np.inf,
    ) -> Candidates:
        """Return the `wanted` best items with scores of at least min_score.

        of_sample: the scores of the sample, from which the score of the last wanted item is estimated.
        """
        rank = len(of_sample) * wanted / max(1, self.n)
        rank = max(1, round(rank + _SPARE * (1 + rank**0.5)))
        if rank < len(of_sample):
            likely = float(np.partition(of_sample, len(of_sample) - rank)[len(of_sample) - rank])
            if likely > min_score:
                found = self.backend.score(weights, tier=tier, where=self.where, threshold=likely, limit=wanted)
                if found.total >= wanted:
                    return found
        return self.backend.score(weights, tier=tier, where=self.where, threshold=min_score, limit=wanted)

    @property
    def _scannable(self) -> bool:
        """Whether the embeddings of all items are stored and few enough to be read for one list."""
        return self.catalog.stores_embeddings and 2 * self.catalog.D * self.n <= MOST_SCANNED

    @cached_property
    def _sample(self) -> _Sample:
        drawn = self.catalog.sample_ids(SAMPLED, np.random.default_rng(0), self.where)
        return _Sample(self.catalog, drawn, self.vectors(drawn))

    def _by_embeddings(self, weights: NDArray[np.float32], intercept: float, ids: Ids) -> Candidates:
        found = self.backend.score(weights, tier="embeddings", ids=ids)
        return replace(found, scores=_scores(found) + np.float32(intercept))


class _Sample:
    """Random items of a view: ids (s,) int64, and vectors (s, D) float32, their centred embeddings."""

    def __init__(self, catalog: Catalog, ids: Ids, vectors: NDArray[np.float32]):
        self.ids, self.vectors = ids, vectors
        self._signs = catalog.signs
        self._bits, self._scales = catalog.sign_bits(ids)

    def by_embeddings(self, weights: NDArray[np.float32]) -> Scores:
        """Return their dots with the weights, (s,) float32. The number of cores does not change a bit of them."""
        with one_thread():
            dots: Scores = self.vectors @ weights
        return dots

    def by_bits(self, weights: NDArray[np.float32]) -> Scores:
        """Return their scores by bits, (s,) float32, equal to those of every backend."""
        assert self._signs is not None  # nosec B101  # called only for catalogs with bits
        return self._signs.planes(weights).scores(self._bits, self._scales)


def _rest(catalog: Catalog, listed: Ids, n: int, where: Bitmap | None) -> tuple[Ids, float]:
    """Return random ids of items that are not listed, and how many items each stands for."""
    if len(listed) >= n:
        return np.zeros(0, np.int64), 1.0
    drawn = catalog.sample_ids(SAMPLED, np.random.default_rng(0), where)
    drawn = drawn[~among(drawn, listed)]
    return drawn, (n - len(listed)) / max(1, len(drawn))


def _nearest(falling: Scores, cut: float, count: int) -> slice:
    """Return the rows of the `count` scores nearest to the cut, of scores in descending order."""
    last = max(0, len(falling) - count)
    first = bisect_left(range(last), True, key=lambda i: falling[i] - cut <= cut - falling[i + count])
    return slice(first, first + count)


def _line(bits: Scores, exact: Scores) -> tuple[float, float, float]:
    """Return scale and offset of the least-squares line from bits to exact scores, and the deviation around it."""
    if len(bits) < 2:
        return 1.0, 0.0, 1.0
    x, y = bits.astype(np.float64), exact.astype(np.float64)
    centred = x - x.mean()
    scale = max(float(centred @ y) / max(float(centred @ centred), 1e-12), 1e-12)
    offset = float(y.mean() - scale * x.mean())
    return scale, offset, max(float((y - scale * x - offset).std()), 1e-9)


def in_order(found: Candidates, ids: Ids) -> Scores:
    """Return the scores of ids, in the order of ids."""
    order = np.argsort(found.ids)
    scores: Scores = _scores(found)[order[np.searchsorted(found.ids, ids, sorter=order)]]
    return scores


def _scores(found: Candidates) -> Scores:
    return np.zeros(0, np.float32) if found.scores is None else found.scores
