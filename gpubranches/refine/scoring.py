"""The scores of a whole catalog by a linear model: exact where they are few or matter, estimated elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from gpubranches.arrays import Bitmap, best_first
from gpubranches.errors import UsageError
from gpubranches.refine.spread import code_spread_of, code_vectors, spread_of
from gpubranches.whitening import Whitening

if TYPE_CHECKING:
    from gpubranches.backends import Backend
    from gpubranches.catalog import Catalog
    from gpubranches.results import Candidates

MOST_EXACT = 200_000
"""Items up to which all stored embeddings are read."""
LISTED = 65_536
"""Best items that are listed of a larger catalog."""
SAMPLED = 20_000
"""Random items that stand for what is not listed."""
HEAD = 4000
"""Best listed items that are scored exactly."""
NEAR_CUT = 20_000
"""Listed items nearest to the cut that are scored exactly."""
_MARGIN = 3.0

Ids = NDArray[np.int64]
Scores = NDArray[np.float32]


@dataclass(frozen=True)
class CatalogScores:
    """Scores of a catalog by one linear model.

    ids: (m,) int64, the best items, with scores (m,) float32 in falling order; sampled: (s,) int64, random items of the
    rest, with sampled_scores (s,) float32; stands_for: items that one of the sampled stands for. scale, offset, error:
    the line from bits to exact scores, score = scale bits + offset, and the standard deviation around it; 1, 0, 0 where
    all scores are exact. depth: the estimated score of the last that was listed by bits: what scores more is listed,
    but for the error.
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
        """Return ids, scores and how many items each stands for, of the unmarked ones, (u,) each."""
        ids = np.concatenate([self.ids, self.sampled])
        scores = np.concatenate([self.scores, self.sampled_scores])
        weights = np.ones(len(ids))
        weights[len(self.ids) :] = self.stands_for
        open_ = ~np.isin(ids, marked)
        return ids[open_], scores[open_], weights[open_]

    def thinned(self, marked: Ids, count: int) -> tuple[Ids, Scores, NDArray[np.float64]]:
        """Return about `count` of what `without` returns, at even steps of the score, each for as many more items."""
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
    """What a linear model sees of the items: embeddings or codes."""

    whitening: Whitening

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
        self.mean, self.local = code_spread_of(catalog)
        self.whitening = self.local

    def vectors(self, ids: Ids) -> NDArray[np.float32]:
        """Return centred vectors of codes, (m, d) float32."""
        return code_vectors(self.catalog, ids) - self.mean

    def scores(self, weights: NDArray[np.float32], intercept: float) -> CatalogScores:
        """Return exact scores of the best `LISTED`, and of a sample of the rest."""
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
    """Embeddings, within a filter: where is a bitmap of `Catalog.where`, None for all items."""

    def __init__(self, backend: Backend, catalog: Catalog, where: Bitmap | None):
        if catalog.signs is None:
            raise UsageError("second_stage: the catalog has no mean of its embeddings; ingest it again")
        self.backend, self.catalog, self.where = backend, catalog, where
        self.mean = catalog.signs.mean_
        self.whitening, self.local = spread_of(catalog)
        self.n = catalog.count(where)

    def vectors(self, ids: Ids) -> NDArray[np.float32]:
        """Return centred embeddings, (m, D) float32."""
        centred: NDArray[np.float32] = self.catalog.embeddings(ids) - self.mean
        return centred

    def scores(self, weights: NDArray[np.float32], intercept: float) -> CatalogScores:
        """Return all scores of up to `MOST_EXACT` items; of more, those of the best and of a sample.

        Of a larger catalog, or of one that decodes its embeddings, the best `LISTED` by bits are listed. The best
        `HEAD` of them and the sample are scored by embeddings; the others get the score that the line from bits to
        exact scores, fitted to the sample, foretells.
        """
        none = np.zeros(0, np.int64)
        if self.catalog.stores_embeddings and self.n <= MOST_EXACT:
            found = self.backend.score(weights, tier="embeddings", where=self.where)
            scores: Scores = _scores(found) + np.float32(intercept)
            return CatalogScores(found.ids, scores, none, none.astype(np.float32), 1.0)
        rough = self.backend.score(weights, tier="bits", where=self.where, limit=LISTED)
        drawn = self.catalog.sample_ids(SAMPLED, np.random.default_rng(0), self.where)
        bits, exact = self._by_bits(weights, drawn), self._by_embeddings(weights, intercept, drawn)
        scale, offset, error = _line(bits, exact)
        guessed = (np.float32(scale) * _scores(rough) + np.float32(offset)).astype(np.float32)
        depth = float(guessed[-1]) if len(guessed) else -np.inf
        guessed[:HEAD] = self._by_embeddings(weights, intercept, rough.ids[:HEAD])
        order = best_first(guessed, rough.ids)
        outside = ~np.isin(drawn, rough.ids)
        left = max(0, self.n - len(rough.ids))
        return CatalogScores(
            rough.ids[order],
            guessed[order],
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
        """Return ids and scores, best first, of all items above the cut, of many below it, and of the marked ones.

        The `NEAR_CUT` items nearest to the cut have exact scores, so an estimate decides nothing that is close.
        """
        ids, scores = found.ids, found.scores
        if found.error == 0:
            return ids, scores
        if found.depth > cut - _MARGIN * found.error and len(ids) < self.n:
            floor = (cut - _MARGIN * found.error - found.offset) / max(found.scale, 1e-12)
            rough = self.backend.score(weights, tier="bits", where=self.where, threshold=floor)
            more = ~np.isin(rough.ids, ids)
            guessed = np.float32(found.scale) * _scores(rough)[more] + np.float32(found.offset)
            ids, scores = np.concatenate([ids, rough.ids[more]]), np.concatenate([scores, guessed])
        missing = np.unique(marked)
        missing = missing[~np.isin(missing, ids)]
        ids = np.concatenate([ids, missing])
        scores = np.concatenate([scores, np.zeros(len(missing), np.float32)]).astype(np.float32)
        rows = _smallest(np.abs(scores - np.float32(cut)), NEAR_CUT)
        rows = np.union1d(rows, np.flatnonzero(np.isin(ids, marked)))
        scores[rows] = self._by_embeddings(weights, intercept, ids[rows])
        order = best_first(scores, ids)
        return ids[order], scores[order]

    def _by_embeddings(self, weights: NDArray[np.float32], intercept: float, ids: Ids) -> Scores:
        dots = in_order(self.backend.score(weights, tier="embeddings", ids=ids), ids)
        scores: Scores = dots + np.float32(intercept)
        return scores

    def _by_bits(self, weights: NDArray[np.float32], ids: Ids) -> Scores:
        return in_order(self.backend.score(weights, tier="bits", ids=ids), ids)


def _rest(catalog: Catalog, listed: Ids, n: int, where: Bitmap | None) -> tuple[Ids, float]:
    """Return random ids that are not listed, and how many items each stands for."""
    if len(listed) >= n:
        return np.zeros(0, np.int64), 1.0
    drawn = catalog.sample_ids(SAMPLED, np.random.default_rng(0), where)
    drawn = drawn[~np.isin(drawn, listed)]
    return drawn, (n - len(listed)) / max(1, len(drawn))


def _smallest(numbers: Scores, count: int) -> NDArray[np.intp]:
    """Return the rows of the `count` smallest numbers, of equal ones the first, in any order."""
    if count >= len(numbers):
        return np.arange(len(numbers))
    border = np.partition(numbers, count - 1)[count - 1]
    below = np.flatnonzero(numbers < border)
    return np.concatenate([below, np.flatnonzero(numbers == border)[: count - len(below)]])


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
    """Return the scores of ids in their order."""
    order = np.argsort(found.ids)
    scores: Scores = _scores(found)[order[np.searchsorted(found.ids, ids, sorter=order)]]
    return scores


def _scores(found: Candidates) -> Scores:
    return np.zeros(0, np.float32) if found.scores is None else found.scores
