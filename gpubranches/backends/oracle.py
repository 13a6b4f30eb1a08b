"""The oracle: plain NumPy over row-major codes, a tile's worth of rows at a time. It defines every answer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gpubranches.backends.scan import Keys, Mask, ScanBackend, border_rows
from gpubranches.boxes import Boxes
from gpubranches.catalog import TILE, Segment
from gpubranches.errors import UsageError
from gpubranches.quantize import CodeWeights, WeightPlanes


class OracleBackend(ScanBackend):
    """Slow and plain; memory bounded by one segment's keys."""

    name = "oracle"

    def _votes(self, segment: Segment, boxes: Boxes, min_votes: int, mask: Mask) -> Keys:
        votes = np.concatenate([boxes.votes(segment.row_codes(*part)) for part in _parts(segment)])
        rows = np.flatnonzero((votes >= min_votes) & _all(mask, segment))
        return rows, votes[rows]

    def _nearest(self, segment: Segment, query: NDArray[np.uint8], k: int, mask: Mask) -> Keys:
        squared = np.concatenate(
            [
                ((segment.row_codes(*part).astype(np.int32) - query.astype(np.int32)) ** 2).sum(axis=1, dtype=np.int32)
                for part in _parts(segment)
            ]
        )
        rows = np.flatnonzero(_all(mask, segment))
        rows = rows[border_rows(-squared[rows], k)]
        return rows, squared[rows]

    def _score_bits(self, segment: Segment, planes: WeightPlanes, floor: float, limit: int | None, mask: Mask) -> Keys:
        if segment.bits is None or segment.scales is None:
            raise UsageError("bits: the catalog has none")
        scores = np.concatenate([planes.scores(segment.bits[a:b], segment.scales[a:b]) for a, b in _parts(segment)])
        rows = np.flatnonzero((scores >= np.float32(floor)) & _all(mask, segment))
        rows = rows[border_rows(scores[rows], limit)]
        return rows, scores[rows]

    def _score_codes(self, segment: Segment, weights: CodeWeights, mask: Mask) -> Keys:
        scores = np.concatenate([weights.scores(segment.row_codes(*part)) for part in _parts(segment)])
        rows = np.flatnonzero(_all(mask, segment))
        return rows, scores[rows]


def _parts(segment: Segment) -> Iterator[tuple[int, int]]:
    return ((start, min(start + TILE, segment.n)) for start in range(0, segment.n, TILE))


def _all(mask: Mask, segment: Segment) -> NDArray[np.bool_]:
    return np.ones(segment.n, np.bool_) if mask is None else mask
