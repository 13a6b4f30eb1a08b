"""The CPU backend: numba over tiles and zones, all cores."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from gpubranches.backends import cpu_kernels as kernels
from gpubranches.backends.scan import Keys, Mask, ScanBackend, border_rows
from gpubranches.boxes import Boxes
from gpubranches.catalog import ZONE, Segment
from gpubranches.errors import UsageError
from gpubranches.quantize import CodeWeights, WeightPlanes

_NO_MASK = np.zeros(0, np.bool_)
_SEED_ZONES = 64


class CpuBackend(ScanBackend):
    """Scans the memory-mapped tiers in place; anonymous memory is a few bytes a row of one segment at a time."""

    name = "cpu"

    def _votes(self, segment: Segment, boxes: Boxes, min_votes: int, mask: Mask) -> Keys:
        votes = kernels.votes(
            segment.codes,
            segment.zones,
            segment.n,
            np.searchsorted(boxes.estimator, np.arange(boxes.n_estimators + 1)),
            boxes.offsets,
            boxes.features,
            boxes.low,
            boxes.high,
        )
        rows = _rows_at_least(votes, segment.n, np.uint16(min(min_votes, 65535)), mask)
        return rows, votes[rows]

    def _nearest(self, segment: Segment, query: NDArray[np.uint8], k: int, mask: Mask) -> Keys:
        """Scan with pruning: the nearest zones by their bounds give a border, then zones beyond it are skipped."""
        wide = query.astype(np.int32)
        bounds = kernels.zone_bounds(segment.zones, wide)
        zones = -(-segment.n // ZONE)
        seeds = max(_SEED_ZONES, -(-2 * k // ZONE))
        border = np.int32(np.iinfo(np.int32).max)
        if mask is None and zones > 4 * seeds:
            # The last zone may be padded, so it gives no border.
            chosen = np.argpartition(bounds[: zones - 1], seeds)[:seeds]
            squared = kernels.zone_distances(segment.codes, chosen, wide).reshape(-1)
            border = np.partition(squared, k - 1)[k - 1]
        found, squared = kernels.near_rows(
            segment.codes,
            bounds,
            wide,
            k,
            border,
            segment.n,
            _NO_MASK if mask is None else mask,
            mask is not None,
            numba.get_num_threads(),
        )
        rows, keys = np.concatenate(found), np.concatenate(squared)
        best = border_rows(-keys, k)
        return rows[best], keys[best]

    def _score_bits(self, segment: Segment, planes: WeightPlanes, floor: float, limit: int | None, mask: Mask) -> Keys:
        if segment.bits is None or segment.scales is None:
            raise UsageError("bits: the catalog has none")
        word = np.uint64 if planes.n_bits % 64 == 0 else np.uint32
        scores = kernels.bit_scores(
            np.asarray(segment.bits).view(word),
            segment.scales.astype(np.float32),
            kernels.word_planes(planes.planes, word),
            15 * planes.n_bits - 2 * planes.total,
        )
        if limit is not None and 0 < limit < segment.n:
            floor = max(floor, _border_estimate(scores, limit, mask))
        rows = _rows_at_least(scores, segment.n, np.float32(floor), mask)
        rows = rows[border_rows(scores[rows], limit)]
        return rows, scores[rows]

    def _score_codes(self, segment: Segment, weights: CodeWeights, mask: Mask) -> Keys:
        dots = kernels.code_dots(segment.codes, weights.weights.astype(np.int32))[: segment.n]
        rows = np.arange(segment.n) if mask is None else np.flatnonzero(mask)
        return rows, dots[rows].astype(np.float32)


def _rows_at_least(keys: NDArray[np.generic], n: int, floor: np.generic, mask: Mask) -> NDArray[np.int64]:
    rows: NDArray[np.int64] = kernels.rows_at_least(
        keys, n, floor, _NO_MASK if mask is None else mask, mask is not None
    )
    return rows


def _border_estimate(scores: NDArray[np.float32], limit: int, mask: Mask) -> float:
    """Return a score that at least `limit` rows reach: from a sample, checked; -inf if the sample does not help."""
    step = 64
    sample = scores[::step] if mask is None else scores[::step][mask[::step]]
    rank = 2 * limit // step + 16
    if rank >= len(sample):
        return -np.inf
    border = np.partition(sample, len(sample) - rank)[len(sample) - rank]
    reach = len(_rows_at_least(scores, len(scores), border, mask))
    return float(border) if reach >= limit else -np.inf
