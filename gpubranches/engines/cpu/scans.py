"""The scans of the cpu backend for linear scores, one function for each tier; each scores the rows of a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpubranches.catalog import TILE
from gpubranches.encoders.quantizers import CodeWeights, WeightPlanes
from gpubranches.engines.cpu import score_kernels
from gpubranches.engines.host import SegmentRows, flat

_DECODED_ROWS = 8192

Task = tuple[SegmentRows, int, int]
"""Tiles first..stop-1 of a segment, the work of one thread."""
Scored = tuple[NDArray[np.int32], NDArray[np.int32], int]
"""Rows of a segment, the keys of their scores, and how many rows reach the min_key."""
Scan = Callable[[Task, int, np.int32, NDArray[np.int32]], Scored]
"""Called with (task, limit, min_key, cutoff): scores the rows of a task."""


def bit_scan(model: WeightPlanes) -> Scan:
    """Return the scan of a linear model over the sign bits."""
    whole = model.planes.shape[1] % 8 == 0
    word = np.uint64 if whole else np.uint32
    planes = tuple(tuple(plane) for plane in model.planes.view(word))
    peak = np.int32(15 * model.n_bits)

    def scan(task: Task, limit: int, min_key: np.int32, cutoff: NDArray[np.int32]) -> Scored:
        part, first, stop = task
        segment = part.segment
        bits, scales = flat(np.asarray(segment.bits)).view(word), flat(np.asarray(segment.scales)).view(np.uint16)
        rows = first * TILE, min(stop * TILE, segment.n)
        found: Scored = score_kernels.bit_scores(
            bits, scales, planes, peak, part.allowed, segment.n, *rows, limit, min_key, cutoff, flat(segment.ids)
        )
        return found

    return scan


def code_scan(model: CodeWeights) -> Scan:
    """Return the scan of a linear model over the codes."""
    weights = model.weights.astype(np.int16)

    def scan(task: Task, limit: int, min_key: np.int32, cutoff: NDArray[np.int32]) -> Scored:
        part, first, stop = task
        segment = part.segment
        codes, ids = flat(segment.codes), flat(segment.ids)
        found: Scored = score_kernels.code_scores(
            codes, weights, part.allowed, segment.d, first, stop, limit, min_key, cutoff, ids
        )
        return found

    return scan


def dot_scan(mean: NDArray[np.float32], weights: NDArray[np.float32]) -> Scan:
    """Return the scan of <x - mean, weights> over the embeddings; mean, weights: (D,) float32."""
    return _embedding_scan(mean, weights, False)


def cosine_scan(mean: NDArray[np.float32], direction: NDArray[np.float32]) -> Scan:
    """Return the scan of <x - mean, direction> / |x - mean| over the embeddings; mean, direction: (D,) float32."""
    return _embedding_scan(mean, direction, True)


def _embedding_scan(mean: NDArray[np.float32], weights: NDArray[np.float32], cosine: bool) -> Scan:
    def scan(task: Task, limit: int, min_key: np.int32, cutoff: NDArray[np.int32]) -> Scored:
        part, first, stop = task
        segment = part.segment
        if segment.embeddings is None:
            return scan_decoded(task, limit, min_key, cutoff)
        rows = flat(np.asarray(segment.embeddings)).view(np.uint16)
        segment.require_allowed(first * TILE, part.allowed[first * TILE // 64 : stop * TILE // 64])
        stop = min(stop * TILE, segment.n)
        found: Scored = score_kernels.embedding_scores(
            rows, mean, weights, cosine, part.allowed, first * TILE, stop, limit, min_key, cutoff, flat(segment.ids)
        )
        return found

    def scan_decoded(task: Task, limit: int, min_key: np.int32, cutoff: NDArray[np.int32]) -> Scored:
        """Decode the allowed rows, some thousand at a time, and scan them."""
        part, first, stop = task
        allowed = first * TILE + np.flatnonzero(part.flags()[first * TILE : stop * TILE])
        found: list[Scored] = []
        for start in range(0, len(allowed), _DECODED_ROWS):
            own = allowed[start : start + _DECODED_ROWS]
            rows, ids = flat(part.segment.take_embeddings(own)).view(np.uint16), flat(part.segment.ids[own])
            every = np.packbits(np.ones(len(own), np.bool_), bitorder="little")
            every = np.pad(every, (0, -len(every) % 8)).view(np.uint64)
            best, keys, total = score_kernels.embedding_scores(
                rows, mean, weights, cosine, every, 0, len(own), limit, min_key, cutoff, ids
            )
            found.append((own[best].astype(np.int32), keys, total))
        return (
            joined([rows for rows, _, _ in found], np.int32),
            joined([keys for _, keys, _ in found], np.int32),
            sum(total for _, _, total in found),
        )

    return scan


def joined(arrays: list[NDArray[Any]], dtype: type) -> NDArray[Any]:
    """Return the arrays as one, empty for none."""
    return np.concatenate([np.zeros(0, dtype), *arrays])
