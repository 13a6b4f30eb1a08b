"""The common parts of the CPU backends: the allowed rows of each segment, and the order of scan results."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import TILE, Catalog, Segment
from gpubranches.core.bitmaps import Bitmap
from gpubranches.core.boxes import Boxes
from gpubranches.core.results import Candidates
from gpubranches.core.tie_order import best_first
from gpubranches.engines.scan import Linear, ScanBackend


@dataclass(frozen=True)
class SegmentRows:
    """A segment and its allowed rows: allowed, (tiles * TILE / 64,) uint64, bit p of word w stands for row 64 w + p.

    Rows that are deleted, padding, or excluded by the caller's filter have no bit.
    """

    segment: Segment
    allowed: NDArray[np.uint64]

    def flags(self) -> NDArray[np.bool_]:
        """Return which rows are allowed, (n,) bool."""
        return np.unpackbits(self.allowed.view(np.uint8), count=self.segment.n, bitorder="little").view(np.bool_)


class HostBackend(ScanBackend[list[SegmentRows]]):
    """A backend that scans the memory-mapped segments. Calls from several threads run in parallel."""

    def __init__(self, catalog: Catalog, *, nn: str = "auto"):
        super().__init__(catalog, nn=nn)
        self._live: tuple[int, list[SegmentRows]] = (-1, [])

    def close(self) -> None:
        """Release the index, if one was built."""
        super().close()
        self._live = (-1, [])

    # The scans that an engine supplies. All but `_model_votes` return ids in any order.

    @abstractmethod
    def _model_votes(self, parts: list[SegmentRows], boxes: Boxes, min_votes: int, limit: int | None) -> Candidates:
        """Return the `limit` best items with at least min_votes, best first, and total, the number of such items."""

    @abstractmethod
    def _nearest_rows(
        self, parts: list[SegmentRows], queries: NDArray[np.uint8], k: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int32]]]:
        """Return for each query some ids, which include the k nearest over codes, and their squared L2."""

    @abstractmethod
    def _linear_rows(
        self, parts: list[SegmentRows], model: Linear, min_score: np.float32, limit: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
        """Return ids with scores >= min_score, with the `limit` best; their scores; the number of all such items."""

    @abstractmethod
    def _cosine_rows(
        self, parts: list[SegmentRows], query: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return ids, which include the k best, and the cosines of query with x - mean over the embeddings."""

    # The scans of ScanBackend

    def _votes(
        self, rows: list[SegmentRows], models: list[Boxes], min_votes: int, limit: int | None
    ) -> list[Candidates]:
        return [self._model_votes(rows, boxes, min_votes, limit) for boxes in models]

    def _nearest(
        self, rows: list[SegmentRows], queries: NDArray[np.uint8], k: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int32]]]:
        found = []
        for ids, squared in self._nearest_rows(rows, queries, k):
            order = best_first(-squared, ids, k)
            found.append((ids[order], squared[order]))
        return found

    def _linear(self, rows: list[SegmentRows], model: Linear, min_score: np.float32, limit: int | None) -> Candidates:
        ids, scores, total = self._linear_rows(rows, model, min_score, limit)
        ids, scores = self._ranked(ids, scores, limit)
        return Candidates(ids=ids, scores=scores, total=total)

    def _ranked(
        self, ids: NDArray[np.int64], scores: NDArray[np.float32], limit: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return ids and scores, best first, at most `limit`."""
        order = best_first(scores, ids, limit)
        return ids[order], scores[order]

    def _cosines(self, rows: list[SegmentRows], query: NDArray[np.float32], k: int) -> Candidates:
        ids, cosines = self._cosine_rows(rows, query, k)
        order = best_first(cosines, ids, k)
        return Candidates(ids=ids[order], scores=cosines[order], total=len(order))

    def _rows(self, where: Bitmap | None) -> list[SegmentRows]:
        with self._lock:
            if self._live[0] != self.catalog.generation:
                self._live = (self.catalog.generation, _live_parts(self.catalog))
            parts = self._live[1]
        return parts if where is None else [_masked(part, where) for part in parts]

    def _with_ids(self, rows: list[SegmentRows], ids: NDArray[np.int64]) -> list[SegmentRows]:
        positions = self.catalog.live_positions(ids)
        bitmap = np.zeros(self.catalog.n_positions // 8, np.uint8)
        np.bitwise_or.at(bitmap, positions >> 3, np.left_shift(1, positions & 7).astype(np.uint8))
        return [_masked(part, bitmap) for part in rows]

    def _bitmap(self, rows: list[SegmentRows]) -> Bitmap:
        bitmap = np.zeros(self.catalog.n_positions // 8, np.uint8)
        for part in rows:
            _words(bitmap, part.segment)[:] = part.allowed
        return bitmap

    def _in_boxes(self, rows: list[SegmentRows], boxes: Boxes) -> list[SegmentRows]:
        return self._with_ids(rows, self._model_votes(rows, boxes, 1, None).ids)


def _masked(part: SegmentRows, bitmap: Bitmap) -> SegmentRows:
    return SegmentRows(part.segment, part.allowed & _words(bitmap, part.segment))


def _live_parts(catalog: Catalog) -> list[SegmentRows]:
    return [SegmentRows(segment, live_words(segment, catalog.deleted)) for segment in catalog.segments if segment.n]


def live_words(segment: Segment, deleted: Bitmap | None) -> NDArray[np.uint64]:
    """Return a bitmap of the rows of a segment that are neither padding nor deleted, (tiles * TILE / 64,) uint64."""
    words = np.zeros(segment.tiles * TILE // 8, np.uint8)
    words[: segment.n // 8] = 255
    if segment.n % 8:
        words[segment.n // 8] = (1 << segment.n % 8) - 1
    allowed = words.view(np.uint64)
    if deleted is not None:
        allowed &= ~_words(deleted, segment)
    return allowed


def _words(bitmap: Bitmap, segment: Segment) -> NDArray[np.uint64]:
    """Return a segment's part of a bitmap over positions as words. Segments start at whole tiles."""
    first = segment.start // 8
    return np.ascontiguousarray(bitmap[first : first + segment.tiles * TILE // 8]).view(np.uint64)


def flat(array: NDArray[Any]) -> NDArray[Any]:
    """Return a read-only flat view. Mapped and other arrays get the same type, so numba compiles a kernel only once."""
    view = array.view(np.ndarray).reshape(-1)
    view.flags.writeable = False
    return view
