"""The oracle: plain NumPy over row-major codes, one tile at a time. It defines every answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import TILE, Segment
from gpubranches.core.boxes import Boxes
from gpubranches.core.results import Candidates
from gpubranches.core.tie_order import best_first
from gpubranches.encoders.quantizers import CodeWeights, WeightPlanes
from gpubranches.engines.host import HostBackend, SegmentRows
from gpubranches.engines.scan import Linear

Keys = Callable[[Segment, int, int], NDArray[Any]]
"""Returns the keys of the rows start..stop-1 of a segment; larger is better."""


class OracleBackend(HostBackend):
    """The reference backend, slow and simple. Its memory is bounded by a tile and the answer."""

    name = "oracle"

    def _model_votes(self, parts: list[SegmentRows], boxes: Boxes, min_votes: int, limit: int | None) -> Candidates:
        def keys(segment: Segment, start: int, stop: int) -> NDArray[np.uint16]:
            return boxes.votes(segment.row_codes(start, stop))

        ids, votes, total = _scan(parts, keys, min_votes, limit)
        order = best_first(votes, ids)
        return Candidates(ids=ids[order], votes=votes[order].astype(np.uint16), total=total)

    def _nearest_rows(
        self, parts: list[SegmentRows], queries: NDArray[np.uint8], k: int
    ) -> list[tuple[NDArray[np.int64], NDArray[np.int32]]]:
        found = []
        for query in queries.astype(np.int32):

            def keys(segment: Segment, start: int, stop: int, query: NDArray[np.int32] = query) -> NDArray[np.int32]:
                away = segment.row_codes(start, stop).astype(np.int32) - query
                return np.asarray(-np.sum(away * away, axis=1, dtype=np.int32))

            ids, nearness, _ = _scan(parts, keys, np.iinfo(np.int32).min, k)
            found.append((ids, -nearness.astype(np.int32)))
        return found

    def _linear_rows(
        self, parts: list[SegmentRows], model: Linear, min_score: np.float32, limit: int | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], int]:
        def keys(segment: Segment, start: int, stop: int) -> NDArray[np.float32]:
            if isinstance(model, CodeWeights):
                return model.scores(segment.row_codes(start, stop))
            if isinstance(model, WeightPlanes):
                bits, scales = np.asarray(segment.bits)[start:stop], np.asarray(segment.scales)[start:stop]
                return model.scores(bits, scales)
            return self._centred(segment, start, stop) @ model

        ids, scores, total = _scan(parts, keys, min_score, limit)
        return ids, scores.astype(np.float32), total

    def _cosine_rows(
        self, parts: list[SegmentRows], query: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        direction = query / np.float32(max(float(np.linalg.norm(query)), 1e-12))

        def keys(segment: Segment, start: int, stop: int) -> NDArray[np.float32]:
            centred = self._centred(segment, start, stop)
            norms = np.maximum(np.linalg.norm(centred, axis=1), np.float32(1e-12))
            return np.asarray(centred @ direction / norms)

        ids, cosines, _ = _scan(parts, keys, -np.inf, k)
        return ids, cosines.astype(np.float32)

    def _centred(self, segment: Segment, start: int, stop: int) -> NDArray[np.float32]:
        rows = segment.take_embeddings(np.arange(start, stop)).astype(np.float32)
        return np.asarray(rows - self._signs().mean_)


def _scan(
    parts: list[SegmentRows], keys: Keys, min_key: float | np.float32, limit: int | None
) -> tuple[NDArray[np.int64], NDArray[Any], int]:
    """Return ids and keys of the `limit` best rows with keys >= min_key, or of all, and how many such rows exist."""
    total = 0
    gathered: list[tuple[NDArray[np.int64], NDArray[Any]]] = []
    for part in parts:
        segment, flags = part.segment, part.flags()
        for start in range(0, segment.n, TILE):
            stop = min(start + TILE, segment.n)
            values = keys(segment, start, stop)
            rows = np.flatnonzero(flags[start:stop] & (values >= min_key))
            total += len(rows)
            gathered.append((segment.ids[start + rows], values[rows]))
            if limit is not None:
                gathered = [_joined(gathered, limit)]
    ids, found = _joined(gathered, limit)
    return ids, found, total


def _joined(
    gathered: list[tuple[NDArray[np.int64], NDArray[Any]]], limit: int | None
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    if not gathered:
        return np.zeros(0, np.int64), np.zeros(0, np.float32)
    ids = np.concatenate([part for part, _ in gathered])
    keys = np.concatenate([part for _, part in gathered])
    if limit is not None and len(ids) > limit:
        best = best_first(keys, ids, limit)
        return ids[best], keys[best]
    return ids, keys
