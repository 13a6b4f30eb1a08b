"""What all backends share: checks, masks, ordering of answers. An engine supplies the scans over one segment."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gpubranches.arrays import Bitmap, as_ids, best_first, check_array
from gpubranches.backends.protocol import Tier
from gpubranches.boxes import Boxes
from gpubranches.catalog import Catalog, Segment
from gpubranches.errors import UsageError
from gpubranches.quantize import CodeWeights, SignQuantizer, WeightPlanes
from gpubranches.results import Candidates, Neighbors

Mask = NDArray[np.bool_] | None
"""Which rows of a segment count, (n,) bool; None: all."""
Keys = tuple[NDArray[np.int64], NDArray[Any]]
"""Rows of a segment, (m,) int64, and their keys, (m,): what one scan of one segment found."""

_EXACT_ROWS = 16384


class ScanBackend(ABC):
    """A backend that scans the segments of a catalog one after the other.

    Calls from several threads take turns, because numba's default threading layer allows one parallel region at a
    time, and because each call uses all cores anyway.
    """

    name = "scan"

    def __init__(self, catalog: Catalog, *, nn: str = "auto"):
        self.catalog = catalog
        self.nn = "scan" if nn == "auto" else nn
        self._turn = threading.RLock()
        self._index: Any = None

    # The scans an engine supplies

    @abstractmethod
    def _votes(self, segment: Segment, boxes: Boxes, min_votes: int, mask: Mask) -> Keys:
        """Return rows with at least min_votes, ascending, and their votes, uint16."""

    @abstractmethod
    def _nearest(self, segment: Segment, query: NDArray[np.uint8], k: int, mask: Mask) -> Keys:
        """Return a superset of the k nearest rows with all ties of the last, and squared distances, int32."""

    @abstractmethod
    def _score_bits(self, segment: Segment, planes: WeightPlanes, floor: float, limit: int | None, mask: Mask) -> Keys:
        """Return rows with scores >= floor, or a superset of the `limit` best with all ties of the last; float32."""

    @abstractmethod
    def _score_codes(self, segment: Segment, weights: CodeWeights, mask: Mask) -> Keys:
        """Return all rows in the mask and their scores, float32."""

    # The protocol

    def info(self) -> dict[str, Any]:
        """Return name, nearest-neighbour method and the catalog's size."""
        return {"backend": self.name, "nn": self.nn, "n": self.catalog.n, "generation": self.catalog.generation}

    def close(self) -> None:
        """Release the index, if one was built."""
        self._index = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def search(self, queries: NDArray[Any], k: int, *, tier: Tier, where: Bitmap | None = None) -> Neighbors:
        """Return the k nearest items of each query; see Backend."""
        if k < 1:
            raise UsageError(f"k: expected 1 or more, got {k}")
        self._check_where(where)
        with self._turn:
            if tier == "codes":
                check_array(queries, "queries", dtype=np.uint8, shape=(None, self.catalog.d))
                return self._search_codes(queries, k, where)
            check_array(queries, "queries", dtype=np.float32, shape=(None, self.catalog.D), finite=True)
            signs = self._signs()
            exact = tier == "embeddings" or self.catalog.has_embeddings
            if tier == "embeddings":
                self._require_embeddings()
            found = []
            for query in queries:
                candidates = None
                if tier == "bits":
                    candidates = self._scored(signs.planes(query), "bits", None, max(1000, 10 * k), where)
                found.append(self._nearest_directions(query, k, candidates, exact, signs, where))
            stages = {"embeddings": "embeddings", "bits": "bits+embeddings" if exact else "bits"}[tier]
            return _pad(found, k, f"{self.name}/{stages}")

    def evaluate(
        self, boxes: Boxes, *, min_votes: int = 1, limit: int | None = None, where: Bitmap | None = None
    ) -> Candidates:
        """Return the items with at least min_votes; see Backend."""
        if min_votes < 1:
            raise UsageError(f"min_votes: expected 1 or more, got {min_votes}")
        _check_limit(limit)
        self._check_where(where)
        boxes.require_dims(self.catalog.d)
        with self._turn:
            parts = [(s, self._votes(s, boxes, min_votes, self._mask(s, where))) for s in self._segments()]
        ids = _joined([segment.ids[rows] for segment, (rows, _) in parts], np.int64)
        votes = _joined([keys for _, (_, keys) in parts], np.uint16)
        order = best_first(votes, ids, limit)
        return Candidates(ids=ids[order], votes=votes[order], total=len(ids))

    def evaluate_many(
        self, models: Sequence[Boxes], *, min_votes: int = 1, limit: int | None = None, where: Bitmap | None = None
    ) -> list[Candidates]:
        """Evaluate the models of several users; see Backend."""
        return [self.evaluate(boxes, min_votes=min_votes, limit=limit, where=where) for boxes in models]

    def score(
        self,
        weights: NDArray[np.float32],
        *,
        tier: Tier,
        ids: NDArray[np.int64] | None = None,
        threshold: float | None = None,
        limit: int | None = None,
        where: Bitmap | None = None,
    ) -> Candidates:
        """Return items by a linear score; see Backend."""
        _check_limit(limit)
        self._check_where(where)
        dims = self.catalog.d if tier == "codes" else self.catalog.D
        check_array(weights, "weights", dtype=np.float32, shape=(dims,), finite=True)
        if tier == "embeddings":
            self._require_embeddings()
        linear: Any = weights
        if tier == "bits":
            linear = self._signs().planes(weights)
        elif tier == "codes":
            linear = CodeWeights.quantise(weights)
        with self._turn:
            if ids is not None:
                return self._score_ids(linear, tier, as_ids(ids), threshold, limit, where)
            return self._scored(linear, tier, threshold, limit, where)

    # Parts of the answers

    def _scored(
        self, linear: Any, tier: Tier, threshold: float | None, limit: int | None, where: Bitmap | None
    ) -> Candidates:
        """Score the whole catalog; with a limit alone, scans may leave out rows that cannot be among the best."""
        floor = -np.inf if threshold is None else threshold
        ids, scores, total = [], [], 0
        for segment in self._segments():
            mask = self._mask(segment, where)
            if tier == "bits":
                rows, keys = self._score_bits(segment, linear, floor, limit if threshold is None else None, mask)
            elif tier == "codes":
                rows, keys = self._score_codes(segment, linear, mask)
            else:
                rows = np.arange(segment.n) if mask is None else np.flatnonzero(mask)
                keys = self._embedding_dots(segment, linear, rows)
            if threshold is not None:
                kept = keys >= np.float32(threshold)
                rows, keys = rows[kept], keys[kept]
                total += len(rows)
            else:
                total += segment.n if mask is None else int(mask.sum())
            ids.append(segment.ids[rows])
            scores.append(keys)
        return _best(_joined(ids, np.int64), _joined(scores, np.float32), total, limit)

    def _score_ids(
        self,
        linear: Any,
        tier: Tier,
        ids: NDArray[np.int64],
        threshold: float | None,
        limit: int | None,
        where: Bitmap | None,
    ) -> Candidates:
        ids = np.unique(ids)
        ids = ids[self.catalog.alive(ids)]
        positions = self.catalog.positions(ids)
        if where is not None:
            inside = (where[positions // 8] >> (positions % 8).astype(np.uint8)) & 1 == 1
            ids, positions = ids[inside], positions[inside]
        scores = np.zeros(len(ids), np.float32)
        for segment in self._segments():
            at = np.flatnonzero((positions >= segment.start) & (positions < segment.start + segment.n))
            if len(at):
                scores[at] = self._row_scores(segment, linear, tier, positions[at] - segment.start)
        if threshold is not None:
            kept = scores >= np.float32(threshold)
            ids, scores = ids[kept], scores[kept]
        return _best(ids, scores, len(ids), limit)

    def _row_scores(self, segment: Segment, linear: Any, tier: Tier, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        if tier == "embeddings":
            return self._embedding_dots(segment, linear, rows)
        if tier == "codes":
            scores: NDArray[np.float32] = linear.scores(segment.take_codes(rows))
            return scores
        if segment.bits is None or segment.scales is None:
            raise UsageError("bits: the catalog has none")
        dots: NDArray[np.float32] = linear.scores(segment.bits[rows], segment.scales[rows])
        return dots

    def _embedding_dots(
        self, segment: Segment, weights: NDArray[np.float32], rows: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        mean = self._signs().mean_
        out = np.zeros(len(rows), np.float32)
        if segment.embeddings is not None:
            for start in range(0, len(rows), _EXACT_ROWS):
                part = rows[start : start + _EXACT_ROWS]
                out[start : start + _EXACT_ROWS] = (segment.embeddings[part].astype(np.float32) - mean) @ weights
        return out

    def _nearest_directions(
        self,
        query: NDArray[np.float32],
        k: int,
        candidates: Candidates | None,
        exact: bool,
        signs: SignQuantizer,
        where: Bitmap | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return (distances, ids) of the k nearest by cosine, among the candidates or all items."""
        length = np.float32(max(float(np.linalg.norm(query)), 1e-12))
        if not exact and candidates is not None and candidates.scores is not None:
            step = np.float32(signs.planes(query).step)
            return 1 - candidates.scores[:k] * step / length, candidates.ids[:k]
        ids, distances = [], []
        for segment in self._segments():
            rows = self._candidate_rows(segment, candidates, where)
            for start in range(0, len(rows), _EXACT_ROWS):
                part = rows[start : start + _EXACT_ROWS]
                if segment.embeddings is None:
                    continue
                centred = segment.embeddings[part].astype(np.float32) - signs.mean_
                norms = np.maximum(np.linalg.norm(centred, axis=1), np.float32(1e-12))
                distances.append(1 - centred @ query / (norms * length))
                ids.append(segment.ids[part])
        found, far = _joined(ids, np.int64), _joined(distances, np.float32)
        order = best_first(-far, found, k)
        return far[order], found[order]

    def _candidate_rows(
        self, segment: Segment, candidates: Candidates | None, where: Bitmap | None
    ) -> NDArray[np.int64]:
        if candidates is None:
            mask = self._mask(segment, where)
            return np.arange(segment.n) if mask is None else np.flatnonzero(mask)
        positions = self.catalog.positions(candidates.ids) - segment.start
        return np.sort(positions[(positions >= 0) & (positions < segment.n)])

    def _search_codes(self, queries: NDArray[np.uint8], k: int, where: Bitmap | None) -> Neighbors:
        if self.nn == "faiss" and where is None and self.catalog.deleted is None:
            from gpubranches.backends.faiss_index import FaissIndex

            if self._index is None or self._index.generation != self.catalog.generation:
                self._index = FaissIndex(self.catalog)
            answer: Neighbors = self._index.search(queries, k)
            return answer
        found = []
        for query in queries:
            parts = [(s, self._nearest(s, query, k, self._mask(s, where))) for s in self._segments()]
            ids = _joined([segment.ids[rows] for segment, (rows, _) in parts], np.int64)
            squared = _joined([keys for _, (_, keys) in parts], np.int32)
            order = best_first(-squared, ids, k)
            found.append((squared[order].astype(np.float32), ids[order]))
        return _pad(found, k, f"{self.name}/codes")

    def _segments(self) -> list[Segment]:
        return [segment for segment in self.catalog.segments if segment.n]

    def _mask(self, segment: Segment, where: Bitmap | None) -> Mask:
        """Return the rows of a segment that are alive and in `where`; None if that is all of them."""
        if where is None and self.catalog.deleted is None:
            return None
        own = slice(segment.start // 8, -(-(segment.start + segment.n) // 8))
        flags = np.full(own.stop - own.start, 255, np.uint8) if where is None else where[own]
        if self.catalog.deleted is not None:
            flags = flags & ~self.catalog.deleted[own]
        return np.unpackbits(flags, count=segment.n, bitorder="little").astype(np.bool_)

    def _check_where(self, where: Bitmap | None) -> None:
        if where is not None:
            check_array(where, "where", dtype=np.uint8, shape=(-(-self.catalog.n_positions // 8),))

    def _signs(self) -> SignQuantizer:
        if self.catalog.signs is None:
            raise UsageError("bits: the catalog has codes only; ingest embeddings to search by texts or directions")
        return self.catalog.signs

    def _require_embeddings(self) -> None:
        if not self.catalog.has_embeddings:
            raise UsageError("embeddings: the catalog has none; ingest the embeddings or the images")


def _best(ids: NDArray[np.int64], scores: NDArray[np.float32], total: int, limit: int | None) -> Candidates:
    order = best_first(scores, ids, limit)
    return Candidates(ids=ids[order], scores=scores[order], total=total)


def _pad(found: list[tuple[NDArray[np.float32], NDArray[np.int64]]], k: int, source: str) -> Neighbors:
    distances = np.full((len(found), k), np.inf, np.float32)
    ids = np.full((len(found), k), -1, np.int64)
    for row, (near, items) in enumerate(found):
        distances[row, : len(items)], ids[row, : len(items)] = near, items
    return Neighbors(distances=distances, ids=ids, source=source)


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 0:
        raise UsageError(f"limit: expected 0 or more, or None for all, got {limit}")


def _joined(parts: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *parts])


def border_rows(keys: NDArray[Any], limit: int | None) -> NDArray[np.intp]:
    """Return the indices of the `limit` largest keys together with all ties of the last of them."""
    if limit is None or limit >= len(keys):
        return np.arange(len(keys))
    if limit == 0:
        return np.zeros(0, np.intp)
    return np.flatnonzero(keys >= np.partition(keys, len(keys) - limit)[len(keys) - limit])
