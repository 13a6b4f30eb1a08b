"""What all backends share: checks, which rows count, the order of answers. An engine supplies the scans."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gpubranches.arrays import Bitmap, as_ids, best_first, check_array
from gpubranches.backends.protocol import Tier
from gpubranches.boxes import Boxes
from gpubranches.catalog import TILE, Catalog, Segment
from gpubranches.errors import UsageError
from gpubranches.quantize import CodeWeights, SignQuantizer, WeightPlanes
from gpubranches.results import Candidates, Neighbors

Linear = WeightPlanes | CodeWeights | NDArray[np.float32]
"""A linear model of the tier bits, codes, or embeddings: (D,) float32 over x - mean."""


@dataclass(frozen=True)
class Part:
    """One segment and which of its rows count: allowed, (tiles * TILE / 64,) uint64, bit p of word w is row 64 w + p.

    Rows that are deleted, padding, or outside the caller's `where` have no bit.
    """

    segment: Segment
    allowed: NDArray[np.uint64]

    def flags(self) -> NDArray[np.bool_]:
        """Return which rows count, (n,) bool."""
        return np.unpackbits(self.allowed.view(np.uint8), count=self.segment.n, bitorder="little").view(np.bool_)


class ScanBackend(ABC):
    """A backend that scans the segments of a catalog. Calls from several threads run side by side."""

    name = "scan"

    def __init__(self, catalog: Catalog, *, nn: str = "auto"):
        self.catalog = catalog
        self.nn = "scan" if nn == "auto" else nn
        self._lock = threading.Lock()
        self._live: tuple[int, list[Part]] = (-1, [])
        self._index: Any = None

    # The scans an engine supplies; but for the votes each returns ids in any order

    @abstractmethod
    def _votes(self, parts: list[Part], boxes: Boxes, min_votes: int, limit: int | None) -> Candidates:
        """Return the items with at least min_votes, best first, at most `limit`, and how many they are."""

    @abstractmethod
    def _nearest(
        self, parts: list[Part], queries: NDArray[np.uint8], k: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int32]]]:
        """Return for each query ids, the k nearest over codes among them, and their squared L2."""

    @abstractmethod
    def _linear(
        self, parts: list[Part], model: Linear, floor: np.float32, limit: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
        """Return ids with scores >= floor, the `limit` best among them, their scores, and how many reach the floor."""

    @abstractmethod
    def _cosines(
        self, parts: list[Part], query: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return ids, the k best among them, and the cosines of query with x - mean over the embeddings."""

    # The protocol

    def info(self) -> dict[str, Any]:
        """Return name, nearest-neighbour method and the catalog's size."""
        return {"backend": self.name, "nn": self.nn, "n": self.catalog.n, "generation": self.catalog.generation}

    def close(self) -> None:
        """Release the index, if one was built."""
        self._index = None
        self._live = (-1, [])

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
        dims = self._dims(tier)
        if tier == "codes":
            check_array(queries, "queries", dtype=np.uint8, shape=(None, dims))
            return self._search_codes(queries, k, where)
        check_array(queries, "queries", dtype=np.float32, shape=(None, dims), finite=True)
        parts = self._parts(where)
        if tier == "embeddings":
            return _pad([self._by_cosine(parts, query, k) for query in queries], k, f"{self.name}/embeddings")
        if self.catalog.has_embeddings:
            found = [self._by_cosine(self._shortlist(parts, query, k), query, k) for query in queries]
            return _pad(found, k, f"{self.name}/bits+embeddings")
        return _pad([self._by_bits(parts, query, k) for query in queries], k, f"{self.name}/bits")

    def evaluate(
        self, boxes: Boxes, *, min_votes: int = 1, limit: int | None = None, where: Bitmap | None = None
    ) -> Candidates:
        """Return the items with at least min_votes; see Backend."""
        if min_votes < 1:
            raise UsageError(f"min_votes: expected 1 or more, got {min_votes}")
        _check_limit(limit)
        boxes.require_dims(self.catalog.d)
        parts = self._parts(where)
        if min_votes > boxes.n_estimators:
            return Candidates(ids=np.zeros(0, np.int64), votes=np.zeros(0, np.uint16), total=0)
        return self._votes(parts, boxes, min_votes, limit)

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
        check_array(weights, "weights", dtype=np.float32, shape=(self._dims(tier),), finite=True)
        floor = np.float32(-np.inf if threshold is None else threshold)
        if np.isnan(floor):
            raise UsageError("threshold: expected a number, got NaN")
        model: Linear = weights
        if tier == "bits":
            model = self._signs().planes(weights)
        elif tier == "codes":
            model = CodeWeights.quantise(weights)
        parts = self._parts(where)
        if ids is not None:
            parts = self._only(parts, as_ids(ids))
        found, scores, total = self._linear(parts, model, floor, limit)
        order = best_first(scores, found, limit)
        return Candidates(ids=found[order], scores=scores[order], total=total)

    # Parts of the answers

    def _search_codes(self, queries: NDArray[np.uint8], k: int, where: Bitmap | None) -> Neighbors:
        if self.nn == "faiss" and where is None and self.catalog.deleted is None:
            from gpubranches.backends.faiss_index import FaissIndex

            with self._lock:
                if self._index is None or self._index.generation != self.catalog.generation:
                    self._index = FaissIndex(self.catalog)
                index = self._index
            answer: Neighbors = index.search(queries, k)
            return answer
        found = []
        for ids, squared in self._nearest(self._parts(where), queries, k):
            order = best_first(-squared, ids, k)
            found.append((squared[order].astype(np.float32), ids[order]))
        return _pad(found, k, f"{self.name}/codes")

    def _by_cosine(
        self, parts: list[Part], query: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        ids, cosines = self._cosines(parts, query, k)
        order = best_first(cosines, ids, k)
        return 1 - cosines[order], ids[order]

    def _by_bits(
        self, parts: list[Part], query: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        planes = self._signs().planes(query)
        ids, scores, _ = self._linear(parts, planes, np.float32(-np.inf), k)
        order = best_first(scores, ids, k)
        length = np.float32(max(float(np.linalg.norm(query)), 1e-12))
        return 1 - scores[order] * np.float32(planes.step) / length, ids[order]

    def _shortlist(self, parts: list[Part], query: NDArray[np.float32], k: int) -> list[Part]:
        """Return the max(1000, 10 k) items best by the bits score, as parts."""
        limit = max(1000, 10 * k)
        ids, scores, _ = self._linear(parts, self._signs().planes(query), np.float32(-np.inf), limit)
        return self._only(parts, ids[best_first(scores, ids, limit)])

    def _parts(self, where: Bitmap | None) -> list[Part]:
        """Return the segments with the rows that are alive and in `where`."""
        with self._lock:
            if self._live[0] != self.catalog.generation:
                self._live = (self.catalog.generation, _live_parts(self.catalog))
            parts = self._live[1]
        if where is None:
            return parts
        check_array(where, "where", dtype=np.uint8, shape=(-(-self.catalog.n_positions // 8),))
        return [Part(part.segment, part.allowed & _words(where, part.segment)) for part in parts]

    def _only(self, parts: list[Part], ids: NDArray[np.int64]) -> list[Part]:
        """Return the parts with these items alone; those that are not in the catalog are left out."""
        positions = self.catalog.positions(ids[self.catalog.alive(ids)])
        bitmap = np.zeros(self.catalog.n_positions // 8, np.uint8)
        np.bitwise_or.at(bitmap, positions >> 3, np.left_shift(1, positions & 7).astype(np.uint8))
        return [Part(part.segment, part.allowed & _words(bitmap, part.segment)) for part in parts]

    def _dims(self, tier: Tier) -> int:
        """Return the dims of queries and weights of a tier, d or D. Raises UsageError if the catalog lacks it."""
        if tier not in ("codes", "bits", "embeddings"):
            raise UsageError(f"tier: expected codes, bits or embeddings, got {tier!r}")
        if tier == "codes":
            return self.catalog.d
        self._signs()
        if tier == "embeddings" and not self.catalog.has_embeddings:
            raise UsageError("embeddings: the catalog has codes and bits only; ingest the embeddings or the images")
        return self.catalog.D

    def _signs(self) -> SignQuantizer:
        if self.catalog.signs is None:
            raise UsageError("bits: the catalog has codes only; ingest embeddings to search by texts or directions")
        return self.catalog.signs


def _live_parts(catalog: Catalog) -> list[Part]:
    parts = []
    for segment in catalog.segments:
        if segment.n:
            words = np.zeros(segment.tiles * TILE // 8, np.uint8)
            words[: -(-segment.n // 8)] = 255
            if segment.n % 8:
                words[segment.n // 8] = (1 << segment.n % 8) - 1
            allowed = words.view(np.uint64)
            if catalog.deleted is not None:
                allowed &= ~_words(catalog.deleted, segment)
            parts.append(Part(segment, allowed))
    return parts


def _words(bitmap: Bitmap, segment: Segment) -> NDArray[np.uint64]:
    """Return a segment's part of a bitmap over positions as words; segments start at whole tiles."""
    first = segment.start // 8
    return np.ascontiguousarray(bitmap[first : first + segment.tiles * TILE // 8]).view(np.uint64)


def _pad(found: list[tuple[NDArray[np.float32], NDArray[np.int64]]], k: int, source: str) -> Neighbors:
    distances = np.full((len(found), k), np.inf, np.float32)
    ids = np.full((len(found), k), -1, np.int64)
    for row, (near, items) in enumerate(found):
        distances[row, : len(items)], ids[row, : len(items)] = near, items
    return Neighbors(distances=distances, ids=ids, source=source)


def _check_limit(limit: int | None) -> None:
    if limit is not None and limit < 0:
        raise UsageError(f"limit: expected 0 or more, or None for all, got {limit}")
